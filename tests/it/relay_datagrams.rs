//! A relay from `udp-bind` to a target over UDP: each peer has a socket of its own towards it.
//! Every answer goes to the peer that it is for, from the address that the peer had written to, and sizes stay.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::{fs::symlink, net::UnixStream};
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// The ways to move bytes.
const ENGINES: [&str; 2] = ["", "--no-fast-path"];

/// Starts a relay to a target.
fn relay(words: &str, target: SocketAddr) -> (Running, SocketAddr) {
    let relay = tuplecat("udp-bind 0").args(words);
    let relay = relay.args(&format!("--to {target}")).start();
    let address = relay.ready();
    (relay, address)
}

/// Opens the socket of a peer that sends to `address`.
fn peer(address: SocketAddr) -> UdpSocket {
    let (peer, _) = datagrams_at(SocketAddr::new(address.ip(), 0));
    peer.connect(address).unwrap();
    peer
}

/// Sends a datagram, and lets the target send it back.
#[track_caller]
fn is_echoed(peer: &UdpSocket, target: &UdpSocket, datagram: &[u8]) -> SocketAddr {
    peer.send(datagram).unwrap();
    let (request, sender) = receive(target);
    assert!(request == datagram);
    target.send_to(&request, sender).unwrap();
    assert!(receive(peer).0 == datagram);
    sender
}

fn ends(relay: Running, status: i32) -> Done {
    relay.signal(Signal::TERM);
    relay.wait().exits(status)
}

#[test]
fn every_answer_goes_to_its_own_peer() {
    let mut places = vec![LOOPBACK];
    if has_ipv6() {
        places.push((Ipv6Addr::LOCALHOST, 0).into());
    }
    for words in ENGINES {
        for &place in &places {
            let (target, target_address) = datagrams_at(place);
            let words =
                format!("{words} -4").replace("-4", if place.is_ipv4() { "-4" } else { "-6" });
            let (_relay, address) = relay(&words, target_address);
            let peers: Vec<_> = (0..40).map(|_| peer(address)).collect();
            let mut senders = BTreeSet::new();
            for round in 0..5 {
                for (number, peer) in peers.iter().enumerate() {
                    peer.send(format!("{number}-{round}").as_bytes()).unwrap();
                }
                // The answers come in another order.
                let mut requests: Vec<_> = peers.iter().map(|_| receive(&target)).collect();
                requests.reverse();
                for (request, sender) in requests {
                    target.send_to(&request, sender).unwrap();
                    senders.insert(sender);
                }
                for (number, peer) in peers.iter().enumerate() {
                    assert_eq!(receive(peer).0, format!("{number}-{round}").as_bytes());
                }
            }
            assert_eq!(senders.len(), peers.len());
        }
    }
}

#[test]
fn sizes_stay_in_both_directions() {
    for words in ENGINES {
        let (target, target_address) = datagrams();
        let (_relay, address) = relay(words, target_address);
        let peer = peer(address);
        for len in [0, 1, 1472, 9000, 65_507, 0] {
            is_echoed(&peer, &target, &bytes(len));
        }
    }
}

#[test]
fn a_burst_arrives_whole_and_in_order() {
    for words in ENGINES {
        let sink = tuplecat("udp-bind 0 --count 2000 --out len16").start();
        let (_relay, address) = relay(words, sink.ready());
        let frames: Vec<u8> = (0..2000_u16)
            .flat_map(|number| {
                let len = 100 + number / 500;
                let head = [len.to_be_bytes(), number.to_be_bytes()].concat();
                [head, vec![7; usize::from(len) - 2]].concat()
            })
            .collect();
        let source = tuplecat("udp-sendto --in len16 --reply-timeout 0").to(address);
        source.says(&frames).run().exits(0);
        assert!(sink.wait().exits(0).out == frames, "{words}");
    }
}

#[test]
fn an_answer_comes_from_the_address_that_the_peer_had_written_to() {
    let (target, target_address) = datagrams();
    let own = "--allow 127.0.0.0/8 --allow ::1 *";
    let relay = tuplecat("udp-bind")
        .args(own)
        .args("0 --to")
        .arg(target_address.to_string());
    let relay = relay.start();
    let port = relay.ready().port();
    let (peer, _) = datagrams();
    let asked = ["127.0.0.2", "127.0.0.3"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
    for address in asked {
        peer.send_to(address.to_string().as_bytes(), address)
            .unwrap();
    }
    for (request, sender) in [receive(&target), receive(&target)] {
        target.send_to(&request, sender).unwrap();
    }
    for (answer, sender) in [receive(&peer), receive(&peer)] {
        assert_eq!(answer, sender.to_string().as_bytes());
    }
    if has_ipv6() {
        let peer = self::peer((Ipv6Addr::LOCALHOST, port).into());
        is_echoed(&peer, &target, b"IPv6");
    }
}

#[test]
fn a_target_that_refuses_is_reported_once_for_each_peer_and_may_come_back() {
    let (refusing, target_address) = refusing(Transport::Udp);
    let (relay, address) = relay("--fail-on-loss --events events", target_address);
    let peers = [peer(address), peer(address)];
    let is_lost = |peer: &UdpSocket, datagram: &[u8], count: usize| {
        peer.send(datagram).unwrap();
        eventually(|| {
            let events = fs::read_to_string(relay.path("events")).unwrap();
            events.matches(r#""event":"unreachable""#).count() == count
        });
    };
    is_lost(&peers[0], b"lost", 1);
    is_lost(&peers[1], b"lost", 2);
    is_lost(&peers[0], b"lost too", 3);
    drop(refusing);
    let (target, _) = datagrams_at(target_address);
    for peer in &peers {
        is_echoed(peer, &target, b"found");
    }
    // It goes away after it has answered, and comes back.
    drop(target);
    is_lost(&peers[1], b"lost again", 4);
    let (target, _) = datagrams_at(target_address);
    is_echoed(&peers[1], &target, b"found again");
    let done = ends(relay, 9);
    let lines = done.err.lines().filter(|line| line.starts_with("refused "));
    let lines: Vec<_> = lines.collect();
    // The first of each peer, and the sum of each that had more.
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines[2..].iter().all(|line| line.ends_with(", 2 in all")),
        "{lines:?}"
    );
    assert!(done.errors().contains("(--fail-on-loss)"), "{}", done.err);
}

#[test]
fn an_idle_peer_is_forgotten_and_gets_another_socket_when_it_returns() {
    let (target, target_address) = datagrams();
    let (relay, address) = relay("--peer-timeout 100ms", target_address);
    let peer = peer(address);
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", relay.pid()))
            .unwrap()
            .count()
    };
    let before = descriptors();
    is_echoed(&peer, &target, b"one");
    let closed = relay.err().wait_for_line("closed");
    assert!(
        closed.contains("  #1 target  in 1 datagram (3 B), out 1 datagram (3 B), "),
        "{closed}"
    );
    eventually(|| descriptors() == before);
    is_echoed(&peer, &target, b"two");
    assert!(ends(relay, 143).err.contains("  #2  to  udp "));
}

/// A resolver sends two questions at once from one port.
#[test]
fn replies_to_every_datagram_end_a_mapping() {
    let (target, target_address) = datagrams();
    let (relay, address) = relay("--replies 1", target_address);
    let peer = peer(address);
    for question in [b"A   ", b"AAAA"] {
        peer.send(question).unwrap();
    }
    let questions = [receive(&target), receive(&target)];
    for (question, sender) in &questions {
        target.send_to(question, sender).unwrap();
        assert_eq!(receive(&peer).0, *question);
    }
    let closed = relay.err().wait_for_line("closed");
    assert!(
        closed.contains("in 2 datagrams (8 B), out 2 datagrams (8 B)"),
        "{closed}"
    );
}

#[test]
fn the_peer_that_is_idle_longest_gives_way() {
    let (target, target_address) = datagrams();
    let (relay, address) = relay("--max-peers 2", target_address);
    let peers = [peer(address), peer(address), peer(address)];
    for peer in [0, 1, 0, 2] {
        is_echoed(&peers[peer], &target, b"?");
    }
    let second = peers[1].local_addr().unwrap();
    let line = relay.err().wait_for_line("forgotten");
    assert!(
        line.contains(&format!("<- {second}  idle longest")),
        "{line}"
    );
    is_echoed(&peers[1], &target, b"again");
}

#[test]
fn a_name_is_looked_up_and_an_unknown_one_ends_nothing() {
    let (target, target_address) = datagrams();
    let words = format!("udp-bind 0 -4 --to localhost:{}", target_address.port());
    let relay = tuplecat(&words).start();
    let peers: Vec<_> = (0..20).map(|_| peer(relay.ready())).collect();
    for peer in &peers {
        peer.send(b"?").unwrap();
    }
    let senders: BTreeSet<_> = peers.iter().map(|_| receive(&target).1).collect();
    assert_eq!(senders.len(), peers.len());

    let name = "x".repeat(64);
    let relay = tuplecat(&format!("udp-bind -q 0 --to {name}:9")).start();
    peer(relay.ready()).send(b"?").unwrap();
    relay
        .err()
        .wait_for(&format!("cannot resolve host '{name}'"));
    ends(relay, 143);
}

#[test]
fn losses_on_either_side_count() {
    let words = "--max-datagram 10 --fail-on-loss";
    for (request, answer) in [(20, 5), (5, 20)] {
        let (target, target_address) = datagrams();
        let (relay, address) = relay(words, target_address);
        let peer = peer(address);
        peer.send(&bytes(request)).unwrap();
        let (taken, sender) = receive(&target);
        assert_eq!(taken.len(), request.min(10));
        target.send_to(&bytes(answer), sender).unwrap();
        assert_eq!(receive(&peer).0.len(), answer.min(10));
        let done = ends(relay, 9);
        assert!(
            done.line("truncated").ends_with("20 -> 10 bytes"),
            "{}",
            done.err
        );
    }
}

#[test]
fn each_leg_is_reported_with_the_number_of_the_peer() {
    let (target, target_address) = datagrams();
    let words = "--hex-file dump --events events --pcap capture";
    let (relay, address) = relay(words, target_address);
    let capture = relay.path("capture");
    let peers = [peer(address), peer(address)];
    let senders = [0, 1].map(|peer| is_echoed(&peers[peer], &target, b"?"));
    relay.signal(Signal::USR1);
    relay.err().wait_for("#2 target");
    let [dump, events] = ["dump", "events"].map(|name| relay.wait_for_file(&relay.path(name)));
    relay.signal(Signal::TERM);
    let schema = Schema::new(include_str!("../../fixtures/events.schema.json"));
    for line in events.lines() {
        let event = serde_json::from_str(line).unwrap();
        assert_eq!(schema.check(&event), Ok(()), "{line}");
    }
    if is_installed("tshark") {
        // Datagrams alone: a connected socket makes no connection.
        let packets = program("tshark", "-n -r")
            .arg(&capture)
            .run()
            .exits(0)
            .text();
        assert_eq!(packets.matches(" UDP ").count(), 8, "{packets}");
        assert_eq!(packets.lines().count(), 8, "{packets}");
    }
    let mut expected = Vec::new();
    for (number, (peer, sender)) in (1..).zip(peers.iter().zip(senders)) {
        let own = peer.local_addr().unwrap();
        expected.extend([
            format!("< udp {address} <- {own} #{number} client 1 byte"),
            format!("> udp {sender} -> {target_address} #{number} target 1 byte"),
            format!("< udp {sender} <- {target_address} #{number} target 1 byte"),
            format!("> udp {address} -> {own} #{number} client 1 byte"),
        ]);
    }
    let heads = dump.lines().filter(|line| line.contains("udp"));
    let heads: Vec<_> = heads
        .filter_map(|line| line.split_once(' '))
        .map(|(_, head)| head)
        .collect();
    assert_eq!(heads, expected);
    let done = relay.wait().exits(143);
    let own = peers[1].local_addr().unwrap();
    let sender = senders[1];
    let relayed =
        format!("relayed    udp {own} -> {address}  #2  to  udp {sender} <-> {target_address}");
    assert!(done.err.contains(&relayed), "{}", done.err);
}

#[test]
fn a_relay_to_itself_is_an_error() {
    // No other test uses this address, so the port is still free.
    let host = Ipv4Addr::new(127, 71, 9, 2);
    for mode in ["udp-bind", "tcp-listen -k"] {
        let port = datagrams_at((host, 0).into()).1.port();
        let relay = tuplecat(&format!("{mode} -q {host} {port} --to {host}:{port}")).start();
        let address = relay.ready();
        if mode == "udp-bind" {
            peer(address).send(b"?").unwrap();
        } else {
            connect(address);
        }
        relay.err().wait_for("this relay has that address itself");
    }
}

/// The name of the target may be another one for the same socket.
#[test]
fn a_relay_over_a_unix_socket_to_itself_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let words = ["unix-listen -k -q", path.to_str().unwrap(), "--to"].join(" ");
    let relay = tuplecat(&format!("{words} unix:{}", link.display())).start();
    relay.ready_line();
    let mut client = UnixStream::connect(&path).unwrap();
    relay.err().wait_for("this relay has that address itself");
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn access_rules_hold_in_a_relay() {
    let (target, target_address) = datagrams();
    let (relay, address) = relay("--deny 127.0.0.1", target_address);
    peer(address).send(b"?").unwrap();
    relay.err().wait_for_line("rejected");
    assert!(is_silent_for(&target, A_WHILE));
}

#[test]
fn a_run_that_takes_no_more_waits_for_the_answers() {
    let (target, target_address) = datagrams();
    let (relay, address) = relay("--count 2 --replies 1", target_address);
    let peers = [peer(address), peer(address)];
    for peer in &peers {
        peer.send(b"?").unwrap();
    }
    let senders = [receive(&target).1, receive(&target).1];
    thread::sleep(A_WHILE);
    for sender in senders {
        target.send_to(b"!", sender).unwrap();
    }
    for peer in &peers {
        assert_eq!(receive(peer).0, b"!");
    }
    relay.wait().exits(0);
}
