//! Bytes that pass a decoder, and may have to wait for their time.
//! What is read and not yet decoded is kept here, so a decoder can stop wherever a batch or its budget is full.

use std::io;
use std::time::Instant;

use super::input::{InputFormat, read};
use super::raw::read_size_for;
use crate::batch::Batch;
use crate::exit::Failure;
use crate::framing::Decoder;
use crate::framing::pace::Pace;
use crate::framing::{Boundaries, Budget, Frames, InputFraming};
use crate::pump::end::Arrival;
use crate::sys::inherited::Inherited;

/// Bytes of text read at once.
const STRETCH: usize = 64 << 10;

/// Bytes that pass a decoder, and may have to wait for their time.
pub(super) struct Decoded {
    decoder: Box<dyn Decoder>,
    frames: Frames,
    boundaries: Boundaries,
    pace: Option<Pace>,
    /// What was read, and how much of it is decoded.
    text: Vec<u8>,
    taken: usize,
    /// How many bytes one read may give.
    stretch: usize,
    has_ended: bool,
    pub(super) at_least_one: bool,
    /// Why it cannot go on, once what came before is delivered.
    failure: Option<Failure>,
    /// Whether there is something whose time has not come.
    pub(super) is_early: bool,
}

impl Decoded {
    pub(super) fn new(decoder: Box<dyn Decoder>, format: InputFormat) -> Self {
        Self {
            decoder,
            frames: Frames::new(format.boundaries),
            boundaries: format.boundaries,
            pace: format.pace,
            text: Vec::new(),
            taken: 0,
            stretch: match format.framing {
                InputFraming::Raw => read_size_for(format.size),
                _ => STRETCH,
            },
            has_ended: false,
            at_least_one: false,
            failure: None,
            is_early: false,
        }
    }

    /// Whether it can go on without reading.
    pub(super) fn is_pending(&self) -> bool {
        let is_due = self.decoder.due().is_some();
        self.taken < self.text.len() || self.has_ended || self.failure.is_some() || is_due
    }

    /// Whether everything is given.
    fn is_over(&self) -> bool {
        let is_missing = self.at_least_one && self.frames.number() == 1;
        self.has_ended
            && self.taken == self.text.len()
            && self.frames.is_empty()
            && !self.decoder.has_more()
            && !is_missing
    }

    pub(super) fn recv(
        &mut self,
        from: Option<&mut Inherited>,
        batch: &mut Batch,
        now: Instant,
    ) -> io::Result<Arrival> {
        self.is_early = false;
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        // What is held until its time comes first, and is all that is waited for.
        if self.taken == self.text.len() && !self.has_ended && self.decoder.due().is_none() {
            self.read(from, now)?;
        }
        if self.is_over() {
            return Ok(Arrival::End);
        }
        if let Some(due) = self.pace.as_ref().and_then(|pace| pace.wait(now)) {
            return Ok(self.wait_until(due));
        }
        let result = self.decode(batch, now);
        match (result, batch.is_empty()) {
            (Err(failure), true) => return Err(failure.into()),
            (result, _) => self.failure = result.err(),
        }
        if !batch.is_empty() {
            return Ok(Arrival::Data);
        }
        if self.is_over() {
            return Ok(Arrival::End);
        }
        let due = self.decoder.due();
        Ok(due.map_or(Arrival::Nothing(None), |due| self.wait_until(due)))
    }

    /// There is something whose time has not come: until then nothing is waited for but that time.
    fn wait_until(&mut self, due: Instant) -> Arrival {
        self.is_early = true;
        Arrival::Nothing(Some(due))
    }

    fn read(&mut self, from: Option<&mut Inherited>, now: Instant) -> io::Result<()> {
        self.text.resize(self.stretch, 0);
        self.taken = 0;
        let result = read(from, &mut self.text);
        let count = *result.as_ref().unwrap_or(&0);
        self.text.truncate(count);
        if let (Err(_), Some(pace)) = (&result, &mut self.pace) {
            pace.stall(now);
        }
        self.has_ended = result? == 0;
        Ok(())
    }

    /// Decodes as many frames as may go now.
    fn decode(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Failure> {
        let pace = self.pace.as_ref();
        let budget = pace.map_or(Budget::ALL, |pace| pace.budget(now, self.boundaries));
        self.frames.set_budget(budget);
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
