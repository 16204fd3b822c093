//! Reading a dump back: header lines and hex lines become chunks with their time, direction and addresses.
//! A header says how many bytes follow, so that nothing can be missing unnoticed; all that is not part of a chunk is passed over.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use crate::flow::{Address, Direction, Flow, Transport};

/// A chunk as a dump has recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When it was sent or received, to the microsecond.
    pub time: SystemTime,
    /// Whether it came or went, seen from the program that made the dump.
    pub direction: Direction,
    /// The connection, or the addresses of the datagram, seen from there as well.
    pub flow: Flow,
    /// The number of the connection, or of the datagram in its direction.
    pub number: u64,
    /// The bytes; none is an empty datagram.
    pub bytes: Vec<u8>,
}

/// What is wrong with a dump, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpError {
    /// The line, counted from 1.
    pub line: u64,
    /// The byte in that line, counted from 1.
    pub column: usize,
    /// One clause.
    pub text: String,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, text } = self;
        write!(f, "line {line}, column {column}: {text}")
    }
}

impl std::error::Error for DumpError {}

/// Takes the lines of a dump one by one, and gives a chunk when it is whole.
///
/// Empty lines, comments (`#`) and lines of text between chunks are passed over: a dump may stand among other reports.
#[derive(Debug, Default)]
pub struct DumpReader {
    line: u64,
    open: Option<PartialFrame>,
}

/// A chunk whose bytes have not all come yet.
#[derive(Debug)]
struct PartialFrame {
    chunk: Recorded,
    len: usize,
    /// The line of its header.
    line: u64,
}

/// What is wrong in a line: the place, counted from 0, and why.
type Flaw = (usize, String);

impl DumpReader {
    /// Takes the next line, with or without its line feed.
    ///
    /// Errors: a header or a hex line that cannot be read, a hex line without a header, or a chunk that is not whole.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Recorded>, DumpError> {
        self.line += 1;
        let line = plain(line);
        let taken = match Line::of(&line) {
            Line::Hex => self.take_bytes(&line),
            Line::Header(time, rest) => self.take_header(time, rest),
            Line::Comment => Ok(None),
            Line::Text => self.check_whole().map(|()| None),
        };
        let number = self.line;
        taken.map_err(|(place, text)| DumpError {
            line: number,
            column: place + 1,
            text,
        })
    }

    /// Says that there are no more lines.
    ///
    /// Errors: the last chunk is not whole.
    pub fn end(&self) -> Result<(), DumpError> {
        self.check_whole().map_err(|(_, text)| DumpError {
            line: self.line,
            column: 1,
            text,
        })
    }

    fn check_whole(&self) -> Result<(), Flaw> {
        self.open.as_ref().map_or(Ok(()), |open| {
            let (there, len, line) = (open.chunk.bytes.len(), open.len, open.line);
            let text =
                format!("only {there} of the {len} bytes that the header in line {line} tells of");
            Err((0, text))
        })
    }

    fn take_header(&mut self, time: SystemTime, rest: Text<'_>) -> Result<Option<Recorded>, Flaw> {
        self.check_whole()?;
        let (chunk, len) = header(time, rest)?;
        if len == 0 {
            return Ok(Some(chunk));
        }
        let line = self.line;
        self.open = Some(PartialFrame { chunk, len, line });
        Ok(None)
    }

    fn take_bytes(&mut self, line: &[u8]) -> Result<Option<Recorded>, Flaw> {
        let Some(open) = &mut self.open else {
            return Err((0, "bytes that belong to no header".to_owned()));
        };
        for pair in pairs(line) {
            let (place, byte) = pair?;
            if open.chunk.bytes.len() == open.len {
                let text = format!("more than the {} bytes of the header", open.len);
                return Err((place, text));
            }
            open.chunk.bytes.push(byte);
        }
        let whole = self.open.take_if(|open| open.chunk.bytes.len() == open.len);
        Ok(whole.map(|open| open.chunk))
    }
}

/// The line without its line feed, and without the colours that a terminal would have got.
fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    let line = line.trim_ascii_end();
    if line.contains(&0x1b) {
        Cow::Owned(anstream::adapter::strip_bytes(line).into_vec())
    } else {
        Cow::Borrowed(line)
    }
}

/// What a line is.
enum Line<'a> {
    Hex,
    Header(SystemTime, Text<'a>),
    Comment,
    Text,
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(line) else {
            return Self::Text;
        };
        let first = text.split(' ').next().unwrap_or_default();
        if first.len() >= 8 && first.bytes().all(|letter| letter.is_ascii_hexdigit()) {
            return Self::Hex;
        }
        if first.is_empty() || first.starts_with('#') {
            return Self::Comment;
        }
        match humantime::parse_rfc3339(first) {
            Ok(time) => Self::Header(
                time,
                Text {
                    line: text,
                    at: first.len(),
                },
            ),
            Err(_) => Self::Text,
        }
    }
}

/// What is left of a line that is read word by word.
#[derive(Clone, Copy)]
struct Text<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    /// The next word as a `T`; `wanted` says what it should be.
    fn word<T>(&mut self, wanted: &str, read: impl Fn(&'a str) -> Option<T>) -> Result<T, Flaw> {
        let rest = &self.line[self.at..];
        let start = self.at + rest.len() - rest.trim_start().len();
        let word = self.line[start..].split(' ').next().unwrap_or_default();
        self.at = start + word.len();
        read(word).ok_or_else(|| (start, format!("'{word}' where {wanted} should be")))
    }
}

/// Reads `> tcp LOCAL <-> REMOTE #1 6 bytes`, which follows the time.
fn header(time: SystemTime, mut text: Text<'_>) -> Result<(Recorded, usize), Flaw> {
    let direction = text.word("'<' or '>'", |word| match word {
        "<" => Some(Direction::Incoming),
        ">" => Some(Direction::Outgoing),
        _ => None,
    })?;
    let transport = text.word("'tcp' or 'udp'", |word| match word {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        _ => None,
    })?;
    let address = |word: &str| word.parse::<Address>().ok();
    let local = text.word("the local address", address)?;
    text.word("an arrow", |word| {
        ["<->", "<-", "->"].contains(&word).then_some(())
    })?;
    let remote = text.word("the remote address", address)?;
    let number = text.word("a number such as '#1'", |word| {
        word.strip_prefix('#')?.parse().ok()
    })?;
    let len = text.word("the number of bytes", |word| word.parse().ok())?;
    text.word("'bytes'", |word| {
        ["byte", "bytes"].contains(&word).then_some(())
    })?;
    let chunk = Recorded {
        time,
        direction,
        flow: Flow::new(transport, local, remote),
        number,
        bytes: Vec::new(),
    };
    Ok((chunk, len))
}

/// The bytes of a hex line with their places: after the offset, up to the column of characters.
fn pairs(line: &[u8]) -> impl Iterator<Item = Result<(usize, u8), Flaw>> {
    let mut at = line
        .iter()
        .position(|&letter| letter == b' ')
        .unwrap_or(line.len());
    std::iter::from_fn(move || {
        at += line[at..]
            .iter()
            .take_while(|&&letter| letter == b' ')
            .count();
        if at == line.len() || line[at] == b'|' {
            return None;
        }
        let place = at;
        at = (at + 2).min(line.len());
        let mut byte = [0];
        let is_pair = hex::decode_to_slice(&line[place..at], &mut byte).is_ok();
        let is_alone = line
            .get(at)
            .is_none_or(|&letter| letter == b' ' || letter == b'|');
        Some(if is_pair && is_alone {
            Ok((place, byte[0]))
        } else {
            Err((place, "not two hexadecimal digits".to_owned()))
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, UNIX_EPOCH};

    use pretty_assertions::assert_eq;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Shape;
    use crate::tap::hexdump::{Form, HexDump};
    use crate::tap::lines::Palette;
    use crate::tap::{Data, Event, Memory, Tap};

    fn read(text: &str) -> Result<Vec<Recorded>, DumpError> {
        let mut reader = DumpReader::default();
        let mut chunks = Vec::new();
        for line in text.lines() {
            chunks.extend(reader.line(line.as_bytes())?);
        }
        reader.end().map(|()| chunks)
    }

    fn flaw(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    const HEADER: &str = "2026-11-20T12:00:00.123456Z > udp 127.0.0.1:1 -> [::1%2]:9 #3 2 bytes";

    #[test]
    fn a_chunk_has_its_time_direction_addresses_and_bytes() {
        let text = format!("{HEADER}\n00000000  68 0a   |h.|\n");
        let chunk = Recorded {
            time: UNIX_EPOCH + Duration::from_micros(1_795_176_000_123_456),
            direction: Direction::Outgoing,
            flow: Flow::new(
                Transport::Udp,
                "127.0.0.1:1".parse().unwrap(),
                "[::1%2]:9".parse().unwrap(),
            ),
            number: 3,
            bytes: b"h\n".to_vec(),
        };
        assert_eq!(read(&text), Ok(vec![chunk]));
    }

    #[test]
    fn other_lines_between_chunks_are_passed_over() {
        let header = HEADER.replace("2 bytes", "0 bytes");
        let text = format!(
            "connected  tcp 127.0.0.1:1 <-> 127.0.0.1:2\n# comment\n\n\u{1b}[2m{header}\u{1b}[0m\r\n\u{fffd}\nclosed"
        );
        assert_eq!(read(&text).unwrap().len(), 1);
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_its_place() {
        let after = |rest: &str| flaw(&format!("{HEADER}\n{rest}"));
        let missing = "only 1 of the 2 bytes that the header in line 1 tells of";
        assert_eq!(
            flaw("00000000  61"),
            "line 1, column 1: bytes that belong to no header"
        );
        assert_eq!(
            after("00000000  61"),
            format!("line 2, column 1: {missing}")
        );
        assert_eq!(
            after(&format!("00000000  61\n{HEADER}")),
            format!("line 3, column 1: {missing}")
        );
        assert_eq!(
            after("00000000  61 6"),
            "line 2, column 14: not two hexadecimal digits"
        );
        assert_eq!(
            after("00000000  616 2"),
            "line 2, column 11: not two hexadecimal digits"
        );
        assert_eq!(
            after("00000000  61 62 63"),
            "line 2, column 17: more than the 2 bytes of the header"
        );
        assert_eq!(
            flaw(&HEADER.replace("#3", "3")),
            "line 1, column 60: '3' where a number such as '#1' should be"
        );
    }

    prop_compose! {
        fn chunks()(
            micros in 0..4_000_000_000_000_000_u64,
            direction in prop_oneof![Just(Direction::Incoming), Just(Direction::Outgoing)],
            transport in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
            local in any::<(IpAddr, u16)>().prop_map(|pair| SocketAddr::from(pair).into()),
            remote in any::<(IpAddr, u16)>().prop_map(|pair| SocketAddr::from(pair).into()),
            bytes in vec(any::<u8>(), 0..200),
        ) -> Recorded {
            Recorded {
                time: UNIX_EPOCH + Duration::from_micros(micros),
                direction,
                flow: Flow::new(transport, local, remote),
                number: 1,
                bytes,
            }
        }
    }

    fn write(chunks: &[Recorded], width: u8, palette: Palette) -> String {
        let memory = Memory::default();
        let limit = None;
        let form = Form {
            width,
            limit,
            palette,
        };
        let mut dump = HexDump::new(memory.sink(), form);
        for chunk in chunks {
            let len = chunk.bytes.len();
            let event = Event::Data(Data {
                direction: chunk.direction,
                flow: &chunk.flow,
                conn: None,
                len,
                shape: match chunk.flow.transport {
                    Transport::Tcp => Shape::Stream,
                    Transport::Udp => Shape::Datagrams(len.max(1)),
                },
                bytes: Some(&chunk.bytes),
            });
            dump.event(&event, chunk.time);
        }
        dump.flush().unwrap();
        memory.text()
    }

    proptest! {
        #[test]
        fn what_was_dumped_is_read_back(
            chunks in vec(chunks(), 0..8),
            width in 1_u8..,
            palette in prop_oneof![Just(Palette::Plain), Just(Palette::Colored)],
        ) {
            let mut read = read(&write(&chunks, width, palette)).unwrap();
            for chunk in &mut read {
                chunk.number = 1;
            }
            prop_assert_eq!(read, chunks);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9a-f |#<>:.TZ-]{0,80}|.*") {
            let _ = read(&text);
        }
    }
}
