//! The dump: for each chunk a line that says when, which way, between whom and how much, then its bytes in hexadecimal.
//! Nothing is squeezed or left out, so that a dump can be sent again (see [`crate::framing::dump`]).

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};

use super::hexlines::HexLines;
use super::lines::Palette;
use super::phrases::Bytes;
use super::{Data, Event, Sink, Tap, Ways};
use crate::exit::Failure;
use crate::stamp::Stamp;
use crate::tuple::{Direction, FourTuple, Identity, Transport};

/// Writes a dump.
pub struct HexDump {
    sink: Sink,
    lines: HexLines,
    form: Form,
    /// How far each direction of a connection has come.
    streams: HashMap<FourTuple, Ways<u64>>,
    /// How many datagrams went each way.
    datagrams: Ways<u64>,
    /// The text of the time of the chunks at hand.
    stamp: Vec<u8>,
}

/// How a dump looks.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Bytes in a line.
    pub width: u8,
    /// Bytes shown of each chunk. Where that is not all of them, the dump cannot be sent again.
    pub limit: Option<u64>,
    /// Whether it has colours.
    pub palette: Palette,
}

/// The head of a chunk: which way it went, between whom, which one it is.
struct Head<F> {
    direction: Direction,
    flow: F,
    number: u64,
}

impl HexDump {
    /// Writes to `sink`.
    #[must_use]
    pub fn new(sink: Sink, form: Form) -> Self {
        Self {
            sink,
            lines: HexLines::new(form.width, form.palette),
            form,
            streams: HashMap::new(),
            datagrams: Ways::default(),
            stamp: Vec::new(),
        }
    }

    fn stream(&mut self, data: &Data<'_>, bytes: &[u8]) {
        let &Data {
            direction, flow, ..
        } = data;
        let stream = self.streams.entry(flow).or_default().of(direction);
        let offset = *stream;
        *stream += bytes.len() as u64;
        let head = Head {
            direction,
            flow,
            // A connection without a number is the only one.
            number: data.conn.unwrap_or(1),
        };
        self.chunk(&head, offset, bytes);
    }

    fn datagram(&mut self, data: &Data<'_>, bytes: &[u8]) {
        let direction = data.direction;
        let count = self.datagrams.of(direction);
        *count += 1;
        let head = Head {
            direction,
            flow: data.flow.arrow(direction),
            number: *count,
        };
        self.chunk(&head, 0, bytes);
    }

    fn chunk<F: Display>(&mut self, head: &Head<F>, mut offset: u64, bytes: &[u8]) {
        self.head(head, bytes.len());
        let limit = self.form.limit.map(usize::try_from);
        let shown = limit.map_or(bytes.len(), |limit| {
            bytes.len().min(limit.unwrap_or(usize::MAX))
        });
        for portion in bytes[..shown].chunks(self.lines.portion()) {
            self.lines.append(self.sink.room(), offset, portion);
            offset += portion.len() as u64;
        }
        if shown < bytes.len() {
            let left = Bytes((bytes.len() - shown) as u64);
            // Writing to memory does not fail; here and below.
            let _ = writeln!(self.sink.room(), "# {left} more (--hex-limit)");
        }
    }

    fn head<F: Display>(&mut self, head: &Head<F>, len: usize) {
        let (sign, color) = match head.direction {
            Direction::Incoming => ('<', AnsiColor::Cyan),
            Direction::Outgoing => ('>', AnsiColor::Green),
        };
        let style = match self.form.palette {
            Palette::Plain => Style::new(),
            Palette::Colored => color.on_default().bold(),
        };
        let (flow, number, size) = (&head.flow, head.number, Bytes(len as u64));
        let room = self.sink.room();
        room.extend_from_slice(&self.stamp);
        let _ = writeln!(room, " {style}{sign} {flow} #{number} {size}{style:#}");
    }
}

impl Tap for HexDump {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match *event {
            Event::Data(ref data) => {
                self.stamp.clear();
                let _ = write!(self.stamp, "{}", Stamp(time));
                for piece in data.pieces() {
                    match data.flow.transport {
                        Transport::Tcp => self.stream(data, piece),
                        Transport::Udp => self.datagram(data, piece),
                    }
                }
                self.sink.settle();
            }
            Event::Closed(state) => {
                if let Identity::Pair(flow) = state.identity {
                    self.streams.remove(&flow);
                }
            }
            _ => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::Shape::{self, Datagrams, Stream};
    use crate::tap::Memory;

    const PLAIN: Form = Form {
        width: 16,
        limit: None,
        palette: Palette::Plain,
    };

    fn flow(transport: Transport) -> FourTuple {
        let address = |text: &str| text.parse().unwrap();
        let (local, remote) = ("127.0.0.1:50312", "127.0.0.1:9000");
        FourTuple::new(transport, address(local), address(remote))
    }

    fn data(flow: FourTuple, direction: Direction, shape: Shape, bytes: &[u8]) -> Event<'_> {
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
                data(flow, Outgoing, Stream, b"hello\n"),
                data(flow, Incoming, Stream, b"hi"),
                data(flow, Outgoing, Stream, b"again"),
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
        let data = data(flow, Outgoing, Datagrams(1), b"a");
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
            data(flow, Outgoing, Datagrams(2), b"aab"),
            data(flow, Incoming, Datagrams(1), b""),
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
        let events = [data(flow, Incoming, Datagrams(5), b"helloyou")];
        let text = dump(form, &events);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('2')).collect();
        let expected = [
            "00000000  68 65 6c                                          |hel|",
            "# 2 bytes more (--hex-limit)",
            "00000000  79 6f 75                                          |you|",
        ];
        assert_eq!(lines, expected);
    }
}
