//! Frames that are found by a delimiter, by their length in front of them, or by their size; and frames that were given as such.
//! Each decoder keeps only what is known of the frame that has begun, so it stops and goes on anywhere.

use std::collections::VecDeque;

use memchr::memchr;

use super::frames::Frames;
use super::{Decoder, LineEnds};
use crate::exit::{Exit, Failure};

/// What becomes of fewer bytes than a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// They are a frame.
    Sent,
    /// They wait for more.
    Held,
}

/// Frames of `size` bytes.
pub(super) struct Blocks {
    size: usize,
    rest: Incomplete,
}

impl Blocks {
    pub(super) fn new(size: usize, rest: Incomplete) -> Self {
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
        if text.is_empty() && self.rest == Incomplete::Sent && !frames.is_empty() {
            frames.cut()?;
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        frames.cut()
    }
}

/// Raw bytes in which every line feed gets a carriage return, unless it has one.
pub(super) struct CrLfBytes {
    blocks: Blocks,
    after_cr: bool,
}

impl CrLfBytes {
    pub(super) fn new(size: usize) -> Self {
        Self {
            blocks: Blocks::new(size, Incomplete::Sent),
            after_cr: false,
        }
    }
}

impl Decoder for CrLfBytes {
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

/// Frames up to a delimiter, the last one also without.
pub(super) struct Delimited {
    delimiter: u8,
    ends: LineEnds,
}

impl Delimited {
    pub(super) fn new(delimiter: u8, ends: LineEnds) -> Self {
        Self { delimiter, ends }
    }

    fn end(&self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        match (self.ends, frames.last()) {
            (LineEnds::Kept, _) => {}
            (LineEnds::CrLf, Some(b'\r')) => frames.extend(b"\n")?,
            (LineEnds::CrLf, _) => frames.extend(b"\r\n")?,
        }
        frames.cut()
    }
}

impl Decoder for Delimited {
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        while !text.is_empty() && !frames.is_full() {
            match memchr(self.delimiter, text) {
                Some(at) => {
                    frames.extend(&text[..at])?;
                    self.end(frames)?;
                    *text = &text[at + 1..];
                }
                None => frames.extend(std::mem::take(text))?,
            }
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        self.end(frames)
    }
}

/// The bytes of a length, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// 16 bits.
    Two = 2,
    /// 32 bits.
    Four = 4,
}

/// Frames after their length.
pub(super) struct LengthPrefixed {
    width: Width,
    /// The length as far as it is read.
    digits: Vec<u8>,
    /// The length, once it is known.
    len: Option<usize>,
}

impl LengthPrefixed {
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

impl Decoder for LengthPrefixed {
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

/// Frames to be sent in order.
pub struct Literal(VecDeque<Vec<u8>>);

impl Literal {
    /// Each element is a frame.
    pub fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(frames.into_iter().collect())
    }
}

impl Decoder for Literal {
    fn decode(&mut self, text: &mut &[u8], _: &mut Frames<'_>) -> Result<(), Failure> {
        *text = &[];
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        while !frames.is_full()
            && let Some(frame) = self.0.pop_front()
        {
            frames.extend(&frame)?;
            frames.cut()?;
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::tests::{decoded, is_the_same_in_pieces, texts};
    use super::*;
    use crate::framing::Budget;

    #[test]
    fn blocks_are_full_except_the_last() {
        let blocks = || Box::new(Blocks::new(4, Incomplete::Held));
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
        let mut raw = Blocks::new(4, Incomplete::Sent);
        let frames = decoded(&mut raw, b"abcdefghij", 5, Budget::ALL).unwrap();
        assert_eq!(frames, [&b"abcd"[..], b"e", b"fghi", b"j"]);
    }

    #[test]
    fn a_line_feed_gets_one_carriage_return() {
        let joined = |text: &[u8], step| {
            let mut raw = CrLfBytes::new(4);
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
        let mut raw = CrLfBytes::new(1);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        let frames = decoded(&mut raw, b"a\n\n", 9, one).unwrap();
        assert_eq!(frames.concat(), b"a\r\n\r\n");
    }

    #[test]
    fn an_empty_line_is_an_empty_frame_and_the_last_needs_no_end() {
        let lines = || Box::new(Delimited::new(b'\n', LineEnds::Kept));
        assert_eq!(
            texts(&mut *lines(), b"a\nb\n\nc").unwrap(),
            ["a", "b", "", "c"]
        );
        assert_eq!(texts(&mut *lines(), b"a\n").unwrap(), ["a"]);
        assert_eq!(texts(&mut *lines(), b"\n\n").unwrap(), ["", ""]);
        assert_eq!(texts(&mut *lines(), b"").unwrap(), Vec::<String>::new());
        is_the_same_in_pieces(|| lines(), b"a\n\n\nbcd\r\nef");
    }

    #[test]
    fn every_line_can_end_in_crlf() {
        let lines = || Box::new(Delimited::new(b'\n', LineEnds::CrLf));
        assert_eq!(
            texts(&mut *lines(), b"a\nb\r\n\nc").unwrap(),
            [r"a\r\n", r"b\r\n", r"\r\n", r"c\r\n"]
        );
        is_the_same_in_pieces(|| lines(), b"a\n\n\nbcd\r\n\r\nef\r");
    }

    #[test]
    fn a_line_that_no_datagram_holds_names_its_number_and_size() {
        let text = format!("ok\n{}\nnever", "x".repeat(70_000)).into_bytes();
        for step in [1000, usize::MAX] {
            let mut lines = Delimited::new(b'\n', LineEnds::Kept);
            let failure = decoded(&mut lines, &text, step, Budget::ALL).unwrap_err();
            assert_eq!(
                failure.message,
                "cannot send frame 2: it has 70000 bytes, and a datagram holds at most 65507"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let text = vec![0; 17 << 20];
        let mut lines = Delimited::new(b'\n', LineEnds::Kept);
        let failure = decoded(&mut lines, &text, 65_536, Budget::ALL).unwrap_err();
        assert!(
            failure.message.contains("more than 16777216 bytes"),
            "{failure}"
        );
    }

    proptest! {
        #[test]
        fn delimited_lists_survive(list in vec(vec(1_u8..=255, 0..9), 0..9), step in 1_usize..9) {
            let mut text: Vec<u8> = list.join(&0);
            text.extend(list.last().map(|_| 0));
            let mut nuls = Delimited::new(0, LineEnds::Kept);
            prop_assert_eq!(decoded(&mut nuls, &text, step, Budget::ALL).unwrap(), list);
        }
    }

    #[test]
    fn lengths_are_big_endian() {
        let mut two = LengthPrefixed::new(Width::Two);
        assert_eq!(
            texts(&mut two, b"\0\x01a\0\0\0\x02bc").unwrap(),
            ["a", "", "bc"]
        );
        let mut four = LengthPrefixed::new(Width::Four);
        assert_eq!(texts(&mut four, b"\0\0\0\x01a\0\0\0\0").unwrap(), ["a", ""]);
        assert_eq!(prefix(Width::Two, 258), Some([1, 2, 0, 0]));
        assert_eq!(prefix(Width::Two, 65_536), None);
        assert_eq!(prefix(Width::Four, 65_536), Some([0, 1, 0, 0]));
    }

    #[test]
    fn what_is_cut_short_is_told() {
        let failure = |text: &[u8]| {
            let mut two = LengthPrefixed::new(Width::Two);
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
        let mut four = LengthPrefixed::new(Width::Four);
        let failure = texts(&mut four, b"\0\x01\0\0").unwrap_err();
        assert_eq!(
            failure.message,
            "cannot send frame 1: it has 65536 bytes, and a datagram holds at most 65507"
        );
    }

    proptest! {
        #[test]
        fn length_prefixed_lists_survive(list in vec(vec(any::<u8>(), 0..300), 0..9), step in 1_usize..99) {
            for width in [Width::Two, Width::Four] {
                let mut text = Vec::new();
                for frame in &list {
                    text.extend(&prefix(width, frame.len()).unwrap()[..width as usize]);
                    text.extend(frame);
                }
                let found = decoded(&mut LengthPrefixed::new(width), &text, step, Budget::ALL);
                prop_assert_eq!(found.unwrap(), list.clone());
                is_the_same_in_pieces(|| Box::new(LengthPrefixed::new(width)), &text);
            }
        }
    }

    #[test]
    fn each_word_is_a_frame() {
        let frames = || Literal::new([b"one".to_vec(), Vec::new(), b"two".to_vec()]);
        assert_eq!(texts(&mut frames(), b"").unwrap(), ["one", "", "two"]);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        assert_eq!(decoded(&mut frames(), b"", 1, one).unwrap().len(), 3);
    }
}
