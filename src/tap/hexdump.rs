//! The dump: for each chunk a line with its time, direction, addresses and size, then its bytes in the form of `hexdump -C`.
//! Nothing is squeezed or left out, so that a dump can be sent again (see [`crate::framing::recording::dump`]).

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use anstyle::{AnsiColor, Effects, Style};

use super::lines::Palette;
use super::phrases::Bytes;
use super::{Backlog, Data, Event, PerDirection, Sink, Tap};
use crate::escape::Timestamp;
use crate::exit::Failure;
use crate::flow::{ConnId, Direction, Flow, Identity};

/// Lines that are rendered before the sink may write them.
const LINES_AT_ONCE: usize = 256;

/// Digits of an offset below 4 GiB; a larger one has more.
const OFFSET_DIGITS: usize = 8;

/// Columns of eight bytes: three for each, and a blank behind the last.
const GROUP_COLUMNS: usize = 8 * 3 + 1;

/// Writer of a dump.
pub struct HexDump {
    sink: Sink,
    lines: HexLines,
    form: Form,
    /// The bytes so far in each direction of a connection.
    positions: HashMap<Flow, PerDirection<u64>>,
    /// The datagrams so far in each direction.
    datagrams: PerDirection<u64>,
    /// The text of the time of the current event.
    stamp: Vec<u8>,
}

/// The form of a dump.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Bytes in a line.
    pub width: u8,
    /// The maximum number of bytes shown of a chunk. A dump with a limit cannot be sent again.
    pub limit: Option<u64>,
    /// The use of colours.
    pub palette: Palette,
}

impl HexDump {
    /// A writer to `sink`.
    pub fn new(sink: Sink, form: Form) -> Self {
        Self {
            sink,
            lines: HexLines::new(form.width, form.palette),
            form,
            positions: HashMap::new(),
            datagrams: PerDirection::default(),
            stamp: Vec::new(),
        }
    }

    /// Adds a chunk of a stream, or a datagram.
    fn add(&mut self, data: &Data<'_>, bytes: &[u8]) {
        let (flow, direction) = (data.flow, data.direction);
        if flow.transport.has_connections() {
            let position = self.positions.entry(flow.clone()).or_default();
            let position = position.of(direction);
            let offset = *position;
            *position += bytes.len() as u64;
            // A connection without a number is the only one.
            let number = data.conn.unwrap_or_else(|| 1.into());
            self.head(direction, flow, number, bytes.len());
            self.body(offset, bytes);
        } else {
            let count = self.datagrams.of(direction);
            *count += 1;
            let number = data.conn.unwrap_or_else(|| (*count).into());
            self.head(direction, flow.arrow(direction), number, bytes.len());
            self.body(0, bytes);
        }
    }

    fn head(&mut self, direction: Direction, flow: impl Display, number: ConnId, len: usize) {
        let (sign, color) = match direction {
            Direction::Incoming => ('<', AnsiColor::Cyan),
            Direction::Outgoing => ('>', AnsiColor::Green),
        };
        let style = match self.form.palette {
            Palette::Plain => Style::new(),
            Palette::Colored => color.on_default().bold(),
        };
        let size = Bytes(len as u64);
        let out = self.sink.buffer();
        out.extend_from_slice(&self.stamp);
        // Writing to memory does not fail; here and below.
        let _ = writeln!(out, " {style}{sign} {flow} {number} {size}{style:#}");
    }

    fn body(&mut self, mut offset: u64, bytes: &[u8]) {
        let limit = self.form.limit.unwrap_or(u64::MAX);
        let shown = usize::try_from(limit).map_or(bytes.len(), |limit| bytes.len().min(limit));
        let size = LINES_AT_ONCE * usize::from(self.form.width.max(1));
        for portion in bytes[..shown].chunks(size) {
            self.lines.append(self.sink.buffer(), offset, portion);
            offset += portion.len() as u64;
        }
        if shown < bytes.len() {
            let left = Bytes((bytes.len() - shown) as u64);
            let _ = writeln!(self.sink.buffer(), "# {left} more (--hex-limit)");
        }
    }
}

impl Tap for HexDump {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match *event {
            Event::Data(ref data) => {
                self.stamp.clear();
                let _ = write!(self.stamp, "{}", Timestamp(time));
                for piece in data.pieces() {
                    self.add(data, piece);
                }
                self.sink.end_event();
            }
            Event::Closed(state) => {
                if let Identity::Pair(flow) = &state.identity {
                    self.positions.remove(flow);
                }
            }
            #[rustfmt::skip]
            Event::Called(_) | Event::Listening { .. } | Event::Bound { .. }
            | Event::Connecting(_) | Event::ConnectFailed { .. } | Event::Retrying { .. }
            | Event::Open { .. } | Event::ProbeFailed(_) | Event::Connected { .. }
            | Event::Accepted(_) | Event::Relayed { .. } | Event::NotRelayed { .. } | Event::HalfClosed(_) | Event::PeerFinished(_)
            | Event::Broken { .. } | Event::Unreachable(_) | Event::Ignored { .. }
            | Event::Rejected { .. } | Event::Forgotten(_) | Event::Truncated { .. }
            | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_) | Event::Waiting { .. } | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. }
            | Event::Transferred(_) | Event::Peers(_) | Event::Exited(_) | Event::Sockets(_)
            | Event::Failed(_) | Event::Ended { .. } => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn wants_figures(&self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }

    fn backlog(&self) -> Option<Backlog<'_>> {
        self.sink.backlog()
    }
}

/// Renderer of bytes as lines: offset, pairs of digits in groups of eight, characters.
#[derive(Clone, Debug)]
pub(crate) struct HexLines {
    width: usize,
    palette: Palette,
    /// The two digits of every byte.
    digits: [[u8; 2]; 256],
    /// A line without offset, digits and characters.
    blank: Vec<u8>,
    /// Columns between the offset and the characters.
    columns: usize,
}

impl HexLines {
    /// Lines of `width` bytes, at least 1.
    pub(crate) fn new(width: u8, palette: Palette) -> Self {
        let width = usize::from(width.max(1));
        let columns = digits_end(width - 1) + 3;
        let mut blank = vec![b' '; OFFSET_DIGITS + columns + width];
        blank[OFFSET_DIGITS + columns - 1] = b'|';
        blank.extend_from_slice(b"|\n");
        let digits = std::array::from_fn(|byte| {
            let mut pair = [0; 2];
            // One byte of the index, two digits: it fits.
            let _ = hex::encode_to_slice(&byte.to_le_bytes()[..1], &mut pair);
            pair
        });
        Self {
            width,
            palette,
            digits,
            blank,
            columns,
        }
    }

    /// Appends the lines of `bytes`, of which the first is at `offset` in its stream.
    pub(crate) fn append(&self, out: &mut Vec<u8>, mut offset: u64, bytes: &[u8]) {
        for bytes in bytes.chunks(self.width) {
            match self.palette {
                Palette::Plain => self.append_plain(out, offset, bytes),
                Palette::Colored => self.append_colored(out, offset, bytes),
            }
            offset += bytes.len() as u64;
        }
    }

    fn append_plain(&self, out: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let [high, low] = [offset >> 32, offset & 0xffff_ffff];
        if high > 0 {
            // Writing to memory does not fail; here and below.
            let _ = write!(out, "{high:x}");
        }
        let start = out.len();
        out.extend_from_slice(&self.blank);
        let (number, line) = out[start..].split_at_mut(OFFSET_DIGITS);
        let _ = hex::encode_to_slice(&low.to_be_bytes()[4..], number);
        let (columns, characters) = line.split_at_mut(self.columns);
        let groups = columns[2..].chunks_mut(GROUP_COLUMNS);
        for (columns, bytes) in groups.zip(bytes.chunks(8)) {
            for (column, &byte) in columns.chunks_exact_mut(3).zip(bytes) {
                column[..2].copy_from_slice(&self.digits[usize::from(byte)]);
            }
        }
        for (character, &byte) in characters.iter_mut().zip(bytes) {
            let is_visible = matches!(byte, b' '..=b'~');
            *character = if is_visible { byte } else { b'.' };
        }
        let missing = self.width - bytes.len();
        if missing > 0 {
            out.truncate(out.len() - missing - 2);
            out.extend_from_slice(b"|\n");
        }
    }

    /// Appends a plain line, with the colour of its kind around each byte.
    fn append_colored(&self, out: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let mut plain = Vec::new();
        self.append_plain(&mut plain, offset, bytes);
        let (line, characters) = plain.split_at(plain.len() - bytes.len() - 2);
        let (number, columns) = line.split_at(line.len() - self.columns);
        let dimmed = Style::new().dimmed();
        let _ = write!(out, "{dimmed}");
        out.extend_from_slice(number);
        let _ = write!(out, "{dimmed:#}");
        let ends = (0..bytes.len()).map(digits_end);
        paint(out, bytes, columns, ends);
        paint(out, bytes, characters, 1..=bytes.len());
    }
}

/// The end of the digits of a byte, in columns from the end of the offset.
fn digits_end(index: usize) -> usize {
    2 + 3 * index + index / 8 + 2
}

/// Appends `text`: the part up to the end of each byte in the colour of the byte's kind, then the rest.
fn paint(out: &mut Vec<u8>, bytes: &[u8], text: &[u8], ends: impl Iterator<Item = usize>) {
    let mut style = Style::new();
    let mut done = 0;
    for (&byte, end) in bytes.iter().zip(ends) {
        let own = style_of(byte);
        if own != style {
            let _ = write!(out, "{style:#}{own}");
            style = own;
        }
        out.extend_from_slice(&text[done..end]);
        done = end;
    }
    let _ = write!(out, "{style:#}");
    out.extend_from_slice(&text[done..]);
}

fn style_of(byte: u8) -> Style {
    match byte {
        0 => Style::new().effects(Effects::DIMMED),
        b' ' | b'\t'..=b'\r' => AnsiColor::Green.on_default(),
        b'!'..=b'~' => AnsiColor::Cyan.on_default(),
        0x80.. => AnsiColor::Yellow.on_default(),
        _ => AnsiColor::Magenta.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::Shape::{self, Datagrams, Stream};
    use crate::flow::Transport;
    use crate::tap::sink::tests::Memory;

    const PLAIN: Form = Form {
        width: 16,
        limit: None,
        palette: Palette::Plain,
    };

    fn flow(transport: Transport) -> Flow {
        let address = |text: &str| text.parse().unwrap();
        let (local, remote) = ("127.0.0.1:50312", "127.0.0.1:9000");
        Flow::new(transport, address(local), address(remote))
    }

    fn data<'a>(flow: &'a Flow, direction: Direction, shape: Shape, bytes: &'a [u8]) -> Event<'a> {
        Event::Data(Data {
            direction,
            flow,
            conn: None,
            len: bytes.len(),
            shape,
            bytes: Some(bytes),
        })
    }

    fn dump(form: Form, events: &[Event<'_>]) -> String {
        let memory = Memory::default();
        let mut dump = HexDump::new(memory.sink(), form);
        let noon = humantime::parse_rfc3339("2026-11-20T12:00:00.123456Z").unwrap();
        for event in events {
            dump.event(event, noon);
        }
        dump.flush().unwrap();
        memory.text()
    }

    use Direction::{Incoming, Outgoing};

    #[test]
    fn offsets_run_through_each_direction_of_a_stream() {
        let flow = flow(Transport::Tcp);
        let text = dump(
            PLAIN,
            &[
                data(&flow, Outgoing, Stream, b"hello\n"),
                data(&flow, Incoming, Stream, b"hi"),
                data(&flow, Outgoing, Stream, b"again"),
            ],
        );
        let expected = "\
2026-11-20T12:00:00.123456Z > tcp 127.0.0.1:50312 <-> 127.0.0.1:9000 #1 6 bytes
00000000  68 65 6c 6c 6f 0a                                 |hello.|
2026-11-20T12:00:00.123456Z < tcp 127.0.0.1:50312 <-> 127.0.0.1:9000 #1 2 bytes
00000000  68 69                                             |hi|
2026-11-20T12:00:00.123456Z > tcp 127.0.0.1:50312 <-> 127.0.0.1:9000 #1 5 bytes
00000006  61 67 61 69 6e                                    |again|
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_clock_may_be_set_to_anything() {
        let memory = Memory::default();
        let mut dump = HexDump::new(memory.sink(), PLAIN);
        let (flow, hour) = (flow(Transport::Udp), Duration::from_hours(1));
        let data = data(&flow, Outgoing, Datagrams(1), b"a");
        for time in [UNIX_EPOCH + hour, UNIX_EPOCH, UNIX_EPOCH - hour] {
            dump.event(&data, time);
        }
        dump.flush().unwrap();
        let text = memory.text();
        let stamps = text.lines().step_by(2).map(|line| &line[..20]);
        let epoch = "1970-01-01T00:00:00.";
        assert!(stamps.eq(["1970-01-01T01:00:00.", epoch, epoch]), "{text}");
    }

    #[test]
    fn each_datagram_of_a_run_stands_alone() {
        let flow = flow(Transport::Udp);
        let events = [
            data(&flow, Outgoing, Datagrams(2), b"aab"),
            data(&flow, Incoming, Datagrams(1), b""),
        ];
        let expected = "\
2026-11-20T12:00:00.123456Z > udp 127.0.0.1:50312 -> 127.0.0.1:9000 #1 2 bytes
00000000  61 61                                             |aa|
2026-11-20T12:00:00.123456Z > udp 127.0.0.1:50312 -> 127.0.0.1:9000 #2 1 byte
00000000  62                                                |b|
2026-11-20T12:00:00.123456Z < udp 127.0.0.1:50312 <- 127.0.0.1:9000 #1 0 bytes
";
        assert_eq!(dump(PLAIN, &events), expected);
    }

    #[test]
    fn a_limit_says_what_it_leaves_out() {
        let flow = flow(Transport::Udp);
        let form = Form {
            limit: Some(3),
            ..PLAIN
        };
        let events = [data(&flow, Incoming, Datagrams(5), b"helloyou")];
        let text = dump(form, &events);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('2')).collect();
        let expected = [
            "00000000  68 65 6c                                          |hel|",
            "# 2 bytes more (--hex-limit)",
            "00000000  79 6f 75                                          |you|",
        ];
        assert_eq!(lines, expected);
    }

    fn lines(width: u8, palette: Palette, offset: u64, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        HexLines::new(width, palette).append(&mut out, offset, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_those_of_hexdump() {
        let bytes: Vec<u8> = (b'a'..=b'z').chain([0, 0x7f, 0x80, 0xff]).collect();
        let expected = "\
00000000  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  |abcdefghijklmnop|
00000010  71 72 73 74 75 76 77 78  79 7a 00 7f 80 ff        |qrstuvwxyz....|
";
        assert_eq!(lines(16, Palette::Plain, 0, &bytes), expected);
    }

    #[test]
    fn other_widths_keep_their_columns() {
        let expected = "\
00000000  61 62 63 64 65 66 67 68  69  |abcdefghi|
00000009  6a                           |j|
";
        assert_eq!(lines(9, Palette::Plain, 0, b"abcdefghij"), expected);
        assert_eq!(lines(1, Palette::Plain, 0, b"a"), "00000000  61  |a|\n");
    }

    #[test]
    fn a_large_offset_has_more_digits() {
        let line = "123456789a  61  |a|\n";
        assert_eq!(lines(1, Palette::Plain, 0x12_3456_789a, b"a"), line);
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let bytes: Vec<u8> = (0..=255).collect();
        for width in [1, 7, 8, 16, 17, 255] {
            for offset in [3, 0x0123_4567, 0x89ab_cdef, 0xffff_ff80] {
                let colored = lines(width, Palette::Colored, offset, &bytes);
                let stripped = anstream::adapter::strip_str(&colored).to_string();
                assert_eq!(stripped, lines(width, Palette::Plain, offset, &bytes));
            }
        }
    }
}
