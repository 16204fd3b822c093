//! When it is over: enough came, a target is not there, an empty datagram said so. Otherwise never.
//! A datagram socket has no end of its own, so every one of these was asked for.

use pretty_assertions::assert_eq;

use super::*;
use crate::link::udp::{Audience, Patience};

const NOTHING: Stop = Stop::Nothing(None);

#[test]
fn an_empty_datagram_ends_nothing_unless_it_is_agreed() {
    both(|fast| {
        for eof_datagram in [false, true] {
            let mut rig = Rig::bound(
                "127.0.0.1:0",
                Settings {
                    eof_datagram,
                    ..settings(fast)
                },
            );
            let peer = rig.peer();
            for part in ["a", "", "b"] {
                peer.send(part.as_bytes()).unwrap();
            }
            let (found, stop) = rig.drain();
            let found: Vec<&[u8]> = found.iter().map(|(_, bytes)| bytes.as_slice()).collect();
            if eof_datagram {
                assert_eq!((found, stop), (vec![&b"a"[..]], Stop::End));
                assert_eq!(rig.drain(), (vec![], Stop::End));
                assert_eq!(rig.link.state().received.chunks, 2);
            } else {
                assert_eq!((found, stop), (vec![&b"a"[..], b"", b"b"], NOTHING));
            }
            assert_eq!(rig.close(), Exit::Done);
        }
    });
}

#[test]
fn the_empty_datagram_at_the_end_goes_to_the_audience_once() {
    both(|fast| {
        let (eof_datagram, audience) = (true, Audience::All);
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                audience,
                eof_datagram,
                ..settings(fast)
            },
        );
        rig.finish();
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                audience,
                eof_datagram,
                ..settings(fast)
            },
        );
        let peers = [rig.peer(), rig.peer()];
        for peer in &peers {
            peer.send(b"hello").unwrap();
        }
        assert_eq!(rig.payloads().len(), 2);
        rig.finish();
        rig.finish();
        for peer in &peers {
            assert_eq!(next(peer).0, b"");
            assert!(is_quiet(peer));
        }
    });
}

#[test]
fn enough_is_enough_also_in_the_middle_of_a_run() {
    both(|fast| {
        let limits = [
            (Some(3), None, 3),
            (None, Some(300), 3),
            // Datagrams are never cut: the fourth would be too much.
            (None, Some(399), 3),
            (None, Some(99), 0),
            (Some(9), Some(550), 6),
        ];
        for (wanted, max_bytes, count) in limits {
            let mut rig = Rig::bound(
                "127.0.0.1:0",
                Settings {
                    wanted,
                    max_bytes,
                    ..settings(fast)
                },
            );
            let mut sender = Rig::unbound(towards(rig.local(), true));
            sender
                .send_runs(&[(&[1; 550], 100, None), (b"more", 4, None)])
                .unwrap();
            let (found, stop) = rig.drain();
            assert_eq!((found.len(), stop), (count, Stop::Enough));
            assert_eq!(rig.link.state().received.chunks, count as u64);
        }
    });
}

#[test]
fn fewer_than_asked_for_is_a_time_out() {
    both(|fast| {
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                wanted: Some(2),
                ..settings(fast)
            },
        );
        rig.peer().send(b"1").unwrap();
        assert_eq!(rig.drain().1, NOTHING);
        assert_eq!(rig.close(), Exit::TimedOut);
        assert_eq!(rig.count("closed"), 1);
    });
}

#[test]
fn silence_counts_from_the_last_that_was_passed_on() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let after_finish = Patience::Quiet(Duration::from_mins(1));
        let settings = Settings {
            after_finish,
            ..towards(peer.local_addr().unwrap(), fast)
        };
        let mut rig = Rig::unbound(settings);
        rig.send(&[b"q"]);
        let (_, sender) = next(&peer);
        assert_eq!(rig.drain().1, NOTHING);
        let before = Instant::now();
        rig.finish();
        let (_, Stop::Nothing(Some(until))) = rig.drain() else {
            panic!("no deadline");
        };
        assert!(until >= before + Duration::from_mins(1));
        peer_at("127.0.0.1:0").send_to(b"noise", sender).unwrap();
        assert_eq!(rig.drain(), (vec![], Stop::Nothing(Some(until))));
        peer.send_to(b"a", sender).unwrap();
        let (found, Stop::Nothing(Some(later))) = rig.drain() else {
            panic!("no deadline");
        };
        assert!(found.len() == 1 && later > until);
        assert_eq!(rig.close(), Exit::Done);
    });
}

#[test]
fn silence_ends_in_time_or_at_once_or_never() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let quiet = Patience::Quiet(Duration::from_millis(20));
        for (after_finish, least) in [(quiet, 20), (Patience::Quiet(Duration::ZERO), 0)] {
            let settings = Settings {
                after_finish,
                ..towards(peer.local_addr().unwrap(), fast)
            };
            let mut rig = Rig::unbound(settings);
            rig.send(&[b"q"]);
            let (_, sender) = next(&peer);
            peer.send_to(b"a", sender).unwrap();
            let start = Instant::now();
            rig.finish();
            assert_eq!(rig.wait_until_enough(), [b"a"]);
            assert!(start.elapsed() >= Duration::from_millis(least));
            assert_eq!(rig.close(), Exit::Done);
        }
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        rig.finish();
        assert_eq!(rig.drain().1, NOTHING);
    });
}

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
        // It has come up, and hears the rest.
        let peer = UdpSocket::bind(target).unwrap();
        rig.send(&[b"last"]);
        assert_eq!(next(&peer).0, b"last");
        rig.finish();
        let Stop::Nothing(Some(_)) = rig.drain().1 else {
            panic!("its answer is not waited for");
        };
        peer.send_to(b"a", at(&rig)).unwrap();
        assert_eq!(rig.payloads(), [b"a"]);
        assert_eq!(rig.close(), Exit::Done);
    });
}

#[test]
fn an_error_of_an_older_datagram_loses_none() {
    both(|fast| {
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        let (gone, peer) = (rig.peer(), rig.peer());
        gone.send(b"hello").unwrap();
        peer.send(b"hello").unwrap();
        let flows: Vec<FourTuple> = rig.drain().0.iter().map(|found| found.0).collect();
        drop(gone);
        for round in 0..5_u8 {
            let runs = [
                (&b"to the gone"[..], 11, Some(flows[0])),
                (&[round], 1, Some(flows[1])),
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
fn an_error_wakes_who_waits_and_leaves_nothing_behind() {
    both(|fast| {
        let mut rig = Rig::unbound(towards(closed_port(), fast));
        rig.send(&[b"q"]);
        wait(&rig.link, Instant::now() + PATIENCE);
        assert_eq!(rig.drain().1, NOTHING);
        assert_eq!(rig.count("udp"), 2, "{:?}", rig.events());
        let start = Instant::now();
        wait(&rig.link, start + Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20), "still awake");
    });
}

#[test]
fn both_families_hear_of_closed_ports_on_one_socket() {
    both(|fast| {
        let mut rig = Rig::bound("[::]:0", settings(fast));
        let port = rig.local().port();
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().unwrap();
            let peer = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
            peer.send_to(b"q", SocketAddr::new(address, port)).unwrap();
            let flow = rig.drain().0[0].0;
            drop(peer);
            rig.send(&[b"a"]);
            assert_eq!(rig.drain().1, NOTHING);
            let line = format!("udp {} -> {} port unreachable", flow.local, flow.remote);
            assert_eq!(rig.count(&line), 1, "{:?}", rig.events());
        }
    });
}
