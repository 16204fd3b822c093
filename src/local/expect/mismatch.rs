//! Report of an unmet expectation: the expected data, the received data, and the place where they differ.
//! Bytes are shown in hexadecimal and plain ASCII only, so nothing from the network acts on a terminal.

use std::fmt::Write;

use super::pattern::{Pattern, PatternText};
use crate::escape::Escaped;
use crate::flow::Address;
use crate::tap::hexdump::HexLines;
use crate::tap::lines::Palette;
use crate::tap::phrases::{Bytes, datagrams};

/// Bytes of the received data that are kept for the report.
const KEPT_SIZE: usize = 4096;

/// Bytes in a row, and rows that are shown.
const ROW_SIZE: usize = 16;
const ROW_LIMIT: usize = 4;

/// Characters of the pattern on the first line.
const TITLE_LIMIT: usize = 60;

/// Data that came while something else was expected.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Beginning of the stream, or of the last datagram.
    first: Vec<u8>,
    /// Size of the stream or of the last datagram.
    len: u64,
    datagrams: u64,
    /// Datagrams that do not count, as their sender is not the peer of the dialogue.
    others: u64,
    /// The sender of the last of these, and the peer.
    other: Option<(Address, Address)>,
}

impl Received {
    pub(super) fn is_nothing(&self) -> bool {
        self.len == 0 && self.datagrams == 0 && self.others == 0
    }

    pub(super) fn add_stream(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(KEPT_SIZE - self.first.len());
        self.first.extend_from_slice(&bytes[..len]);
        self.len += bytes.len() as u64;
    }

    pub(super) fn add_datagram(&mut self, bytes: &[u8]) {
        self.first.clear();
        self.len = 0;
        self.add_stream(bytes);
        self.datagrams += 1;
    }

    pub(super) fn add_other(&mut self, sender: &Address, peer: &Address) {
        self.others += 1;
        self.other = Some((sender.clone(), peer.clone()));
    }

    fn size(&self) -> String {
        match (self.datagrams, self.len) {
            (0, 0) => "nothing".to_owned(),
            (0, len) => Bytes(len).to_string(),
            (1, len) => format!("a datagram of {}", Bytes(len)),
            (many, len) => format!("{many} datagrams, the last of {}", Bytes(len)),
        }
    }
}

/// Returns several lines: the pattern and the reason, then the expected and the received data in hexadecimal.
pub(super) fn explain(pattern: &Pattern, received: &Received, reason: &str) -> String {
    let mut text = match &pattern.text {
        PatternText::Bytes(bytes) => format!("--expect '{}': {reason}", title(&typed(bytes))),
        PatternText::Regex(regex) => {
            let regex = Escaped(regex).to_string();
            format!("--expect-regex '{}': {reason}", title(&regex))
        }
    };
    let mut from = 0;
    let mut mark = None;
    if let PatternText::Bytes(expected) = &pattern.text {
        let (start, same) = best_start(expected, &received.first);
        // Both are shown from the row in which they differ.
        let row = same.saturating_sub(1) / ROW_SIZE * ROW_SIZE;
        from = start + row;
        mark = Some(same - row);
        text.push_str("\nexpected:");
        append_rows(&mut text, expected, row, None);
    }
    let _ = write!(text, "\nreceived: {}", received.size());
    if !received.first.is_empty() {
        append_rows(&mut text, &received.first, from, mark);
    }
    if let Some((sender, peer)) = &received.other {
        let count = datagrams(received.others);
        let _ = write!(
            text,
            "\nignored:  {count} of other senders, the last of {sender}: the dialogue is with {peer}"
        );
    }
    text
}

/// Returns the place of the longest beginning of `expected` in `received`, and its length.
fn best_start(expected: &[u8], received: &[u8]) -> (usize, usize) {
    let common = |start: usize| {
        let pairs = received[start..].iter().zip(expected);
        pairs.take_while(|(one, other)| one == other).count()
    };
    let starts = (0..received.len()).map(|start| (start, common(start)));
    // The first one of equals.
    starts.rev().max_by_key(|&(_, same)| same).unwrap_or((0, 0))
}

/// Appends rows of `bytes` from `from` on, in the form of the dump, with a sign below the byte that is `mark` bytes on.
fn append_rows(text: &mut String, bytes: &[u8], from: usize, mark: Option<usize>) {
    let rest = bytes.get(from..).unwrap_or_default();
    let shown = &rest[..rest.len().min(ROW_SIZE * ROW_LIMIT)];
    let mut dump = Vec::new();
    HexLines::new(16, Palette::Plain).append(&mut dump, from as u64, shown);
    if mark == Some(shown.len()) && shown.len().is_multiple_of(ROW_SIZE) {
        // The mark is behind the last byte, in a row of its own.
        dump.extend(format!("{:08x}{:52}||", from + shown.len(), "").bytes());
    }
    for (row, line) in String::from_utf8_lossy(&dump).lines().enumerate() {
        let _ = write!(text, "\n  {line}");
        if let Some(mark) = mark.filter(|mark| mark / ROW_SIZE == row) {
            let column = mark % ROW_SIZE;
            let column = 12 + 3 * column + usize::from(column >= ROW_SIZE / 2);
            let _ = write!(text, "\n{:column$}^^", "");
        }
    }
    if rest.len() > shown.len() {
        text.push_str("\n  ...");
    }
}

/// Returns bytes as they are written on the command line, which does not escape quotes.
fn typed(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    text.replace("\\'", "'").replace("\\\"", "\"")
}

fn title(text: &str) -> String {
    let mut title: String = text.chars().take(TITLE_LIMIT).collect();
    if title.len() < text.len() {
        title.push_str("...");
    }
    title
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn report(expected: &[u8], received: &[u8]) -> String {
        let pattern = Pattern::bytes(expected.to_vec()).unwrap();
        let mut stream = Received::default();
        stream.add_stream(received);
        explain(&pattern, &stream, "the peer has finished")
    }

    #[test]
    fn the_first_difference_is_marked() {
        let text = report(b"HTTP/1.1 200", b"HTTP/1.1 404 Not Found\r\n");
        assert_eq!(
            text,
            "\
--expect 'HTTP/1.1 200': the peer has finished
expected:
  00000000  48 54 54 50 2f 31 2e 31  20 32 30 30              |HTTP/1.1 200|
received: 24 bytes
  00000000  48 54 54 50 2f 31 2e 31  20 34 30 34 20 4e 6f 74  |HTTP/1.1 404 Not|
                                        ^^
  00000010  20 46 6f 75 6e 64 0d 0a                           | Found..|"
        );
    }

    #[test]
    fn data_that_ends_early_is_marked_behind_its_end() {
        let text = report(b"+PONG\r\n", b"..+PO");
        let (_, received) = text.split_once("received: ").unwrap();
        assert_eq!(
            received,
            "\
5 bytes
  00000002  2b 50 4f                                          |+PO|
                     ^^"
        );
        let long = report(&[b'a'; 40], &[b'a'; 32]);
        let expected = "\
expected:
  00000010  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|
  00000020  61 61 61 61 61 61 61 61                           |aaaaaaaa|
received: 32 bytes
  00000010  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|
  00000020                                                    ||
            ^^";
        assert!(long.ends_with(expected), "{long}");
    }

    #[test]
    fn a_terminal_is_safe_and_the_text_stays_short() {
        let text = report(b"\x1b[31m\n", &vec![0x1b; 100_000]);
        assert!(text.starts_with(r"--expect '\x1b[31m\n': "), "{text}");
        assert!(
            text.chars()
                .all(|letter| letter == '\n' || !letter.is_control())
        );
        assert!(text.lines().count() < 12, "{text}");
        assert!(text.contains("received: 100000 bytes"), "{text}");
    }

    #[test]
    fn of_datagrams_the_last_is_shown() {
        let pattern = Pattern::regex("^PONG$").unwrap();
        let mut received = Received::default();
        assert!(explain(&pattern, &received, "").ends_with("received: nothing"));
        received.add_datagram(b"one");
        received.add_datagram(b"two");
        assert_eq!(
            explain(&pattern, &received, "timed out"),
            "\
--expect-regex '^PONG$': timed out
received: 2 datagrams, the last of 3 bytes
  00000000  74 77 6f                                          |two|"
        );
        received.add_datagram(b"");
        assert!(!received.is_nothing());
    }
}
