//! Child processes over UDP (`--exec`, `--shell`): one for each datagram, whose output is the answer to its sender.
//! No peer gets the answer to another, and children do not affect each other.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::*;

/// A time in which a wrong event would happen. If it is too short, a test can miss a fault, but not report one.
const A_WHILE: Duration = Duration::from_millis(200);

/// Starts a socket that answers datagrams with the output of a shell command.
fn answering(words: &str, command: &str) -> (Running, SocketAddr) {
    let server = tuplecat("udp-bind 0")
        .args(words)
        .arg("--shell")
        .arg(command)
        .start();
    let address = server.ready();
    (server, address)
}

/// Sends one datagram, and returns the socket for the answer.
fn ask(address: SocketAddr, question: &[u8]) -> UdpSocket {
    let (socket, _) = datagrams();
    socket.send_to(question, address).unwrap();
    socket
}

fn answer(socket: &UdpSocket) -> Vec<u8> {
    receive(socket).0
}

#[test]
fn each_datagram_is_answered_by_a_child_of_its_own() {
    let command = "env | grep -E '^(PROTO|UDP|TUPLECAT_CONN)' | sort; cat";
    let (server, address) = answering("", command);
    for number in 1..=3 {
        let socket = ask(address, b"question");
        let port = socket.local_addr().unwrap().port();
        let expected = format!(
            "PROTO=UDP\nTUPLECAT_CONN={number}\nUDPLOCALIP=127.0.0.1\nUDPLOCALPORT={}\nUDPREMOTEIP=127.0.0.1\nUDPREMOTEPORT={port}\nquestion",
            address.port()
        );
        let (text, sender) = receive(&socket);
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!(sender, address);
    }
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn answers_go_to_their_senders_in_any_order() {
    // The later ones are answered first: each child waits for a file that the next one creates.
    let command = "read n; until [ -e go$n ]; do sleep 0.01; done; echo $n; touch go$((n - 1))";
    let (server, address) = answering("", command);
    let sockets: Vec<_> = (1..=10)
        .map(|n| ask(address, format!("{n}\n").as_bytes()))
        .collect();
    assert!(is_silent_for(&sockets[9], A_WHILE));
    fs::write(server.path("go10"), "").unwrap();
    for (n, socket) in (1..11_u16).zip(&sockets).rev() {
        assert_eq!(answer(socket), format!("{n}\n").as_bytes());
    }
}

#[test]
fn a_wildcard_socket_answers_from_the_address_it_was_sent_to() {
    let server = tuplecat("udp-bind * 0 --allow 127.0.0.0/8 --exec cat").start();
    let address = SocketAddr::new([127, 0, 0, 2].into(), server.ready().port());
    let (text, sender) = receive(&ask(address, b"who"));
    assert_eq!((text.as_slice(), sender), (&b"who"[..], address));
}

#[test]
fn an_answer_is_cut_at_the_size_of_datagrams_and_nowhere_else() {
    let command = "for i in 1 2 3 4 5; do printf 0123; sleep 0.02; done; printf x";
    let (_server, address) = answering("--datagram-size 8", command);
    let socket = ask(address, b"");
    let answers: Vec<_> = (0..3).map(|_| answer(&socket)).collect();
    assert_eq!(answers, [&b"01230123"[..], b"01230123", b"0123x"]);
    assert!(is_silent_for(&socket, A_WHILE));
}

#[test]
fn the_largest_datagram_is_read_whole_by_a_late_reader() {
    let (_server, address) = answering("--datagram-size 65507", "sleep 0.1; cat");
    let question = bytes(65_507);
    assert!(answer(&ask(address, &question)) == question);
}

#[test]
fn no_output_is_no_answer() {
    let (server, address) = answering("--count 2", "read x; [ \"$x\" = quiet ] || echo loud");
    let quiet = ask(address, b"quiet\n");
    let loud = ask(address, b"");
    assert_eq!(answer(&loud), b"loud\n");
    let done = server.wait().exits(0);
    assert!(is_silent_for(&quiet, Duration::ZERO));
    assert!(
        done.line("closed").contains("out 1 datagram (5 B)"),
        "{}",
        done.err
    );
}

#[test]
fn the_end_waits_for_the_answers() {
    let (server, address) = answering("--count 3", "sleep 0.2; cat");
    let sockets: Vec<_> = (0..3).map(|n| ask(address, &[n])).collect();
    server.wait().exits(0);
    for (n, socket) in (0..).zip(&sockets) {
        assert_eq!(answer(socket), [n]);
    }
    let (server, address) = answering("--eof-datagram", "cat; sleep 0.2; echo .");
    let socket = ask(address, b"last");
    socket.send_to(b"", address).unwrap();
    assert_eq!(answer(&socket), b"last.\n");
    server.wait().exits(0);
}

#[test]
fn more_datagrams_than_children_wait() {
    let (server, address) = answering(
        "--max-children 2",
        "cat; until [ -e go ]; do sleep 0.01; done",
    );
    let sockets: Vec<_> = (0..20).map(|n| ask(address, &[n])).collect();
    std::thread::sleep(A_WHILE);
    assert_eq!(children_of(server.pid()).len(), 2);
    fs::write(server.path("go"), "").unwrap();
    for (n, socket) in (0..).zip(&sockets) {
        assert_eq!(answer(socket), [n]);
    }
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn a_burst_is_answered_to_the_last() {
    for engine in ["", "1"] {
        let server =
            tuplecat("udp-bind 0 --max-children 8 --exec cat").env("TUPLECAT_NO_FAST_PATH", engine);
        let server = server.start();
        let socket = ask(server.ready(), b"0");
        for n in 1..100 {
            socket
                .send_to(n.to_string().as_bytes(), server.ready())
                .unwrap();
        }
        let answers: BTreeSet<_> = (0..100).map(|_| answer(&socket)).collect();
        assert_eq!(answers.len(), 100);
    }
}

#[test]
fn children_end_with_the_run() {
    let (server, _address) = answering(
        "",
        "trap 'echo ended > ended; exit' HUP; echo $$ > pid; sleep 1000 & wait",
    );
    let _socket = ask(server.ready(), b"");
    server.wait_for_file(&server.path("pid"));
    let ended = server.path("ended");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_file(&ended), "ended\n");
    server.wait().exits(143);
}

#[test]
fn a_child_that_fails_is_reported() {
    let (server, address) = answering("--count 1", "echo sorry; exit 5");
    assert_eq!(answer(&ask(address, b"")), b"sorry\n");
    let done = server.wait().exits(0);
    let line = done.line("exited");
    assert!(line.ends_with("  #1  '/bin/sh' with status 5"), "{line}");
}

#[test]
fn a_child_may_send_first() {
    let (server, address) = datagrams();
    let command = "echo $UDPREMOTEPORT $PROTO; read answer; echo \"$answer\" >&2; exit 3";
    let client = tuplecat("udp-sendto --replies 1 --reply-timeout 30")
        .to(address)
        .arg("--shell")
        .arg(command)
        .start();
    let (text, sender) = receive(&server);
    assert_eq!(text, format!("{} UDP\n", address.port()).as_bytes());
    server.send_to(b"well\n", sender).unwrap();
    client.err().wait_for("well\n");
    client.wait().fails(1, "'/bin/sh' ended with status 3");
}

#[test]
fn a_child_that_sends_gets_the_replies_until_they_end() {
    let (server, address) = datagrams();
    let client = tuplecat("udp-sendto --reply-timeout 2").to(address);
    let client = client
        .arg("--shell")
        .arg("echo hello; exec >&-; cat > got; mv got all")
        .start();
    let (_, sender) = receive(&server);
    server.send_to(b"one ", sender).unwrap();
    server.send_to(b"", sender).unwrap();
    server.send_to(b"two", sender).unwrap();
    assert_eq!(client.wait_for_file(&client.path("all")), "one two");
    client.wait().exits(0);
}

#[test]
fn other_tools_ask_a_child() {
    for (name, words) in [
        ("nc.openbsd", "-u 127.0.0.1 PORT"),
        ("ncat", "-u 127.0.0.1 PORT"),
        ("socat", "- UDP:127.0.0.1:PORT"),
    ] {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        let (_server, address) = answering("", "tr a-z A-Z");
        let words = words.replace("PORT", &address.port().to_string());
        // Held open: some tools leave at its end, and miss the answer.
        let mut client = program(name, &words).stdin(Input::Held).start();
        client.write("question");
        client.out().wait_for("QUESTION");
    }
}
