//! Frames of a size, and bytes as they come: input whose borders are not in the input itself.
//! A size is a limit to raw bytes, which go out when they are there; a block waits until it is full.

use memchr::memchr;

use super::decode::Decoder;
use super::frames::Frames;
use crate::exit::Failure;

/// What becomes of fewer bytes than a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// They are a frame.
    Sent,
    /// They wait for more.
    Kept,
}

/// Frames of `size` bytes.
pub(super) struct Blocks {
    size: usize,
    rest: Rest,
}

impl Blocks {
    pub(super) fn new(size: usize, rest: Rest) -> Self {
        let size = size.max(1);
        Self { size, rest }
    }

    /// Adds as much of `text` as fits into frames, which end when they are full.
    fn fill(&self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        while !text.is_empty() && !frames.is_full() {
            let fitting = text.len().min(self.size - frames.len());
            let (head, tail) = text.split_at(fitting);
            frames.extend(head)?;
            *text = tail;
            if frames.len() == self.size {
                frames.cut()?;
            }
        }
        Ok(())
    }
}

impl Decoder for Blocks {
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        self.fill(text, frames)?;
        if text.is_empty() && self.rest == Rest::Sent && !frames.is_empty() {
            frames.cut()?;
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        frames.cut()
    }
}

/// Raw bytes in which every line feed gets a carriage return, unless it has one.
pub(super) struct Terminated {
    blocks: Blocks,
    after_cr: bool,
}

impl Terminated {
    pub(super) fn new(size: usize) -> Self {
        Self {
            blocks: Blocks::new(size, Rest::Sent),
            after_cr: false,
        }
    }
}

impl Decoder for Terminated {
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        while let (Some(&first), false) = (text.first(), frames.is_full()) {
            if first == b'\n' && !std::mem::replace(&mut self.after_cr, true) {
                // It waits for the line feed behind it, which comes next, also where the frames are full now.
                self.blocks.fill(&mut &b"\r"[..], frames)?;
                continue;
            }
            let len = memchr(b'\n', &text[1..]).map_or(text.len(), |at| at + 1);
            let mut piece = &text[..len];
            self.blocks.fill(&mut piece, frames)?;
            let (taken, rest) = text.split_at(len - piece.len());
            self.after_cr = taken.last() == Some(&b'\r');
            *text = rest;
        }
        if text.is_empty() && !frames.is_empty() {
            frames.cut()?;
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        frames.cut()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::decode::tests::{decoded, is_the_same_in_pieces, texts};
    use super::*;
    use crate::framing::Budget;

    #[test]
    fn blocks_are_full_except_the_last() {
        let blocks = || Box::new(Blocks::new(4, Rest::Kept));
        assert_eq!(
            texts(&mut *blocks(), b"abcdefghij").unwrap(),
            ["abcd", "efgh", "ij"]
        );
        assert_eq!(
            texts(&mut *blocks(), b"abcdefgh").unwrap(),
            ["abcd", "efgh"]
        );
        is_the_same_in_pieces(|| blocks(), b"abcdefghij");
    }

    #[test]
    fn raw_bytes_go_out_as_they_come() {
        let mut raw = Blocks::new(4, Rest::Sent);
        let frames = decoded(&mut raw, b"abcdefghij", 5, Budget::ALL).unwrap();
        assert_eq!(frames, [&b"abcd"[..], b"e", b"fghi", b"j"]);
    }

    #[test]
    fn a_line_feed_gets_one_carriage_return() {
        let joined = |text: &[u8], step| {
            let mut raw = Terminated::new(4);
            let frames = decoded(&mut raw, text, step, Budget::ALL).unwrap();
            assert!(frames.iter().all(|frame| (1..=4).contains(&frame.len())));
            frames.concat().escape_ascii().to_string()
        };
        for step in [1, 2, 3, usize::MAX] {
            assert_eq!(
                joined(b"\na\nb\r\n\r\r\n\n", step),
                r"\r\na\r\nb\r\n\r\r\n\r\n"
            );
        }
        let mut raw = Terminated::new(1);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        let frames = decoded(&mut raw, b"a\n\n", 9, one).unwrap();
        assert_eq!(frames.concat(), b"a\r\n\r\n");
    }
}
