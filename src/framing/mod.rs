//! Framing: how input is cut into frames, each of which becomes a datagram, and how received datagrams are written as output.
//! Codecs are fed bytes and know no descriptors, so whoever reads or writes may stop and go on anywhere.

use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::Direction;

pub mod dump;
mod frames;
mod hex_text;
mod output;
pub mod pace;
mod replay;
mod split;

pub use frames::{Boundaries, Budget, Frames, PartialFrame};
pub use output::OutputFraming;
pub use split::Literal;

use hex_text::HexText;
use replay::Replay;
use split::{Blocks, CrLfBytes, Delimited, Incomplete, LengthPrefixed, Width};

/// The forms of input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputFraming {
    /// What one read returns.
    #[default]
    Raw,
    /// A line, without its line feed.
    Line,
    /// What ends in a NUL, without it.
    Nul,
    /// What follows its length in two bytes, big-endian.
    Len16,
    /// What follows its length in four bytes, big-endian.
    Len32,
    /// So many bytes; only the last frame may have fewer.
    Block(usize),
    /// A line of hexadecimal digits.
    Hex,
    /// What a dump has recorded of this direction.
    Dump(Direction),
}

/// When recorded frames go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayTiming {
    /// As soon as they may.
    #[default]
    Immediate,
    /// With the pauses that they were recorded with.
    Original,
}

/// What becomes of the ends of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// They stay as they are.
    #[default]
    Kept,
    /// They become CR LF.
    CrLf,
}

/// Cuts input into frames.
pub trait Decoder {
    /// Takes bytes off the front of `text`, until it is empty or the frames are full.
    ///
    /// Errors: what is there cannot be sent. Frames that have ended before are whole.
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure>;

    /// The input has ended: gives what is left, as far as the frames are not full.
    ///
    /// Errors: the last frame is not whole.
    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure>;

    /// Whether, at the end of the input, there is more to say than the frame that has begun.
    fn has_more(&self) -> bool {
        false
    }

    /// When it will go on, where the time of what comes next has not come yet.
    fn due(&self) -> Option<Instant> {
        None
    }
}

impl InputFraming {
    /// A decoder; `size` is how many bytes of raw input become a frame.
    #[must_use]
    pub fn decoder(self, size: usize, ends: LineEnds, timing: ReplayTiming) -> Box<dyn Decoder> {
        match (self, ends) {
            (Self::Raw, LineEnds::Kept) => Box::new(Blocks::new(size, Incomplete::Sent)),
            (Self::Raw, LineEnds::CrLf) => Box::new(CrLfBytes::new(size)),
            (Self::Line, ends) => Box::new(Delimited::new(b'\n', ends)),
            (Self::Nul, _) => Box::new(Delimited::new(0, LineEnds::Kept)),
            (Self::Len16, _) => Box::new(LengthPrefixed::new(Width::Two)),
            (Self::Len32, _) => Box::new(LengthPrefixed::new(Width::Four)),
            (Self::Block(size), _) => Box::new(Blocks::new(size, Incomplete::Held)),
            (Self::Hex, _) => Box::new(HexText::default()),
            (Self::Dump(direction), _) => Box::new(Replay::new(direction, timing)),
        }
    }
}

/// All frames that `decoder` makes of `text`, which comes in pieces of `step` bytes, each decoded as far as `budget` allows; and why
/// it stopped, if it could not go on.
pub fn decode_all(
    decoder: &mut dyn Decoder,
    text: &[u8],
    step: usize,
    budget: Budget,
) -> (Vec<Vec<u8>>, Option<Failure>) {
    let mut partial = PartialFrame::new(Boundaries::Kept { limit: 65_507 });
    let (mut batch, mut found) = (Batch::default(), Vec::new());
    let mut pieces = text.chunks(step.min(text.len()).max(1));
    let mut piece: &[u8] = &[];
    loop {
        if piece.is_empty() {
            piece = pieces.next().unwrap_or_default();
        }
        let is_end = piece.is_empty();
        if is_end && !partial.has_begun() && !decoder.has_more() {
            return (found, None);
        }
        batch.clear();
        let mut frames = Frames::new(&mut batch, &mut partial, budget);
        let result = if is_end {
            decoder.finish(&mut frames)
        } else {
            decoder.decode(&mut piece, &mut frames)
        };
        frames.close();
        let mut at = Cursor::default();
        while let Some((_, bytes)) = batch.next_chunk(&mut at) {
            found.push(bytes.to_vec());
        }
        if let Err(failure) = result {
            return (found, Some(failure));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

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
