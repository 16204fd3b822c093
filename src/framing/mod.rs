//! Framing splits input into frames, each of which becomes a datagram, and writes received chunks as output.
//! Codecs are fed bytes and know no descriptors, so their caller may stop and continue anywhere.

use std::time::Instant;

use clap::ValueEnum;

use crate::exit::Failure;
use crate::flow::{Direction, Leg};

mod decoders;
mod frames;
pub mod hex_text;
pub mod lines;
mod output;
pub mod pace;
pub mod recording;

pub use decoders::{CrLf, Literal};
pub use frames::{Boundaries, Budget, Frames};
pub use output::OutputFraming;

use decoders::{Blocks, Delimited, Incomplete, LengthPrefixed, PackedLines};
use hex_text::HexText;
use recording::{Dump, Replay, Whole, capture, hexdump};

/// Form of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputFraming {
    /// As it is; --datagram-size limits a datagram
    #[default]
    Raw,
    /// A line, without its line feed
    Line,
    /// Bytes up to a NUL, without it
    Nul,
    /// A line, with its line feed
    FullLine,
    /// Bytes after a 16-bit big-endian length
    Len16,
    /// Bytes after a 32-bit big-endian length
    Len32,
    /// Whole lines, as many as --datagram-size holds
    PackedLines,
    /// All of it, in one datagram
    Whole,
    /// Bytes in hexadecimal; a line is a datagram
    Hex,
    /// Chunks that a dump (--hex) shows as sent
    Dump,
    /// Chunks that a dump shows as received
    DumpReceived,
    /// Dumps of other programs, such as hexdump -C or tcpdump -x
    Hexdump,
    /// One side of a connection in a capture, pcap or pcapng
    Pcap,
    /// A frame has this many bytes; only the last one may have fewer.
    #[value(skip)]
    Block(usize),
}

/// Times at which recorded frames are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReplayTiming {
    /// One after the other, at once.
    #[default]
    Immediate,
    /// With the pauses of the recording.
    Original {
        /// The pauses are divided by this number, which is more than 0.
        speed: f64,
    },
}

/// Part of a recording to send, and the times of its frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Playback {
    /// Times of the frames.
    pub timing: ReplayTiming,
    /// Number of times to send it, at least 1; `u64::MAX` is for ever.
    pub passes: u64,
    /// Number or addresses of the conversation to send; `None` if there is only one.
    pub flow: Option<String>,
    /// Side to send.
    pub leg: Option<Leg>,
}

impl Default for Playback {
    fn default() -> Self {
        Self {
            timing: ReplayTiming::Immediate,
            passes: 1,
            flow: None,
            leg: None,
        }
    }
}

/// Treatment of line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// They stay as they are.
    #[default]
    Kept,
    /// They become CR LF.
    CrLf,
}

impl LineEnds {
    /// Returns the converter of bytes whose line ends are sent, if they do not stay as they are.
    pub fn converter(self) -> Option<CrLf> {
        (self == Self::CrLf).then(CrLf::default)
    }
}

/// Splits input into frames.
pub trait Decoder {
    /// Moves some bytes from the front of `text` into `frames`, and returns their number; 0 if the next frame is not due yet.
    ///
    /// Errors: the input cannot be sent. Frames that have ended before are whole.
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure>;

    /// Moves bytes off the front of `text` until it is empty, the frames are full, or the next frame is not due yet.
    ///
    /// Errors: those of [`Decoder::take`].
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames) -> Result<(), Failure> {
        while !frames.is_full() {
            let taken = self.take(text, frames)?;
            *text = &text[taken..];
            if text.is_empty() || taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Gives the rest at the end of the input, as far as the frames are not full.
    ///
    /// Errors: the last frame is not whole.
    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        frames.cut()
    }

    /// Returns true if more than the frame that has begun is left at the end of the input.
    fn has_more(&self) -> bool {
        false
    }

    /// Returns the time of the next frame if that has to wait for its time.
    fn due(&self) -> Option<Instant> {
        None
    }
}

impl InputFraming {
    /// Returns true if frames hold the line ends of the input.
    pub fn keeps_line_ends(self) -> bool {
        matches!(self, Self::Raw | Self::FullLine)
    }

    /// Returns true if the input is a recording, which has times and can be sent again.
    pub fn is_recording(self) -> bool {
        matches!(
            self,
            Self::Dump | Self::DumpReceived | Self::Hexdump | Self::Pcap
        )
    }

    /// Returns true if the input may have several conversations, of which one is sent.
    pub fn has_flows(self) -> bool {
        matches!(self, Self::Hexdump | Self::Pcap)
    }

    /// Creates a decoder; raw input is cut after `size` bytes. The line ends that stay in the frames are for [`CrLf`]
    /// to convert.
    pub fn decoder(self, size: usize, ends: LineEnds, playback: &Playback) -> Box<dyn Decoder> {
        match (self, ends) {
            (Self::Raw, _) => Box::new(Blocks::new(size, Incomplete::Sent)),
            (Self::Line, ends) => Box::new(Delimited::new(b'\n', ends)),
            (Self::FullLine, _) => Box::new(Delimited::kept(b'\n')),
            (Self::Nul, _) => Box::new(Delimited::new(0, LineEnds::Kept)),
            (Self::Len16, _) => Box::new(LengthPrefixed::new(2)),
            (Self::Len32, _) => Box::new(LengthPrefixed::new(4)),
            (Self::Block(size), _) => Box::new(Blocks::new(size, Incomplete::Held)),
            (Self::PackedLines, _) => Box::new(PackedLines::new(size)),
            (Self::Whole, _) => Box::new(Blocks::new(usize::MAX, Incomplete::Held)),
            (Self::Hex, _) => Box::new(HexText::default()),
            (Self::Dump, _) => Box::new(Replay::new(
                Dump::new(Direction::Outgoing, playback),
                playback,
            )),
            (Self::DumpReceived, _) => Box::new(Replay::new(
                Dump::new(Direction::Incoming, playback),
                playback,
            )),
            (Self::Hexdump, _) => {
                Box::new(Replay::new(Whole::new(hexdump::read, playback), playback))
            }
            (Self::Pcap, _) => Box::new(Replay::new(Whole::new(capture::read, playback), playback)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::batch::{Batch, Cursor};

    /// Decodes all of `text` in pieces of `step` bytes, and each piece as far as `budget` allows at once.
    ///
    /// Returns the frames, and the failure that ended the decoding, if any.
    fn decode_all(
        decoder: &mut dyn Decoder,
        text: &[u8],
        step: usize,
        budget: Budget,
    ) -> (Vec<Vec<u8>>, Option<Failure>) {
        let mut frames = Frames::new(Boundaries::Kept { limit: 65_507 });
        frames.budget = budget;
        let (mut batch, mut found) = (Batch::default(), Vec::new());
        let mut pieces = text.chunks(step.min(text.len()).max(1));
        let mut piece: &[u8] = &[];
        loop {
            if piece.is_empty() {
                piece = pieces.next().unwrap_or_default();
            }
            let is_end = piece.is_empty();
            if is_end && frames.is_empty() && !decoder.has_more() {
                return (found, None);
            }
            let result = if is_end {
                decoder.finish(&mut frames)
            } else {
                decoder.decode(&mut piece, &mut frames)
            };
            frames.flush(&mut batch);
            let mut at = Cursor::default();
            while let Some((_, bytes)) = batch.next_chunk(&mut at) {
                found.push(bytes.to_vec());
            }
            if let Err(failure) = result {
                return (found, Some(failure));
            }
        }
    }

    /// [`decode_all`], where what came before an error does not matter.
    pub(in crate::framing) fn decoded(
        decoder: &mut dyn Decoder,
        text: &[u8],
        step: usize,
        budget: Budget,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let (frames, failure) = decode_all(decoder, text, step, budget);
        failure.map_or(Ok(frames), Err)
    }

    /// The same in one piece, as texts.
    pub(in crate::framing) fn texts(
        decoder: &mut dyn Decoder,
        text: &[u8],
    ) -> Result<Vec<String>, Failure> {
        let frames = decoded(decoder, text, usize::MAX, Budget::ALL)?;
        let texts = frames.iter().map(|frame| frame.escape_ascii().to_string());
        Ok(texts.collect())
    }

    /// Budgets and steps at which everything has to come out the same.
    pub(in crate::framing) fn is_the_same_in_pieces(
        decoder: impl Fn() -> Box<dyn Decoder>,
        text: &[u8],
    ) {
        let whole = decoded(&mut *decoder(), text, usize::MAX, Budget::ALL);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        for step in [1, 2, 3, 7, usize::MAX] {
            for budget in [Budget::ALL, one] {
                let pieces = decoded(&mut *decoder(), text, step, budget);
                assert_eq!(pieces, whole, "in pieces of {step}, {budget:?}");
            }
        }
    }
}
