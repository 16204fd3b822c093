//! Dumps of other programs: hexdump, xxd, od, tcpdump, tshark, Wireshark, C arrays; and those of this one.
//! Every offset has to be where the bytes before it end, so neither text nor an offset passes for bytes.

use std::time::SystemTime;

use super::dump::{DumpReader, without_colors};
use super::packets::{LinkHeader, Packets};
use super::replay::MAX_RECORDING_SIZE;
use super::row::{BASES, Row, Style};
use super::{Chunk, Conversation};
use crate::exit::Failure;
use crate::flow::{Direction, Leg};
use crate::framing::lines::{Flaw, unreadable};

/// Returns the conversations in a text: one for each connection of packets, or a single one without addresses.
pub(in crate::framing) fn read(text: &[u8]) -> Result<Vec<Conversation>, Failure> {
    if text.split(|&byte| byte == b'\n').any(DumpReader::is_header) {
        return own_dump(text);
    }
    let mut reader = Reader::default();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let read = reader.line(number, &without_colors(line));
        read.map_err(|flaw| flaw.at(number))?;
    }
    if reader.pieces.iter().any(|piece| piece.is_repeated) {
        return Err(unreadable("no offset follows a '*'"));
    }
    reader.conversations()
}

/// Reads a dump of this program. What it shows as sent counts as the client's.
fn own_dump(text: &[u8]) -> Result<Vec<Conversation>, Failure> {
    let mut reader = DumpReader::default();
    let mut found: Vec<Conversation> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(recorded) = reader.line(line)? else {
            continue;
        };
        let name = recorded.flow.to_string();
        let known = found.iter().position(|known| known.name == name);
        if known.is_none() {
            found.push(Conversation {
                name,
                ..Conversation::default()
            });
        }
        let at = known.unwrap_or(found.len() - 1);
        found[at].chunks.push(Chunk {
            time: Some(recorded.time),
            leg: Some(match recorded.direction {
                Direction::Outgoing => Leg::Client,
                Direction::Incoming => Leg::Target,
            }),
            bytes: recorded.bytes,
        });
    }
    reader.end()?;
    Ok(found)
}

/// Bytes of a dump, or of a part of it that lies between parts of another.
#[derive(Default)]
struct Piece {
    style: Style,
    /// First line, and its indentation.
    line: u64,
    indent: usize,
    chunk: Chunk,
    /// Another dump shows the same bytes.
    is_copy: bool,
    /// Place behind the last byte, by the base of the offsets; `None` in a base that does not fit.
    ends: [Option<u64>; BASES.len()],
    /// Bytes of the last line, and a star after it.
    last: Vec<u8>,
    is_repeated: bool,
}

#[derive(Default)]
struct Reader {
    pieces: Vec<Piece>,
    /// Bytes so far.
    size: usize,
    /// Text before the next piece: the beginning of that.
    heading: Option<Piece>,
}

impl Reader {
    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), Flaw> {
        if line.trim_ascii() == b"*" {
            let last = self
                .pieces
                .last_mut()
                .filter(|last| last.style != Style::Plain);
            let last = last.ok_or_else(|| Flaw::new(0, "'*' repeats no line with an offset"))?;
            last.is_repeated = true;
            return Ok(());
        }
        let mut row = Row::parse(line)?;
        if row.is_none() {
            self.read_heading(&String::from_utf8_lossy(line.trim_ascii()))?;
            row = Row::of_array(line)?;
        }
        row.map_or(Ok(()), |row| self.add(number, row))
    }

    /// Reads a line between dumps, or one that begins a C array.
    fn read_heading(&mut self, text: &str) -> Result<(), Flaw> {
        let next = self.heading.get_or_insert_default();
        if text.starts_with("Follow: udp") {
            let text = "it does not show where a datagram ends; --in pcap reads the capture";
            return Err(Flaw::new(0, text));
        }
        if text.ends_with(" bytes):") || text.starts_with("/*") && text.contains(" bytes)") {
            // Of a packet that is shown in several forms, only the frame is as it was sent.
            next.is_copy = !text.contains("Frame (");
        }
        if text.contains("peer0_") {
            next.chunk.leg = Some(Leg::Client);
        } else if text.contains("peer1_") {
            next.chunk.leg = Some(Leg::Target);
        }
        let time = text.split(' ').take(2).find_map(time_of_day);
        next.chunk.time = time.or(next.chunk.time);
        Ok(())
    }

    /// Adds a row to the dump that it continues, or begins another one.
    fn add(&mut self, number: u64, row: Row) -> Result<(), Flaw> {
        let is_plain = row.style == Style::Plain;
        let is_first = row.offsets()[0] == Some(0) || is_plain && self.heading.is_some();
        let known = self
            .pieces
            .iter()
            .rposition(|piece| piece.indent == row.indent);
        let known = known.filter(|&at| !is_first && self.pieces[at].style == row.style);
        // Behind the offset of the end nothing follows.
        let len = Some(row.bytes.len() as u64).filter(|&len| len > 0);
        let mut ends = row.offsets().map(|offset| offset?.checked_add(len?));
        let mut repeated = Vec::new();
        match known {
            Some(at) if !is_plain => {
                let piece = &mut self.pieces[at];
                let count = piece.continues(&row, &mut ends)?;
                self.size = self
                    .size
                    .saturating_add(piece.last.len().saturating_mul(count));
                piece.is_repeated = false;
                repeated = if self.size > MAX_RECORDING_SIZE {
                    Vec::new()
                } else {
                    piece.last.repeat(count)
                };
            }
            None if row.bytes.is_empty() => {
                let text = "an offset without bytes; if these are bytes, --in hex reads them";
                return Err(Flaw::new(row.indent, text));
            }
            _ => {}
        }
        self.size = self.size.saturating_add(row.bytes.len());
        if self.size > MAX_RECORDING_SIZE {
            let text = format!("its dumps have more than {} MiB", MAX_RECORDING_SIZE >> 20);
            return Err(Flaw::new(0, text));
        }
        let heading = self.heading.take();
        if known.is_none() || known != self.pieces.len().checked_sub(1) {
            self.pieces.push(Piece {
                style: row.style,
                line: number,
                indent: row.indent,
                ..heading.unwrap_or_default()
            });
        }
        if let Some(piece) = self.pieces.last_mut() {
            piece.chunk.bytes.extend(repeated);
            piece.chunk.bytes.extend(&row.bytes);
            (piece.ends, piece.last) = (ends, row.bytes);
        }
        Ok(())
    }

    /// Takes the payload out of packets. Dumps that are not packets are one conversation.
    fn conversations(self) -> Result<Vec<Conversation>, Failure> {
        let mut pieces = self.pieces;
        pieces.retain(|piece| !piece.is_copy);
        let guess = |piece: &Piece| match piece.style {
            Style::Long => None,
            _ => LinkHeader::guess(&piece.chunk.bytes),
        };
        let links: Vec<_> = pieces.iter().map(guess).collect();
        let are_packets = links.iter().any(Option::is_some);
        // In a text with both sides of a conversation, the lines of the server are indented.
        let indents = pieces.iter().map(|piece| piece.indent);
        let (shallow, deep) = (indents.clone().min(), indents.max());
        let (mut packets, mut bare) = (Packets::default(), Conversation::default());
        for (
            Piece {
                style,
                line,
                indent,
                mut chunk,
                ..
            },
            link,
        ) in pieces.into_iter().zip(links)
        {
            let error = |text: String| Failure::from(Flaw::new(0, text).at(line));
            if let Some(link) = link {
                packets.add(link, &chunk.bytes, chunk.time).map_err(error)?;
            } else if are_packets || style == Style::Labels {
                return Err(error(
                    "the dump that begins here is not an IP packet".to_owned(),
                ));
            } else {
                let is_client = Some(indent) == shallow;
                let side = if is_client { Leg::Client } else { Leg::Target };
                chunk.leg = chunk.leg.or((shallow != deep).then_some(side));
                bare.chunks.push(chunk);
            }
        }
        match (are_packets, bare.chunks.is_empty()) {
            (true, _) => Ok(packets.conversations()),
            (false, true) => Err(unreadable("there is no dump in it")),
            (false, false) => Ok(vec![bare]),
        }
    }
}

impl Piece {
    /// Returns how often the last line stands before another row, whose `ends` keep the bases that fit: more than 0 where there
    /// is a star.
    ///
    /// Errors: the row is not at the end in any base, or the number depends on the base.
    fn continues(&self, row: &Row, ends: &mut [Option<u64>]) -> Result<usize, Flaw> {
        let len = self.last.len() as u64;
        let mut counts = Vec::new();
        for (base, offset) in row.offsets().into_iter().enumerate() {
            let passed = self.ends[base].and_then(|end| offset?.checked_sub(end));
            match passed.filter(|&passed| (passed > 0) == self.is_repeated) {
                Some(passed) if passed.is_multiple_of(len) => counts.push(passed / len),
                _ => ends[base] = None,
            }
        }
        let first = counts.first().copied();
        // od(1) has seven digits in every base but sixteen.
        let is_clear = row.offset.len() != 7 || counts.iter().all(|&count| Some(count) == first);
        let text = match first {
            Some(count) if is_clear => return Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            Some(_) => "this offset may be octal, decimal or hexadecimal: od -A x is clear",
            None => "this offset is not where the bytes before it end",
        };
        Err(Flaw::new(row.indent, text))
    }
}

/// Reads the time in front of a packet of tcpdump.
fn time_of_day(word: &str) -> Option<SystemTime> {
    let time = Some(word).filter(|word| word.len() > 8 && word.as_bytes()[8] == b'.')?;
    humantime::parse_rfc3339(&format!("1970-01-01T{time}Z")).ok()
}
