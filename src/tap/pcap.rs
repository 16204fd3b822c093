//! A capture without privileges: the traffic of the sockets as packets for Wireshark and tcpdump.
//! Payload, addresses, order and times are real; the headers are made up to fit them, and a comment in the file says so.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader, TcpOptionElement};

use super::pcapng::{append_beginning, append_packet};
use super::{Backlog, Conversation, Event, FinalSegment, PerDirection, Sink, SocketState, Tap};
use crate::exit::{Exit, Failure};
use crate::flow::{ConnId, Direction, Flow, Identity};

const COMMENT: &str = "synthetic headers: payload, addresses, order and times were seen by tuplecat at its sockets; \
    IP, TCP and UDP headers are made up to fit them";

/// The maximum segment size: the space in an IPv4 packet.
const SEGMENT_SIZE: u16 = 65_535 - 20 - 20;
/// The scale of the windows in the headers (RFC 7323): they are 8 MiB large.
const WINDOW_SCALE: u8 = 7;
/// Bytes in one direction until an acknowledgment in the other, so that no window seems full.
const ACKNOWLEDGED_SIZE: usize = 4 << 20;
const TTL: u8 = 64;

/// Writer of a capture.
pub struct Pcap {
    sink: Sink,
    connections: HashMap<Flow, PerDirection<Sequence>>,
}

/// The sequence numbers of one direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Sequence {
    /// The next number. The first is 0.
    next: u32,
    /// Bytes without an acknowledgment.
    unacknowledged: usize,
    /// True after a FIN.
    ended: bool,
}

/// The control bits of a segment (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// With the number of the client, if it has one.
    Syn(Option<ConnId>),
    SynAck,
    Ack,
    Push,
    Fin,
    Reset,
}

impl Pcap {
    /// A writer to `sink`.
    pub fn new(mut sink: Sink) -> Self {
        append_beginning(sink.buffer(), COMMENT);
        Self {
            sink,
            connections: HashMap::new(),
        }
    }

    fn sequence(&mut self, flow: &Flow, direction: Direction) -> &mut Sequence {
        let connection = self.connections.entry(flow.clone()).or_default();
        connection.of(direction)
    }

    /// Writes the three segments of a handshake, where there is one; `caller` is the direction of the first.
    fn handshake(
        &mut self,
        flow: &Flow,
        caller: Direction,
        conn: Option<ConnId>,
        [begin, end]: [SystemTime; 2],
    ) {
        if !flow.transport.has_connections() {
            return;
        }
        self.connections
            .insert(flow.clone(), PerDirection::default());
        self.segment(begin, flow, caller, Control::Syn(conn), b"");
        self.segment(end, flow, reverse(caller), Control::SynAck, b"");
        self.segment(end, flow, caller, Control::Ack, b"");
    }

    fn stream(&mut self, time: SystemTime, flow: &Flow, direction: Direction, bytes: &[u8]) {
        for data in bytes.chunks(SEGMENT_SIZE.into()) {
            self.segment(time, flow, direction, Control::Push, data);
            if self.sequence(flow, direction).unacknowledged >= ACKNOWLEDGED_SIZE {
                self.segment(time, flow, reverse(direction), Control::Ack, b"");
            }
        }
    }

    /// Writes the FIN of one direction and its acknowledgment, once.
    fn finish(&mut self, time: SystemTime, flow: &Flow, direction: Direction) {
        let sequence = self.sequence(flow, direction);
        if !std::mem::replace(&mut sequence.ended, true) {
            self.segment(time, flow, direction, Control::Fin, b"");
            self.segment(time, flow, reverse(direction), Control::Ack, b"");
        }
    }

    fn close(&mut self, time: SystemTime, state: &SocketState) {
        let Identity::Pair(flow) = &state.identity else {
            return;
        };
        match state.final_segment {
            FinalSegment::None => {}
            FinalSegment::Fin => self.finish(time, flow, Direction::Outgoing),
            FinalSegment::Reset => {
                self.segment(time, flow, Direction::Outgoing, Control::Reset, b"");
            }
        }
        self.connections.remove(flow);
    }

    fn segment(
        &mut self,
        time: SystemTime,
        flow: &Flow,
        direction: Direction,
        control: Control,
        data: &[u8],
    ) {
        let other = self.sequence(flow, reverse(direction));
        other.unacknowledged = 0;
        let acknowledgment = other.next;
        let sequence = self.sequence(flow, direction);
        let (from, to) = ends(flow, direction);
        let header = tcp_header((from, to), control, sequence.next, acknowledgment);
        let takes_number = header.syn || header.fin;
        // A segment is less than 64 KiB.
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        sequence.next = sequence.next.wrapping_add(len);
        sequence.next = sequence.next.wrapping_add(takes_number.into());
        sequence.unacknowledged += data.len();
        let packet = ip(from, to).tcp_header(header);
        let size = packet.size(data.len());
        let comment = match control {
            Control::Syn(Some(conn)) => conn.to_string(),
            _ => String::new(),
        };
        append_packet(self.sink.buffer(), time, direction, &comment, size, |out| {
            // SEGMENT_SIZE leaves space for the headers.
            let _ = packet.write_to_vec(out, data);
        });
    }

    fn datagram(&mut self, time: SystemTime, flow: &Flow, direction: Direction, data: &[u8]) {
        let (from, to) = ends(flow, direction);
        let packet = ip(from, to).udp(from.port(), to.port());
        let size = packet.size(data.len());
        append_packet(self.sink.buffer(), time, direction, "", size, |out| {
            // A datagram that a socket has moved has space for its headers.
            let _ = packet.write_to_vec(out, data);
        });
    }
}

fn reverse(direction: Direction) -> Direction {
    match direction {
        Direction::Incoming => Direction::Outgoing,
        Direction::Outgoing => Direction::Incoming,
    }
}

/// Returns the sender and the receiver.
fn ends(flow: &Flow, direction: Direction) -> (SocketAddr, SocketAddr) {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let [local, remote] = [&flow.local, &flow.remote].map(|end| end.inet().unwrap_or(nowhere));
    match direction {
        Direction::Incoming => (remote, local),
        Direction::Outgoing => (local, remote),
    }
}

fn ip(from: SocketAddr, to: SocketAddr) -> PacketBuilderStep<IpHeaders> {
    // The local address of a dual-stack socket may be unknown; it is then the unspecified one of IPv6.
    let v4 = |ip| match ip {
        IpAddr::V4(ip) => Some(ip.octets()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv4Addr::UNSPECIFIED.octets()),
        IpAddr::V6(_) => None,
    };
    let v6 = |ip| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let (from, to) = (from.ip(), to.ip());
    match (v4(from), v4(to)) {
        (Some(source), Some(target)) if from.is_ipv4() || to.is_ipv4() => {
            PacketBuilder::ipv4(source, target, TTL)
        }
        _ => PacketBuilder::ipv6(v6(from), v6(to), TTL),
    }
}

fn tcp_header(
    (from, to): (SocketAddr, SocketAddr),
    control: Control,
    sequence: u32,
    acknowledgment: u32,
) -> TcpHeader {
    let mut header = TcpHeader::new(from.port(), to.port(), sequence, u16::MAX);
    header.ack = !matches!(control, Control::Syn(_));
    header.acknowledgment_number = if header.ack { acknowledgment } else { 0 };
    header.psh = control == Control::Push;
    header.fin = control == Control::Fin;
    header.rst = control == Control::Reset;
    header.syn = matches!(control, Control::Syn(_) | Control::SynAck);
    if header.syn {
        let options = [
            TcpOptionElement::MaximumSegmentSize(SEGMENT_SIZE),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(WINDOW_SCALE),
        ];
        // Eight bytes of forty.
        let _ = header.set_options(&options);
    }
    header
}

impl Tap for Pcap {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match *event {
            Event::Connected { flow, after, .. } => {
                let called = time.checked_sub(after).unwrap_or(time);
                self.handshake(flow, Direction::Outgoing, None, [called, time]);
            }
            Event::Relayed { target, after, .. } => {
                let called = time.checked_sub(after).unwrap_or(time);
                self.handshake(
                    target.flow,
                    Direction::Outgoing,
                    target.conn,
                    [called, time],
                );
            }
            Event::Accepted(Conversation { flow, conn }) => {
                self.handshake(flow, Direction::Incoming, conn, [time; 2]);
            }
            Event::Data(ref data) => {
                let (flow, direction) = (data.flow, data.direction);
                for piece in data.pieces() {
                    if flow.transport.has_connections() {
                        self.stream(time, flow, direction, piece);
                    } else {
                        self.datagram(time, flow, direction, piece);
                    }
                }
            }
            Event::HalfClosed(name) => {
                self.finish(time, name.flow, Direction::Outgoing);
            }
            Event::PeerFinished(name) => {
                self.finish(time, name.flow, Direction::Incoming);
            }
            Event::Broken { name, error, .. } => {
                if name.flow.transport.has_connections() && Exit::from(error) == Exit::Reset {
                    self.segment(time, name.flow, Direction::Incoming, Control::Reset, b"");
                }
            }
            Event::Closed(state) => self.close(time, state),
            #[rustfmt::skip]
            Event::Called(_) | Event::Listening { .. } | Event::Bound { .. }
            | Event::Connecting(_) | Event::ConnectFailed { .. } | Event::Retrying { .. }
            | Event::Open { .. } | Event::ProbeFailed(_) | Event::NotRelayed { .. }
            | Event::Unreachable(_) | Event::Ignored { .. } | Event::Rejected { .. }
            | Event::Forgotten(_) | Event::Truncated { .. } | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_)
            | Event::Waiting { .. } | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. } | Event::Transferred(_)
            | Event::Peers(_) | Event::Exited(_) | Event::Sockets(_) | Event::Failed(_)
            | Event::Ended { .. } => {}
        }
        self.sink.end_event();
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }

    fn backlog(&self) -> Option<Backlog<'_>> {
        self.sink.backlog()
    }
}
