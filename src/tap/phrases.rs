//! The parts that lines are made of: sizes, numbers, and who can reach a socket.
//! One place for each wording, so that the same thing always reads the same.

use std::fmt::{self, Display};
use std::time::Duration;

use super::{Count, Data, Reach, SocketState};
use crate::batch::Shape;
use crate::flow::{Direction, Identity, Transport};
use crate::sys::tcp_info::TcpInfo;

/// The number of a connection, where it has one.
pub(super) struct Number(pub(super) Option<u64>);

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |conn| write!(f, "  #{conn}"))
    }
}

/// A number of bytes with its unit.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            many => write!(f, "{many} bytes"),
        }
    }
}

/// The size of what moved at once.
pub(super) struct Size<'a>(pub(super) &'a Data<'a>);

impl Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(data) = self;
        write!(f, "{}", Bytes(data.len as u64))?;
        match (data.shape, data.count()) {
            (Shape::Datagrams(size), many @ 2..) => write!(f, " in {many} datagrams of {size}"),
            _ => Ok(()),
        }
    }
}

/// Who can reach a socket, and how to change that.
pub(super) struct Openness<'a>(pub(super) &'a Identity, pub(super) Reach);

impl Display for Openness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(socket, reach) = self;
        match reach {
            Reach::Loopback => {
                let port = socket.local().inet().map_or(0, |local| local.port());
                let verb = match socket.transport() {
                    Transport::Tcp => "listens",
                    Transport::Udp => "receives",
                };
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
pub(super) struct Closing<'a>(pub(super) &'a SocketState);

impl Display for Closing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        let (received, sent) = (state.received, state.sent);
        write!(f, "{}{}  ", state.identity, Number(state.conn))?;
        match state.identity.transport() {
            Transport::Tcp => write!(f, "received {}, sent {}", received.bytes, Bytes(sent.bytes))?,
            Transport::Udp => write!(f, "received {}, sent {}", Payload(received), Payload(sent))?,
        }
        write!(f, " in {:.2} s", state.lasted.as_secs_f64())?;
        if state.ignored > 0 {
            write!(f, ", {} ignored", state.ignored)?;
        }
        if state.dropped > 0 {
            let least = at_least(state.dropped_or_more);
            write!(f, ", {least}{} dropped by the kernel", state.dropped)?;
        }
        Ok(())
    }
}

/// What waits in the buffers of a socket, and what TCP knows of the path.
pub(super) struct Buffers<'a>(pub(super) &'a SocketState);

impl Display for Buffers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        let unread = Bytes(state.unread.unwrap_or_default() as u64);
        let unsent = Bytes(state.unsent.unwrap_or_default() as u64);
        match (state.identity.transport(), state.path) {
            (Transport::Udp, _) => write!(f, "next datagram {unread}, unsent {unsent}"),
            (Transport::Tcp, None) => write!(f, "unread {unread}, unsent {unsent}"),
            (Transport::Tcp, Some(path)) => {
                let state = path.state;
                write!(
                    f,
                    "{state}, unread {unread}, unsent {unsent}, {}",
                    Path(path)
                )
            }
        }
    }
}

/// What TCP knows of the path to the peer.
pub(super) struct Path(pub(super) TcpInfo);

impl Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path) = self;
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (rtt, variation) = (millis(path.rtt), millis(path.rtt_variation));
        let (again, window) = (path.retransmits, path.cwnd);
        write!(
            f,
            "rtt {rtt:.3} ± {variation:.3} ms, {again} retransmits, cwnd {window}"
        )
    }
}

/// A short time.
pub(super) struct Millis(pub(super) Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            short if short < Duration::from_secs(1) => {
                write!(f, "{:.3} ms", short.as_secs_f64() * 1e3)
            }
            long => write!(f, "{:.3} s", long.as_secs_f64()),
        }
    }
}

/// A transfer with an agreed end, as far as one side knows of it.
pub(super) struct Transfer {
    pub(super) direction: Direction,
    pub(super) count: Count,
    pub(super) has_end: bool,
    pub(super) lost: u64,
    pub(super) or_more: bool,
}

impl Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, none, one, some) = match self.direction {
            Direction::Incoming => (
                "received",
                "nothing was lost here",
                "lost here",
                "lost here",
            ),
            Direction::Outgoing => (
                "sent",
                "no error came back",
                "error came back",
                "errors came back",
            ),
        };
        let end = if self.has_end { "and" } else { "without" };
        write!(f, "{word} {} {end} the end: ", Payload(self.count))?;
        match (self.lost, self.or_more) {
            (0, _) => f.write_str(none),
            (lost, or_more) => {
                let least = at_least(or_more);
                let some = if lost == 1 { one } else { some };
                write!(f, "{least}{lost} {some}")
            }
        }
    }
}

/// Datagrams, with their bytes.
struct Payload(Count);

impl Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { bytes, chunks } = self.0;
        write!(f, "{} ({})", Datagrams(chunks), Bytes(bytes))
    }
}

/// A number of datagrams.
pub(super) struct Datagrams(pub(super) u64);

impl Display for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 datagram"),
            many => write!(f, "{many} datagrams"),
        }
    }
}

/// What stands before a number where there may have been more.
pub(super) fn at_least(or_more: bool) -> &'static str {
    if or_more { "at least " } else { "" }
}
