//! Packets of a recording: their payload, and the conversations that they belong to.
//! A TCP stream is put in order by its sequence numbers, and repeated bytes are left out.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::SystemTime;

use etherparse::{EtherType, LaxIpSlice, LaxSlicedPacket, TcpSlice, UdpSlice};
use etherparse::{IpNumber, ether_type, ip_number};

use super::{Chunk, Conversation};
use crate::flow::{Direction, Flow, Leg, Transport};

/// Most bytes that a link adds to a short packet.
const PADDING: usize = 46;

/// Header before the IP header: its length, and the place of the type of what follows, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkHeader(usize, Option<usize>);

impl LinkHeader {
    pub(super) const NONE: Self = Self(0, None);
    pub(super) const ETHERNET: Self = Self(14, Some(12));
    /// The headers of Linux for all interfaces at once, version 1 and 2.
    pub(super) const COOKED: [Self; 2] = [Self(16, Some(14)), Self(20, Some(0))];
    /// The header of the BSDs for the loopback interface.
    pub(super) const LOOPBACK: Self = Self(4, None);

    /// Returns the IP packet in a frame, behind VLAN tags; `None` if it holds something else.
    fn packet(self, frame: &[u8]) -> Option<&[u8]> {
        let rest = frame.get(self.0..)?;
        let Some(place) = self.1 else {
            return Some(rest);
        };
        let kind = EtherType(u16::from_be_bytes([frame[place], frame[place + 1]]));
        let payload = LaxSlicedPacket::from_ether_type(kind, rest).ether_payload()?;
        let is_ip = [ether_type::IPV4, ether_type::IPV6].contains(&payload.ether_type);
        is_ip.then_some(payload.payload)
    }

    /// Returns the header of a frame that holds a whole IP packet.
    pub(super) fn guess(frame: &[u8]) -> Option<Self> {
        let [first, second] = Self::COOKED;
        let mut all = [Self::NONE, Self::ETHERNET, first, second, Self::LOOPBACK].into_iter();
        all.find(|link| link.packet(frame).is_some_and(is_ip))
    }
}

/// Returns true for a whole IP packet: its length fits, and so does its checksum.
fn is_ip(packet: &[u8]) -> bool {
    let Ok((ip, _)) = LaxIpSlice::from_slice(packet) else {
        return false;
    };
    let (header, len) = match &ip {
        LaxIpSlice::Ipv4(ip) => (Some(ip.header()), ip.header().total_len().into()),
        LaxIpSlice::Ipv6(ip) => (None, 40 + usize::from(ip.header().payload_length())),
    };
    // A network card fills in the checksum of what is sent.
    let is_sound = header.is_none_or(|header| {
        let sum = header.to_header().calc_header_checksum();
        [0, sum].contains(&header.header_checksum())
    });
    is_sound && (len..=len + PADDING).contains(&packet.len())
}

/// Collector of packets.
#[derive(Default)]
pub(super) struct Packets {
    assemblies: Vec<Assembly>,
    /// The last conversation between two addresses, by its protocol.
    latest: HashMap<(u8, SocketAddr, SocketAddr), usize>,
    /// Number of packets so far.
    pub(super) count: u64,
}

/// Packets of one conversation.
struct Assembly {
    /// Addresses, from the client to the target.
    flow: Flow,
    /// Packets with payload, by their senders.
    segments: [Vec<Segment>; 2],
    /// Sequence numbers of the first bytes of both sides, where the handshake is recorded.
    starts: [Option<u32>; 2],
}

/// Packet of TCP, or of UDP.
#[derive(Default)]
struct Segment {
    /// Protocol, as the IP header names it.
    protocol: u8,
    /// Source and target.
    ports: [u16; 2],
    /// Sequence number of the first byte.
    sequence: u32,
    is_syn: bool,
    is_ack: bool,
    bytes: Vec<u8>,
    /// Some bytes are not recorded.
    is_cut: bool,
    time: Option<SystemTime>,
    number: u64,
}

impl Segment {
    fn is_tcp(&self) -> bool {
        self.protocol == ip_number::TCP.0
    }

    fn parse(kind: IpNumber, bytes: &[u8]) -> Option<Self> {
        if kind == ip_number::UDP {
            let datagram = UdpSlice::from_slice_lax(bytes).ok()?;
            return Some(Self {
                protocol: kind.0,
                ports: [datagram.source_port(), datagram.destination_port()],
                bytes: datagram.payload().to_vec(),
                is_cut: usize::from(datagram.length()) > bytes.len(),
                ..Self::default()
            });
        }
        let segment = TcpSlice::from_slice(bytes).ok()?;
        Some(Self {
            protocol: kind.0,
            ports: [segment.source_port(), segment.destination_port()],
            sequence: segment.sequence_number().wrapping_add(segment.syn().into()),
            is_syn: segment.syn(),
            is_ack: segment.ack(),
            bytes: segment.payload().to_vec(),
            ..Self::default()
        })
    }
}

impl Packets {
    /// Adds a frame. What is neither TCP nor UDP is passed over.
    ///
    /// Errors: it is an IP fragment, or ends within a header of TCP or UDP.
    pub(super) fn add(
        &mut self,
        link: LinkHeader,
        frame: &[u8],
        time: Option<SystemTime>,
    ) -> Result<(), String> {
        self.count += 1;
        let number = self.count;
        let packet = link.packet(frame).unwrap_or_default();
        let Ok((ip, _)) = LaxIpSlice::from_slice(packet) else {
            return Ok(());
        };
        let payload = ip.payload();
        if ![ip_number::TCP, ip_number::UDP].contains(&payload.ip_number) {
            return Ok(());
        }
        if payload.fragmented {
            return Err(format!("packet {number} is an IP fragment"));
        }
        let segment = Segment::parse(payload.ip_number, payload.payload);
        let segment = segment.ok_or_else(|| format!("packet {number} is not recorded whole"))?;
        let source = (ip.source_addr(), segment.ports[0]).into();
        let target = (ip.destination_addr(), segment.ports[1]).into();
        let is_cut = segment.is_cut || payload.incomplete;
        let segment = Segment {
            is_cut,
            time,
            number,
            ..segment
        };
        self.add_segment(segment, source, target);
        Ok(())
    }

    /// Adds a packet to its conversation, or begins one: with a SYN of another number as well.
    fn add_segment(&mut self, segment: Segment, source: SocketAddr, target: SocketAddr) {
        let key = (segment.protocol, source.min(target), source.max(target));
        let opens = segment.is_syn && !segment.is_ack;
        let leg = |known: &Assembly| usize::from(known.flow.local != source.into());
        let is_same =
            |known: &Assembly| !opens || known.starts[leg(known)] == Some(segment.sequence);
        let known = self.latest.get(&key).copied();
        let known = known.filter(|&at| is_same(&self.assemblies[at]));
        let at = known.unwrap_or(self.assemblies.len());
        if known.is_none() {
            self.latest.insert(key, at);
            self.assemblies
                .push(Assembly::begin(&segment, source, target));
        }
        let assembly = &mut self.assemblies[at];
        let leg = leg(assembly);
        if segment.is_syn {
            assembly.starts[leg] = Some(segment.sequence);
        }
        if !segment.is_tcp() || !segment.bytes.is_empty() || segment.is_cut {
            assembly.segments[leg].push(segment);
        }
    }

    /// Returns the conversations that have payload, in the order in which they began.
    pub(super) fn conversations(self) -> Vec<Conversation> {
        let assemblies = self.assemblies.into_iter();
        let full = assemblies.filter(|known| known.segments.iter().any(|own| !own.is_empty()));
        full.map(Assembly::conversation).collect()
    }
}

impl Assembly {
    /// Begins a conversation. The first to send is the client, unless it answers a SYN.
    fn begin(segment: &Segment, source: SocketAddr, target: SocketAddr) -> Self {
        let is_answer = segment.is_syn && segment.is_ack;
        let (client, target) = if is_answer {
            (target, source)
        } else {
            (source, target)
        };
        let transport = if segment.is_tcp() {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        Self {
            flow: Flow::new(transport, client.into(), target.into()),
            segments: [const { Vec::new() }; 2],
            starts: [None; 2],
        }
    }

    fn conversation(self) -> Conversation {
        let is_tcp = self.flow.transport == Transport::Tcp;
        let (mut sent, mut flaws) = (Vec::new(), Vec::new());
        for ((leg, own), start) in [Leg::Client, Leg::Target]
            .into_iter()
            .zip(self.segments)
            .zip(self.starts)
        {
            let cut = own.iter().find(|segment| segment.is_cut);
            flaws.extend(
                cut.map(|cut| (leg, format!("packet {} is not recorded whole", cut.number))),
            );
            let (own, flaw) = if is_tcp {
                in_order(own, start)
            } else {
                (own, None)
            };
            flaws.extend(flaw.map(|text| (leg, text)));
            sent.extend(own.into_iter().map(|segment| (leg, segment)));
        }
        sent.sort_by_key(|(_, segment)| segment.number);
        let chunks = sent
            .into_iter()
            .map(|(leg, Segment { time, bytes, .. })| Chunk {
                time,
                leg: Some(leg),
                bytes,
            });
        Conversation {
            name: if is_tcp {
                self.flow.to_string()
            } else {
                self.flow.arrow(Direction::Outgoing).to_string()
            },
            chunks: chunks.collect(),
            flaws,
        }
    }
}

/// Puts the segments of one side in order (RFC 9293, 3.4). Without a handshake it begins at the lowest number.
///
/// Returns them without repeated bytes, each with the number of the packet that completed it, and the first gap.
fn in_order(segments: Vec<Segment>, start: Option<u32>) -> (Vec<Segment>, Option<String>) {
    let distance = |from: u32, to: u32| to.wrapping_sub(from).cast_signed();
    let numbers = segments.iter().map(|segment| segment.sequence);
    let lowest = numbers.reduce(|low, number| {
        if distance(low, number) < 0 {
            number
        } else {
            low
        }
    });
    let mut next = start.or(lowest).unwrap_or_default();
    let mut place = 0_i64;
    let (mut held, mut found) = (BTreeMap::new(), Vec::new());
    for segment in segments {
        let (number, ahead) = (segment.number, distance(next, segment.sequence));
        held.insert((place + i64::from(ahead), number), segment);
        while let Some(entry) = held.first_entry()
            && entry.key().0 <= place
        {
            let repeated = usize::try_from(place - entry.key().0).unwrap_or(usize::MAX);
            let mut segment = entry.remove();
            segment.bytes.drain(..repeated.min(segment.bytes.len()));
            // A packet has less than 4 GiB.
            let len = u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX);
            (place, next) = (place + i64::from(len), next.wrapping_add(len));
            if len > 0 {
                found.push(Segment { number, ..segment });
            }
        }
    }
    let flaw = held.first_key_value().map(|((at, _), _)| {
        let missing = at - place;
        format!("{missing} bytes are missing in the stream behind the first {place}")
    });
    (found, flaw)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use pretty_assertions::assert_eq;

    use super::*;

    /// A segment: its sender, its number and control bits, and its bytes.
    type Sent<'a> = (u16, u32, &'a str, &'a str);

    fn segment((port, sequence, control, text): Sent<'_>) -> Vec<u8> {
        let address = |port: u16| [10, 0, 0, u8::try_from(port).unwrap()];
        let other = 3 - port;
        let mut builder =
            PacketBuilder::ipv4(address(port), address(other), 64).tcp(port, other, sequence, 9);
        if control.contains('S') {
            builder = builder.syn();
        }
        if control.contains('A') {
            builder = builder.ack(1);
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, text.as_bytes()).unwrap();
        packet
    }

    fn conversations(segments: &[Sent<'_>]) -> Vec<Conversation> {
        let mut packets = Packets::default();
        for &sent in segments {
            packets.add(LinkHeader::NONE, &segment(sent), None).unwrap();
        }
        packets.conversations()
    }

    /// Returns what each side sent in the only conversation, and what is missing of it.
    fn sides(segments: &[Sent<'_>]) -> (String, [String; 2], Vec<String>) {
        let [conversation] = &conversations(segments)[..] else {
            panic!("not one conversation");
        };
        let of = |leg| {
            let chunks = conversation
                .chunks
                .iter()
                .filter(|chunk| chunk.leg == Some(leg));
            let bytes: Vec<u8> = chunks.flat_map(|chunk| chunk.bytes.clone()).collect();
            String::from_utf8(bytes).unwrap()
        };
        let flow = conversation.name.clone();
        let flaws = conversation.flaws.iter().map(|(_, text)| text.clone());
        (flow, [Leg::Client, Leg::Target].map(of), flaws.collect())
    }

    const CLIENT_FIRST: &str = "tcp 10.0.0.1:1 <-> 10.0.0.2:2";

    #[test]
    fn a_stream_is_put_in_order_without_repeats() {
        let near_wrap = u32::MAX - 2;
        for start in [0, 1000, near_wrap] {
            let at = |offset: u32| start.wrapping_add(offset);
            let expected = ["abcdefgh".to_owned(), "xyz".to_owned()];
            let handshake = [(1, at(u32::MAX), "S", ""), (2, 499, "SA", "")];
            let data = [
                (1, at(0), "A", "ab"),
                (1, at(4), "A", "ef"),
                (2, 500, "A", "x"),
                (1, at(0), "A", "ab"),
                (1, at(6), "A", "gh"),
                (1, at(1), "A", "bcde"),
                (1, at(2), "A", "cdefgh"),
                (2, 501, "A", "yz"),
                (2, 500, "A", "xy"),
            ];
            for segments in [[&handshake[..], &data[..]].concat(), data.to_vec()] {
                let found = sides(&segments);
                assert_eq!(
                    found,
                    (CLIENT_FIRST.to_owned(), expected.clone(), Vec::new())
                );
            }
        }
    }

    #[test]
    fn the_client_is_known_from_the_handshake() {
        let answer_first = [(2, 0, "SA", ""), (2, 1, "A", "x"), (1, 1, "A", "a")];
        assert_eq!(sides(&answer_first).0, CLIENT_FIRST);
        let no_handshake = [(2, 1, "A", "x"), (1, 1, "A", "a")];
        assert_eq!(sides(&no_handshake).0, "tcp 10.0.0.2:2 <-> 10.0.0.1:1");
    }

    #[test]
    fn a_gap_is_not_closed() {
        let (_, sides, flaws) = sides(&[
            (1, 9, "S", ""),
            (1, 10, "A", "ab"),
            (1, 15, "A", "fg"),
            (2, 0, "A", "x"),
        ]);
        assert_eq!(sides, ["ab", "x"]);
        assert_eq!(
            flaws,
            ["3 bytes are missing in the stream behind the first 2"]
        );
    }

    #[test]
    fn another_handshake_is_another_connection() {
        let found = conversations(&[
            (1, 9, "S", ""),
            (1, 9, "S", ""),
            (1, 10, "A", "ab"),
            (1, 99, "S", ""),
            (1, 100, "A", "cd"),
        ]);
        let bytes = |conversation: &Conversation| conversation.chunks[0].bytes.clone();
        assert_eq!(found.iter().map(bytes).collect::<Vec<_>>(), [b"ab", b"cd"]);
    }

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2);
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn a_packet_that_is_not_whole_is_a_flaw() {
        let mut packets = Packets::default();
        let mut add = |packet: &[u8]| packets.add(LinkHeader::NONE, packet, None);
        assert_eq!(add(&datagram(b"whole")), Ok(()));
        assert_eq!(add(&datagram(b"a part")[..30]), Ok(()));
        assert_eq!(
            add(&datagram(b"a part")[..25]),
            Err("packet 3 is not recorded whole".to_owned())
        );
        let mut fragment = datagram(b"a part");
        fragment[6] = 0x20;
        assert_eq!(add(&fragment), Err("packet 4 is an IP fragment".to_owned()));
        let flaws = packets.conversations()[0].flaws.clone();
        assert_eq!(
            flaws,
            [(Leg::Client, "packet 2 is not recorded whole".to_owned())]
        );
    }

    #[test]
    fn the_headers_of_a_packet_are_recognised() {
        let packet = datagram(b"payload");
        let padded = [&packet[..], &[0; 10]].concat();
        let ethernet = [&[0; 12][..], &[8, 0], &padded].concat();
        let cooked = [&[0; 14][..], &[8, 0], &packet].concat();
        let cooked_v2 = [&[8, 0][..], &[0; 18], &packet].concat();
        let loopback = [&[2, 0, 0, 0][..], &packet].concat();
        let frames = [packet, ethernet, cooked, cooked_v2, loopback];
        let [first, second] = LinkHeader::COOKED;
        let links = [
            LinkHeader::NONE,
            LinkHeader::ETHERNET,
            first,
            second,
            LinkHeader::LOOPBACK,
        ];
        for (frame, link) in frames.iter().zip(links) {
            assert_eq!(LinkHeader::guess(frame), Some(link));
        }
        let mut damaged = datagram(b"payload");
        damaged[10] ^= 1;
        let text = b"abcdefgh".repeat(8192);
        for other in [&damaged[..], b"", b"E", b"GET / HTTP/1.1\r\n\r\n", &text] {
            assert_eq!(LinkHeader::guess(other), None);
        }
    }
}
