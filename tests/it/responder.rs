//! Fixed answers to requests (`--canned`, `--respond`), to replace a server in a test.
//! A request is a line over TCP, and a datagram over UDP.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use tuplecat::flow::Transport;

use crate::common::*;

/// Launches a server for many clients.
fn serves(transport: Transport) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-listen -k 0"),
        _ => tuplecat("udp-bind 0"),
    }
}

/// Returns the answer to a request.
fn asked(transport: Transport, address: SocketAddr, request: &[u8], answer: &str) -> String {
    let client = match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        _ => tuplecat("udp-sendto"),
    };
    let client = client
        .to(address)
        .arg("--send-hex")
        .arg(hex::encode(request));
    let client = client.args("--timeout 10 --expect").arg(answer);
    client.run().exits(0).text()
}

both! {
    fn the_first_pair_that_fits_counts(transport) {
        let server = serves(transport).arg("--respond").arg(r"PING=PONG\n").arg("--respond");
        let server = server.arg(r"P=\x3f=\n").arg("--respond").arg(r"=none\n").start();
        let address = server.ready();
        for (request, answer) in [("PING\n", "PONG\n"), ("a PING b\n", "PONG\n"), ("P\n", "?=\n"), ("x\n", "none\n")] {
            assert_eq!(asked(transport, address, request.as_bytes(), answer), answer);
        }
    }

    fn a_file_answers_everything_else(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("answer");
        fs::write(&path, b"all of \x00 it\n").unwrap();
        let server = serves(transport).args("--respond PING=PONG --canned").arg(&path).start();
        let address = server.ready();
        // The file is read once, at the start.
        fs::remove_file(&path).unwrap();
        assert_eq!(asked(transport, address, b"PING\n", "PONG"), "PONG");
        assert_eq!(asked(transport, address, b"else\n", "it"), "all of \0 it\n");
    }

    fn bad_pairs_and_files_are_errors(transport) {
        for words in ["--respond PING", r"--respond \q=x", "--canned x --echo", "--respond a=b --send c", "--respond a=b --recv-only"] {
            serves(transport).args(words).run().exits(2);
        }
        let done = serves(transport).args("--canned /nonexistent/file").run().exits(1);
        let message = "cannot read '/nonexistent/file' (--canned): no such file or directory";
        assert_eq!(done.errors(), message);
        let done = serves(transport).args("--canned /dev/zero").run();
        done.fails(1, "cannot read '/dev/zero' (--canned): it has more than 256 MiB");
    }
}

#[test]
fn a_client_gets_all_answers_and_the_end() {
    let server = tuplecat("tcp-listen 0 --respond =ok").start();
    let peer = connect(server.ready());
    (&peer).write_all(&b"line\n".repeat(10_000)).unwrap();
    (&peer).write_all(b"and a last one").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&peer).len(), 2 * 10_001);
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "");
}

#[test]
fn a_large_answer_is_sent_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("answer");
    let text = bytes(3_000_000);
    fs::write(&path, &text).unwrap();
    let server = tuplecat("tcp-listen 0 --canned").arg(&path).start();
    let peer = connect(server.ready());
    (&peer).write_all(b"GET\n\n").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(&peer) == text, "other bytes");
    server.wait().exits(0);
    let message = "an answer of 3000000 bytes is too long: a datagram holds at most 65507 here";
    let server = tuplecat("udp-bind 0 --canned").arg(&path);
    server.run().fails(2, message);
}

/// It is reported once and then each time the number has doubled, and the server goes on.
#[test]
fn an_answer_is_never_longer_than_datagrams_may_be() {
    for (words, line) in [
        ("--echo", "11 bytes, more than 10 (--datagram-size)"),
        (
            "--echo --no-fast-path",
            "11 bytes, more than 10 (--datagram-size)",
        ),
        (
            "--respond 0123456789a=0123456789ab --respond =ok",
            "12 bytes, more than 10 (--datagram-size)",
        ),
    ] {
        let server = tuplecat("udp-bind 0 --datagram-size 10 --count 8")
            .args(words)
            .start();
        let (socket, _) = datagrams();
        for text in ["0123456789a", "0123456789", "0123456789a", "ok"].repeat(2) {
            socket.send_to(text.as_bytes(), server.ready()).unwrap();
        }
        for _ in 0..4 {
            assert!(receive(&socket).0.len() <= 10);
        }
        let done = server.wait().exits(0);
        let lines: Vec<&str> = done
            .err
            .lines()
            .filter(|line| line.starts_with("oversized"))
            .collect();
        assert_eq!(lines.len(), 3, "{words}: {}", done.err);
        assert!(lines[0].ends_with(line), "{}", done.err);
        assert!(lines[2].ends_with(", 4 so far"), "{}", done.err);
        assert!(is_silent_for(&socket, Duration::ZERO));
    }
}

#[test]
fn a_client_that_does_not_read_takes_no_memory_and_stops_no_other() {
    let server = tuplecat("tcp-listen -k 0 --respond").arg(format!("={}", "x".repeat(1000)));
    let server = server.start();
    let greedy = connect(server.ready());
    greedy.set_nonblocking(true).unwrap();
    // Until nothing more is taken.
    let mut sent = 0;
    while let Ok(count) = (&greedy).write(&b"?\n".repeat(1000)) {
        sent += count;
        assert!(sent < 100 << 20, "there is no end to it");
    }
    assert_eq!(
        asked(Transport::Tcp, server.ready(), b"?\n", "xxx").len(),
        1000
    );
}

#[test]
fn each_datagram_is_answered_to_its_sender() {
    let server = tuplecat("udp-bind 0 --respond a=A --respond b= --count 3").start();
    let (one, _) = datagrams();
    let (two, _) = datagrams();
    one.send_to(b"a", server.ready()).unwrap();
    two.send_to(b"b", server.ready()).unwrap();
    assert_eq!(receive(&one).0, b"A");
    assert_eq!(receive(&two).0, b"");
    one.send_to(b"nothing fits", server.ready()).unwrap();
    server.wait().exits(0);
}
