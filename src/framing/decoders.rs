//! Decoders that split input by a delimiter, by a length in front of each frame, or by size.
//! Each one keeps only its place in the frame that has begun, so it can stop and continue anywhere.

use std::collections::VecDeque;

use memchr::memchr;

use super::frames::Frames;
use super::lines::Lines;
use super::{Decoder, LineEnds};
use crate::exit::{Exit, Failure};

/// Treatment of fewer bytes than a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// They become a shorter frame.
    Sent,
    /// They wait for the rest of the frame.
    Held,
}

/// Decoder of frames of `size` bytes.
pub(super) struct Blocks {
    size: usize,
    incomplete: Incomplete,
}

impl Blocks {
    pub(super) fn new(size: usize, incomplete: Incomplete) -> Self {
        let size = size.max(1);
        Self { size, incomplete }
    }
}

impl Decoder for Blocks {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let len = text.len().min(self.size - frames.len());
        frames.extend(&text[..len])?;
        let is_last = len == text.len() && self.incomplete == Incomplete::Sent;
        if frames.len() == self.size || is_last && !frames.is_empty() {
            frames.cut()?;
        }
        Ok(len)
    }
}

/// Converter of raw bytes that puts a carriage return before every line feed that has none.
#[derive(Default)]
pub struct CrLf {
    after_cr: bool,
}

impl CrLf {
    /// Converts the next bytes.
    pub fn convert(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut converted = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == b'\n' && !self.after_cr {
                converted.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            converted.push(byte);
        }
        converted
    }
}

/// Decoder of frames that end in a delimiter, which may be sent. The last frame may lack it.
pub(super) struct Delimited {
    delimiter: u8,
    is_kept: bool,
    ends: LineEnds,
}

impl Delimited {
    /// Makes a decoder of frames without their delimiter.
    pub(super) fn new(delimiter: u8, ends: LineEnds) -> Self {
        Self {
            delimiter,
            is_kept: false,
            ends,
        }
    }

    /// Makes a decoder of frames with their delimiter.
    pub(super) fn kept(delimiter: u8) -> Self {
        Self {
            is_kept: true,
            ..Self::new(delimiter, LineEnds::Kept)
        }
    }
}

impl Decoder for Delimited {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let Some(end) = memchr(self.delimiter, text) else {
            frames.extend(text)?;
            return Ok(text.len());
        };
        frames.extend(&text[..end])?;
        if self.is_kept {
            frames.extend(&text[end..=end])?;
        }
        self.finish(frames).map(|()| end + 1)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        match (self.ends, frames.last()) {
            (LineEnds::Kept, _) => {}
            (LineEnds::CrLf, Some(b'\r')) => frames.extend(b"\n")?,
            (LineEnds::CrLf, _) => frames.extend(b"\r\n")?,
        }
        frames.cut()
    }
}

/// Decoder that packs whole lines into frames of up to `size` bytes. A longer line is a frame of its own.
///
/// Lines that came together go together: the next ones do not hold them up.
pub(super) struct PackedLines {
    size: usize,
    lines: Lines,
}

impl PackedLines {
    pub(super) fn new(size: usize) -> Self {
        let lines = Lines::default();
        Self { size, lines }
    }

    /// Adds a line to the frame, or to the next one if this has no room for it.
    fn pack(&mut self, end: &[u8], frames: &mut Frames) -> Result<(), Failure> {
        let (_, line) = self.lines.end();
        if !frames.is_empty() && frames.len() + line.len() + end.len() > self.size {
            frames.cut()?;
        }
        frames.extend(&line)?;
        frames.extend(end)
    }
}

impl Decoder for PackedLines {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let (taken, is_whole) = self.lines.take(text)?;
        if is_whole {
            self.pack(b"\n", frames)?;
        }
        if taken == text.len() && !frames.is_empty() {
            frames.cut()?;
        }
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        self.pack(b"", frames)?;
        frames.cut()
    }

    fn has_more(&self) -> bool {
        !self.lines.is_empty()
    }
}

/// Decoder of frames that follow their length, a big-endian number.
///
/// The length comes first, so a frame that is too long for a datagram is refused before it is read.
#[derive(Default)]
pub(super) struct LengthPrefixed {
    /// Bytes of a length: 2 or 4.
    width: usize,
    /// Bytes of the length that were read, and their value.
    digits: usize,
    len: usize,
}

impl LengthPrefixed {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            ..Self::default()
        }
    }
}

impl Decoder for LengthPrefixed {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let Some(&first) = text.first() else {
            return Ok(0);
        };
        let mut taken = 1;
        if self.digits < self.width {
            self.len = self.len << 8 | usize::from(first);
            self.digits += 1;
            if self.digits == self.width {
                frames.announce(self.len)?;
            }
        } else {
            taken = text.len().min(self.len - frames.len());
            frames.extend(&text[..taken])?;
        }
        if self.digits == self.width && frames.len() == self.len {
            (self.digits, self.len) = (0, 0);
            frames.cut()?;
        }
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        let (number, len) = (frames.number(), self.len);
        let text = if self.digits == self.width {
            format!("has only {} of its {len} bytes", frames.len())
        } else {
            "ends within its length".to_owned()
        };
        let text = format!("cannot send frame {number}: the input has ended, and it {text}");
        Err(Failure::new(Exit::Failed, text))
    }

    fn has_more(&self) -> bool {
        self.digits > 0
    }
}

/// Decoder of an empty input that gives frames from the command line.
pub struct Literal(VecDeque<Vec<u8>>);

impl Literal {
    /// Each element is a frame.
    pub fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(frames.into_iter().collect())
    }
}

impl Decoder for Literal {
    fn take(&mut self, text: &[u8], _: &mut Frames) -> Result<usize, Failure> {
        Ok(text.len())
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
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
        let text = b"\na\nb\r\n\r\r\n\n";
        for step in [1, 2, 3, text.len()] {
            let mut crlf = CrLf::default();
            let pieces = text.chunks(step).flat_map(|piece| crlf.convert(piece));
            let converted: Vec<u8> = pieces.collect();
            assert_eq!(converted, b"\r\na\r\nb\r\n\r\r\n\r\n");
        }
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
        let mut two = LengthPrefixed::new(2);
        assert_eq!(
            texts(&mut two, b"\0\x01a\0\0\0\x02bc").unwrap(),
            ["a", "", "bc"]
        );
        let mut four = LengthPrefixed::new(4);
        assert_eq!(texts(&mut four, b"\0\0\0\x01a\0\0\0\0").unwrap(), ["a", ""]);
        let mut long = vec![0, 0, 1, 2];
        long.resize(4 + 258, 7);
        let four = &mut LengthPrefixed::new(4);
        let frames = decoded(four, &long, 9, Budget::ALL).unwrap();
        assert_eq!(frames, [vec![7; 258]]);
    }

    #[test]
    fn a_truncated_input_is_an_error() {
        let failure = |text: &[u8]| {
            let mut two = LengthPrefixed::new(2);
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
    fn a_length_beyond_a_datagram_is_refused() {
        let mut four = LengthPrefixed::new(4);
        let failure = texts(&mut four, b"\0\x01\0\0").unwrap_err();
        assert_eq!(
            failure.message,
            "cannot send frame 1: it has 65536 bytes, and a datagram holds at most 65507"
        );
    }

    proptest! {
        #[test]
        fn length_prefixed_lists_survive(list in vec(vec(any::<u8>(), 0..300), 0..9), step in 1_usize..99) {
            for width in [2, 4] {
                let mut text = Vec::new();
                for frame in &list {
                    text.extend(&u32::try_from(frame.len()).unwrap().to_be_bytes()[4 - width..]);
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
