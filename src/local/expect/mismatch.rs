//! What to tell when something expected did not come: what that was, what came instead, and where the two part.
//! Bytes are shown in hexadecimal and as plain ASCII only: nothing from the network reaches a terminal as it is.

use std::fmt::Write;

use super::pattern::{Pattern, PatternText};
use crate::tap::phrases::Bytes;

/// Bytes of what came that are remembered.
const KEPT: usize = 4096;

/// Bytes in a row of a dump, and rows of it that are shown.
const ROW: usize = 16;
const ROWS: usize = 4;

/// Characters of an expected text that are shown on the first line.
const TITLE: usize = 60;

/// What came while something else was expected.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The beginning of the stream, or of the last datagram.
    first: Vec<u8>,
    /// How long that is in all, in bytes.
    len: u64,
    datagrams: u64,
}

impl Received {
    pub(super) fn is_nothing(&self) -> bool {
        self.len == 0 && self.datagrams == 0
    }

    pub(super) fn add_stream(&mut self, bytes: &[u8]) {
        let room = KEPT - self.first.len();
        self.first
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.len += bytes.len() as u64;
    }

    pub(super) fn add_datagram(&mut self, bytes: &[u8]) {
        self.first.clear();
        self.len = 0;
        self.add_stream(bytes);
        self.datagrams += 1;
    }

    /// How much there is of it, where the dump does not show that.
    fn size(&self) -> String {
        match (self.datagrams, self.len) {
            (0, 0) => "nothing".to_owned(),
            (0, len) => Bytes(len).to_string(),
            (1, len) => format!("a datagram of {}", Bytes(len)),
            (many, len) => format!("{many} datagrams, the last of {}", Bytes(len)),
        }
    }
}

/// Several lines: what was expected and why it is no longer, then both in hexadecimal.
pub(super) fn explain(pattern: &Pattern, came: &Received, reason: &str) -> String {
    let mut text = match pattern.form() {
        PatternText::Bytes(bytes) => format!("--expect '{}': {reason}", title(&shown(bytes))),
        PatternText::Regex(regex) => {
            let regex: String = regex.chars().map(visible).collect();
            format!("--expect-regex '{}': {reason}", title(&regex))
        }
    };
    let mut from = 0;
    let mut mark = None;
    if let PatternText::Bytes(expected) = pattern.form() {
        let (start, same) = best_start(expected, &came.first);
        // Both are shown from the row in which they part.
        let row = same.saturating_sub(1) / ROW * ROW;
        from = start + row;
        mark = Some(same - row);
        text.push_str("\nexpected:");
        write_rows(&mut text, expected, row, None);
    }
    let _ = write!(text, "\ncame: {}", came.size());
    if !came.first.is_empty() {
        write_rows(&mut text, &came.first, from, mark);
    }
    text
}

/// Where in `came` the longest beginning of `expected` is, and how long that is.
fn best_start(expected: &[u8], came: &[u8]) -> (usize, usize) {
    let common = |start: usize| {
        let pairs = came[start..].iter().zip(expected);
        pairs.take_while(|(one, other)| one == other).count()
    };
    let starts = (0..came.len()).map(|start| (start, common(start)));
    // Of equals, the first.
    starts.rev().max_by_key(|&(_, same)| same).unwrap_or((0, 0))
}

/// Appends rows of `bytes` that begin at `from`, as `hexdump -C` has them, with a sign below the byte that is `mark` bytes on.
fn write_rows(text: &mut String, bytes: &[u8], from: usize, mark: Option<usize>) {
    let mark_row = mark.map(|mark| mark / ROW);
    let rest = bytes.get(from..).unwrap_or_default();
    let mut rows: Vec<&[u8]> = rest.chunks(ROW).take(ROWS).collect();
    // What ends too early is marked where it goes on no more.
    if mark_row == Some(rows.len()) {
        rows.push(&[]);
    }
    for (number, row) in rows.into_iter().enumerate() {
        let offset = from + number * ROW;
        let digits = digits(row);
        let plain: String = row.iter().map(|&byte| printable(byte)).collect();
        let _ = write!(text, "\n  {offset:08x}  {digits:<50}|{plain}|");
        if let Some(mark) = mark.filter(|_| mark_row == Some(number)) {
            let column = 12 + 3 * (mark % ROW) + usize::from(mark % ROW >= ROW / 2);
            let _ = write!(text, "\n{:column$}^^", "");
        }
    }
    if rest.len() > ROW * ROWS {
        text.push_str("\n  ...");
    }
}

fn digits(row: &[u8]) -> String {
    let mut digits = String::new();
    for (at, byte) in row.iter().enumerate() {
        let gap = if at == ROW / 2 { " " } else { "" };
        let _ = write!(digits, "{gap}{byte:02x} ");
    }
    digits
}

fn visible(letter: char) -> char {
    if letter.is_control() { '.' } else { letter }
}

fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '.',
    }
}

/// Bytes as they are written on the command line.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str(r"\n"),
            b'\r' => text.push_str(r"\r"),
            b'\t' => text.push_str(r"\t"),
            b'\\' => text.push_str(r"\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, r"\x{byte:02x}");
            }
        }
    }
    text
}

fn title(text: &str) -> String {
    let mut title: String = text.chars().take(TITLE).collect();
    if title.len() < text.len() {
        title.push_str("...");
    }
    title
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn told(expected: &[u8], came: &[u8]) -> String {
        let pattern = Pattern::bytes(expected.to_vec()).unwrap();
        let mut stream = Received::default();
        stream.add_stream(came);
        explain(&pattern, &stream, "the peer has finished")
    }

    #[test]
    fn the_place_is_marked_where_the_two_part() {
        let text = told(b"HTTP/1.1 200", b"HTTP/1.1 404 Not Found\r\n");
        assert_eq!(
            text,
            "\
--expect 'HTTP/1.1 200': the peer has finished
expected:
  00000000  48 54 54 50 2f 31 2e 31  20 32 30 30              |HTTP/1.1 200|
came: 24 bytes
  00000000  48 54 54 50 2f 31 2e 31  20 34 30 34 20 4e 6f 74  |HTTP/1.1 404 Not|
                                        ^^
  00000010  20 46 6f 75 6e 64 0d 0a                           | Found..|"
        );
    }

    #[test]
    fn what_ends_too_early_is_marked_behind_its_end() {
        let text = told(b"+PONG\r\n", b"..+PO");
        let (_, came) = text.split_once("came: ").unwrap();
        assert_eq!(
            came,
            "\
5 bytes
  00000002  2b 50 4f                                          |+PO|
                     ^^"
        );
        let long = told(&[b'a'; 40], &[b'a'; 32]);
        let expected = "\
expected:
  00000010  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|
  00000020  61 61 61 61 61 61 61 61                           |aaaaaaaa|
came: 32 bytes
  00000010  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|
  00000020                                                    ||
            ^^";
        assert!(long.ends_with(expected), "{long}");
    }

    #[test]
    fn a_terminal_is_safe_and_the_text_stays_short() {
        let text = told(b"\x1b[31m\n", &vec![0x1b; 100_000]);
        assert!(text.starts_with(r"--expect '\x1b[31m\n': "), "{text}");
        assert!(
            text.chars()
                .all(|letter| letter == '\n' || !letter.is_control())
        );
        assert!(text.lines().count() < 12, "{text}");
        assert!(text.contains("came: 100000 bytes"), "{text}");
    }

    #[test]
    fn of_datagrams_the_last_is_shown() {
        let pattern = Pattern::regex("^PONG$").unwrap();
        let mut came = Received::default();
        assert!(explain(&pattern, &came, "").ends_with("came: nothing"));
        came.add_datagram(b"one");
        came.add_datagram(b"two");
        assert_eq!(
            explain(&pattern, &came, "timed out"),
            "\
--expect-regex '^PONG$': timed out
came: 2 datagrams, the last of 3 bytes
  00000000  74 77 6f                                          |two|"
        );
        came.add_datagram(b"");
        assert!(!came.is_nothing());
    }
}
