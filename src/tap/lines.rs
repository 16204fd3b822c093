//! One line an event on standard error, for people.
//! Every line names the socket it is about: a listening one by its address, a connection by its 4-tuple, a datagram by its sender.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::io::Write;
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};

use super::{Count, Event, Reach, SocketState, Tap};
use crate::exit::describe;
use crate::tuple::{Direction, FourTuple, Identity, Transport};

/// Peers remembered as already announced; more than that, and some are announced again.
const ANNOUNCED: usize = 4096;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What begins, what ends and what goes wrong.
    Events,
    /// Every chunk as well.
    Chunks,
}

/// Whether lines carry colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Text only.
    Plain,
    /// The first word is coloured by what kind of event it is.
    Colored,
}

/// Writes events as lines.
pub struct Lines<W> {
    out: W,
    detail: Detail,
    palette: Palette,
    announced: HashSet<(FourTuple, Direction)>,
    /// Failed attempts, held back until it is clear whether another one succeeds: if none does, the error names them all.
    failed: Vec<String>,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`, which gets one whole line at a time.
    pub fn new(out: W, detail: Detail, palette: Palette) -> Self {
        Self {
            out,
            detail,
            palette,
            announced: HashSet::new(),
            failed: Vec::new(),
        }
    }

    fn line(&mut self, word: &str, text: impl Display) {
        let style = match self.palette {
            Palette::Plain => Style::new(),
            Palette::Colored => style_of(word),
        };
        let line = format!("{style}{word:<10}{style:#} {text}\n");
        // Nobody can be told that standard error is gone; the traffic matters more.
        let _ = self.out.write_all(line.as_bytes());
    }

    fn failed(&mut self, remote: SocketAddr, error: &std::io::Error) {
        let text = format!("{remote}: {}", describe(error));
        if self.detail == Detail::Chunks {
            self.line("failed", text);
        } else {
            self.failed.push(text);
        }
    }

    fn connected(&mut self, flow: FourTuple) {
        for text in std::mem::take(&mut self.failed) {
            self.line("failed", text);
        }
        self.line("connected", flow);
    }

    fn data(&mut self, direction: Direction, flow: FourTuple, conn: Option<u64>, size: Size) {
        let is_news = flow.transport == Transport::Udp
            && self.announced.len() < ANNOUNCED
            && self.announced.insert((flow, direction));
        if self.detail < Detail::Chunks && !is_news {
            return;
        }
        let word = match direction {
            Direction::Incoming => "received",
            Direction::Outgoing => "sent",
        };
        match flow.transport {
            Transport::Tcp => self.line(word, format_args!("{flow}{}  {size}", Number(conn))),
            Transport::Udp => self.line(word, format_args!("{}  {size}", flow.arrow(direction))),
        }
    }
}

impl<W: Write> Tap for Lines<W> {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Listening { socket, reach } => {
                self.line(
                    "listening",
                    format_args!("{socket}{}", Openness(socket, reach)),
                );
            }
            Event::Bound { socket, reach } => {
                self.line("bound", format_args!("{socket}{}", Openness(socket, reach)));
            }
            Event::Connecting { remote } => {
                if self.detail == Detail::Chunks {
                    self.line("connecting", remote);
                }
            }
            Event::ConnectFailed { remote, error, .. } => self.failed(remote, error),
            Event::Connected { flow, .. } => self.connected(flow),
            Event::Accepted { flow, conn } => {
                self.line("accepted", format_args!("{flow}{}", Number(Some(conn))));
            }
            Event::Data {
                direction,
                flow,
                conn,
                len,
                datagrams,
                stride,
                ..
            } => {
                self.data(
                    direction,
                    flow,
                    conn,
                    Size {
                        len,
                        datagrams,
                        stride,
                    },
                );
            }
            Event::HalfClosed { flow, conn } => {
                if self.detail == Detail::Chunks {
                    self.line(
                        "finished",
                        format_args!("{flow}{}  nothing more to send", Number(conn)),
                    );
                }
            }
            Event::PeerFinished { flow, conn } => {
                if self.detail == Detail::Chunks {
                    self.line(
                        "finished",
                        format_args!("{flow}{}  by the peer", Number(conn)),
                    );
                }
            }
            Event::Broken { flow, conn, error } => {
                self.line(
                    "broken",
                    format_args!("{flow}{}  {}", Number(conn), describe(error)),
                );
            }
            Event::Unreachable {
                flow,
                reason,
                offender,
            } => {
                let flow = flow.arrow(Direction::Outgoing);
                match offender {
                    Some(by) => self.line("refused", format_args!("{flow}  {reason}, says {by}")),
                    None => self.line("refused", format_args!("{flow}  {reason}")),
                }
            }
            Event::Ignored { flow, len } => {
                let flow = flow.arrow(Direction::Incoming);
                self.line(
                    "ignored",
                    format_args!("{flow}  {} from another sender", Bytes(len as u64)),
                );
            }
            Event::Forgotten { flow } => {
                let flow = flow.arrow(Direction::Incoming);
                self.line(
                    "forgotten",
                    format_args!("{flow}  idle longest of the peers"),
                );
            }
            Event::Truncated { flow, from, to } => {
                let flow = flow.arrow(Direction::Incoming);
                self.line("truncated", format_args!("{flow}  {from} -> {to} bytes"));
            }
            Event::Dropped { socket, count } => {
                let many = if count == 1 { "" } else { "s" };
                self.line(
                    "dropped",
                    format_args!(
                        "{socket}  {count} datagram{many} lost, the receive buffer was full"
                    ),
                );
            }
            Event::Waiting { ref text } => self.line("waiting", text),
            Event::Granted { text } => self.line("granted", text),
            Event::Closed(state) => self.line("closed", Closing(state)),
            Event::Sockets(states) => {
                for state in states {
                    let row = format_args!("{}  {}", Closing(state), state.state);
                    self.line("socket", row);
                }
            }
        }
    }
}

fn style_of(word: &str) -> Style {
    let color = match word {
        "failed" | "granted" | "broken" | "refused" | "truncated" | "dropped" | "ignored" => {
            AnsiColor::Yellow
        }
        "received" | "sent" | "socket" => AnsiColor::Cyan,
        _ => AnsiColor::Green,
    };
    color.on_default()
}

/// The number of a connection, where it has one.
struct Number(Option<u64>);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |conn| write!(f, "  #{conn}"))
    }
}

/// A number of bytes with its unit.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            many => write!(f, "{many} bytes"),
        }
    }
}

/// The size of what moved at once.
#[derive(Clone, Copy)]
struct Size {
    len: usize,
    datagrams: usize,
    stride: usize,
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bytes(self.len as u64))?;
        if self.datagrams > 1 {
            write!(f, " in {} datagrams of {}", self.datagrams, self.stride)?;
        }
        Ok(())
    }
}

/// Who can reach a socket, and how to change that.
struct Openness(Identity, Reach);

impl Display for Openness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(socket, reach) = self;
        match reach {
            Reach::Loopback => {
                let (port, verb) = (
                    socket.local().port(),
                    match socket.transport() {
                        Transport::Tcp => "listens",
                        Transport::Udp => "receives",
                    },
                );
                write!(f, " (loopback only; '*' {port} {verb} on every interface)")
            }
            Reach::Address => Ok(()),
            Reach::EveryIpv4 => f.write_str(" (every interface, IPv4 only)"),
            Reach::EveryIpv6 => f.write_str(" (every interface, IPv6 only)"),
            Reach::DualStack => f.write_str(" (every interface, IPv4 and IPv6)"),
        }
    }
}

/// What went through a socket.
struct Closing<'a>(&'a SocketState);

impl Display for Closing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        let (received, sent) = (state.received, state.sent);
        write!(f, "{}{}  ", state.identity, Number(state.conn))?;
        match state.identity.transport() {
            Transport::Tcp => write!(f, "received {}, sent {}", received.bytes, Bytes(sent.bytes))?,
            Transport::Udp => write!(
                f,
                "received {}, sent {}",
                Datagrams(received),
                Datagrams(sent)
            )?,
        }
        write!(f, " in {:.2} s", state.lasted.as_secs_f64())?;
        for (count, what) in [
            (state.ignored, "ignored"),
            (state.dropped, "dropped by the kernel"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

struct Datagrams(Count);

impl Display for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = if self.0.chunks == 1 { "" } else { "s" };
        write!(
            f,
            "{} datagram{many} ({})",
            self.0.chunks,
            Bytes(self.0.bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pretty_assertions::assert_eq;

    use super::*;

    fn flow(transport: Transport) -> FourTuple {
        let address = |text: &str| text.parse().unwrap();
        FourTuple::new(
            transport,
            address("127.0.0.1:9000"),
            address("127.0.0.1:50312"),
        )
    }

    fn told(detail: Detail, events: &[Event<'_>]) -> String {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, detail, Palette::Plain);
        for event in events {
            lines.event(event);
        }
        String::from_utf8(out).unwrap()
    }

    fn data(transport: Transport, len: usize) -> Event<'static> {
        let (flow, conn) = (flow(transport), (transport == Transport::Tcp).then_some(1));
        let direction = Direction::Incoming;
        Event::Data {
            direction,
            flow,
            conn,
            len,
            datagrams: 1,
            stride: len,
            bytes: None,
        }
    }

    #[test]
    fn each_line_names_its_socket() {
        let socket = Identity::Socket(Transport::Tcp, flow(Transport::Tcp).local);
        let mut closed = SocketState::new(Identity::Pair(flow(Transport::Tcp)), Instant::now());
        closed.conn = Some(1);
        closed.received.add(12, 1);
        let text = told(
            Detail::Events,
            &[
                Event::Listening {
                    socket,
                    reach: Reach::Loopback,
                },
                Event::Accepted {
                    flow: flow(Transport::Tcp),
                    conn: 1,
                },
                data(Transport::Tcp, 12),
                Event::Closed(&closed),
            ],
        );
        let expected = "\
listening  tcp 127.0.0.1:9000 (loopback only; '*' 9000 listens on every interface)
accepted   tcp 127.0.0.1:9000 <-> 127.0.0.1:50312  #1
closed     tcp 127.0.0.1:9000 <-> 127.0.0.1:50312  #1  received 12, sent 0 bytes in 0.00 s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_sender_is_announced_once_unless_every_chunk_is_asked_for() {
        let twice = || [data(Transport::Udp, 12), data(Transport::Udp, 1)];
        let first = "received   udp 127.0.0.1:9000 <- 127.0.0.1:50312  12 bytes\n";
        let second = "received   udp 127.0.0.1:9000 <- 127.0.0.1:50312  1 byte\n";
        assert_eq!(told(Detail::Events, &twice()), first);
        assert_eq!(told(Detail::Chunks, &twice()), format!("{first}{second}"));
    }

    #[test]
    fn failed_attempts_are_told_once_another_succeeds() {
        let error = std::io::Error::from_raw_os_error(111);
        let remote = "[::1]:9".parse().unwrap();
        let failed = || Event::ConnectFailed {
            remote,
            error: &error,
            after: std::time::Duration::ZERO,
        };
        assert_eq!(told(Detail::Events, &[failed()]), "");
        let connected = Event::Connected {
            flow: flow(Transport::Tcp),
            after: std::time::Duration::ZERO,
        };
        let text = told(Detail::Events, &[failed(), connected]);
        assert!(
            text.starts_with("failed     [::1]:9: connection refused\nconnected  tcp "),
            "{text}"
        );
    }
}
