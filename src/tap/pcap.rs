//! A capture without privileges: what went through the sockets, as packets that Wireshark and tcpdump understand.
//! Payload, addresses, order and times are real; the headers are made up to fit them, and the file says so.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader, TcpOptionElement};

use super::pcapng::{append_beginning, append_packet};
use super::{Event, Parting, Sink, SocketState, Tap, Ways};
use crate::exit::{Exit, Failure};
use crate::flow::{Direction, Flow, Identity, Transport};

const COMMENT: &str = "synthetic headers: payload, addresses, order and times were seen by tuplecat at its sockets; \
    IP, TCP and UDP headers are made up to fit them";

/// The most data in a segment: what an IPv4 packet has room for.
const SEGMENT: u16 = 65_535 - 20 - 20;
/// The scale of the windows in the made-up headers (RFC 7323): they are 8 MiB large.
const WINDOW_SCALE: u8 = 7;
/// After so many bytes in one direction there is an acknowledgment in the other, so that no window seems full.
const ACKNOWLEDGED: usize = 4 << 20;
const TTL: u8 = 64;

/// Writes a capture.
pub struct Pcap {
    sink: Sink,
    connections: HashMap<Flow, Ways<Stream>>,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The next sequence number. They begin at 0.
    next: u32,
    /// Bytes without an acknowledgment.
    open: usize,
    /// Whether it has ended, with a FIN or a RST.
    ended: bool,
}

/// What a segment says beside its data (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    /// With the number of the client, where there may be many.
    Syn(Option<u64>),
    SynAck,
    Ack,
    Push,
    Fin,
    Reset,
}

impl Pcap {
    /// Writes to `sink`.
    #[must_use]
    pub fn new(mut sink: Sink) -> Self {
        append_beginning(sink.buffer(), COMMENT);
        Self {
            sink,
            connections: HashMap::new(),
        }
    }

    /// The three segments that make a connection; `caller` is the direction of the first, which has the number of a client.
    fn handshake(
        &mut self,
        flow: &Flow,
        caller: Direction,
        conn: Option<u64>,
        [begin, end]: [SystemTime; 2],
    ) {
        self.connections.insert(flow.clone(), Ways::default());
        self.segment(begin, flow, caller, Control::Syn(conn), b"");
        self.segment(end, flow, reverse(caller), Control::SynAck, b"");
        self.segment(end, flow, caller, Control::Ack, b"");
    }

    fn stream(&mut self, time: SystemTime, flow: &Flow, direction: Direction, bytes: &[u8]) {
        for data in bytes.chunks(SEGMENT.into()) {
            self.segment(time, flow, direction, Control::Push, data);
            let stream = self
                .connections
                .entry(flow.clone())
                .or_default()
                .of(direction);
            if stream.open >= ACKNOWLEDGED {
                self.segment(time, flow, reverse(direction), Control::Ack, b"");
            }
        }
    }

    /// The end of one direction, which the other side acknowledges.
    fn finish(&mut self, time: SystemTime, flow: &Flow, direction: Direction) {
        let stream = self
            .connections
            .entry(flow.clone())
            .or_default()
            .of(direction);
        if !std::mem::replace(&mut stream.ended, true) {
            self.segment(time, flow, direction, Control::Fin, b"");
            self.segment(time, flow, reverse(direction), Control::Ack, b"");
        }
    }

    fn close(&mut self, time: SystemTime, state: &SocketState) {
        if let Identity::Pair(
            flow @ Flow {
                transport: Transport::Tcp,
                ..
            },
        ) = &state.identity
        {
            match state.parting {
                Parting::Nothing => {}
                Parting::Fin => self.finish(time, flow, Direction::Outgoing),
                Parting::Reset => {
                    self.segment(time, flow, Direction::Outgoing, Control::Reset, b"");
                }
            }
            self.connections.remove(flow);
        }
    }

    fn segment(
        &mut self,
        time: SystemTime,
        flow: &Flow,
        direction: Direction,
        control: Control,
        data: &[u8],
    ) {
        let connection = self.connections.entry(flow.clone()).or_default();
        let other = connection.of(reverse(direction));
        other.open = 0;
        let acknowledgment = other.next;
        let stream = connection.of(direction);
        let header = tcp_header(ends(flow, direction), control, stream.next, acknowledgment);
        let takes_number = matches!(control, Control::Syn(_) | Control::SynAck | Control::Fin);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a segment is less than 64 KiB"
        )]
        let len = data.len() as u32 + u32::from(takes_number);
        stream.next = stream.next.wrapping_add(len);
        stream.open += data.len();
        let packet = ip(ends(flow, direction)).tcp_header(header);
        let size = packet.size(data.len());
        let comment = match control {
            Control::Syn(Some(conn)) => format!("#{conn}"),
            _ => String::new(),
        };
        append_packet(self.sink.buffer(), time, direction, &comment, size, |out| {
            // The sizes are checked before: it fits.
            let _ = packet.write_to_vec(out, data);
        });
    }

    fn datagram(&mut self, time: SystemTime, flow: &Flow, direction: Direction, data: &[u8]) {
        let (from, to) = ends(flow, direction);
        let packet = ip((from, to)).udp(from.port(), to.port());
        let size = packet.size(data.len());
        append_packet(self.sink.buffer(), time, direction, "", size, |out| {
            // No datagram that has come through a socket is too long for its headers.
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

/// Sender and receiver.
fn ends(flow: &Flow, direction: Direction) -> (SocketAddr, SocketAddr) {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let [local, remote] = [&flow.local, &flow.remote].map(|end| end.inet().unwrap_or(nowhere));
    match direction {
        Direction::Incoming => (remote, local),
        Direction::Outgoing => (local, remote),
    }
}

fn ip((from, to): (SocketAddr, SocketAddr)) -> PacketBuilderStep<IpHeaders> {
    // A socket on every interface that was not told its address for this one has an unspecified one of IPv6.
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
            TcpOptionElement::MaximumSegmentSize(SEGMENT),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(WINDOW_SCALE),
        ];
        // Eight of the forty bytes that there are.
        let _ = header.set_options(&options);
    }
    header
}

impl Tap for Pcap {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match *event {
            Event::Connected { flow, after } => {
                let called = time.checked_sub(after).unwrap_or(time);
                self.handshake(flow, Direction::Outgoing, None, [called, time]);
            }
            Event::Accepted { flow, conn } => {
                self.handshake(flow, Direction::Incoming, Some(conn), [time; 2]);
            }
            Event::Data(ref data) => {
                let (flow, direction) = (data.flow, data.direction);
                for piece in data.pieces() {
                    match flow.transport {
                        Transport::Tcp => self.stream(time, flow, direction, piece),
                        Transport::Udp => self.datagram(time, flow, direction, piece),
                    }
                }
            }
            Event::HalfClosed { flow, .. } => self.finish(time, flow, Direction::Outgoing),
            Event::PeerFinished { flow, .. } => self.finish(time, flow, Direction::Incoming),
            Event::Broken { flow, error, .. }
                if flow.transport == Transport::Tcp && Exit::from(error) == Exit::Reset =>
            {
                self.segment(time, flow, Direction::Incoming, Control::Reset, b"");
            }
            Event::Closed(state) => self.close(time, state),
            _ => {}
        }
        self.sink.end_event();
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }
}
