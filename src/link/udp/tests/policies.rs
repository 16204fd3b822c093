//! Policies: the recipients of datagrams, and the senders whose datagrams are passed on.
//! A socket that serves many peers needs a rule for both.

use pretty_assertions::assert_eq;

use super::*;
use crate::flow::Flow;
use crate::link::udp::{Accepts, Audience};

/// Returns which of three peers get an answer. They send in order, and the second one sends again.
fn answered(audience: Audience, fast: bool) -> [bool; 3] {
    let mut rig = Rig::bound(
        "127.0.0.1:0",
        Settings {
            audience,
            ..settings(fast)
        },
    );
    assert!(!is_addressed(&rig.link));
    let peers = [rig.peer(), rig.peer(), rig.peer()];
    for peer in [&peers[0], &peers[1], &peers[2]] {
        peer.send(b"hello").unwrap();
    }
    assert_eq!(rig.payloads().len(), 3);
    peers[1].send(b"again").unwrap();
    assert_eq!(rig.payloads(), [b"again"]);
    assert_eq!(is_addressed(&rig.link), audience != Audience::None);
    rig.send(&[b"one", b"", b"three"]);
    peers.map(|peer| {
        let is_answered = !is_quiet(&peer);
        if is_answered {
            // `is_quiet` took the first one.
            assert_eq!(
                (next(&peer).0, next(&peer).0),
                (Vec::new(), b"three".to_vec())
            );
            assert!(is_quiet(&peer));
        }
        is_answered
    })
}

#[test]
fn an_answer_reaches_exactly_the_recipients_of_the_policy() {
    both(|fast| {
        assert_eq!(answered(Audience::First, fast), [true, false, false]);
        assert_eq!(answered(Audience::Last, fast), [false, true, false]);
        assert_eq!(answered(Audience::All, fast), [true, true, true]);
        assert_eq!(answered(Audience::None, fast), [false, false, false]);
    });
}

#[test]
fn a_run_with_addresses_goes_there_whatever_the_policy() {
    both(|fast| {
        let audience = Audience::None;
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                audience,
                ..settings(fast)
            },
        );
        let peers = [rig.peer(), rig.peer()];
        for peer in &peers {
            peer.send(b"q").unwrap();
        }
        let flows: Vec<Flow> = rig.drain().0.iter().map(|found| found.0.clone()).collect();
        let runs = [
            (&b"00"[..], 1, Some(flows[0].clone())),
            (b"no peer", 9, None),
            (b"11", 1, Some(flows[1].clone())),
        ];
        rig.send_runs(&runs).unwrap();
        for (number, peer) in peers.iter().enumerate() {
            let expected = number.to_string().into_bytes();
            assert_eq!((next(peer).0, next(peer).0), (expected.clone(), expected));
            assert!(is_quiet(peer));
        }
        assert_eq!(rig.link.state().sent.chunks, 4);
    });
}

#[test]
fn a_lock_on_the_first_peer_filters_datagrams_that_are_queued() {
    both(|fast| {
        let accepts = Accepts::First;
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                accepts,
                ..settings(fast)
            },
        );
        let (first, other) = (rig.peer(), rig.peer());
        for (peer, text) in [(&first, "a"), (&other, "bb"), (&first, "c"), (&other, "dd")] {
            peer.send(text.as_bytes()).unwrap();
        }
        assert_eq!(rig.payloads(), [b"a", b"c"]);
        assert_eq!(rig.link.state().ignored, 2);
        let (local, remote) = (rig.local(), other.local_addr().unwrap());
        let line = format!("ignored udp {local} <- {remote} 2");
        assert_eq!(rig.count(&line), 2);
        assert_eq!(rig.link.states().len(), 2, "the socket and one peer");
    });
}

#[test]
fn datagrams_of_other_senders_than_the_target_are_ignored() {
    both(|fast| {
        let target = peer_at("127.0.0.1:0");
        let mut rig = Rig::unbound(towards(target.local_addr().unwrap(), fast));
        rig.send(&[b"q"]);
        let (_, sender) = next(&target);
        let mut other = Rig::unbound(towards(sender, true));
        other.send_runs(&[(b"112", 2, None)]).unwrap();
        target.send_to(b"a", sender).unwrap();
        assert_eq!(rig.payloads(), [b"a"]);
        assert_eq!(rig.link.state().ignored, 2);
        assert_eq!(rig.count("ignored"), 2);
    });
}

#[test]
fn the_table_of_peers_is_bounded() {
    both(|fast| {
        let (max_peers, audience) = (Some(2), Audience::All);
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                audience,
                max_peers,
                ..settings(fast)
            },
        );
        let peers = [rig.peer(), rig.peer(), rig.peer()];
        for peer in &peers {
            peer.send(b"hello").unwrap();
        }
        assert_eq!(rig.payloads().len(), 3);
        let forgotten = format!("forgotten {}", peers[0].local_addr().unwrap());
        assert_eq!(rig.count(&forgotten), 1);
        rig.send(&[b"x"]);
        assert!(is_quiet(&peers[0]));
        assert_eq!(
            (next(&peers[1]).0, next(&peers[2]).0),
            (b"x".to_vec(), b"x".to_vec())
        );
        let rows = rig.link.states();
        let counts: Vec<_> = rows
            .iter()
            .map(|row| (row.received.bytes, row.sent.bytes))
            .collect();
        assert_eq!(counts, [(15, 2), (5, 1), (5, 1)]);
    });
}

/// Its own answer would be the next question.
#[test]
fn a_responder_never_answers_its_own_address() {
    both(|fast| {
        // The kernel prefers the socket that is bound to the address itself.
        for (local, sender) in [("127.0.0.1:0", 1), ("0.0.0.0:0", 2), ("[::]:0", 2)] {
            let bound = |address: SocketAddr| {
                let (domain, kind) = (socket2::Domain::for_address(address), socket2::Type::DGRAM);
                let socket = socket2::Socket::new(domain, kind, None).unwrap();
                // The socket that is bound last gets the datagrams.
                socket.set_reuse_address(true).unwrap();
                socket.bind(&address.into()).unwrap();
                UdpSocket::from(socket)
            };
            let forger = bound(SocketAddr::from(([127, 0, 0, sender], 0)));
            let (port, mut local) = (
                forger.local_addr().unwrap().port(),
                local.parse::<SocketAddr>().unwrap(),
            );
            local.set_port(port);
            let audience = Audience::Named;
            let mut rig = Rig::new(
                bound(local).into(),
                Settings {
                    audience,
                    ..settings(fast)
                },
            );
            forger.send_to(b"q", ("127.0.0.1", port)).unwrap();
            let other = peer_at("127.0.0.1:0");
            other.send_to(b"other", ("127.0.0.1", port)).unwrap();
            assert_eq!(rig.payloads(), [b"other"], "{local}");
            assert_eq!(rig.count("Rejected"), 1, "{:?}", rig.events());
        }
    });
}
