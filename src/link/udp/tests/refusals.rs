//! Errors that come back: the datagram that each is about, and what it ends. No other datagram is lost by them.
//! The kernel fails the next call with an error, even if that call is about another peer.

use pretty_assertions::assert_eq;

use super::*;
use crate::flow::Flow;

const NOTHING: Stop = Stop::Nothing(None);

#[test]
fn a_closed_port_ends_it_once_all_is_sent() {
    both(|fast| {
        for connected in [false, true] {
            let target = closed_port();
            let mut rig = Rig::unbound(Settings {
                connected,
                ..towards(target, fast)
            });
            rig.send(&[b"q"]);
            rig.finish();
            assert_eq!(rig.drain(), (vec![], Stop::Enough));
            assert_eq!(
                rig.count(&format!("udp {} -> {target} port unreachable", at(&rig))),
                1
            );
            assert_eq!(rig.close(), Exit::Refused);
        }
    });
}

#[test]
fn an_answer_that_came_before_the_error_is_not_lost() {
    both(|fast| {
        let peer = peer_at("127.0.0.77:0");
        let mut rig = Rig::unbound(towards(peer.local_addr().unwrap(), fast));
        rig.send(&[b"q"]);
        let (_, sender) = next(&peer);
        peer.send_to(b"a", sender).unwrap();
        drop(peer);
        rig.send(&[b"one too many"]);
        rig.finish();
        assert_eq!(rig.payloads(), [b"a"]);
        assert_eq!(rig.count("udp"), 4, "{:?}", rig.events());
    });
}

/// The address that a socket on loopback sends from.
fn at(rig: &Rig) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], rig.local().port()))
}

#[test]
fn a_closed_port_is_only_reported_while_there_is_more_to_send() {
    both(|fast| {
        let target = closed_port();
        let mut rig = Rig::unbound(towards(target, fast));
        for _ in 0..3 {
            rig.send_runs(&[(&[1; 100], 10, None), (b"x", 1, None)])
                .unwrap();
            assert_eq!(rig.drain().1, NOTHING);
        }
        assert!(rig.count("udp") > 3);
        assert_eq!(rig.link.state().sent.chunks, 33);
        // A socket at that port receives the rest.
        let peer = UdpSocket::bind(target).unwrap();
        rig.send(&[b"last"]);
        assert_eq!(next(&peer).0, b"last");
        rig.finish();
        let Stop::Nothing(Some(_)) = rig.drain().1 else {
            panic!("no wait for its answer");
        };
        peer.send_to(b"a", at(&rig)).unwrap();
        assert_eq!(rig.payloads(), [b"a"]);
        assert_eq!(rig.close(), Exit::Done);
    });
}

#[test]
fn an_error_of_an_older_datagram_loses_no_other() {
    both(|fast| {
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        let (gone, peer) = (rig.peer(), rig.peer());
        gone.send(b"hello").unwrap();
        peer.send(b"hello").unwrap();
        let flows: Vec<Flow> = rig.drain().0.iter().map(|found| found.0.clone()).collect();
        drop(gone);
        for round in 0..5_u8 {
            let runs = [
                (&b"to the gone"[..], 11, Some(flows[0].clone())),
                (&[round], 1, Some(flows[1].clone())),
            ];
            rig.send_runs(&runs).unwrap();
            assert_eq!(next(&peer).0, [round]);
            assert_eq!(rig.drain(), (vec![], NOTHING));
        }
        assert_eq!(rig.link.state().sent.chunks, 10);
        let line = format!(
            "udp {} -> {} port unreachable",
            rig.local(),
            flows[0].remote
        );
        assert_eq!(rig.count(&line), 5);
        assert_eq!(rig.close(), Exit::Done);
    });
}

#[test]
fn an_error_ends_a_wait_once() {
    both(|fast| {
        let mut rig = Rig::unbound(towards(closed_port(), fast));
        rig.send(&[b"q"]);
        is_readable(&rig.link, Instant::now() + TEST_TIMEOUT);
        assert_eq!(rig.drain().1, NOTHING);
        assert_eq!(rig.count("udp"), 2, "{:?}", rig.events());
        let start = Instant::now();
        is_readable(&rig.link, start + Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20), "still awake");
    });
}

#[test]
fn a_dual_stack_socket_gets_the_errors_of_both_families() {
    both(|fast| {
        let mut rig = Rig::bound("[::]:0", settings(fast));
        let port = rig.local().port();
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().unwrap();
            let peer = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
            peer.send_to(b"q", SocketAddr::new(address, port)).unwrap();
            let flow = rig.drain().0[0].0.clone();
            drop(peer);
            rig.send(&[b"a"]);
            assert_eq!(rig.drain().1, NOTHING);
            let line = format!("udp {} -> {} port unreachable", flow.local, flow.remote);
            assert_eq!(rig.count(&line), 1, "{:?}", rig.events());
        }
    });
}

/// Sends an ICMP error (RFC 792) that claims that `target` has refused a datagram from `local`. False: only root may do that.
fn forge(local: SocketAddr, target: SocketAddr) -> bool {
    let (domain, kind) = (socket2::Domain::IPV4, socket2::Type::RAW);
    let Ok(raw) = socket2::Socket::new(domain, kind, Some(socket2::Protocol::ICMPV4)) else {
        eprintln!("skipped: a raw socket takes CAP_NET_RAW");
        return false;
    };
    let ip = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => v4.ip().octets(),
        SocketAddr::V6(_) => unreachable!(),
    };
    let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
    icmp.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0]);
    icmp.extend([ip(local), ip(target)].concat());
    icmp.extend([local.port().to_be_bytes(), target.port().to_be_bytes()].concat());
    icmp.extend([0, 9, 0, 0, b'q']);
    let words = icmp
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    raw.send_to(&icmp, &local.into()).unwrap();
    true
}

#[test]
fn an_error_for_an_address_that_nothing_was_sent_to_is_left_out() {
    both(|fast| {
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        let peer = rig.peer();
        peer.send(b"q").unwrap();
        rig.drain();
        let (stranger, known) = (closed_port(), peer.local_addr().unwrap());
        if !forge(rig.local(), stranger) || !forge(rig.local(), known) {
            return;
        }
        assert_eq!(rig.drain(), (vec![], NOTHING));
        assert_eq!((rig.count("udp"), rig.link.undelivered()), (1, 0));
        // A real one may be forged as well: the sender cannot tell.
        rig.send(&[b"q"]);
        forge(rig.local(), known);
        forge(rig.local(), stranger);
        rig.drain();
        assert_eq!(rig.link.undelivered(), 1, "{:?}", rig.events());
    });
}
