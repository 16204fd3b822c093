//! Input that passes a decoder, and may have to wait for its time.
//! Text that is read and not yet decoded stays here, so the decoder can stop where the batch or its budget is full.

use std::io;
use std::time::Instant;

use super::input::{InputFormat, STREAM_READ_SIZE, datagrams_read_size, read};
use crate::batch::Batch;
use crate::exit::Failure;
use crate::framing::pace::Pace;
use crate::framing::{Boundaries, Budget, CrLf, Decoder, Frames, InputFraming};
use crate::pump::end::Arrival;
use crate::sys::inherited::Inherited;

/// Input that a decoder splits into frames.
pub struct Decoded {
    pub(super) from: Option<Inherited>,
    decoder: Box<dyn Decoder>,
    frames: Frames,
    boundaries: Boundaries,
    pace: Option<Pace>,
    /// Converter of line ends that stay in the frames.
    crlf: Option<CrLf>,
    /// Text that was read, and how much of it is decoded.
    text: Vec<u8>,
    taken: usize,
    read_size: usize,
    has_ended: bool,
    /// An empty input becomes one empty frame.
    pub(super) at_least_one: bool,
    /// Failure to report after the frames before it.
    failure: Option<Failure>,
    /// Time for which the next frame has to wait.
    pub(super) due: Option<Instant>,
}

impl Decoded {
    pub(super) fn new(
        from: Option<Inherited>,
        decoder: Box<dyn Decoder>,
        format: &InputFormat,
    ) -> Self {
        Self {
            has_ended: from.is_none(),
            from,
            decoder,
            frames: Frames::new(format.boundaries),
            boundaries: format.boundaries,
            pace: format.pace.clone(),
            crlf: (format.ends.converter()).filter(|_| format.framing.keeps_line_ends()),
            text: Vec::new(),
            taken: 0,
            read_size: match format.framing {
                InputFraming::Raw => datagrams_read_size(format.size),
                _ => STREAM_READ_SIZE,
            },
            at_least_one: false,
            failure: None,
            due: None,
        }
    }

    /// Returns true if it can go on without reading.
    pub(super) fn is_pending(&self) -> bool {
        let has_text = self.taken < self.text.len();
        has_text || self.has_ended || self.failure.is_some() || self.decoder.due().is_some()
    }

    /// Returns true if all frames are given.
    fn is_over(&self) -> bool {
        let is_missing = self.at_least_one && self.frames.number() == 1;
        self.has_ended
            && self.taken == self.text.len()
            && self.frames.is_empty()
            && !self.decoder.has_more()
            && !is_missing
    }

    /// Implements [`crate::pump::end::End::recv`].
    pub(super) fn recv(&mut self, batch: &mut Batch, now: Instant) -> io::Result<Arrival> {
        self.due = None;
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        // A frame that waits for its time comes before any further text.
        if self.taken == self.text.len() && !self.has_ended && self.decoder.due().is_none() {
            self.read(now)?;
        }
        let mut due = self.pace.as_ref().and_then(|pace| pace.wait(now));
        if due.is_none() && !self.is_over() {
            let result = self.decode(batch, now);
            if !batch.is_empty() {
                self.failure = result.err();
                return Ok(Arrival::Data);
            }
            result?;
            due = self.decoder.due();
        }
        if self.is_over() {
            return Ok(Arrival::End);
        }
        self.due = due;
        Ok(Arrival::Nothing)
    }

    fn read(&mut self, now: Instant) -> io::Result<()> {
        let Some(from) = &mut self.from else {
            return Ok(());
        };
        self.text.resize(self.read_size, 0);
        self.taken = 0;
        let result = read(from, &mut self.text);
        self.text.truncate(*result.as_ref().unwrap_or(&0));
        if let (Err(_), Some(pace)) = (&result, &mut self.pace) {
            pace.stall(now);
        }
        self.has_ended = result? == 0;
        if let Some(crlf) = &mut self.crlf {
            self.text = crlf.convert(&self.text);
        }
        Ok(())
    }

    /// Decodes as many frames as may go now.
    fn decode(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Failure> {
        let pace = self.pace.as_ref();
        self.frames.budget = pace.map_or(Budget::ALL, |pace| pace.budget(now, self.boundaries));
        let mut text = &self.text[self.taken..];
        let result = if !text.is_empty() || !self.has_ended {
            self.decoder.decode(&mut text, &mut self.frames)
        } else if self.frames.is_empty() && !self.decoder.has_more() {
            // The input was empty, and that is one empty frame.
            self.frames.cut()
        } else {
            self.decoder.finish(&mut self.frames)
        };
        self.taken = self.text.len() - text.len();
        let (count, bytes) = self.frames.totals();
        self.frames.flush(batch);
        if let Some(pace) = &mut self.pace {
            pace.spend(now, count, bytes);
        }
        result
    }
}
