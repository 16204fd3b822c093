//! Captures, read back by a library, and by tcpdump(1) and tshark(1) where they are installed.
//! They contain the payload that was sent, between the addresses of the sockets, without any error.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice};
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::section_header::SectionHeaderOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tuplecat::flow::Transport;

use crate::common::*;

/// A packet of a capture.
#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    /// The TCP flags, such as `SA`; `-` for UDP.
    flags: String,
    sequence: u32,
    acknowledgment: u32,
    payload: Vec<u8>,
    /// The direction: 1 is incoming, 2 outgoing.
    direction: u32,
    comment: Option<String>,
}

impl Packet {
    fn read(block: &EnhancedPacketBlock<'_>) -> Self {
        assert_eq!(block.original_len as usize, block.data.len());
        let packet = SlicedPacket::from_ip(&block.data).unwrap();
        let net = packet.net.unwrap();
        let (source, target): (IpAddr, IpAddr) = match &net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let sum = header.to_header().calc_header_checksum();
                assert_eq!(header.header_checksum(), sum, "checksum of IP");
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                )
            }
            NetSlice::Arp(_) => panic!("not IP"),
        };
        let direction = block.options.iter().find_map(|option| match option {
            EnhancedPacketOption::Flags(flags) => Some(flags & 3),
            _ => None,
        });
        let comment = block.options.iter().find_map(|option| match option {
            EnhancedPacketOption::Comment(text) => Some(text.to_string()),
            _ => None,
        });
        let mut read = Self {
            from: (source, 0).into(),
            to: (target, 0).into(),
            flags: "-".to_owned(),
            sequence: 0,
            acknowledgment: 0,
            payload: Vec::new(),
            direction: direction.expect("a direction"),
            comment,
        };
        match packet.transport.unwrap() {
            TransportSlice::Tcp(tcp) => read.add_tcp(&net, &tcp),
            TransportSlice::Udp(udp) => {
                read.from.set_port(udp.source_port());
                read.to.set_port(udp.destination_port());
                read.payload = udp.payload().to_vec();
                let header = udp.to_header();
                let sum = match &net {
                    NetSlice::Ipv4(ip) => {
                        header.calc_checksum_ipv4(&ip.header().to_header(), &read.payload)
                    }
                    NetSlice::Ipv6(ip) => {
                        header.calc_checksum_ipv6(&ip.header().to_header(), &read.payload)
                    }
                    NetSlice::Arp(_) => unreachable!(),
                };
                assert_eq!(udp.checksum(), sum.unwrap(), "checksum of UDP");
            }
            other => panic!("{other:?}"),
        }
        read
    }

    fn add_tcp(&mut self, net: &NetSlice<'_>, tcp: &TcpSlice<'_>) {
        self.from.set_port(tcp.source_port());
        self.to.set_port(tcp.destination_port());
        self.payload = tcp.payload().to_vec();
        (self.sequence, self.acknowledgment) = (tcp.sequence_number(), tcp.acknowledgment_number());
        let flags = [
            (tcp.syn(), 'S'),
            (tcp.fin(), 'F'),
            (tcp.rst(), 'R'),
            (tcp.ack(), 'A'),
        ];
        self.flags = flags
            .iter()
            .filter(|flag| flag.0)
            .map(|flag| flag.1)
            .collect();
        let header = tcp.to_header();
        let sum = match net {
            NetSlice::Ipv4(ip) => {
                header.calc_checksum_ipv4(&ip.header().to_header(), &self.payload)
            }
            NetSlice::Ipv6(ip) => {
                header.calc_checksum_ipv6(&ip.header().to_header(), &self.payload)
            }
            NetSlice::Arp(_) => unreachable!(),
        };
        assert_eq!(tcp.checksum(), sum.unwrap(), "checksum of TCP");
    }
}

/// Reads a capture, and checks its comment, structure and checksums.
#[track_caller]
fn read(capture: &[u8]) -> Vec<Packet> {
    let mut reader = PcapNgReader::new(Cursor::new(capture)).expect("a capture");
    let options = reader.section().options.clone();
    let comment = options.iter().find_map(|option| match option {
        SectionHeaderOption::Comment(text) => Some(text.clone()),
        _ => None,
    });
    assert!(comment.expect("a comment").contains("synthetic"));
    let mut packets = Vec::new();
    let mut last = None;
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::InterfaceDescription(interface) => assert_eq!(interface.linktype, DataLink::RAW),
            Block::EnhancedPacket(packet) => {
                assert!(last <= Some(packet.timestamp), "time goes on");
                last = Some(packet.timestamp);
                packets.push(Packet::read(&packet));
            }
            other => panic!("{other:?}"),
        }
    }
    packets
}

/// Returns the payload from one address, and checks that the TCP sequence numbers are consistent.
#[track_caller]
fn payload(packets: &[Packet], from: SocketAddr) -> Vec<u8> {
    let mut next = None;
    let mut bytes = Vec::new();
    for packet in packets.iter().filter(|packet| packet.from == from) {
        if packet.flags != "-" {
            assert_eq!(
                packet.sequence,
                next.unwrap_or(packet.sequence),
                "{:?}",
                packet.flags
            );
            let takes_number = packet.flags.contains(['S', 'F']);
            let len = u32::try_from(packet.payload.len()).unwrap() + u32::from(takes_number);
            next = Some(packet.sequence.wrapping_add(len));
        }
        bytes.extend_from_slice(&packet.payload);
    }
    bytes
}

/// Runs a session that both sides capture; returns the client's address and both captures.
fn session(
    transport: Transport,
    host: &str,
    text: &[u8],
    words: &str,
) -> (SocketAddr, SocketAddr, [Vec<u8>; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let server = waits(transport, &format!("{host} 0 --pcap"))
        .arg(path("server"))
        .args(words)
        .start();
    let address = server.ready();
    let client = speaks(transport, address)
        .args("--pcap")
        .arg(path("client"));
    let client = client.stdin(Input::From(with_text(text))).run().exits(0);
    let done = server.wait().exits(0);
    assert!(done.out == text, "other bytes");
    let word = if transport == Transport::Tcp {
        "connected"
    } else {
        "sent"
    };
    let (_, local, _) = tuple(client.line(word));
    let captures = ["server", "client"].map(|name| fs::read(path(name)).unwrap());
    (local.parse().unwrap(), address, captures)
}

both! {
    /// Both sides capture the same payload between the same addresses, over IPv4 and IPv6.
    fn the_payload_is_read_back(transport) {
        let text = bytes(40_000);
        for host in ["127.0.0.1", "::1"] {
            let (client, server, captures) = session(transport, host, &text, "");
            for capture in captures {
                let packets = read(&capture);
                assert!(payload(&packets, client) == text, "other bytes");
                assert!(payload(&packets, server).is_empty());
                assert!(packets.iter().all(|packet| [packet.from, packet.to].contains(&server)));
            }
        }
    }

    /// A capture that cannot be written is reported, and the transfer goes on.
    fn a_capture_on_a_full_disk_is_reported(transport) {
        let server = waits(transport, "-q 0 --pcap /dev/full").start();
        speaks(transport, server.ready()).says("hello").run().exits(0);
        let server = server.wait();
        assert_eq!(server.text(), "hello");
        let message = "cannot write to '/dev/full' (--pcap): no space left on device; nothing more goes there";
        server.fails(1, message);
    }

    /// On standard output the capture replaces the payload, and can be followed.
    fn a_capture_goes_down_a_pipe_as_it_comes(transport) {
        let mut server = waits(transport, "-q 0 --pcap -").stdin(Input::Held).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        let mut so_far = 0;
        for text in ["one", "three"] {
            client.write(text);
            let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            so_far = server.out().wait_until("the payload", holds).len();
        }
        assert!(so_far > 0);
        client.close_stdin();
        client.wait().exits(0);
        server.close_stdin();
        let packets = read(&server.wait().exits(0).out);
        let all: Vec<u8> = packets.iter().flat_map(|packet| packet.payload.clone()).collect();
        assert_eq!(all, b"onethree");
    }

    /// The capture is then the output, so the run ends when its reader goes away.
    fn a_capture_without_a_reader_ends_quietly(transport) {
        let mut server = waits(transport, "-q 0 --pcap -").stdout(Output::Held).stdin(Input::Held).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        drop(server.take_stdout());
        client.write("into the void");
        assert_eq!(server.wait().exits(141).err, "");
    }

    /// A terminal is no destination for a capture.
    fn a_capture_on_a_terminal_is_an_error(transport) {
        let (_person, process) = terminal();
        let done = waits(transport, "0 --pcap -").stdout(Output::To(process.into())).run();
        done.fails(1, "cannot write to standard output (--pcap): it is a terminal, and this is binary");
    }
}

#[test]
fn a_connection_has_its_handshake_and_end() {
    let (client, server, captures) = session(Transport::Tcp, "127.0.0.1", b"hello", "");
    let expected = [
        (client, "S"),
        (server, "SA"),
        (client, "A"),
        (client, "A"),
        (client, "FA"),
        (server, "A"),
        (server, "FA"),
        (client, "A"),
    ];
    for (capture, outgoing) in captures.iter().zip([server, client]) {
        let packets = read(capture);
        let seen: Vec<_> = packets
            .iter()
            .map(|packet| (packet.from, &*packet.flags))
            .collect();
        assert_eq!(seen, expected);
        for packet in &packets {
            let direction = if packet.from == outgoing { 2 } else { 1 };
            assert_eq!(packet.direction, direction);
        }
        let last = packets.last().unwrap();
        assert_eq!((last.sequence, last.acknowledgment), (7, 2));
    }
}

#[test]
fn a_reset_of_either_side_is_captured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    let last = || {
        let packets = read(&fs::read(&path).unwrap());
        let last = packets.last().unwrap();
        (last.from, last.flags.clone())
    };
    let server = tuplecat("tcp-listen -q 0 --pcap").arg(&path).start();
    let peer = connect(server.ready());
    let name = peer.local_addr().unwrap();
    reset(peer);
    server.wait().exits(7);
    assert_eq!(last(), (name, "RA".to_owned()));

    let (listener, address) = listen();
    let client = tuplecat("tcp-connect -q --linger-reset --on-peer-eof quit --pcap").arg(&path);
    let client = client.to(address).stdin(Input::Held).start();
    let peer = accept(&listener);
    let name = peer.peer_addr().unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    client.wait().exits(0);
    assert_eq!(last(), (name, "RA".to_owned()));
}

#[test]
fn every_datagram_is_a_packet_even_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    let server = tuplecat("udp-bind -q --count 3 0 --pcap")
        .arg(&path)
        .start();
    let (socket, name) = datagrams();
    let largest = bytes(65_507);
    for datagram in [&b"one"[..], b"", &largest] {
        UdpSocket::send_to(&socket, datagram, server.ready()).unwrap();
    }
    server.wait().exits(0);
    let packets = read(&fs::read(path).unwrap());
    let sizes: Vec<_> = packets
        .iter()
        .map(|packet| (packet.from, packet.payload.len()))
        .collect();
    assert_eq!(sizes, [(name, 3), (name, 0), (name, 65_507)]);
}

#[test]
fn every_client_has_a_conversation_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("capture");
    let server = tuplecat("tcp-listen -q -k 0 --pcap").arg(&path).start();
    let clients: Vec<_> = (0..3).map(|_| connect(server.ready())).collect();
    for client in &clients {
        std::io::Write::write_all(&mut &*client, b"hello").unwrap();
    }
    server.out().wait_for_len(15);
    let names: Vec<_> = clients
        .iter()
        .map(|client| client.local_addr().unwrap())
        .collect();
    server.signal(rustix::process::Signal::INT);
    server.wait().exits(130);
    let packets = read(&fs::read(path).unwrap());
    // Only the first segment of each connection has its number.
    let numbers: Vec<_> = packets
        .iter()
        .filter(|packet| packet.comment.is_some())
        .collect();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(
            (numbers[number].from, &*numbers[number].flags),
            (*name, "S")
        );
        assert_eq!(numbers[number].comment, Some(format!("#{}", number + 1)));
    }
    assert_eq!(numbers.len(), 3);
    let mut by_client = BTreeMap::new();
    for name in names {
        by_client.insert(name, payload(&packets, name));
    }
    assert!(
        by_client.values().all(|payload| payload == b"hello"),
        "{by_client:?}"
    );
}

/// Returns the output of a tool for a capture.
fn printed(tool: &str, words: &[&str], path: &Path) -> String {
    let mut command = Command::new(tool);
    let output = command
        .args(["-r".as_ref(), path.as_os_str()])
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{tool}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Captures ten megabytes over TCP, and a thousand datagrams.
fn large_sessions(directory: &Path) -> Vec<(Transport, Vec<u8>, std::path::PathBuf)> {
    let stream = bytes(10 << 20);
    let (_, _, [server, _]) = session(Transport::Tcp, "127.0.0.1", &stream, "");
    let path = directory.join("datagrams");
    let (socket, address) = datagrams();
    drop(socket);
    let (socket, _) = datagrams_at(address);
    let client = tuplecat("udp-sendto -q --datagram-size 100 --reply-timeout 0 --pcap").arg(&path);
    let datagrams = bytes(100_000);
    client
        .to(address)
        .stdin(Input::From(with_text(&datagrams)))
        .run()
        .exits(0);
    drop(socket);
    let stream_path = directory.join("stream");
    fs::write(&stream_path, server).unwrap();
    vec![
        (Transport::Tcp, stream, stream_path),
        (Transport::Udp, datagrams, path),
    ]
}

/// Options that check every checksum and dissect no payload.
#[rustfmt::skip]
const STRICT: [&str; 10] = [
    "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
    "-d", "tcp.port==1-65535,data", "-d", "udp.port==1-65535,data",
];

/// Checks with tshark(1) that the stream is complete, without errors in checksums or sequence numbers.
fn check_with_tshark(transport: Transport, sent: &[u8], path: &Path) {
    let strictly = |words: &[&str]| printed("tshark", &[&STRICT[..], words].concat(), path);
    assert_eq!(
        strictly(&["-q", "-z", "expert,warn"]).trim(),
        "",
        "{transport}"
    );
    let bad = "tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0";
    assert_eq!(strictly(&["-Y", bad]), "");
    let follow = format!("follow,{transport},raw,0");
    let text = printed("tshark", &["-q", "-z", &follow], path);
    let is_hex = |line: &&str| line.bytes().all(|letter| letter.is_ascii_hexdigit());
    let digits: String = text.lines().filter(is_hex).collect();
    assert!(
        hex::decode(digits).unwrap() == sent,
        "{transport}: other bytes"
    );
}

/// Checks that tcpdump(8) reads every packet.
fn check_with_tcpdump(transport: Transport, path: &Path) {
    let packets = read(&fs::read(path).unwrap());
    let text = printed("tcpdump", &["-nn", "-vv"], path);
    // More than "bad" alone: tcpdump may dissect the payload by its port, and find errors in it.
    assert!(
        !text.contains("bad cksum") && !text.contains("incorrect"),
        "{transport}"
    );
    let lines = text.lines().filter(|line| line.contains(" IP (")).count();
    assert_eq!(lines, packets.len());
    if transport == Transport::Udp {
        assert_eq!(packets.len(), 1000);
    }
}

#[test]
fn other_tools_find_no_fault_in_large_captures() {
    let directory = tempfile::tempdir().unwrap();
    for (transport, sent, path) in large_sessions(directory.path()) {
        if is_installed("tshark") {
            check_with_tshark(transport, &sent, &path);
        } else {
            skip("tshark is not installed");
        }
        if is_installed("tcpdump") {
            check_with_tcpdump(transport, &path);
        } else {
            skip("tcpdump is not installed");
        }
    }
}

#[test]
fn tshark_follows_a_capture_down_a_pipe() {
    if !is_installed("tshark") {
        return skip("tshark is not installed");
    }
    let server = tuplecat("tcp-listen -q 0 --pcap -")
        .stdin(Input::Held)
        .stdout(Output::Held);
    let mut server = server.start();
    let pipe = File::from(std::os::fd::OwnedFd::from(server.take_stdout()));
    let tshark = program("tshark", "-l -i - -T fields -e tcp.payload");
    let tshark = tshark.stdin(Input::From(pipe.into())).start();
    let mut client = tuplecat("tcp-connect -q")
        .to(server.ready())
        .stdin(Input::Held)
        .start();
    client.write("hello");
    tshark.out().wait_for(&hex::encode("hello"));
    client.close_stdin();
    server.close_stdin();
    server.wait().exits(0);
    tshark.wait().exits(0);
}
