//! UDP probes: a reply means open, an error closed, silence neither.
//! Three results have three exit statuses, and a line that names the result.

use std::time::Duration;

use pretty_assertions::assert_eq;
use tuplecat::flow::Transport;

use crate::common::*;

#[test]
fn a_reply_means_open() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --probe --reply-timeout 30").to(address);
    let client = client.start();
    let (question, sender) = receive(&socket);
    assert_eq!(
        question, b"",
        "without anything to say it is an empty datagram"
    );
    socket.send_to(b"here", sender).unwrap();
    let done = client.wait().exits(0);
    assert_eq!(done.text(), "here");
    let line = done.line("open");
    assert_eq!(tuple(line).2, address.to_string());
    let (_, time) = line.split_once("  answered after ").unwrap();
    let (_, hundredths) = time.strip_suffix(" ms").unwrap().split_once('.').unwrap();
    assert_eq!(hundredths.len(), 2, "as over TCP: {line}");
}

#[test]
fn an_empty_reply_is_a_reply() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --probe --reply-timeout 30 -q").to(address);
    let client = client.start();
    let (_, sender) = receive(&socket);
    socket.send_to(b"", sender).unwrap();
    assert_eq!(client.wait().exits(0).err, "");
}

#[test]
fn an_error_means_closed() {
    let (_nobody, address) = refusing(Transport::Udp);
    // The limit does not matter: the error comes at once.
    let client = tuplecat("udp-sendto --probe --reply-timeout 1h").to(address);
    let done = client.run().exits(5);
    let message = done.errors();
    assert!(message.starts_with("closed: udp 127.0.0.1:"), "{message}");
    let ending = format!(" -> {address}: port unreachable");
    assert!(message.ends_with(&ending), "{message}");
}

#[test]
fn silence_means_neither() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --probe --reply-timeout 50ms").to(address);
    let message = format!("no answer from udp {address}: it is silent, or filtered");
    client.run().fails(6, &message);
    assert_eq!(receive(&socket).0, b"");
    assert!(
        is_silent_for(&socket, Duration::from_millis(20)),
        "one is enough"
    );
}

#[test]
fn only_the_target_can_answer() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --probe --reply-timeout 2").to(address);
    let client = client.start();
    let (_, sender) = receive(&socket);
    datagrams().0.send_to(b"me", sender).unwrap();
    let done = client.wait().exits(6);
    assert_eq!(done.text(), "");
    assert!(done.line("ignored").ends_with("from another sender"));
}

#[test]
fn the_question_can_be_chosen() {
    for (words, input, question) in [
        ("", "ping", &b"ping"[..]),
        ("--in hex", "00 ff", b"\0\xff"),
        (r"--send ping\r\n\x00\\", "not this", b"ping\r\n\0\\"),
        ("--send-hex 70696e67", "", b"ping"),
        ("--send -", "", b"-"),
    ] {
        let (socket, address) = datagrams();
        let client = tuplecat("udp-sendto --probe --reply-timeout 30").args(words);
        let client = client.to(address).says(input).start();
        let (found, sender) = receive(&socket);
        assert_eq!(found, question, "{words}");
        socket.send_to(b"pong", sender).unwrap();
        assert_eq!(client.wait().exits(0).text(), "pong");
    }
    for words in [
        r"--send \q",
        "--send-hex 6",
        "--send a --expect b",
        "--replies 2",
        "--recv-only",
    ] {
        let client = tuplecat("udp-sendto --probe").args(words);
        client.arg("127.0.0.1").arg("9").run().exits(2);
    }
}

/// `--send` works without `--probe`, and standard input is not read.
#[test]
fn send_replaces_standard_input() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --send one --send two --reply-timeout 0").to(address);
    client.stdin(Input::Held).run().exits(0);
    assert_eq!(receive(&socket).0, b"one");
    assert_eq!(receive(&socket).0, b"two");
}

/// At a terminal without input the question is empty.
#[test]
fn a_terminal_is_not_waited_for() {
    let (_person, process) = terminal();
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --probe --reply-timeout 30").to(address);
    let client = client.stdin(Input::From(process.into())).start();
    let (question, sender) = receive(&socket);
    assert_eq!(question, b"");
    socket.send_to(b"yes", sender).unwrap();
    client.wait().exits(0);
}
