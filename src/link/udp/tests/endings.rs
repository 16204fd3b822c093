//! Ends of a transfer: a limit, silence, or an empty datagram.
//! A datagram socket has no end of its own, so the user has asked for each of them.

use pretty_assertions::assert_eq;

use super::*;
use crate::link::udp::Audience;

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
fn a_limit_may_lie_in_the_middle_of_a_run() {
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
            // The byte limit is reached, so missing datagrams are no timeout.
            assert_eq!(rig.close(), Exit::Done);
        }
    });
}

#[test]
fn fewer_datagrams_than_asked_for_are_a_timeout() {
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
fn silence_counts_from_the_latest_datagram_that_was_passed_on() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let reply_timeout = Some(Duration::from_mins(1));
        let settings = Settings {
            reply_timeout,
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
        for least in [20, 0] {
            let reply_timeout = Some(Duration::from_millis(least));
            let settings = Settings {
                reply_timeout,
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
