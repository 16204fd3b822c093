//! Frames that end in a byte of their own: lines, and texts that end in a NUL.
//! The byte at the end is not sent; two of them in a row have an empty frame between them.

use memchr::memchr;

use super::decode::{Decoder, LineEnds};
use super::frames::Frames;
use crate::exit::Failure;

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

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::decode::tests::{decoded, is_the_same_in_pieces, texts};
    use super::*;
    use crate::framing::Budget;

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
        fn lists_survive(list in vec(vec(1_u8..=255, 0..9), 0..9), step in 1_usize..9) {
            let mut text: Vec<u8> = list.join(&0);
            text.extend(list.last().map(|_| 0));
            let mut nuls = Delimited::new(0, LineEnds::Kept);
            prop_assert_eq!(decoded(&mut nuls, &text, step, Budget::ALL).unwrap(), list);
        }
    }
}
