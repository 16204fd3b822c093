//! The parts of report lines: sizes, names with numbers, the reach of a socket, closing figures.
//! Each wording has one place, so that the same thing always reads the same.

use std::fmt::{self, Display};
use std::time::Duration;

use super::{
    ChildEnd, Conversation, Count, Data, IcmpError, KernelDrop, Reach, SocketState, Transfer,
};
use crate::batch::Shape;
use crate::exit::describe_status;
use crate::flow::{Direction, Identity, Transport};
use crate::sys::tcp_info::TcpInfo;

/// Both ends of a connection or the sender of a datagram, and the number.
impl Display for Conversation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flow.transport {
            Transport::Tcp => self.flow.fmt(f)?,
            Transport::Udp => self.flow.arrow(Direction::Incoming).fmt(f)?,
        }
        Number(self.conn).fmt(f)
    }
}

/// The number of a connection, if it has one.
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

/// A number of datagrams with its unit.
pub(super) struct Datagrams(pub(super) u64);

impl Display for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 datagram"),
            many => write!(f, "{many} datagrams"),
        }
    }
}

/// Datagrams with their bytes.
struct Payload(Count);

impl Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { bytes, chunks } = self.0;
        write!(f, "{} ({})", Datagrams(chunks), Bytes(bytes))
    }
}

/// The size of bytes that moved together.
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

/// The words before a number that may be too small.
pub(super) fn at_least(is_minimum: bool) -> &'static str {
    if is_minimum { "at least " } else { "" }
}

/// A socket, its reach, and how to change that.
pub(super) struct Openness<'a>(pub(super) &'a Identity, pub(super) Reach);

impl Display for Openness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(socket, reach) = self;
        socket.fmt(f)?;
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

/// The figures of a socket at its end.
pub(super) struct Totals<'a>(pub(super) &'a SocketState);

impl Display for Totals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(state) = self;
        let (received, sent) = (state.received, state.sent);
        match &state.identity {
            // A peer of a socket that serves many: all of them have sent something.
            Identity::Pair(flow) if state.state == "peer" => {
                flow.arrow(Direction::Incoming).fmt(f)?;
            }
            name => name.fmt(f)?,
        }
        write!(f, "{}  ", Number(state.conn))?;
        match state.identity.transport() {
            Transport::Tcp => write!(f, "received {}, sent {}", received.bytes, Bytes(sent.bytes))?,
            Transport::Udp => write!(f, "received {}, sent {}", Payload(received), Payload(sent))?,
        }
        write!(f, " in {:.2} s", state.lasted.as_secs_f64())?;
        if state.ignored > 0 {
            write!(f, ", {} ignored", state.ignored)?;
        }
        if state.dropped > 0 {
            let least = at_least(state.dropped_at_least);
            write!(f, ", {least}{} dropped by the kernel", state.dropped)?;
        }
        Ok(())
    }
}

/// The content of a socket's buffers, and the path to its peer.
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
                let (state, path) = (path.state, Path(path));
                write!(f, "{state}, unread {unread}, unsent {unsent}, {path}")
            }
        }
    }
}

/// The figures of TCP for the path to the peer.
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

/// A duration in milliseconds, or in seconds from one second on.
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

impl Display for Transfer<'_> {
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
        match self.socket {
            Identity::Pair(flow) => flow.arrow(self.direction).fmt(f)?,
            name @ Identity::Socket(..) => name.fmt(f)?,
        }
        let end = if self.complete { "and" } else { "without" };
        write!(f, "  {word} {} {end} the end: ", Payload(self.count))?;
        match self.lost {
            0 => f.write_str(none),
            lost => {
                let some = if lost == 1 { one } else { some };
                write!(f, "{}{lost} {some}", at_least(self.at_least))
            }
        }
    }
}

impl Display for IcmpError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flow = self.flow.arrow(Direction::Outgoing);
        write!(f, "{flow}  {}", self.reason)?;
        match self.reported_by {
            Some(ip) => write!(f, ", reported by {ip}"),
            None => Ok(()),
        }
    }
}

impl Display for KernelDrop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, count) = (at_least(self.at_least), Datagrams(self.datagrams));
        let socket = self.socket;
        write!(
            f,
            "{socket}  {least}{count} lost, the receive buffer was full"
        )
    }
}

impl Display for ChildEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, program) = (self.conversation, self.program);
        let end = describe_status(self.status);
        write!(f, "{name}  '{program}' with {end}")
    }
}
