//! Dialogues on the command line: `--send` and `--expect` in their order, and their exit statuses.
//! Most hold for both transports. They differ where a stream has no boundaries and each datagram is one answer.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use socket2::SockRef;
use tuplecat::flow::Transport;

use crate::common::*;

/// The mode that sends first, without an agreement on the end.
fn asks(transport: Transport) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        _ => tuplecat("udp-sendto"),
    }
}

/// The mode that waits for peers.
fn answers(transport: Transport) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-listen 0"),
        _ => tuplecat("udp-bind 0"),
    }
}

/// The limit on the longest wait of a test.
const LIMIT: &str = "--timeout=50";

each! {
    /// With `--send` alone, standard input is not read.
    fn send_replaces_standard_input(transport) {
        let server = waits(transport, "0").start();
        let client = meets(transport, &server).args("--send-hex 686921 --send").arg(r"\x00\n");
        client.stdin(Input::Held).run().exits(0);
        assert_eq!(server.wait().exits(0).out, b"hi!\x00\n");
    }

    /// With `--stdin` the session continues with standard input after the dialogue.
    fn standard_input_takes_over(transport) {
        let server = waits(transport, "0").stdin(Input::Held).start();
        let client = meets(transport, &server).args("--stdin --send ready? --expect go");
        let client = client.says("the rest").start();
        server.out().wait_for("ready?");
        let mut server = server;
        server.write("go!");
        server.out().wait_for("the rest");
        server.close_stdin();
        assert_eq!(server.wait().exits(0).text(), "ready?the rest");
        assert_eq!(client.wait().exits(0).text(), "go!");
    }
}

both! {
    /// Two dialogues with each other receive all that is sent, in order, and end at once.
    fn two_scripts_meet(transport) {
        let server = answers(transport).args(LIMIT);
        let server = server.args("--expect HELO --send 250 --expect-regex ^MAIL --send-hex 323520 --expect-hex 51").start();
        let address = server.ready();
        let client = asks(transport).to(address).args(LIMIT).stdin(Input::Held);
        let client = client.args("--send HELO --expect 250 --send MAIL --expect-regex ^25. --send").arg("Q");
        let client = client.run().exits(0);
        let server = server.wait().exits(0);
        assert_eq!((client.text(), server.text()), ("25025 ".to_owned(), "HELOMAILQ".to_owned()));
        assert_eq!((client.errors(), server.errors()), (String::new(), String::new()));
        for done in [client, server] {
            assert!(!done.err.contains("waiting"), "{}", done.err);
        }
    }

    /// A wrong answer has its own status, and both texts are shown.
    fn a_wrong_answer_is_shown(transport) {
        let server = answers(transport).arg("--echo").start();
        let client = asks(transport).to(server.ready()).args("--timeout 300ms --send +PANG");
        let done = client.args("--expect +PONG").run().exits(8);
        assert_eq!(done.text(), "+PANG");
        let size = match transport {
            Transport::Tcp => "5 bytes",
            _ => "a datagram of 5 bytes",
        };
        let message = format!("\
--expect '+PONG': timed out after 0.3 s (--timeout)
expected:
  00000000  2b 50 4f 4e 47                                    |+PONG|
received: {size}
  00000000  2b 50 41 4e 47                                    |+PANG|
                  ^^");
        assert_eq!(done.errors(), message);
    }

    /// Bytes from the network cannot control the terminal that the difference is shown on.
    fn a_terminal_is_not_controlled(transport) {
        let server = answers(transport).arg("--echo").start();
        let client = asks(transport).to(server.ready()).args("--timeout 300ms --send");
        let done = client.arg(r"\x1b]0;title\x07\x9b31m\r").args("--expect x").run().exits(8);
        let is_plain = |letter: char| letter == '\n' || letter.is_ascii_graphic() || letter == ' ';
        assert!(done.err.chars().all(is_plain), "{:?}", done.err);
        assert!(done.err.contains("1b 5d 30 3b"), "{}", done.err);
    }

    /// Without `--send`, standard input is sent.
    fn standard_input_may_be_the_question(transport) {
        let server = answers(transport).args("--expect question --send answer").start();
        let client = asks(transport).to(server.ready()).args("--expect answer").says("question");
        assert_eq!(client.run().exits(0).text(), "answer");
        assert_eq!(server.wait().exits(0).text(), "question");
    }

    /// A refusal is not a wrong answer.
    fn refused_is_refused(transport) {
        let (_nobody, address) = refusing(transport);
        asks(transport).to(address).args("--send x --expect y --timeout 10").run().exits(5);
    }

    /// Silence is a time limit, and no wrong answer.
    fn silence_has_its_status(transport) {
        let server = answers(transport).stdin(Input::Held).start();
        let client = asks(transport).to(server.ready()).args("--send x --expect y --timeout 200ms");
        let done = client.run().exits(6);
        assert!(done.errors().ends_with("received: nothing"), "{}", done.err);
    }

    /// A bad value is a usage error that names a good one.
    fn bad_values_are_usage_errors(transport) {
        for (option, value, says) in [
            ("--send", r"\q", "is not one of"),
            ("--send-hex", "4g", "not a hexadecimal digit"),
            ("--expect", "", "empty pattern"),
            ("--send-hex", "0000  61 62", "line 1, column 1: this looks like the offset of a dump"),
            ("--expect-hex", "123", "column 4: the second hexadecimal digit of a byte is missing"),
            ("--expect-regex", "(", "unclosed group"),
            ("--expect-regex", "", "empty pattern"),
        ] {
            let done = asks(transport).args("127.0.0.1 9").arg(option).arg(value).run().exits(2);
            assert!(done.err.contains(option) && done.err.contains(says), "{}", done.err);
        }
        let (other, text) = match transport {
            Transport::Tcp => ("-k", "--keep-open"),
            _ => ("--echo", "--echo"),
        };
        let done = answers(transport).args("--expect x").arg(other).run().exits(2);
        assert!(done.err.contains(text), "{}", done.err);
    }
}

#[test]
fn a_stream_has_no_boundaries() {
    let (listener, address) = listen();
    let client = asks(Transport::Tcp).to(address).args(LIMIT);
    let client = client.args("--expect one,two --expect three").start();
    let mut peer = accept(&listener);
    peer.set_nodelay(true).unwrap();
    for piece in ["..o", "ne", ",", "twothr"] {
        peer.write_all(piece.as_bytes()).unwrap();
        client.out().wait_for(piece);
    }
    peer.write_all(b"ee").unwrap();
    assert_eq!(client.wait().exits(0).text(), "..one,twothree");
}

#[test]
fn each_datagram_is_one_answer() {
    let (socket, address) = datagrams();
    let client = asks(Transport::Udp).to(address).args(LIMIT);
    let client = client.args("--send x --expect one --expect two").start();
    let (_, peer) = receive(&socket);
    for datagram in ["on", "e", "one two", "tw"] {
        socket.send_to(datagram.as_bytes(), peer).unwrap();
        client.out().wait_for(datagram);
    }
    assert!(!client.has_ended_within(Duration::ZERO));
    socket.send_to(b"a two", peer).unwrap();
    assert_eq!(client.wait().exits(0).text(), "oneone twotwa two");
}

#[test]
fn a_datagram_is_sent_whole() {
    let (socket, address) = datagrams();
    let text = "x".repeat(3000);
    let client = asks(Transport::Udp).to(address).args(LIMIT);
    let client = client
        .arg("--send")
        .arg(&text)
        .args("--send= --expect end")
        .start();
    let (first, peer) = receive(&socket);
    assert_eq!(first.len(), 3000);
    assert_eq!(receive(&socket).0.len(), 0);
    socket.send_to(b"the end", peer).unwrap();
    client.wait().exits(0);
}

#[test]
fn a_fin_before_the_answer_is_no_answer() {
    let (listener, address) = listen();
    for (words, answer) in [
        ("--expect y", ".."),
        ("--send x --expect y", ".."),
        ("--send x --expect y", ""),
        ("--send x --expect y --stdin", ".."),
    ] {
        let client = asks(Transport::Tcp)
            .to(address)
            .args(words)
            .stdin(Input::Held);
        let client = client.start();
        let mut peer = accept(&listener);
        peer.write_all(answer.as_bytes()).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let done = client.wait().exits(8);
        assert!(
            done.errors()
                .starts_with("--expect 'y': the peer has finished\n"),
            "{}",
            done.err
        );
    }
}

#[test]
fn a_reset_is_an_error_until_the_dialogue_is_complete() {
    let (listener, address) = listen();
    let client = asks(Transport::Tcp)
        .to(address)
        .args("--expect y")
        .stdin(Input::Held);
    let client = client.start();
    reset(accept(&listener));
    let done = client.wait().exits(7);
    let errors = done.errors();
    assert!(errors.starts_with("--expect 'y': tcp "), "{errors}");
    assert!(
        errors.contains(": connection reset by peer\nexpected:"),
        "{errors}"
    );
    assert!(errors.ends_with("received: nothing"), "{errors}");
}

#[test]
fn an_impossible_match_ends_the_wait() {
    let (listener, address) = listen();
    let client = asks(Transport::Tcp)
        .to(address)
        .args("--expect-regex ^220")
        .start();
    accept(&listener).write_all(b"554 no").unwrap();
    let done = client.wait().exits(8);
    let message = "--expect-regex '^220': no match is possible any more\nreceived: 6 bytes\n";
    assert!(done.errors().starts_with(message), "{}", done.err);
}

#[test]
fn a_connection_stays_open_while_something_is_expected() {
    let (listener, address) = listen();
    let client = asks(Transport::Tcp)
        .to(address)
        .args("--send x --expect y")
        .start();
    let peer = accept(&listener);
    assert_eq!(read_len(&peer, 1), b"x");
    assert!(is_silent_for(&peer, Duration::from_millis(200)));
    (&peer).write_all(b"y").unwrap();
    assert_eq!(read_all(&peer), b"");
    client.wait().exits(0);
    // `--on-stdin-eof shutdown` sends the FIN at once.
    let client = asks(Transport::Tcp).to(address);
    let client = client
        .args("--send x --expect y --on-stdin-eof shutdown")
        .start();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"x");
    (&peer).write_all(b"y").unwrap();
    client.wait().exits(0);
}

#[test]
fn a_complete_dialogue_ends_the_run_in_the_middle_of_sending() {
    let (listener, address) = listen();
    let client = asks(Transport::Tcp).to(address).args("--expect stop");
    let client = client.says(bytes(64 << 20)).start();
    let peer = accept(&listener);
    (&peer).write_all(b"stop").unwrap();
    // What was sent by then arrives, and is followed by the end.
    assert!(bytes(64 << 20).starts_with(&read_all(&peer)));
    client.wait().exits(0);
}

#[test]
fn a_peer_that_does_not_read_fails_a_complete_dialogue() {
    let (listener, address) = listen();
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let text = "x".repeat(100_000);
    let client = asks(Transport::Tcp).to(address).arg("--send").arg(text);
    let client = client.args("--expect stop --timeout 1").start();
    let peer = accept(&listener);
    (&peer).write_all(b"stop").unwrap();
    let done = client.wait().exits(6);
    assert_eq!(done.errors(), "timed out after 1 s (--timeout)");
}

/// The wait for an answer begins at the end of standard input, and a refusal ends it.
#[test]
fn a_question_of_standard_input_is_not_waited_for_for_ever() {
    let ask = |address| {
        let launch = asks(Transport::Udp).to(address).args("--expect x");
        launch.args("--reply-timeout 300ms")
    };
    let (_silent, silent) = datagrams();
    ask(silent).says("question").run().exits(6);
    ask(silent).stdin(Input::Null).run().exits(6);
    let (_nobody, closed) = refusing(Transport::Udp);
    ask(closed).says("question").run().exits(5);
}

/// Datagrams of other peers are no answers, and nothing is sent to them.
#[test]
fn a_dialogue_stays_with_its_first_peer() {
    let server =
        tuplecat("udp-bind 0 --expect ping --send pong --expect bye --send-hex 21").args(LIMIT);
    let server = server.start();
    let address = server.ready();
    let [(one, _), (other, _)] = [datagrams(), datagrams()];
    // The program finds all that is sent meanwhile at once.
    server.signal(Signal::STOP);
    one.send_to(b"ping", address).unwrap();
    other.send_to(b"bye", address).unwrap();
    server.signal(Signal::CONT);
    assert_eq!(receive(&one), (b"pong".to_vec(), address));
    one.send_to(b"bye", address).unwrap();
    other.send_to(b"again", address).unwrap();
    let done = server.wait().exits(0);
    assert!(done.text().starts_with("pingbyebye"), "{}", done.text());
    assert_eq!(receive(&one), (b"!".to_vec(), address));
}

/// Without anything to send, there is no dialogue with one peer: each expectation may be met by another sender.
#[test]
fn any_sender_meets_an_expectation_where_nothing_is_sent() {
    let both = "--expect hits --expect load";
    for words in [
        both,
        "--reply-to last --send-hex 21 --expect hits --expect load",
    ] {
        let server = tuplecat("udp-bind 0").args(words).args(LIMIT);
        let server = server.start();
        let address = server.ready();
        for metric in ["hits:1|c", "load:2|g"] {
            let (socket, _) = datagrams();
            socket.send_to(metric.as_bytes(), address).unwrap();
            server.out().wait_for(metric);
        }
        server.wait().exits(0);
    }
}

#[test]
fn a_sender_that_is_not_the_peer_of_the_dialogue_is_named() {
    let server = tuplecat("udp-bind 0 --expect ping --send pong --expect bye --timeout 1").start();
    let address = server.ready();
    let [(one, peer), (other, stranger)] = [datagrams(), datagrams()];
    one.send_to(b"ping", address).unwrap();
    assert_eq!(receive(&one).0, b"pong");
    other.send_to(b"bye", address).unwrap();
    let error = server.wait().exits(8).err;
    let line = format!(
        "ignored:  1 datagram of other senders, the last of {stranger}: the dialogue is with {peer}"
    );
    assert!(error.contains(&line), "{error}");
}
