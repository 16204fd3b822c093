//! Frames that follow their length: any bytes may be in them, and any list of them survives a pipe.
//! The length is known before the bytes come, so a frame that cannot be sent is refused before it is read.

use super::decode::Decoder;
use super::frames::Frames;
use crate::exit::{Exit, Failure};

/// The bytes of a length, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// 16 bits.
    Two = 2,
    /// 32 bits.
    Four = 4,
}

/// Frames after their length.
pub(super) struct Prefixed {
    width: Width,
    /// The length as far as it is read.
    digits: Vec<u8>,
    /// The length, once it is known.
    len: Option<usize>,
}

impl Prefixed {
    pub(super) fn new(width: Width) -> Self {
        Self {
            width,
            digits: Vec::with_capacity(4),
            len: None,
        }
    }

    /// Takes a byte of the length; tells the length when it is whole.
    fn take_digit(&mut self, digit: u8) -> Option<usize> {
        self.digits.push(digit);
        if self.digits.len() < self.width as usize {
            return None;
        }
        let digits = self.digits.drain(..);
        Some(digits.fold(0, |len, digit| len << 8 | usize::from(digit)))
    }
}

impl Decoder for Prefixed {
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        while let (Some((&first, rest)), false) = (text.split_first(), frames.is_full()) {
            match self.len {
                None => {
                    self.len = self.take_digit(first);
                    frames.announce(self.len.unwrap_or(0))?;
                    *text = rest;
                }
                Some(len) => {
                    let (head, tail) = text.split_at(text.len().min(len - frames.len()));
                    frames.extend(head)?;
                    *text = tail;
                }
            }
            if self.len == Some(frames.len()) {
                self.len = None;
                frames.cut()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        let number = frames.number();
        let text = match self.len {
            Some(len) => format!("has only {} of its {len} bytes", frames.len()),
            None => "ends within its length".to_owned(),
        };
        let text = format!("cannot send frame {number}: the input has ended, and it {text}");
        Err(Failure::new(Exit::Failed, text))
    }

    fn has_more(&self) -> bool {
        self.len.is_some() || !self.digits.is_empty()
    }
}

/// The length of a frame as it stands in front of it; `None` where it does not fit.
pub(super) fn prefix(width: Width, len: usize) -> Option<[u8; 4]> {
    let len = u32::try_from(len).ok()?;
    match width {
        Width::Two if len > u16::MAX.into() => None,
        Width::Two => Some((len << 16).to_be_bytes()),
        Width::Four => Some(len.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::decode::tests::{decoded, is_the_same_in_pieces, texts};
    use super::*;
    use crate::framing::Budget;

    #[test]
    fn lengths_are_big_endian() {
        let mut two = Prefixed::new(Width::Two);
        assert_eq!(
            texts(&mut two, b"\0\x01a\0\0\0\x02bc").unwrap(),
            ["a", "", "bc"]
        );
        let mut four = Prefixed::new(Width::Four);
        assert_eq!(texts(&mut four, b"\0\0\0\x01a\0\0\0\0").unwrap(), ["a", ""]);
        assert_eq!(prefix(Width::Two, 258), Some([1, 2, 0, 0]));
        assert_eq!(prefix(Width::Two, 65_536), None);
        assert_eq!(prefix(Width::Four, 65_536), Some([0, 1, 0, 0]));
    }

    #[test]
    fn what_is_cut_short_is_told() {
        let failure = |text: &[u8]| {
            let mut two = Prefixed::new(Width::Two);
            texts(&mut two, text).unwrap_err().message
        };
        assert_eq!(
            failure(b"\0\x01a\0\x03bc"),
            "cannot send frame 2: the input has ended, and it has only 2 of its 3 bytes"
        );
        assert_eq!(
            failure(b"\0\x01a\0"),
            "cannot send frame 2: the input has ended, and it ends within its length"
        );
        assert_eq!(
            failure(b"\0\x09"),
            "cannot send frame 1: the input has ended, and it has only 0 of its 9 bytes"
        );
    }

    #[test]
    fn what_no_datagram_holds_is_refused_by_its_length() {
        let mut four = Prefixed::new(Width::Four);
        let failure = texts(&mut four, b"\0\x01\0\0").unwrap_err();
        assert_eq!(
            failure.message,
            "cannot send frame 1: it has 65536 bytes, and a datagram holds at most 65507"
        );
    }

    proptest! {
        #[test]
        fn lists_survive(list in vec(vec(any::<u8>(), 0..300), 0..9), step in 1_usize..99) {
            for width in [Width::Two, Width::Four] {
                let mut text = Vec::new();
                for frame in &list {
                    text.extend(&prefix(width, frame.len()).unwrap()[..width as usize]);
                    text.extend(frame);
                }
                let found = decoded(&mut Prefixed::new(width), &text, step, Budget::ALL);
                prop_assert_eq!(found.unwrap(), list.clone());
                is_the_same_in_pieces(|| Box::new(Prefixed::new(width)), &text);
            }
        }
    }
}
