//! Text that is safe to show: what others wrote, with escapes for all that a terminal would obey; and times in one form.
//! Cursor movements, colours and changes of the writing direction become text such as `\x1b`.

use std::fmt::{self, Display, Write as _};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Text on one line, in which every character that a terminal would obey is escaped.
pub struct Escaped<T>(pub T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{}", self.0)
    }
}

/// Writer that escapes what it passes on.
struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (safe, active) in segments(text) {
            self.0.write_str(safe)?;
            match active {
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

/// Splits a text into safe parts, each with the active character that follows it.
fn segments(text: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    text.split_inclusive(is_active).map(|segment| {
        let last = segment.chars().next_back().filter(|&last| is_active(last));
        let len = segment.len() - last.map_or(0, char::len_utf8);
        (&segment[..len], last)
    })
}

/// Returns true for a character that a terminal obeys: the controls of ECMA-48 (C0 and C1), the ends of lines and paragraphs,
/// and those that change the direction of the text around them (UAX #9).
fn is_active(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends a line from outside, escaped for a terminal. Tabs and the end of the line stay; bytes that are not UTF-8 are escaped.
pub fn append_line(text: &mut Vec<u8>, line: &[u8]) {
    let (line, end) = match line {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => (line, "\n"),
        _ => (line, ""),
    };
    let mut shown = String::with_capacity(line.len());
    // Writing to memory does not fail.
    for (number, piece) in line.split(|&byte| byte == b'\t').enumerate() {
        if number > 0 {
            shown.push('\t');
        }
        for chunk in piece.utf8_chunks() {
            let _ = write!(shown, "{}", Escaped(chunk.valid()));
            for byte in chunk.invalid() {
                let _ = write!(shown, r"\x{byte:02x}");
            }
        }
    }
    shown.push_str(end);
    text.extend_from_slice(shown.as_bytes());
}

/// Appends `value` as JSON on one line that is safe for a terminal.
pub fn append_json(text: &mut Vec<u8>, value: &impl Serialize) {
    // Strings and numbers into memory: nothing can fail.
    let _ = value.serialize(&mut Serializer::with_formatter(text, EscapedJson));
}

/// Compact JSON in which active characters above ASCII are escaped, as those below always are (RFC 8259, 7).
struct EscapedJson;

impl Formatter for EscapedJson {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for (safe, active) in segments(fragment) {
            writer.write_all(safe.as_bytes())?;
            if let Some(letter) = active {
                write!(writer, r"\u{:04x}", letter as u32)?;
            }
        }
        Ok(())
    }
}

/// Time of day in the form of RFC 3339, to the microsecond.
///
/// A clock may be set to any time: one before 1970 or after 9999 is shown as the nearest time in between.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp(pub SystemTime);

/// The last microsecond of 9999, since 1970.
const LAST_TIME: Duration = Duration::new(253_402_300_799, 999_999_000);

impl Timestamp {
    /// Returns the seconds since 1970, to the microsecond.
    pub fn unix_seconds(self) -> f64 {
        let micros = self.since_epoch().as_micros();
        #[expect(clippy::cast_precision_loss, reason = "53 bits last until 2255")]
        let micros = micros as f64;
        micros / 1e6
    }

    fn since_epoch(self) -> Duration {
        let since = self.0.duration_since(UNIX_EPOCH);
        since.unwrap_or_default().min(LAST_TIME)
    }
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH.checked_add(self.since_epoch());
        humantime::format_rfc3339_micros(time.unwrap_or(self.0)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serialises a duration in seconds.
pub fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
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
            assert_eq!(Escaped(text).to_string(), shown);
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

    #[test]
    fn every_time_can_be_shown() {
        let year = Duration::from_hours(366 * 24);
        for (time, text) in [
            (UNIX_EPOCH, "1970-01-01T00:00:00.000000Z"),
            (UNIX_EPOCH - year, "1970-01-01T00:00:00.000000Z"),
            (
                UNIX_EPOCH - Duration::from_nanos(1),
                "1970-01-01T00:00:00.000000Z",
            ),
            (
                UNIX_EPOCH + Duration::from_micros(1),
                "1970-01-01T00:00:00.000001Z",
            ),
            (UNIX_EPOCH + LAST_TIME, "9999-12-31T23:59:59.999999Z"),
            (UNIX_EPOCH + LAST_TIME + year, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp(time).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn nothing_shown_has_an_effect(text in ".*|\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!Escaped(&text).to_string().contains(is_active));
            let mut line = Vec::new();
            append_line(&mut line, &bytes);
            let line = String::from_utf8(line).unwrap();
            let line = line.strip_suffix('\n').unwrap_or(&line);
            prop_assert!(!line.replace('\t', "").contains(is_active));
        }

        #[test]
        fn json_shows_every_text_and_reads_back(text in any::<String>()) {
            let mut json = Vec::new();
            append_json(&mut json, &text);
            let json = String::from_utf8(json).unwrap();
            prop_assert!(!json.contains(is_active));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
