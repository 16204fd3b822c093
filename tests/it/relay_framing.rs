//! Relays between TCP and UDP: `--in` cuts the stream into datagrams, and `--out` writes datagrams into it.
//! Both ways begin and end at either transport; what cannot be framed is refused.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// The forms of a stream, and the datagrams `one`, an empty one and `three` in each.
const FORMS: [(&str, &[u8]); 5] = [
    ("line", b"one\n\nthree\n"),
    ("nul", b"one\0\0three\0"),
    ("len16", b"\0\x03one\0\0\0\x05three"),
    ("len32", b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three"),
    ("hex", b"6f6e65\n\n7468726565\n"),
];

const DATAGRAMS: [&[u8]; 3] = [b"one", b"", b"three"];

/// Starts a relay from clients over TCP to a target over UDP, and connects one.
fn stream_to_datagrams(words: &str, target: SocketAddr) -> (Running, TcpStream) {
    let relay = tuplecat("tcp-listen 0").args(words);
    let relay = relay.args(&format!("--to udp:{target}")).start();
    let client = connect(relay.ready());
    (relay, client)
}

/// Starts a relay from peers over UDP to a target over TCP, and opens the socket of one.
fn datagrams_to_stream(words: &str, target: SocketAddr) -> (Running, UdpSocket) {
    let relay = tuplecat("udp-bind 0").args(words);
    let relay = relay.args(&format!("--to tcp:{target}")).start();
    let peer = peer(relay.ready());
    (relay, peer)
}

fn peer(address: SocketAddr) -> UdpSocket {
    let (peer, _) = datagrams();
    peer.connect(address).unwrap();
    peer
}

#[test]
fn a_stream_is_cut_into_datagrams_and_answers_become_frames() {
    for (form, text) in FORMS {
        for engine in ["", "--no-fast-path"] {
            let (target, address) = datagrams();
            let words = format!("--in {form} --out {form} {engine}");
            let (_relay, client) = stream_to_datagrams(&words, address);
            // However the stream comes.
            for byte in text {
                (&client).write_all(&[*byte]).unwrap();
            }
            let mut requests = DATAGRAMS.map(|_| receive(&target));
            assert_eq!(
                requests.each_ref().map(|(datagram, _)| &datagram[..]),
                DATAGRAMS
            );
            let sender = requests[0].1;
            for (datagram, _) in &mut requests {
                target.send_to(datagram, sender).unwrap();
            }
            assert_eq!(read_len(&client, text.len()), text);
        }
    }
}

#[test]
fn answers_are_waited_for_after_the_end_of_the_stream() {
    let (target, address) = datagrams();
    let words = "-v --in line --out line --peer-timeout 1";
    let (relay, mut client) = stream_to_datagrams(words, address);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (question, sender) = receive(&target);
    assert_eq!(question, b"question");
    relay.err().wait_for_line("finished");
    target.send_to(b"late", sender).unwrap();
    assert_eq!(read_all(&client), b"late\n");
    relay.wait().exits(0);
}

#[test]
fn datagrams_become_frames_and_frames_become_answers() {
    for (form, text) in FORMS {
        for engine in ["", "--no-fast-path"] {
            let (listener, address) = listen();
            let words = format!("--in {form} --out {form} {engine}");
            let (_relay, peer) = datagrams_to_stream(&words, address);
            for datagram in DATAGRAMS {
                peer.send(datagram).unwrap();
            }
            let mut connection = accept(&listener);
            assert_eq!(read_len(&connection, text.len()), text);
            for byte in text {
                connection.write_all(&[*byte]).unwrap();
            }
            for datagram in DATAGRAMS {
                assert_eq!(receive(&peer).0, datagram, "{form}");
            }
        }
    }
}

#[test]
fn blocks_and_lines_without_an_end_are_datagrams_too() {
    for (words, text, expected) in [
        ("--in block:4 --out line", "fourfo", ["four", "fo"]),
        ("--in line --out line", "one\nrest", ["one", "rest"]),
        ("--in full-line --out line", "one\nrest", ["one\n", "rest"]),
    ] {
        let (target, address) = datagrams();
        let (_relay, mut client) = stream_to_datagrams(words, address);
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let datagrams = [receive(&target).0, receive(&target).0];
        assert_eq!(
            datagrams,
            expected.map(|text| text.as_bytes().to_vec()),
            "{words}"
        );
    }
}

#[test]
fn the_largest_datagram_passes_both_ways() {
    let (target, target_address) = datagrams();
    let (relay, client) = stream_to_datagrams("-k --in len16 --out len16", target_address);
    // The other relay makes a stream of datagrams: together they are invisible.
    let (_outer, peer) = datagrams_to_stream("--in len16 --out len16", relay.ready());
    drop(client);
    for len in [0, 1, 9000, 65_507] {
        peer.send(&bytes(len)).unwrap();
        let (request, sender) = receive(&target);
        assert!(request == bytes(len));
        target.send_to(&request, sender).unwrap();
        assert!(receive(&peer).0 == bytes(len));
    }
}

#[test]
fn each_peer_has_a_connection_of_its_own_and_gets_another_after_its_end() {
    let (listener, address) = listen();
    let (relay, first) = datagrams_to_stream("--in line --out line", address);
    let second = peer(relay.ready());
    first.send(b"first").unwrap();
    let mut to_first = accept(&listener);
    second.send(b"second").unwrap();
    let mut to_second = accept(&listener);
    assert_eq!(read_len(&to_first, 6), b"first\n");
    assert_eq!(read_len(&to_second, 7), b"second\n");
    to_second.write_all(b"for the second\nlast").unwrap();
    to_first.write_all(b"for the first\n").unwrap();
    assert_eq!(receive(&first).0, b"for the first");
    assert_eq!(receive(&second).0, b"for the second");
    // The target ends the connection of one.
    drop(to_second);
    assert_eq!(receive(&second).0, b"last");
    relay.err().wait_for("closed");
    second.send(b"again").unwrap();
    assert_eq!(read_len(&accept(&listener), 6), b"again\n");
    to_first.write_all(b"still here\n").unwrap();
    assert_eq!(receive(&first).0, b"still here");
}

/// A slow peer holds up nobody else.
#[test]
fn a_target_that_reads_nothing_holds_up_no_other_peer() {
    let (listener, address) = listen();
    let (relay, slow) = datagrams_to_stream("--in len16 --out len16 --fail-on-loss", address);
    slow.send(b"slow").unwrap();
    let _unread = accept(&listener);
    for _ in 0..1000 {
        slow.send(&bytes(60_000)).unwrap();
    }
    let line = relay.err().wait_for_line("refused");
    assert!(
        line.ends_with("it takes no more for now: dropped here"),
        "{line}"
    );
    let quick = peer(relay.ready());
    for _ in 0..3 {
        quick.send(b"quick").unwrap();
    }
    assert_eq!(read_len(&accept(&listener), 7), b"\0\x05quick");
    relay.signal(Signal::TERM);
    let done = relay.wait().exits(9);
    assert!(done.errors().contains("(--fail-on-loss)"), "{}", done.err);
}

#[test]
fn a_target_that_refuses_ends_nothing() {
    let (refusing, address) = refusing(Transport::Tcp);
    let (relay, peer) = datagrams_to_stream("-q --in line --out line", address);
    peer.send(b"lost").unwrap();
    relay.err().wait_for("connection refused");
    refusing.listen(1).unwrap();
    let listener = TcpListener::from(refusing);
    // The peer is not served for a second.
    eventually(|| {
        peer.send(b"found").unwrap();
        !is_silent_for(&listener, Duration::from_millis(20))
    });
    assert_eq!(read_len(&accept(&listener), 6), b"found\n");
}

/// A reset ends the connection of the peer, which gets another at once.
#[test]
fn a_datagram_after_a_reset_has_a_connection_of_its_own() {
    let (listener, address) = listen();
    let (relay, peer) = datagrams_to_stream("--in line --out line", address);
    for (number, datagram) in [(1, "first"), (2, "second"), (3, "third")] {
        peer.send(datagram.as_bytes()).unwrap();
        let client = accept(&listener);
        assert_eq!(
            read_len(&client, datagram.len() + 1),
            format!("{datagram}\n").as_bytes()
        );
        reset(client);
        let reset = format!("#{number} target  connection reset by peer");
        relay.err().wait_for(&reset);
    }
}

/// No link takes the datagrams of a peer whose target has just refused it.
#[test]
fn datagrams_to_a_target_that_refuses_are_reported_and_counted() {
    let (_refusing, address) = refusing(Transport::Tcp);
    let words = "-x --in line --out line --fail-on-loss";
    let (relay, peer) = datagrams_to_stream(words, address);
    peer.send(b"lost").unwrap();
    relay.err().wait_for("connection refused");
    for number in 1..=3 {
        let len = 8 + number;
        peer.send(&vec![b'x'; len]).unwrap();
        relay.err().wait_for(&format!(" {len} bytes\n"));
    }
    let line = relay.err().wait_for_line("rejected");
    assert!(line.ends_with("not passed on to the target"), "{line}");
    relay.signal(Signal::TERM);
    let done = relay.wait();
    assert!(
        done.err.contains("not passed on to the target, 4 in all"),
        "{}",
        done.err
    );
    done.exits(9);
}

#[test]
fn a_stream_that_cannot_be_cut_is_an_error_of_its_client() {
    for (words, text, reason) in [
        (
            "--in len16",
            &b"\0\x05abc"[..],
            "it has only 3 of its 5 bytes",
        ),
        ("--in len32", b"\0\x01\0\0", "it has 65536 bytes"),
        ("--in hex", b"6x", "is not a hexadecimal digit"),
    ] {
        let (target, address) = datagrams();
        let words = format!("-q --out line {words}");
        let (relay, mut client) = stream_to_datagrams(&words, address);
        client.write_all(text).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let done = relay.wait().exits(1);
        assert!(done.err.contains(reason), "{}", done.err);
        assert!(is_silent_for(&target, Duration::ZERO));
    }
}

#[test]
fn what_cannot_be_framed_is_a_usage_error() {
    let boundaries = "a stream has no boundaries";
    for (words, reason) in [
        ("tcp-listen 0 --to udp:[::1]:9", boundaries),
        ("tcp-listen 0 --to udp:[::1]:9 --in line", boundaries),
        ("tcp-listen 0 --to udp:[::1]:9 --out line", boundaries),
        (
            "tcp-listen 0 --to udp:[::1]:9 --in raw --out len16",
            boundaries,
        ),
        (
            "tcp-listen 0 --to udp:[::1]:9 --in dump --out len16",
            boundaries,
        ),
        (
            "udp-bind 0 --to tcp:[::1]:9 --in line --out raw",
            boundaries,
        ),
        (
            "udp-bind 0 --to tcp:[::1]:9 --in line --out json",
            boundaries,
        ),
        (
            "udp-bind 0 --to [::1]:9 --in line --out line",
            "which --to replaces",
        ),
        (
            "tcp-listen 0 --to [::1]:9 --in hex --out hex",
            "which --to replaces",
        ),
        (
            "tcp-listen 0 --to [::1]:9 --peer-timeout 9",
            "--peer-timeout is for",
        ),
        (
            "udp-bind 0 --to [::1]:9 --proxy socks5://[::1]:1080",
            "--proxy is for",
        ),
        (
            "udp-bind 0 --to [::1]:9 --reply-to all",
            "cannot be used with",
        ),
        (
            "udp-bind 0 --to [::1]:9 --eof-datagram",
            "cannot be used with",
        ),
        (
            "udp-bind 0 --to [::1]:9 --peer-timeout 0",
            "must be more than 0",
        ),
        ("udp-bind 0 --to [::1]:9 --replies 0", "1 or more"),
        ("udp-bind 0 --peer-timeout 9", "--to <TARGET>"),
        ("udp-bind 0 --replies 9", "--to <TARGET>"),
        ("udp-bind 0 --source ::1", "--to <TARGET>"),
    ] {
        let done = tuplecat(words).bare().run().exits(2);
        assert!(done.err.contains(reason), "{words}:\n{}", done.err);
    }
}
