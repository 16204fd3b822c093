//! Reader of dumps: header lines and hex lines become chunks with their time, direction and addresses.
//! A header says how many bytes follow, so no byte can be missing unnoticed. Text between chunks is skipped.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::flow::{Address, ConnId, Direction, Flow, Leg, Transport};
use crate::framing::lines::{Flaw, TextError};

/// Bytes of a chunk at most: far more than one call moves. A longer one would be held in memory until it is whole.
const MAX_RECORDED_SIZE: usize = 16 << 20;

/// A chunk that a dump has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Time at which it was sent or received, to the microsecond.
    pub time: SystemTime,
    /// Direction, seen from the program that made the dump.
    pub direction: Direction,
    /// Addresses of the connection or of the datagram, seen from there as well.
    pub flow: Flow,
    /// Number of the connection, or of the datagram in its direction; with the leg in a relay.
    pub number: ConnId,
    /// Content; empty for an empty datagram.
    pub bytes: Vec<u8>,
}

/// Takes the lines of a dump one by one, and gives each chunk when it is whole.
///
/// Empty lines, comments (`#`) and lines of text between chunks are skipped: a dump may stand among other reports.
#[derive(Debug, Default)]
pub struct DumpReader {
    line: u64,
    open: Option<Open>,
}

/// A chunk that is not whole yet.
#[derive(Debug)]
struct Open {
    chunk: Recorded,
    len: usize,
    /// Line of its header.
    line: u64,
}

impl DumpReader {
    /// Takes the next line, with or without its line feed.
    ///
    /// Errors: a header or a hex line that cannot be read, a hex line without a header, or a chunk that is not whole.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Recorded>, TextError> {
        self.line += 1;
        let line = without_colors(line);
        // Bytes that are no text are as good as any text.
        let text = std::str::from_utf8(&line).unwrap_or("?");
        let first = text.split(' ').next().unwrap_or_default();
        let is_offset = first.len() >= 8 && first.bytes().all(|letter| letter.is_ascii_hexdigit());
        let taken = if is_offset {
            self.take_bytes(text)
        } else if first.is_empty() || first.starts_with('#') {
            Ok(None)
        } else {
            match humantime::parse_rfc3339(first) {
                Ok(time) => self.take_header(time, text),
                Err(_) => self.check_whole().map(|()| None),
            }
        };
        taken.map_err(|flaw| flaw.at(self.line))
    }

    /// Returns true for the header of a chunk, which begins with a time and a direction.
    pub fn is_header(line: &[u8]) -> bool {
        let line = without_colors(line);
        let text = std::str::from_utf8(&line).unwrap_or_default();
        let mut words = text.split(' ');
        let is_time = words
            .next()
            .is_some_and(|word| humantime::parse_rfc3339(word).is_ok());
        is_time && matches!(words.next(), Some("<" | ">"))
    }

    /// Checks at the end of the input that the last chunk is whole.
    pub fn end(&self) -> Result<(), TextError> {
        self.check_whole().map_err(|flaw| flaw.at(self.line))
    }

    fn check_whole(&self) -> Result<(), Flaw> {
        self.open.as_ref().map_or(Ok(()), |open| {
            let (there, len, line) = (open.chunk.bytes.len(), open.len, open.line);
            let text = format!("only {there} of the {len} bytes that line {line} announces");
            Err(Flaw::new(0, text))
        })
    }

    fn take_header(&mut self, time: SystemTime, text: &str) -> Result<Option<Recorded>, Flaw> {
        self.check_whole()?;
        let (chunk, len) = header(time, text)?;
        if len == 0 {
            return Ok(Some(chunk));
        }
        if len > MAX_RECORDED_SIZE {
            let most = MAX_RECORDED_SIZE >> 20;
            let text = format!("a chunk of {len} bytes, more than {most} MiB");
            return Err(Flaw::new(0, text));
        }
        let line = self.line;
        self.open = Some(Open { chunk, len, line });
        Ok(None)
    }

    /// Takes a hex line: the offset, pairs of digits, and the column of characters.
    fn take_bytes(&mut self, text: &str) -> Result<Option<Recorded>, Flaw> {
        let Some(open) = &mut self.open else {
            return Err(Flaw::new(0, "bytes that belong to no header"));
        };
        let digits = text.split('|').next().unwrap_or_default();
        for (place, pair) in words(digits).skip(1) {
            let mut byte = [0];
            hex::decode_to_slice(pair, &mut byte)
                .map_err(|_| Flaw::new(place, "not two hexadecimal digits"))?;
            if open.chunk.bytes.len() == open.len {
                let text = format!("more than the {} bytes of the header", open.len);
                return Err(Flaw::new(place, text));
            }
            open.chunk.bytes.extend(byte);
        }
        let whole = self.open.take_if(|open| open.chunk.bytes.len() == open.len);
        Ok(whole.map(|open| open.chunk))
    }
}

/// Returns the line without its line feed, and without the colours of a terminal.
pub(super) fn without_colors(line: &[u8]) -> Cow<'_, [u8]> {
    let line = line.trim_ascii_end();
    if line.contains(&0x1b) {
        Cow::Owned(anstream::adapter::strip_bytes(line).into_vec())
    } else {
        Cow::Borrowed(line)
    }
}

/// The words of a line with their places.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    let words = line.split(' ').map(move |word| {
        let place = next;
        next += word.len() + 1;
        (place, word)
    });
    words.filter(|(_, word)| !word.is_empty())
}

/// Reads `TIME > tcp LOCAL <-> REMOTE #1 6 bytes`: the chunk without its bytes, and their number.
fn header(time: SystemTime, line: &str) -> Result<(Recorded, usize), Flaw> {
    let words = &mut words(line).skip(1).chain([(line.len(), "")]).peekable();
    let one_of = |words: &'static [&'static str]| {
        move |word: &str| words.iter().position(|&known| known == word)
    };
    let direction = next_word(words, "'<' or '>'", one_of(&["<", ">"]))?;
    let transport = next_word(words, "a transport such as 'tcp'", |word| {
        let mut all = Transport::ALL.into_iter();
        all.find(|transport| transport.name() == word)
    })?;
    let local = next_word(words, "the local address", |word| word.parse().ok())?;
    next_word(words, "an arrow", one_of(&["<->", "<-", "->"]))?;
    let remote = remote(words, line)?;
    let mut number: ConnId = next_word(words, "a number such as '#1'", |word| {
        Some(word.strip_prefix('#')?.parse::<u64>().ok()?.into())
    })?;
    let legs = [Leg::Client, Leg::Target];
    number.leg = legs.into_iter().find(|leg| {
        let is_named = |&(_, word): &(usize, &str)| word == leg.to_string();
        words.next_if(is_named).is_some()
    });
    let len = next_word(words, "the number of bytes", |word| word.parse().ok())?;
    next_word(words, "'bytes'", one_of(&["byte", "bytes"]))?;
    let chunk = Recorded {
        time,
        direction: [Direction::Incoming, Direction::Outgoing][direction],
        flow: Flow::new(transport, local, remote),
        number,
        bytes: Vec::new(),
    };
    Ok((chunk, len))
}

/// Reads the remote address, which may be several words: those up to the number.
fn remote<'a>(
    words: &mut impl Iterator<Item = (usize, &'a str)>,
    line: &'a str,
) -> Result<Address, Flaw> {
    let (place, first) = words.next().unwrap_or_default();
    let rest = &line[place..];
    let text = rest.split(" #").next().unwrap_or_default();
    if let Ok(address) = text.parse() {
        // The words are taken from the same line.
        let more = text.split(' ').count() - 1;
        words.by_ref().take(more).for_each(drop);
        return Ok(address);
    }
    let wanted = format!("'{first}' where the remote address should be");
    first.parse().map_err(|_| Flaw::new(place, wanted))
}

/// Reads the next word; `wanted` describes it for an error.
fn next_word<'a, T>(
    words: &mut impl Iterator<Item = (usize, &'a str)>,
    wanted: &str,
    read: impl FnOnce(&'a str) -> Option<T>,
) -> Result<T, Flaw> {
    let (place, word) = words.next().unwrap_or_default();
    read(word).ok_or_else(|| Flaw::new(place, format!("'{word}' where {wanted} should be")))
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
    use crate::tap::sink::tests::Memory;
    use crate::tap::{Data, Event, Tap};

    fn read(text: &str) -> Result<Vec<Recorded>, TextError> {
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
            number: 3.into(),
            bytes: b"h\n".to_vec(),
        };
        assert_eq!(read(&text), Ok(vec![chunk]));
    }

    #[test]
    fn other_lines_between_chunks_are_skipped() {
        let header = HEADER.replace("2 bytes", "0 bytes");
        let text = format!(
            "connected  tcp 127.0.0.1:1 <-> 127.0.0.1:2\n# comment\n\n\u{1b}[2m{header}\u{1b}[0m\r\n\u{fffd}\nclosed"
        );
        assert_eq!(read(&text).unwrap().len(), 1);
    }

    #[test]
    fn an_error_names_its_place() {
        let after = |rest: &str| flaw(&format!("{HEADER}\n{rest}"));
        let long = flaw(&HEADER.replace(" 2 bytes", " 16777217 bytes"));
        let most = "a chunk of 16777217 bytes, more than 16 MiB";
        assert_eq!(long, format!("line 1, column 1: {most}"));
        let missing = "only 1 of the 2 bytes that line 1 announces";
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
            transport in proptest::sample::select(&Transport::ALL),
            local in any::<(IpAddr, u16)>().prop_map(|pair| SocketAddr::from(pair).into()),
            remote in any::<(IpAddr, u16)>().prop_map(|pair| SocketAddr::from(pair).into()),
            leg in prop_oneof![Just(None), Just(Some(Leg::Client)), Just(Some(Leg::Target))],
            bytes in vec(any::<u8>(), 0..200),
        ) -> Recorded {
            Recorded {
                time: UNIX_EPOCH + Duration::from_micros(micros),
                direction,
                flow: Flow::new(transport, local, remote),
                number: ConnId { number: 1, leg },
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
                conn: Some(chunk.number),
                len,
                shape: match chunk.flow.transport {
                    Transport::Tcp | Transport::Unix => Shape::Stream,
                    _ => Shape::Datagrams(len.max(1)),
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
        fn a_dump_is_read_back(
            chunks in vec(chunks(), 0..8),
            width in 1_u8..,
            palette in prop_oneof![Just(Palette::Plain), Just(Palette::Colored)],
        ) {
            let mut read = read(&write(&chunks, width, palette)).unwrap();
            for chunk in &mut read {
                chunk.number.number = 1;
            }
            prop_assert_eq!(read, chunks);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9a-f |#<>:.TZ-]{0,80}|.*") {
            let _ = read(&text);
        }
    }
}
