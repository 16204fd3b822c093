//! Runs: every datagram arrives as it was sent, however many travel together.
//! Datagrams that the kernel coalesces or segments keep their boundaries.

use pretty_assertions::assert_eq;

use super::*;

/// Returns `len` bytes that differ from their neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(len).collect()
}

#[test]
fn any_list_of_datagrams_arrives_unchanged() {
    both(|fast| {
        let mut rig = Rig::bound("127.0.0.1:0", settings(fast));
        let target = rig.local();
        let mut sender = Rig::unbound(towards(target, fast));
        let list: Vec<Vec<u8>> = [3, 0, 0, 1, 1400, 65_507, 0, 9].map(pattern).into();
        let parts: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        for part in &parts {
            sender.send(&[part]);
            assert_eq!(rig.payloads(), [part.to_vec()]);
        }
        sender.send(&parts);
        assert_eq!(rig.payloads(), list);
        let (sent, received) = (sender.link.state().sent, rig.link.state().received);
        assert_eq!(sent, received);
        assert_eq!((sent.bytes, sent.chunks), (2 * 66_920, 16));
    });
}

#[test]
fn an_ipv6_datagram_holds_20_bytes_more() {
    both(|fast| {
        let mut rig = Rig::bound("[::1]:0", settings(fast));
        let peer = peer_at("[::1]:0");
        peer.send_to(&pattern(65_527), rig.local()).unwrap();
        assert_eq!(rig.payloads(), [pattern(65_527)]);
        rig.send(&[&pattern(65_527)]);
        assert_eq!(next(&peer).0, pattern(65_527));
    });
}

#[test]
fn a_run_is_segmented_into_its_datagrams() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let mut rig = Rig::unbound(towards(peer.local_addr().unwrap(), fast));
        let bytes = pattern(100 * 70 + 33);
        rig.send_runs(&[(&bytes, 70, None)]).unwrap();
        for part in bytes.chunks(70) {
            assert_eq!(next(&peer).0, part);
        }
        assert!(is_quiet(&peer));
        let calls = rig.count("udp");
        assert_eq!(calls, if fast { 2 } else { 101 });
    });
}

#[test]
fn sizes_that_the_kernel_does_not_segment_go_one_by_one() {
    both(|fast| {
        let peer = peer_at("127.0.0.1:0");
        let mut rig = Rig::unbound(towards(peer.local_addr().unwrap(), fast));
        for stride in [1, 40_000, 65_507] {
            let bytes = pattern(stride * 3 / 2 + 1);
            rig.send_runs(&[(&bytes, stride, None)]).unwrap();
            for part in bytes.chunks(stride) {
                assert_eq!(next(&peer).0, part);
            }
        }
    });
}

#[test]
fn equal_datagrams_arrive_as_one_run_with_its_stride() {
    let mut rig = Rig::bound("127.0.0.1:0", settings(true));
    let mut sender = Rig::unbound(towards(rig.local(), true));
    flood(&mut rig, &mut sender);
    rig.events();
    let bytes = pattern(5 * 200 + 7);
    sender.send_runs(&[(&bytes, 200, None)]).unwrap();
    assert!(matches!(rig.recv(), Arrival::Data));
    let [run] = rig.batch.runs() else {
        panic!("{:?}", rig.batch.runs());
    };
    assert_eq!((run.shape, run.count()), (Shape::Datagrams(200), 6));
    assert_eq!(rig.batch.bytes(run), bytes);
    let (local, remote) = (rig.local(), sender.local().port());
    let line = format!("udp {local} <- 127.0.0.1:{remote} 1007 in 6 of 200");
    assert_eq!(rig.events(), [line]);
}

/// Sends so many datagrams at once that from then on they come coalesced.
fn flood(rig: &mut Rig, sender: &mut Rig) {
    sender.send_runs(&[(&[7; 100], 1, None)]).unwrap();
    assert_eq!(rig.payloads(), vec![[7]; 100]);
}

#[test]
fn a_full_queue_is_read_in_few_calls_and_in_order() {
    let mut rig = Rig::bound("127.0.0.1:0", settings(true));
    let peers = [rig.peer(), rig.peer()];
    let sent: Vec<Vec<u8>> = (0..90_u8)
        .map(|number| vec![number; number.into()])
        .collect();
    for (part, peer) in sent.iter().zip(peers.iter().cycle()) {
        peer.send(part).unwrap();
    }
    let mut batches = 0;
    let mut found = Vec::new();
    while matches!(rig.recv(), Arrival::Data) {
        batches += 1;
        for run in rig.batch.runs() {
            found.push(rig.batch.bytes(run).to_vec());
        }
    }
    assert_eq!(found, sent);
    assert!(batches < 10, "{batches} calls");
}

#[test]
fn a_run_that_the_kernel_declines_to_segment_is_sent_one_by_one() {
    // UDP-Lite (RFC 3828) is a datagram socket whose runs the kernel does not segment (EIO).
    let lite = || {
        socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::DGRAM,
            Some(136.into()),
        )
    };
    let (Ok(sender), Ok(receiver)) = (lite(), lite()) else {
        eprintln!("skipped: this kernel has no UDP-Lite");
        return;
    };
    receiver
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let mut receiver = Rig::new(receiver, settings(true));
    let mut rig = Rig::new(sender, towards(receiver.local(), true));
    let bytes = pattern(1000);
    rig.send_runs(&[(&bytes, 100, None), (b"", 1, None), (&bytes, 100, None)])
        .unwrap();
    let parts: Vec<&[u8]> = bytes.chunks(100).collect();
    assert_eq!(receiver.payloads(), [&parts[..], &[b""], &parts].concat());
    assert_eq!(rig.link.sender.segment_below, 0);
    assert_eq!(rig.link.state().sent.chunks, 21);
}
