//! Losses: datagrams that were truncated or dropped are counted and reported, and sends that fail are explained.
//! The kernel counts its drops, and gives the full length of a truncated datagram.

use pretty_assertions::assert_eq;

use super::*;
use crate::exit::Failure;
use crate::link::udp::Accepts;

#[test]
fn a_datagram_that_is_too_long_is_truncated_and_its_size_reported() {
    both(|fast| {
        for max_datagram in [1000, 1] {
            let fail_on_loss = true;
            let mut rig = Rig::bound(
                "127.0.0.1:0",
                Settings {
                    max_datagram: Some(max_datagram),
                    fail_on_loss,
                    ..settings(fast)
                },
            );
            let mut sender = Rig::unbound(towards(rig.local(), true));
            sender
                .send_runs(&[(&[7; 9000], 3000, None), (b"1", 1, None)])
                .unwrap();
            let lens: Vec<usize> = rig.payloads().iter().map(Vec::len).collect();
            assert_eq!(lens, [max_datagram, max_datagram, max_datagram, 1]);
            assert_eq!(rig.count(&format!("truncated 3000 -> {max_datagram}")), 3);
            assert_eq!(rig.link.receiver.lost(), 3);
            assert_eq!(rig.close(), Exit::DataLost);
        }
    });
}

/// A socket whose buffer holds few datagrams.
fn narrow(settings: Settings) -> Rig {
    let rig = Rig::bound("127.0.0.1:0", settings);
    rig.link.handle.socket.set_recv_buffer_size(8192).unwrap();
    rig
}

#[test]
fn drops_are_reported_once_when_they_are_known() {
    both(|fast| {
        let mut rig = narrow(settings(fast));
        let peer = rig.peer();
        for _ in 0..1001 {
            peer.send(&[1; 1000]).unwrap();
        }
        let delivered = rig.payloads().len() as u64;
        let dropped = rig.link.state().dropped;
        assert!(delivered > 0 && dropped > 0);
        assert_eq!(delivered + dropped, 1001);
        assert_eq!(rig.count(&format!("dropped {dropped}")), 1);
        // The count that comes with the next datagram is not new.
        peer.send(b"x").unwrap();
        assert_eq!(rig.payloads(), [b"x"]);
        assert_eq!(rig.count("dropped"), 1);
        assert_eq!(rig.close(), Exit::Done);
    });
}

#[test]
fn every_datagram_that_is_dropped_counts_however_it_was_sent() {
    both(|fast| {
        let mut rig = narrow(settings(fast));
        let mut sender = Rig::unbound(towards(rig.local(), true));
        let burst = vec![1; 1000 * 64];
        for _ in 0..3 {
            sender.send_runs(&[(&burst, 1000, None)]).unwrap();
        }
        let delivered = rig.payloads().len() as u64;
        let state = rig.link.state();
        assert!(state.dropped > 0 && !state.dropped_at_least);
        assert_eq!(delivered + state.dropped, 192);
    });
}

#[test]
fn datagrams_that_come_coalesced_may_be_dropped_as_one() {
    let mut rig = Rig::bound("127.0.0.1:0", settings(true));
    let mut sender = Rig::unbound(towards(rig.local(), true));
    sender.send_runs(&[(&[7; 100], 1, None)]).unwrap();
    assert_eq!(rig.payloads().len(), 100);
    rig.link.handle.socket.set_recv_buffer_size(8192).unwrap();
    let burst = vec![1; 1000 * 64];
    for _ in 0..3 {
        sender.send_runs(&[(&burst, 1000, None)]).unwrap();
    }
    let delivered = rig.payloads().len() as u64;
    let state = rig.link.state();
    assert!(state.dropped_at_least);
    assert!(delivered + state.dropped < 192);
    assert_eq!(rig.count(&format!("dropped {} or more", state.dropped)), 1);
}

#[test]
fn drops_are_reported_before_the_socket_is_closed() {
    both(|fast| {
        let (fail_on_loss, wanted) = (true, Some(1));
        let mut rig = narrow(Settings {
            wanted,
            fail_on_loss,
            ..settings(fast)
        });
        let peer = rig.peer();
        for _ in 0..100 {
            peer.send(&[1; 1000]).unwrap();
        }
        assert_eq!(rig.wait_until_enough().len(), 1);
        assert_eq!(rig.close(), Exit::DataLost);
        assert_eq!(rig.count("dropped"), 1);
    });
}

#[test]
fn drops_count_while_datagrams_are_ignored() {
    both(|fast| {
        let accepts = Accepts::Only(closed_port());
        let mut rig = narrow(Settings {
            accepts,
            ..settings(fast)
        });
        let peer = rig.peer();
        for _ in 0..100 {
            peer.send(&[1; 1000]).unwrap();
        }
        assert_eq!(rig.payloads(), Vec::<Vec<u8>>::new());
        let state = rig.link.state();
        assert_eq!(state.ignored + state.dropped, 100);
    });
}

#[test]
fn an_ignored_datagram_counts_once_however_long_it_is() {
    both(|fast| {
        let accepts = Accepts::Only(closed_port());
        let mut rig = Rig::bound(
            "127.0.0.1:0",
            Settings {
                accepts,
                max_datagram: Some(1000),
                ..settings(fast)
            },
        );
        rig.peer().send(&[1; 3000]).unwrap();
        assert_eq!(rig.payloads(), Vec::<Vec<u8>>::new());
        assert_eq!((rig.count("ignored"), rig.link.state().ignored), (1, 1));
    });
}

fn failure(result: std::io::Result<()>) -> Failure {
    Failure::io("not a failure", &result.unwrap_err())
}

#[test]
fn a_datagram_that_is_too_long_names_its_size_and_the_limit() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let target = peer.local_addr().unwrap();
        let mut rig = Rig::unbound(towards(target, fast));
        let long = vec![0; 65_508];
        let failure = failure(rig.send_runs(&[(b"ok", 2, None), (&long, 65_508, None)]));
        let message =
            format!("cannot send to {target}: a datagram holds at most 65507 bytes, not 65508");
        assert_eq!(failure, Failure::new(Exit::Failed, message));
        assert_eq!(next(&peer).0, b"ok");
        assert!(is_quiet(&peer));
    });
}

#[test]
fn broadcasting_without_the_option_is_explained() {
    both(|fast| {
        let target = SocketAddr::from(([255, 255, 255, 255], 9));
        let mut rig = Rig::unbound(towards(target, fast));
        let failure = failure(rig.send_runs(&[(b"x", 1, None)]));
        let message = "cannot send to 255.255.255.255:9: permission denied (a broadcast address needs --broadcast)";
        assert_eq!(failure, Failure::new(Exit::Failed, message));
    });
}

#[test]
fn a_peer_that_cannot_be_answered_ends_nothing() {
    both(|fast| {
        // Port 0 cannot be sent to; as a sender's port it is legal (RFC 768).
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        let peer = rig.peer();
        peer.send(b"q").unwrap();
        let flow = rig.drain().0[0].0.clone();
        let mut unreachable = flow.clone();
        unreachable.remote = SocketAddr::new(peer.local_addr().unwrap().ip(), 0).into();
        let runs = [
            (&b"x"[..], 1, Some(unreachable.clone())),
            (b"xx", 1, Some(unreachable.clone())),
            (b"a", 1, Some(flow)),
        ];
        rig.send_runs(&runs).unwrap();
        assert_eq!(next(&peer).0, b"a");
        assert_eq!(
            rig.count(&format!(
                "udp {} -> 127.0.0.1:0 invalid argument",
                rig.local()
            )),
            if fast { 2 } else { 3 }
        );
        assert_eq!(rig.link.state().sent.chunks, 1);
        assert_eq!(
            rig.link.sender.segment_below,
            if fast { usize::MAX } else { 0 }
        );
    });
}

/// On loopback a closed port refuses a run as one packet.
#[test]
fn every_datagram_that_is_refused_counts_however_it_was_sent() {
    both(|fast| {
        let mut rig = Rig::unbound(Settings {
            fail_on_loss: true,
            ..towards(closed_port(), fast)
        });
        rig.send_runs(&[(&[1; 100], 10, None), (b"x", 1, None)])
            .unwrap();
        let zeros = [0; 64];
        rig.send_runs(&[(&zeros, 16, None), (&zeros, 16, None), (b"", 1, None)])
            .unwrap();
        rig.drain();
        assert_eq!(
            rig.link.undelivered(),
            10 + 1 + 4 + 4 + 1,
            "{:?}",
            rig.events()
        );
        assert_eq!(rig.close(), Exit::Refused);
    });
}

#[test]
fn a_loss_counts_where_the_peer_answers_afterwards() {
    both(|fast| {
        let target = closed_port();
        let mut rig = Rig::unbound(Settings {
            fail_on_loss: true,
            ..towards(target, fast)
        });
        rig.send(&[b"one", b"two", b"three"]);
        rig.drain();
        let peer = UdpSocket::bind(target).unwrap();
        rig.send(&[b"four"]);
        let (_, sender) = next(&peer);
        peer.send_to(b"a", sender).unwrap();
        assert_eq!(rig.payloads(), [b"a"]);
        assert_eq!(rig.link.state().undelivered, 3);
        assert_eq!(rig.close(), Exit::DataLost);
    });
}

#[test]
fn an_answer_that_no_datagram_holds_is_left_out_and_counts() {
    both(|fast| {
        let mut rig = Rig::bound(
            "[::]:0",
            Settings {
                fail_on_loss: true,
                ..settings(fast)
            },
        );
        let port = rig.local().port();
        let [v4, v6] = ["127.0.0.1", "::1"].map(|ip| {
            let peer = peer_at(&SocketAddr::new(ip.parse().unwrap(), 0).to_string());
            peer.connect((ip, port)).unwrap();
            peer.send(b"q").unwrap();
            peer
        });
        let flows: Vec<Flow> = rig.drain().0.into_iter().map(|found| found.0).collect();
        let long = vec![7; 65_508];
        let answers = flows
            .iter()
            .map(|flow| (&long[..], long.len(), Some(flow.clone())));
        rig.send_runs(&answers.collect::<Vec<_>>()).unwrap();
        assert_eq!(next(&v6).0, long);
        assert!(is_quiet(&v4));
        assert_eq!(rig.count("Oversized"), 1, "{:?}", rig.events());
        assert_eq!(rig.link.state().undelivered, 1);
        assert_eq!(rig.close(), Exit::DataLost);
    });
}
