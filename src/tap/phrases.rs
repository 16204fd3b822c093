//! The parts of report lines: sizes, names with numbers, the reach of a socket, closing figures.
//! Each wording has one place, so that the same thing always reads the same.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use super::{
    ChildEnd, Conversation, Count, Data, IcmpError, KernelDrop, Reach, SocketState, Target,
    Transfer, Via,
};
use crate::batch::Shape;
use crate::exit::describe_status;
use crate::flow::{ConnId, Direction, Flow, Identity};
use crate::sys::tcp_info::TcpInfo;

/// Both ends of a connection or the sender of a datagram, and the number.
impl Display for Conversation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flow.transport.has_connections() {
            self.flow.fmt(f)?;
        } else {
            self.flow.arrow(Direction::Incoming).fmt(f)?;
        }
        f.write_str(&number(self.conn))
    }
}

/// The name of what broke: without a number it is a socket with one peer, also over UDP; with one it may be a datagram.
pub(super) fn broken(name: Conversation<'_>) -> String {
    match name.conn {
        None => name.flow.to_string(),
        Some(_) => name.to_string(),
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.transport, self.remote)
    }
}

impl Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} {}", self.target, self.proxy, self.remote)
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

/// The number of a connection, if it has one.
pub(super) fn number(conn: Option<ConnId>) -> String {
    conn.map_or_else(String::new, |conn| format!("  {conn}"))
}

/// The two legs of a relayed pair, from the client to the target.
pub(super) fn relayed(client: Conversation<'_>, target: Conversation<'_>) -> String {
    let Flow {
        transport,
        local,
        remote,
    } = client.flow;
    let sign = if transport.has_connections() {
        "<->"
    } else {
        "->"
    };
    let number = client.conn.map(|conn| ConnId { leg: None, ..conn });
    let (number, target) = (self::number(number), target.flow);
    format!("{transport} {remote} {sign} {local}{number}  to  {target}")
}

/// A number of datagrams with its unit.
pub(crate) fn datagrams(count: u64) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} datagram{ending}")
}

/// Datagrams with their bytes.
fn datagrams_with_bytes(count: Count) -> String {
    format!("{} ({})", datagrams(count.chunks), Bytes(count.bytes))
}

/// The same, for closing lines.
fn datagrams_and_bytes(count: Count) -> String {
    format!("{} ({} B)", datagrams(count.chunks), count.bytes)
}

/// The size of bytes that moved together.
pub(super) fn size(data: &Data<'_>) -> String {
    let bytes = Bytes(data.len as u64);
    match (data.shape, data.count()) {
        (Shape::Datagrams(size), many @ 2..) => format!("{bytes} in {many} datagrams of {size}"),
        _ => bytes.to_string(),
    }
}

/// The words before a number that may be too small.
pub(super) fn at_least(is_minimum: bool) -> &'static str {
    if is_minimum { "at least " } else { "" }
}

/// The name of a bound socket, its reach, and how to change that.
pub(super) fn bound(socket: &Identity, reach: Reach) -> String {
    let reach = match reach {
        Reach::Loopback => " (this machine only)",
        Reach::Address | Reach::Machine => "",
        Reach::EveryIpv4 => " (every interface, IPv4 only)",
        Reach::EveryIpv6 => " (every interface, IPv6 only)",
        Reach::DualStack => " (every interface, IPv4 and IPv6)",
    };
    format!("{socket}{reach}")
}

/// The name of a socket, and what went through it.
pub(super) fn totals(state: &SocketState) -> String {
    let (name, number) = (&state.identity, number(state.conn));
    let mut text = match name {
        // A peer of a socket that serves many, each of which has sent something.
        Identity::Pair(flow) if state.state == "peer" => {
            format!("{}{number}", flow.arrow(Direction::Incoming))
        }
        name => format!("{name}{number}"),
    };
    let (received, sent) = (state.received, state.sent);
    let (received, sent) = if name.transport().has_connections() {
        (format!("{} B", received.bytes), format!("{} B", sent.bytes))
    } else {
        (datagrams_and_bytes(received), datagrams_and_bytes(sent))
    };
    let seconds = state.lasted.as_secs_f64();
    // Writing to memory does not fail; here and below.
    let _ = write!(text, "  in {received}, out {sent}, {seconds:.2} s");
    if state.ignored > 0 {
        let _ = write!(text, ", {} ignored", state.ignored);
    }
    if state.dropped > 0 {
        let least = at_least(state.dropped_at_least);
        let _ = write!(text, ", {least}{} dropped by the kernel", state.dropped);
    }
    if state.undelivered > 0 {
        let _ = write!(text, ", {} not delivered", state.undelivered);
    }
    text
}

/// The content of a socket's buffers, and the path to its peer.
pub(super) fn buffers(state: &SocketState) -> String {
    let unread = Bytes(state.unread.unwrap_or_default() as u64);
    let unsent = Bytes(state.unsent.unwrap_or_default() as u64);
    match state.path {
        _ if !state.identity.transport().has_connections() => {
            format!("next datagram {unread}, unsent {unsent}")
        }
        None => format!("unread {unread}, unsent {unsent}"),
        Some(tcp) => {
            let (state, path) = (tcp.state, path(&tcp));
            format!("{state}, unread {unread}, unsent {unsent}, {path}")
        }
    }
}

/// The figures of TCP for the path to the peer.
pub(super) fn path(tcp: &TcpInfo) -> String {
    let [rtt, variation] = [tcp.rtt, tcp.rtt_variation].map(|time| time.as_secs_f64() * 1e3);
    let (again, window) = (tcp.retransmits, tcp.cwnd);
    format!("rtt {rtt:.3} ± {variation:.3} ms, {again} retransmits, cwnd {window}")
}

/// A duration in milliseconds, or in seconds from one second on.
pub(super) fn millis(time: Duration) -> String {
    match time.as_secs_f64() {
        short @ ..1.0 => format!("{:.3} ms", short * 1e3),
        long => format!("{long:.3} s"),
    }
}

/// The datagrams of a transfer with an agreed end.
pub(super) fn transfer(transfer: &Transfer<'_>) -> String {
    let name = match transfer.socket {
        Identity::Pair(flow) => flow.arrow(transfer.direction).to_string(),
        socket @ Identity::Socket(..) => socket.to_string(),
    };
    let (word, effect) = match (transfer.direction, transfer.lost) {
        (Direction::Incoming, 0) => ("received", "nothing was lost here"),
        (Direction::Incoming, _) => ("received", "lost here"),
        (Direction::Outgoing, 0) => ("sent", "no error came back"),
        (Direction::Outgoing, _) => ("sent", "not delivered"),
    };
    let count = match transfer.lost {
        0 => String::new(),
        lost => format!("{}{lost} ", at_least(transfer.at_least)),
    };
    let (moved, end) = (
        datagrams_with_bytes(transfer.count),
        if transfer.complete { "and" } else { "without" },
    );
    format!("{name}  {word} {moved} {end} the end: {count}{effect}")
}

/// An ICMP error, and its sender.
pub(super) fn icmp_error(error: &IcmpError<'_>) -> String {
    let (flow, reason) = (error.flow.arrow(Direction::Outgoing), error.reason);
    match error.reported_by {
        Some(ip) => format!("{flow}  {reason}, reported by {ip}"),
        None => format!("{flow}  {reason}"),
    }
}

/// Datagrams that the kernel dropped.
pub(super) fn kernel_drop(drop: &KernelDrop<'_>) -> String {
    let (least, count) = (at_least(drop.at_least), datagrams(drop.datagrams));
    let socket = drop.socket;
    format!("{socket}  {least}{count} lost, the receive buffer was full")
}

/// Reports that were left out.
pub(super) fn omitted(reports: u64) -> String {
    let ending = if reports == 1 { "" } else { "s" };
    format!("{reports} report{ending} that nobody read in time")
}

/// The end of a child process.
pub(super) fn child_end(end: &ChildEnd<'_>) -> String {
    let (name, program) = (end.name, end.program);
    let status = describe_status(end.status);
    format!("{name}  '{program}' with {status}")
}
