//! Addresses that a datagram is reported with, and the one that an answer leaves from.
//! A wildcard socket has many; each datagram was sent to one of them.

use pretty_assertions::assert_eq;

use super::*;
use crate::flow::Identity;
use crate::link::udp::Audience;

#[test]
fn an_answer_leaves_from_the_address_that_the_peer_had_sent_to() {
    both(|fast| {
        let mut rig = Rig::bound("0.0.0.0:0", settings(fast));
        let port = rig.local().port();
        let peer = peer_at("127.0.0.1:0");
        for local in ["127.0.0.2", "127.0.0.3"] {
            let local = SocketAddr::new(local.parse().unwrap(), port);
            peer.send_to(b"q", local).unwrap();
            let flow = rig.drain().0[0].0.clone();
            assert_eq!(
                (flow.local.clone(), flow.remote.clone()),
                (local.into(), peer.local_addr().unwrap().into())
            );
            rig.send(&[b"a"]);
            assert_eq!(next(&peer), (b"a".to_vec(), local));
            rig.send_runs(&[(b"echo", 2, Some(flow))]).unwrap();
            assert_eq!(next(&peer), (b"ec".to_vec(), local));
            assert_eq!(next(&peer), (b"ho".to_vec(), local));
        }
    });
}

#[test]
fn a_broadcast_is_answered_from_an_address_of_this_machine() {
    both(|fast| {
        let mut rig = Rig::bound("0.0.0.0:0", settings(fast));
        let peer = peer_at("127.0.0.1:0");
        peer.set_broadcast(true).unwrap();
        let broadcast = SocketAddr::from(([127, 255, 255, 255], rig.local().port()));
        peer.send_to(b"q", broadcast).unwrap();
        let flow = rig.drain().0[0].0.clone();
        assert_eq!(flow.local, broadcast.into());
        rig.send(&[b"a"]);
        rig.send_runs(&[(b"b", 1, Some(flow))]).unwrap();
        let sender = SocketAddr::from(([127, 0, 0, 1], broadcast.port()));
        assert_eq!(next(&peer), (b"a".to_vec(), sender));
        assert_eq!(next(&peer), (b"b".to_vec(), sender));
        let answer = format!("udp {sender} -> {} 1 in 1 of 1", peer.local_addr().unwrap());
        assert_eq!(rig.count(&answer), 2);
    });
}

#[test]
fn a_dual_stack_socket_names_ipv4_peers_by_their_own_address() {
    both(|fast| {
        let mut rig = Rig::bound("[::]:0", settings(fast));
        let port = rig.local().port();
        for (peer, local) in [("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")] {
            let peer = peer_at(peer);
            let local = SocketAddr::new(local.parse().unwrap(), port);
            peer.send_to(b"q", local).unwrap();
            let flow = rig.drain().0[0].0.clone();
            assert_eq!(
                (flow.local.clone(), flow.remote.clone()),
                (local.into(), peer.local_addr().unwrap().into())
            );
            rig.send_runs(&[(b"1122", 2, None), (b"3", 1, None)])
                .unwrap();
            for answer in ["11", "22", "3"] {
                assert_eq!(next(&peer), (answer.into(), local));
            }
        }
    });
}

#[test]
fn every_datagram_of_a_bound_socket_has_its_address() {
    both(|fast| {
        let mut rig = Rig::bound("[::1]:0", settings(fast));
        let peer = peer_at("[::1]:0");
        peer.send_to(b"q", rig.local()).unwrap();
        assert_eq!(rig.payloads(), [b"q"]);
        rig.send(&[b"a"]);
        assert_eq!(next(&peer), (b"a".to_vec(), rig.local()));
        let (local, remote) = (rig.local(), peer.local_addr().unwrap());
        assert_eq!(
            rig.events(),
            [
                format!("udp {local} <- {remote} 1 in 1 of 1"),
                format!("udp {local} -> {remote} 1 in 1 of 1"),
            ]
        );
    });
}

#[test]
fn a_sent_datagram_is_reported_with_the_source_that_the_kernel_chose() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let target = peer.local_addr().unwrap();
        let mut rig = Rig::unbound(towards(target, fast));
        assert_eq!(rig.local().port(), 0);
        rig.send(&[b"q"]);
        let (_, sender) = next(&peer);
        assert_eq!(
            rig.events(),
            [format!("udp {sender} -> {target} 1 in 1 of 1")]
        );
        assert!(
            matches!(rig.link.identity(), Identity::Socket(_, local) if local == sender.into())
        );
    });
}

#[test]
fn a_connected_socket_has_both_addresses() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let target = peer.local_addr().unwrap();
        let mut rig = Rig::unbound(Settings {
            connected: true,
            ..towards(target, fast)
        });
        let Identity::Pair(flow) = rig.link.identity() else {
            panic!("not connected");
        };
        assert_eq!(flow.remote, target.into());
        let local = flow.local.inet().unwrap();
        rig.send(&[b"q1", b"q2", b""]);
        assert_eq!(next(&peer), (b"q1".to_vec(), local));
        peer.send_to(b"a", local).unwrap();
        peer_at("127.0.0.1:0").send_to(b"other", local).unwrap();
        assert_eq!(rig.drain().0, [(flow, b"a".to_vec())]);
    });
}

#[test]
fn the_unspecified_address_reaches_this_machine() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let port = peer.local_addr().unwrap().port();
        let mut rig = Rig::unbound(towards(SocketAddr::from(([0, 0, 0, 0], port)), fast));
        rig.send(&[b"q"]);
        let (_, sender) = next(&peer);
        peer.send_to(b"a", sender).unwrap();
        assert_eq!(rig.payloads(), [b"a"]);
    });
}

#[test]
fn a_fixed_target_needs_no_peer() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let audience = Audience::Target(peer.local_addr().unwrap());
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                audience,
                ..settings(fast)
            },
        );
        assert!(is_addressed(&rig.link));
        rig.send(&[b"x"]);
        assert_eq!(next(&peer), (b"x".to_vec(), rig.local()));
    });
}
