//! Text for a terminal that is made of what others sent, named or wrote: it is shown, and it never takes effect.
//! What would move the cursor, change colours or turn the order of letters around becomes an escape, such as `\x1b`.

use std::fmt::{self, Display, Write as _};
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Shows a text on one line, with everything escaped that a terminal would obey.
pub struct Plain<T>(pub T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Inert(f), "{}", self.0)
    }
}

/// Lets through what has no effect, and escapes the rest.
struct Inert<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Inert<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (stretch, letter) in stretches(text) {
            self.0.write_str(stretch)?;
            match letter {
                Some('\n') => self.0.write_str(r"\n")?,
                Some('\r') => self.0.write_str(r"\r")?,
                Some('\t') => self.0.write_str(r"\t")?,
                Some(letter) if letter.is_ascii() => write!(self.0, r"\x{:02x}", letter as u32)?,
                Some(letter) => write!(self.0, r"\u{{{:x}}}", letter as u32)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// Stretches without effect, each with the character behind it that has one.
fn stretches(text: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    text.split_inclusive(takes_effect).map(|stretch| {
        let last = stretch
            .chars()
            .next_back()
            .filter(|&last| takes_effect(last));
        let len = stretch.len() - last.map_or(0, char::len_utf8);
        (&stretch[..len], last)
    })
}

/// Whether a terminal does more with a character than to show it: the controls of ECMA-48, C0 as well as C1, the ends of lines and
/// paragraphs, and those that change the direction of the text around them (UAX #9).
fn takes_effect(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a line that somebody sent, for a terminal: tabs and the end of the line stay, bytes that are no UTF-8 are escaped as well.
pub fn append_line(text: &mut Vec<u8>, line: &[u8]) {
    let (line, end) = match line {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => (line, "\n"),
        _ => (line, ""),
    };
    let mut shown = String::with_capacity(line.len());
    // Writing to memory does not fail.
    for piece in line.split_inclusive(|&byte| byte == b'\t') {
        let (piece, tab) = match piece {
            [piece @ .., b'\t'] => (piece, "\t"),
            _ => (piece, ""),
        };
        for chunk in piece.utf8_chunks() {
            let _ = write!(shown, "{}", Plain(chunk.valid()));
            for byte in chunk.invalid() {
                let _ = write!(shown, r"\x{byte:02x}");
            }
        }
        shown.push_str(tab);
    }
    shown.push_str(end);
    text.extend_from_slice(shown.as_bytes());
}

/// Appends `value` as JSON on one line, which a terminal shows and does not obey.
pub fn append_json(text: &mut Vec<u8>, value: &impl Serialize) {
    // Strings and numbers into memory: nothing can fail.
    let _ = value.serialize(&mut Serializer::with_formatter(text, InertJson));
}

/// JSON as ever, where the characters above ASCII that have an effect are escaped as those below are (RFC 8259, 7).
struct InertJson;

impl Formatter for InertJson {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for (stretch, letter) in stretches(fragment) {
            writer.write_all(stretch.as_bytes())?;
            if let Some(letter) = letter {
                write!(writer, r"\u{:04x}", letter as u32)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_an_effect_is_shown_as_an_escape() {
        for (text, shown) in [
            (
                "127.0.0.1:9 <-> ± ünïcode 🦀",
                "127.0.0.1:9 <-> ± ünïcode 🦀",
            ),
            ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
            ("a\r\n\tb\0\x7f", r"a\r\n\tb\x00\x7f"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("\u{202e}txt.exe\u{2066}", r"\u{202e}txt.exe\u{2066}"),
            ("", ""),
        ] {
            assert_eq!(Plain(text).to_string(), shown);
        }
    }

    #[test]
    fn a_line_keeps_its_tabs_and_its_end() {
        for (line, shown) in [
            (&b"plain\n"[..], "plain\n"),
            (b"dos\r\n", "dos\n"),
            (b"a\tb", "a\tb"),
            (b"back\rforged: \x1b[A\n", "back\\rforged: \\x1b[A\n"),
            (b"\x9b31m\xc2\x9b\xff\n", "\\x9b31m\\u{9b}\\xff\n"),
            ("grün\n".as_bytes(), "grün\n"),
            (b"", ""),
        ] {
            let mut text = Vec::new();
            append_line(&mut text, line);
            assert_eq!(String::from_utf8(text).unwrap(), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_shown_has_an_effect(text in ".*|\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!Plain(&text).to_string().contains(takes_effect));
            let mut line = Vec::new();
            append_line(&mut line, &bytes);
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_suffix('\n').unwrap_or(&line);
            prop_assert!(!line.replace('\t', "").contains(takes_effect));
        }

        #[test]
        fn json_shows_every_text_and_reads_back(text in any::<String>()) {
            let mut json = Vec::new();
            append_json(&mut json, &text);
            let json = String::from_utf8(json).unwrap();
            prop_assert!(!json.contains(takes_effect));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
