//! One line an event on standard error, for people.
//! Every line names the socket it is about: a listening one by its address, a connection by its 4-tuple, a datagram by its sender.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};

use super::phrases::{
    Buffers, Bytes, Closing, Datagrams, Number, Openness, Size, Transfer, at_least,
};
use super::{Data, Event, SocketState, Tap};
use crate::escape::Escaped;
use crate::exit::{describe, describe_status};
use crate::flow::{Direction, Flow, Transport};

mod attempts;

/// Peers and directions that are announced: nobody would read a line for each of more.
const ANNOUNCED: usize = 4096;

/// Peers that are listed at the end where not every detail is asked for.
const PEERS: usize = 16;

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
    announced: HashSet<(Flow, Direction)>,
    /// Failed attempts, held back until it is clear whether another one succeeds: if none does, the error names them all.
    failed: Vec<String>,
    /// Whether the user knows that attempts are repeated.
    is_patient: bool,
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
            is_patient: false,
        }
    }

    pub(super) fn line(&mut self, word: &str, text: impl Display) {
        put_line(&mut self.out, self.palette, word, text);
    }

    /// What went otherwise than asked for.
    fn trouble(&mut self, event: &Event<'_>) {
        match *event {
            Event::Broken { flow, conn, error } => {
                let (number, error) = (Number(conn), describe(error));
                self.line("broken", format_args!("{flow}{number}  {error}"));
            }
            Event::Unreachable {
                flow,
                reason,
                offender,
            } => {
                let flow = flow.arrow(Direction::Outgoing);
                match offender {
                    Some(by) => {
                        self.line("refused", format_args!("{flow}  {reason}, says {by}"));
                    }
                    None => self.line("refused", format_args!("{flow}  {reason}")),
                }
            }
            Event::Ignored { flow, len } => self.ignored(flow, len),
            Event::Rejected { flow, datagrams } => self.rejected(flow, datagrams),
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
            Event::Dropped {
                socket,
                count,
                or_more,
            } => {
                let (least, count) = (at_least(or_more), Datagrams(count));
                let text = format_args!("{least}{count} lost, the receive buffer was full");
                self.line("dropped", format_args!("{socket}  {text}"));
            }
            Event::Granted { text } => self.line("granted", text),
            Event::Retrying { failure, left } => self.retrying(failure, left),
            Event::Probed { outcome } => self.probed(outcome),
            _ => {}
        }
    }

    /// A connection every time; of the datagrams of a peer the first ones, for nobody could read a line for each.
    fn rejected(&mut self, flow: &Flow, datagrams: usize) {
        let why = "not allowed here (--allow, --deny)";
        if flow.transport == Transport::Tcp {
            self.line("rejected", format_args!("{flow}  {why}"));
        } else if self.is_news(flow, Direction::Incoming) || self.detail == Detail::Chunks {
            let flow = flow.arrow(Direction::Incoming);
            let count = Datagrams(datagrams as u64);
            self.line("rejected", format_args!("{flow}  {count} {why}"));
        }
    }

    fn ignored(&mut self, flow: &Flow, len: usize) {
        if self.is_news(flow, Direction::Incoming) || self.detail == Detail::Chunks {
            let (flow, size) = (flow.arrow(Direction::Incoming), Bytes(len as u64));
            self.line(
                "ignored",
                format_args!("{flow}  {size} from another sender"),
            );
        }
    }

    /// Whether datagrams between these two have not been told of yet.
    fn is_news(&mut self, flow: &Flow, direction: Direction) -> bool {
        self.announced.len() < ANNOUNCED && self.announced.insert((flow.clone(), direction))
    }

    /// The peers that were heard last, or all of them.
    fn peers(&mut self, states: &[SocketState]) {
        let most = match self.detail {
            Detail::Events => PEERS,
            Detail::Chunks => usize::MAX,
        };
        let skipped = states.len().saturating_sub(most);
        if skipped > 0 {
            self.line(
                "peer",
                format_args!("{skipped} more, idle longer (-v shows them)"),
            );
        }
        for state in &states[skipped..] {
            self.line("peer", Closing(state));
        }
    }

    /// Every socket, and below it what waits in its buffers.
    fn table(&mut self, states: &[SocketState]) {
        for state in states {
            let line = format_args!("{}  {}", Closing(state), state.state);
            self.line("socket", line);
            if state.unsent.is_some() {
                self.line("", Buffers(state));
            }
        }
    }

    fn data(&mut self, data: &Data<'_>) {
        let &Data {
            direction,
            flow,
            conn,
            ..
        } = data;
        let is_news = flow.transport == Transport::Udp && self.is_news(flow, direction);
        if self.detail < Detail::Chunks && !is_news {
            return;
        }
        let word = match direction {
            Direction::Incoming => "received",
            Direction::Outgoing => "sent",
        };
        let size = Size(data);
        match flow.transport {
            Transport::Tcp => self.line(word, format_args!("{flow}{}  {size}", Number(conn))),
            Transport::Udp => self.line(word, format_args!("{}  {size}", flow.arrow(direction))),
        }
    }
}

impl<W: Write> Tap for Lines<W> {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        let is_detailed = self.detail == Detail::Chunks;
        match *event {
            Event::Listening { socket, reach } => {
                let openness = Openness(socket, reach);
                self.line("listening", format_args!("{socket}{openness}"));
            }
            Event::Bound { socket, reach } => {
                self.line("bound", format_args!("{socket}{}", Openness(socket, reach)));
            }
            Event::Connecting { remote } if is_detailed => self.line("connecting", remote),
            Event::ConnectFailed { remote, error, .. } => self.failed(remote, error),
            Event::Connected { flow, .. } => self.connected(flow),
            Event::Accepted { flow, conn } => {
                self.line("accepted", format_args!("{flow}{}", Number(Some(conn))));
            }
            Event::Data(ref data) => self.data(data),
            Event::HalfClosed { flow, conn } if is_detailed => {
                let number = Number(conn);
                self.line(
                    "finished",
                    format_args!("{flow}{number}  nothing more to send"),
                );
            }
            Event::PeerFinished { flow, conn } if is_detailed => {
                self.line(
                    "finished",
                    format_args!("{flow}{}  by the peer", Number(conn)),
                );
            }
            Event::Waiting { socket, ref text } => {
                self.line("waiting", format_args!("{socket}  {text}"));
            }
            Event::Transferred {
                socket,
                flow,
                direction,
                count,
                has_end,
                lost,
                or_more,
            } => {
                let transfer = Transfer {
                    direction,
                    count,
                    has_end,
                    lost,
                    or_more,
                };
                match flow {
                    Some(flow) => {
                        let flow = flow.arrow(direction);
                        self.line("transfer", format_args!("{flow}  {transfer}"));
                    }
                    None => self.line("transfer", format_args!("{socket}  {transfer}")),
                }
            }
            Event::Peers(states) => self.peers(states),
            Event::Exited {
                flow,
                conn,
                program,
                status,
                ..
            } if is_detailed || !status.success() => {
                let (number, end) = (Number(conn), describe_status(status));
                self.line(
                    "exited",
                    format_args!("{flow}{number}  '{program}' with {end}"),
                );
            }
            Event::Closed(state) => self.line("closed", Closing(state)),
            Event::Sockets(states) => self.table(states),
            _ => self.trouble(event),
        }
    }
}

/// Writes a line: one word in a column of its own, then the rest.
pub(super) fn put_line(out: &mut impl Write, palette: Palette, word: &str, text: impl Display) {
    let style = match palette {
        Palette::Plain => Style::new(),
        Palette::Colored => style_of(word),
    };
    let line = format!("{style}{word:<10}{style:#} {}\n", Escaped(text));
    // Nobody can be told that standard error is gone; the traffic matters more.
    let _ = out.write_all(line.as_bytes());
}

fn style_of(word: &str) -> Style {
    let color = match word {
        call if call.ends_with("()") => AnsiColor::Blue,
        "failed" | "retrying" | "granted" | "broken" | "rejected" | "refused" | "truncated"
        | "dropped" | "ignored" => AnsiColor::Yellow,
        "received" | "sent" | "socket" | "peer" => AnsiColor::Cyan,
        _ => AnsiColor::Green,
    };
    color.on_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::Shape;
    use crate::flow::Identity;
    use crate::tap::{Reach, SocketState};

    fn flow(transport: Transport) -> &'static Flow {
        let address = |text: &str| text.parse().unwrap();
        Box::leak(Box::new(Flow::new(
            transport,
            address("127.0.0.1:9000"),
            address("127.0.0.1:50312"),
        )))
    }

    fn told(detail: Detail, events: &[Event<'_>]) -> String {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, detail, Palette::Plain);
        for event in events {
            lines.event(event, SystemTime::UNIX_EPOCH);
        }
        String::from_utf8(out).unwrap()
    }

    fn data(transport: Transport, len: usize) -> Event<'static> {
        let (conn, shape) = match transport {
            Transport::Tcp => (Some(1), Shape::Stream),
            Transport::Udp => (None, Shape::Datagrams(len)),
        };
        Event::Data(Data {
            direction: Direction::Incoming,
            flow: flow(transport),
            conn,
            len,
            shape,
            bytes: None,
        })
    }

    #[test]
    fn each_line_names_its_socket() {
        let socket = Identity::Socket(Transport::Tcp, flow(Transport::Tcp).local.clone());
        let mut closed =
            SocketState::new(Identity::Pair(flow(Transport::Tcp).clone()), Instant::now());
        closed.conn = Some(1);
        closed.received.add(12, 1);
        let text = told(
            Detail::Events,
            &[
                Event::Listening {
                    socket: &socket,
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
            remote: &remote,
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
