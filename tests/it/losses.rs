//! Losses are reported: as they happen, in the closing line, and in the exit status with `--fail-on-loss`.
//! UDP does not notify a sender of a loss, so each side reports its own.

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// The datagrams of one burst, and their size.
const BURST: u64 = 1001;
const SIZE: usize = 1000;

/// Starts a server with a small buffer that is stopped during a burst; returns it once it has written all that the kernel kept.
fn flooded(words: &str) -> (Running, u64) {
    let server = tuplecat("udp-bind --rcvbuf 200k --out len16")
        .args(words)
        .arg("0")
        .start();
    let (socket, address) = (datagrams().0, server.ready());
    server.signal(Signal::STOP);
    for _ in 0..BURST {
        socket.send_to(&[1; SIZE], address).unwrap();
    }
    server.signal(Signal::CONT);
    let dropped = server.err().wait_for_line("dropped");
    let dropped = number_before(&dropped, " datagrams lost");
    let delivered = usize::try_from(BURST - dropped).unwrap();
    let out = server.out().wait_for_len(delivered * (SIZE + 2));
    assert_eq!(out.len(), delivered * (SIZE + 2));
    (server, dropped)
}

#[test]
fn delivered_and_dropped_are_what_was_sent() {
    for words in ["--fail-on-loss", "--fail-on-loss --no-fast-path"] {
        let (server, dropped) = flooded(words);
        assert!(dropped > 0);
        let address = server.ready();
        server.signal(Signal::TERM);
        let done = server.wait().exits(9);
        let delivered = done.out.len() / (SIZE + 2);
        assert_eq!(delivered as u64 + dropped, BURST);
        let closed = done.line("closed");
        let ending = format!(", {dropped} dropped by the kernel");
        assert!(closed.ends_with(&ending), "{closed}");
        let lines = done.err.lines().filter(|line| line.starts_with("dropped "));
        assert_eq!(lines.count(), 1, "{}", done.err);
        assert_eq!(
            done.errors(),
            format!(
                "udp {address}: {dropped} datagrams were dropped or truncated (--fail-on-loss)"
            )
        );
    }
}

#[test]
fn a_loss_is_no_failure_unless_asked_for() {
    let (server, dropped) = flooded("--stats");
    server.signal(Signal::TERM);
    let done = server.wait().exits(143);
    assert_eq!(done.errors(), "");
    let (stats, ending) = (
        done.line("stats"),
        format!("  {dropped} datagrams dropped by the kernel"),
    );
    assert!(stats.ends_with(&ending), "{stats}");
}

/// A limit does not hide a loss.
#[test]
fn a_time_limit_does_not_hide_a_loss() {
    let (server, _) = flooded("--fail-on-loss --idle-timeout 0.1");
    server.wait().exits(9);
}

#[test]
fn a_longer_datagram_is_truncated_and_reported() {
    for words in ["", "--no-fast-path"] {
        let server =
            tuplecat("udp-bind --max-datagram 1000 --fail-on-loss --count 3 --out len16 0");
        let server = server.args(words).start();
        let ((socket, own), address) = (datagrams(), server.ready());
        for len in [1000, 9000, 10] {
            socket.send_to(&bytes(9000)[..len], address).unwrap();
        }
        let done = server.wait().exits(9);
        assert_eq!(
            done.line("truncated"),
            format!("truncated  udp {address} <- {own}  9000 -> 1000 bytes")
        );
        assert_eq!(done.out.len(), 1000 + 1000 + 10 + 3 * 2);
        assert!(
            done.errors()
                .contains("1 datagram was dropped or truncated"),
            "{}",
            done.err
        );
    }
}

#[test]
fn a_reply_is_truncated_in_the_same_way() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --max-datagram 5 --replies 1 --reply-timeout 30").to(address);
    let client = client.says("?").start();
    let (_, sender) = receive(&socket);
    socket.send_to(b"much longer", sender).unwrap();
    let done = client.wait().exits(0);
    assert_eq!(done.text(), "much ");
    assert!(
        done.line("truncated").ends_with("11 -> 5 bytes"),
        "{}",
        done.err
    );
    for words in ["--max-datagram 0", "--max-datagram 65528"] {
        tuplecat("udp-bind 0").args(words).run().exits(2);
    }
}

/// Runs a sender and a receiver with `--eof-datagram`, and returns both results.
fn transfer(size: usize, words: &str) -> (Done, Done) {
    let server = tuplecat("udp-bind --eof-datagram --fail-on-loss 0").start();
    let address = server.ready();
    let client = tuplecat("udp-sendto --eof-datagram")
        .args(words)
        .to(address);
    let client = client.stdin(Input::From(with_text(&bytes(size)))).run();
    (server.wait(), client.exits(0))
}

#[test]
fn a_file_arrives_and_both_sides_report_it() {
    let (server, client) = transfer(300_000, "--rate 3M");
    let server = server.exits(0);
    assert!(server.out == bytes(300_000));
    let count = "204 datagrams (300000 bytes) and the end";
    let line = server.line("transfer");
    let end = format!("received {count}: nothing was lost here");
    assert!(line.contains(" <- ") && line.ends_with(&end), "{line}");
    let line = client.line("transfer");
    let end = format!("sent {count}: no error came back");
    assert!(line.contains(" -> ") && line.ends_with(&end), "{line}");
}

#[test]
fn an_empty_file_is_a_transfer_too() {
    let (server, client) = transfer(0, "");
    assert_eq!(server.exits(0).text(), "");
    let line = client.line("transfer");
    assert!(
        line.contains("sent 0 datagrams (0 bytes) and the end"),
        "{line}"
    );
}

/// The EOF datagram comes last, when the buffer is full. It is repeated until it is acknowledged.
#[test]
fn the_eof_datagram_arrives_although_others_are_lost() {
    let server = tuplecat("udp-bind --rcvbuf 200k --eof-datagram 0").start();
    let address = server.ready();
    server.signal(Signal::STOP);
    let client = tuplecat("udp-sendto -v --eof-datagram --in block:1000").to(address);
    let file = bytes(1_001_000);
    let client = client.stdin(Input::From(with_text(&file))).start();
    client.err().wait_for("  0 bytes\n");
    server.signal(Signal::CONT);
    let server = server.wait().exits(0);
    let client = client.wait().exits(0);
    let transfer = server.line("transfer");
    let lost = number_before(transfer, " lost here");
    let received = number_before(transfer, " datagrams");
    // A repeated EOF datagram may be among the dropped ones.
    assert!((1001..1005).contains(&(received + lost)), "{transfer}");
    assert!(
        client
            .line("transfer")
            .contains("sent 1001 datagrams (1001000 bytes) and the end")
    );
}

/// A receiver may be gone before the EOF datagram is repeated. That is not a refusal.
#[test]
fn a_receiver_that_leaves_at_the_end_is_no_refusal() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --eof-datagram --reply-timeout 10").to(address);
    let client = client.says("all").start();
    assert_eq!(receive(&socket).0, b"all");
    assert_eq!(receive(&socket).0, b"");
    drop(socket);
    let done = client.wait().exits(0);
    assert!(!done.err.contains("refused"), "{}", done.err);
    // A port without a receiver is one.
    let (_nobody, address) = refusing(Transport::Udp);
    let client = tuplecat("udp-sendto --eof-datagram").to(address);
    let done = client.says("all").run().exits(5);
    assert!(
        done.line("transfer").ends_with("not delivered"),
        "{}",
        done.err
    );
}
