//! Bytes written as hexadecimal digits, a line a frame.
//! White space within a line means nothing, not even between the two digits of a byte; anything else is an error with its place.

use super::Decoder;
use super::frames::Frames;
use crate::exit::{Exit, Failure};

/// Reads hexadecimal text.
pub(super) struct HexText {
    /// The place of the next byte, counted from 1.
    line: u64,
    column: u64,
    /// The first digit of a pair.
    high: Option<u8>,
}

impl Default for HexText {
    fn default() -> Self {
        Self {
            line: 1,
            column: 1,
            high: None,
        }
    }
}

impl HexText {
    fn take(&mut self, letter: u8, frames: &mut Frames<'_>) -> Result<(), Failure> {
        if letter == b'\n' {
            self.check_whole()?;
            (self.line, self.column) = (self.line + 1, 1);
            return frames.cut();
        }
        if !letter.is_ascii_whitespace() {
            let digit = digit(letter).ok_or_else(|| {
                self.error(&format!(
                    "'{}' is not a hexadecimal digit",
                    letter.escape_ascii()
                ))
            })?;
            match self.high.take() {
                None => self.high = Some(digit),
                Some(high) => frames.extend(&[high << 4 | digit])?,
            }
        }
        self.column += 1;
        Ok(())
    }

    fn check_whole(&self) -> Result<(), Failure> {
        self.high.map_or(Ok(()), |_| {
            Err(self.error("the second hexadecimal digit of a byte is missing"))
        })
    }

    fn error(&self, text: &str) -> Failure {
        let Self { line, column, .. } = self;
        let text = format!("cannot read the input: line {line}, column {column}: {text}");
        Failure::new(Exit::Failed, text)
    }
}

fn digit(letter: u8) -> Option<u8> {
    let digit = char::from(letter).to_digit(16)?;
    u8::try_from(digit).ok()
}

impl Decoder for HexText {
    fn decode(&mut self, text: &mut &[u8], frames: &mut Frames<'_>) -> Result<(), Failure> {
        while let (Some((&first, rest)), false) = (text.split_first(), frames.is_full()) {
            self.take(first, frames)?;
            *text = rest;
        }
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        self.check_whole()?;
        frames.cut()
    }

    fn has_more(&self) -> bool {
        self.high.is_some()
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

    fn read(text: &str) -> Result<Vec<String>, Failure> {
        texts(&mut HexText::default(), text.as_bytes())
    }

    #[test]
    fn white_space_means_nothing_and_a_line_is_a_frame() {
        assert_eq!(
            read("61 62\t6 3\r\n\n64\n  \n6F").unwrap(),
            ["abc", "", "d", "", "o"]
        );
        assert_eq!(read("61  ").unwrap(), ["a"]);
        assert_eq!(read("  ").unwrap(), Vec::<String>::new());
        is_the_same_in_pieces(|| Box::new(HexText::default()), b"61 62\n\n 6\t3\n64 ");
    }

    #[test]
    fn an_error_names_its_place() {
        let message = |text| read(text).unwrap_err().message;
        assert_eq!(
            message("61\n62 6g\n"),
            r"cannot read the input: line 2, column 5: 'g' is not a hexadecimal digit"
        );
        assert_eq!(
            message("61\n\u{e9}"),
            r"cannot read the input: line 2, column 1: '\xc3' is not a hexadecimal digit"
        );
        let missing = "the second hexadecimal digit of a byte is missing";
        assert_eq!(
            message("6\n61"),
            format!("cannot read the input: line 1, column 2: {missing}")
        );
        assert_eq!(
            message("61\n616"),
            format!("cannot read the input: line 2, column 4: {missing}")
        );
    }

    proptest! {
        #[test]
        fn lists_survive(list in vec(vec(any::<u8>(), 0..9), 0..9), step in 1_usize..9) {
            let text: String = list.iter().map(|frame| hex::encode(frame) + "\n").collect();
            let found = decoded(&mut HexText::default(), text.as_bytes(), step, Budget::ALL);
            prop_assert_eq!(found.unwrap(), list);
        }

        #[test]
        fn nothing_panics(text in vec(any::<u8>(), 0..99), step in 1_usize..9) {
            let _ = decoded(&mut HexText::default(), &text, step, Budget::ALL);
        }
    }
}
