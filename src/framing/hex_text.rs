//! Hexadecimal text, as people write bytes: pairs of digits, with separators between bytes and prefixes before them.
//! The offsets of a dump are not bytes: a line that seems to begin with one is an error.

use super::Decoder;
use super::frames::Frames;
use super::lines::{Flaw, Lines};
use crate::exit::Failure;

/// Fewest and most digits of an offset.
const OFFSET_WIDTHS: std::ops::RangeInclusive<usize> = 4..=16;

/// Parses hexadecimal text: blanks, `,`, `:` and `-` may stand between bytes, and `0x` or `\x` before them.
///
/// Errors: the text of the error, with its place.
pub fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (number, line) in (1_u64..).zip(text.as_bytes().split(|&byte| byte == b'\n')) {
        let line = line_bytes(line).map_err(|flaw| flaw.at(number).to_string())?;
        bytes.extend(line);
    }
    Ok(bytes)
}

/// Returns the bytes of one line.
fn line_bytes(line: &[u8]) -> Result<Vec<u8>, Flaw> {
    let words = words(line);
    check_offset(line, &words)?;
    let mut bytes = Vec::new();
    for (place, word) in words {
        let digits = word.strip_prefix(b"0x").or(word.strip_prefix(b"0X"));
        let digits = digits.or(word.strip_prefix(br"\x"));
        let start = place + word.len() - digits.unwrap_or(word).len();
        let digits = digits.unwrap_or(word);
        if let Some(at) = digits.iter().position(|digit| !digit.is_ascii_hexdigit()) {
            let letter = digits[at].escape_ascii();
            return Err(Flaw::new(
                start + at,
                format!("'{letter}' is not a hexadecimal digit"),
            ));
        }
        if digits.is_empty() || digits.len() % 2 > 0 {
            let text = "the second hexadecimal digit of a byte is missing";
            return Err(Flaw::new(start + digits.len(), text));
        }
        bytes.extend(hex::decode(digits).unwrap_or_default());
    }
    Ok(bytes)
}

/// Splits a line at separators, and before `\`. Each word has its place.
fn words(line: &[u8]) -> Vec<(usize, &[u8])> {
    let is_separator = |byte: u8| byte.is_ascii_whitespace() || b",:-".contains(&byte);
    let mut words = Vec::new();
    let mut start = 0;
    for at in 0..=line.len() {
        let byte = line.get(at).copied().unwrap_or(b' ');
        if is_separator(byte) || byte == b'\\' {
            if start < at {
                words.push((start, &line[start..at]));
            }
            start = if byte == b'\\' { at } else { at + 1 };
        }
    }
    words
}

/// Checks that the line does not begin with an offset: digits before a colon and a blank, or a first word that begins
/// with 0 and is of another length than the second one.
fn check_offset(line: &[u8], words: &[(usize, &[u8])]) -> Result<(), Flaw> {
    let Some((&(place, first), others)) = words.split_first() else {
        return Ok(());
    };
    let digits = first.strip_prefix(b"0x").unwrap_or(first);
    let is_number =
        digits.iter().all(u8::is_ascii_hexdigit) && OFFSET_WIDTHS.contains(&digits.len());
    let after = &line[place + first.len()..];
    let is_label = after.starts_with(b":") && after.get(1).is_none_or(u8::is_ascii_whitespace);
    let is_apart = after.first().is_none_or(u8::is_ascii_whitespace);
    let is_wider = others
        .first()
        .is_none_or(|(_, second)| second.len() != first.len());
    let is_offset = is_label
        || is_apart
            && digits.starts_with(b"0")
            && (is_wider && !others.is_empty() || digits.len() % 2 > 0);
    if is_number && is_offset {
        let text = "this looks like the offset of a dump, which --in hexdump reads";
        return Err(Flaw::new(place, text));
    }
    Ok(())
}

/// Decoder of hexadecimal text, a line a frame.
#[derive(Default)]
pub(super) struct HexText {
    lines: Lines,
}

impl HexText {
    fn end_line(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        let (number, line) = self.lines.end();
        let bytes = line_bytes(&line).map_err(|flaw| flaw.at(number))?;
        frames.extend(&bytes)?;
        frames.cut()
    }
}

impl Decoder for HexText {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let (taken, is_whole) = self.lines.take(text)?;
        if is_whole {
            self.end_line(frames)?;
        }
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        self.end_line(frames)
    }

    fn has_more(&self) -> bool {
        !self.lines.is_blank()
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

    fn hex(text: &str) -> Result<Vec<String>, Failure> {
        texts(&mut HexText::default(), text.as_bytes())
    }

    #[test]
    fn white_space_means_nothing_and_a_line_is_a_frame() {
        assert_eq!(
            hex("61 62\t63\r\n\n64\n  \n6F").unwrap(),
            ["abc", "", "d", "", "o"]
        );
        assert_eq!(hex("61  ").unwrap(), ["a"]);
        assert_eq!(hex("  ").unwrap(), [""; 0]);
        assert_eq!(hex("").unwrap(), [""; 0]);
        is_the_same_in_pieces(|| Box::new(HexText::default()), b"61 62\n\n 63\t\n64 ");
    }

    #[test]
    fn bytes_have_separators_and_prefixes() {
        for text in [
            "deadbeef",
            "DE AD be ef",
            "de:ad:be:ef",
            "de-ad-be-ef",
            "de, ad, be, ef,",
            "0xde, 0xAD, 0Xbe, 0xef",
            "0xdeadbeef",
            r"\xde\xad\xbe\xef",
            "dead beef",
            "\tdead:beef",
        ] {
            assert_eq!(
                hexadecimal(text),
                Ok(vec![0xde, 0xad, 0xbe, 0xef]),
                "{text}"
            );
            assert_eq!(hex(text).unwrap(), [r"\xde\xad\xbe\xef"], "{text}");
        }
        for (text, len) in [
            ("0000 0100 0001", 6),
            ("0000", 2),
            ("00, 0000", 3),
            ("0000:0001", 4),
        ] {
            assert_eq!(
                hexadecimal(text).map(|bytes| bytes.len()),
                Ok(len),
                "{text}"
            );
        }
        assert_eq!(hexadecimal("61\n62"), Ok(b"ab".to_vec()));
        assert_eq!(hexadecimal(""), Ok(Vec::new()));
    }

    #[test]
    fn an_offset_is_never_data() {
        for text in [
            "00000000  61 62",
            "00000000: 6162 63",
            "0000000 6162 0063",
            "0000000",
            "000000 61 62",
            "000000 00636261",
            "0000   61 62",
            "\t0x0000:  4500 003c",
            "0000: 61",
            "000012:",
            "abcd: 6162",
        ] {
            let error = hexadecimal(text).unwrap_err();
            assert!(error.contains("--in hexdump"), "{text}: {error}");
            let error = hex(&format!("61\n{text}\n")).unwrap_err().message;
            assert!(error.contains("line 2, column "), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_names_its_place() {
        let message = |text| hex(text).unwrap_err().message;
        assert_eq!(
            message("61\n62 6g\n"),
            r"cannot read the input: line 2, column 5: 'g' is not a hexadecimal digit"
        );
        assert_eq!(
            message("61\n\u{e9}"),
            r"cannot read the input: line 2, column 1: '\xc3' is not a hexadecimal digit"
        );
        let missing = "the second hexadecimal digit of a byte is missing";
        for (text, line, column) in [
            ("6\n61", 1, 2),
            ("61\n616", 2, 4),
            ("61 0x\n", 1, 6),
            ("6 1", 1, 2),
        ] {
            let text = message(text);
            let place = format!("cannot read the input: line {line}, column {column}");
            assert_eq!(text, format!("{place}: {missing}"));
        }
        assert_eq!(
            message(r"61\n"),
            r"cannot read the input: line 1, column 3: '\\' is not a hexadecimal digit"
        );
        let long = "6".repeat((16 << 20) + 1);
        let text = message(&long);
        assert!(text.ends_with("a line has more than 16 MiB"), "{text}");
    }

    proptest! {
        #[test]
        fn hex_lists_survive(list in vec(vec(any::<u8>(), 0..9), 0..9), step in 1_usize..9) {
            let text: String = list.iter().map(|frame| hex::encode(frame) + "\n").collect();
            let found = decoded(&mut HexText::default(), text.as_bytes(), step, Budget::ALL);
            prop_assert_eq!(found.unwrap(), list);
        }

        #[test]
        fn hex_text_never_panics(text in vec(any::<u8>(), 0..99), step in 1_usize..9) {
            let _ = decoded(&mut HexText::default(), &text, step, Budget::ALL);
        }
    }
}
