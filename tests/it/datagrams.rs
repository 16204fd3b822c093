//! Rules of UDP: boundaries, senders, replies, losses, and an end that both sides agree on.
//! There is no connection: one socket receives from all peers, and a dropped datagram is counted.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// Starts a program that sends `text`; returns it with the socket that has received that, and its address.
fn asked(words: &str, text: &str) -> (Running, UdpSocket, SocketAddr) {
    let (socket, address) = datagrams();
    let running = tuplecat("udp-sendto").args(words).to(address).says(text);
    let running = running.start();
    let (datagram, sender) = receive(&socket);
    assert_eq!(datagram, text.as_bytes());
    (running, socket, sender)
}

fn lines<'a>(done: &'a Done, word: &str) -> Vec<&'a str> {
    let lines = done.err.lines();
    lines.filter(|line| line.starts_with(word)).collect()
}

#[test]
fn replies_are_waited_for_after_the_end_of_input() {
    for (words, limit) in [("", 1), ("--reply-timeout 3", 3)] {
        let (running, socket, sender) = asked(words, "question");
        let start = Instant::now();
        socket.send_to(b"one ", sender).unwrap();
        running.out().wait_for("one ");
        // The second reply comes within its time after the first. Both pauses together are longer.
        if limit > 1 {
            thread::sleep(Duration::from_millis(1500));
        }
        socket.send_to(b"two", sender).unwrap();
        running.out().wait_for("two");
        let done = running.wait().exits(0);
        assert_eq!(done.text(), "one two");
        let waited = start.elapsed();
        let least = Duration::from_millis(if limit > 1 { 4490 } else { 990 });
        assert!(waited >= least, "{words}: left after {waited:?}");
    }
}

#[test]
fn enough_replies_end_the_wait() {
    let (running, socket, sender) = asked("--replies 2 --reply-timeout forever", "question");
    for reply in ["one ", "", "not awaited"] {
        socket.send_to(reply.as_bytes(), sender).unwrap();
    }
    assert_eq!(running.wait().exits(0).text(), "one ");
}

#[test]
fn replies_can_be_enough_before_the_end_of_input() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --replies 1 --reply-timeout 30")
        .to(address)
        .stdin(Input::Held);
    let mut client = client.start();
    client.write("question");
    socket.send_to(b"answer", receive(&socket).1).unwrap();
    assert_eq!(client.wait().exits(0).text(), "answer");
}

#[test]
fn replies_are_waited_for_not_at_all_or_for_ever() {
    let (running, _socket, _) = asked("--reply-timeout 0", "fire and forget");
    running.wait().exits(0);

    let (running, socket, sender) = asked("--reply-timeout forever", "question");
    assert!(!running.has_ended_within(Duration::from_millis(1500)));
    socket.send_to(b"answer", sender).unwrap();
    running.out().wait_for("answer");
    running.signal(Signal::INT);
    running.wait().exits(130);
}

#[test]
fn only_the_target_is_listened_to() {
    let (running, socket, sender) = asked("--replies 1 --reply-timeout forever", "question");
    let (stranger, strange) = datagrams();
    stranger.send_to(b"noise", sender).unwrap();
    let line = running.err().wait_for_line("ignored");
    assert!(line.contains(&format!("<- {strange}  5 bytes")), "{line}");
    socket.send_to(b"answer", sender).unwrap();
    let done = running.wait().exits(0);
    assert_eq!(done.text(), "answer");
    assert!(done.line("closed").ends_with(", 1 ignored"), "{}", done.err);
}

/// A flood from a stranger extends neither the wait for replies nor the report.
#[test]
fn a_flood_from_a_stranger_delays_nothing() {
    let (running, socket, sender) = asked("--reply-timeout 2", "?");
    let (stranger, _) = datagrams();
    stranger.send_to(b"noise", sender).unwrap();
    socket.send_to(b"answer", sender).unwrap();
    let is_over = AtomicBool::new(false);
    let bound = Instant::now() + BOUND;
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) && Instant::now() < bound {
                // After the program's end its port is closed.
                let _ = stranger.send_to(b"noise", sender);
            }
        });
        let done = running.wait();
        is_over.store(true, Ordering::Relaxed);
        done
    });
    let done = done.exits(0);
    assert_eq!(done.text(), "answer");
    assert_eq!(lines(&done, "ignored").len(), 1);
}

#[test]
fn replies_of_any_sender_are_received_with_from_any() {
    let (running, socket, sender) = asked("--from any --replies 2 --reply-timeout forever", "?");
    let (stranger, strange) = datagrams();
    stranger.send_to(b"one ", sender).unwrap();
    running.out().wait_for("one ");
    socket.send_to(b"two", sender).unwrap();
    let done = running.wait().exits(0);
    assert_eq!(done.text(), "one two");
    assert!(
        lines(&done, "received")[0].contains(&strange.to_string()),
        "{}",
        done.err
    );
}

#[test]
fn the_target_is_a_peer_from_the_first_datagram_on() {
    let (running, socket, sender) = asked("--from any --replies 2 --reply-timeout forever", "?");
    let (stranger, strange) = datagrams();
    let own = socket.local_addr().unwrap();
    socket.send_to(b"one ", sender).unwrap();
    running.out().wait_for("one ");
    stranger.send_to(b"two", sender).unwrap();
    let done = running.wait().exits(0);
    let rows = lines(&done, "peer").into_iter();
    let rows: Vec<&str> = rows.map(|row| row.rsplit_once(", ").unwrap().0).collect();
    let row = |remote, counts| format!("peer       udp {sender} <- {remote}  {counts}");
    let expected = [
        row(own, "in 1 datagram (4 B), out 1 datagram (1 B)"),
        row(strange, "in 1 datagram (3 B), out 0 datagrams (0 B)"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_connected_socket_is_named_by_its_4_tuple() {
    let (running, socket, sender) = asked("--connected --replies 1 --reply-timeout forever", "?");
    let (stranger, _) = datagrams();
    stranger.send_to(b"noise", sender).unwrap();
    socket.send_to(b"answer", sender).unwrap();
    let own = socket.local_addr().unwrap();
    let done = running.wait().exits(0);
    assert_eq!(done.text(), "answer");
    // The kernel rejects the stranger's datagram, so it is not reported.
    assert!(!done.err.contains("ignored"), "{}", done.err);
    let pair = format!("udp {sender} <-> {own}  in 1 datagram (6 B)");
    assert!(done.line("closed").contains(&pair), "{}", done.err);
}

#[test]
fn an_empty_datagram_is_a_reply_like_any_other() {
    let (running, socket, sender) = asked("-v --replies 2 --reply-timeout forever", "?");
    socket.send_to(b"", sender).unwrap();
    socket.send_to(b"end", sender).unwrap();
    let done = running.wait().exits(0);
    assert_eq!(done.text(), "end");
    let sizes: Vec<&str> = lines(&done, "received")
        .iter()
        .map(|line| line.rsplit_once("  ").unwrap().1)
        .collect();
    assert_eq!(sizes, ["0 bytes", "3 bytes"]);
}

/// With `--eof-datagram` on both sides an empty datagram is the end.
#[test]
fn an_empty_datagram_can_be_made_the_end() {
    let (running, socket, sender) = asked("--eof-datagram --reply-timeout forever", "all");
    assert_eq!(receive(&socket), (Vec::new(), sender));
    socket.send_to(b"answer", sender).unwrap();
    socket.send_to(b"", sender).unwrap();
    assert_eq!(running.wait().exits(0).text(), "answer");

    let server = tuplecat("udp-bind --eof-datagram 0").start();
    let (socket, _) = datagrams();
    for datagram in ["one ", "two", ""] {
        socket.send_to(datagram.as_bytes(), server.ready()).unwrap();
    }
    assert_eq!(server.wait().exits(0).text(), "one two");
}

/// The advice about input that delays the end names an option that the mode has.
#[test]
fn input_that_delays_the_end_can_be_left_out() {
    let launch = |words: &str| {
        let server = tuplecat("udp-bind --eof-datagram 0").args(words);
        let server = server.stdin(Input::Held).start();
        let (socket, _) = datagrams();
        socket.send_to(b"all", server.ready()).unwrap();
        socket.send_to(b"", server.ready()).unwrap();
        (server, socket)
    };
    let (mut server, _socket) = launch("");
    let notice = server.err().wait_for_line("waiting");
    assert!(
        notice.ends_with(" (--recv-only leaves at once)"),
        "{notice}"
    );
    server.close_stdin();
    assert_eq!(server.wait().exits(0).text(), "all");
    let (server, _socket) = launch("--recv-only");
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "all");
    assert!(!done.err.contains("waiting"), "{}", done.err);
}

#[test]
fn the_end_of_input_does_not_end_udp_bind() {
    let server = tuplecat("udp-bind 0").says("").start();
    let (socket, _) = datagrams();
    for (datagram, all) in [("one ", "one "), ("two", "one two")] {
        socket.send_to(datagram.as_bytes(), server.ready()).unwrap();
        server.out().wait_for(all);
    }
    assert!(!server.has_ended_within(Duration::from_millis(200)));
    server.signal(Signal::TERM);
    server.wait().exits(143);
    // `--on-stdin-eof quit` ends it.
    let server = tuplecat("udp-bind --on-stdin-eof quit 0")
        .says("bye")
        .start();
    socket.send_to(b"hello", server.ready()).unwrap();
    assert_eq!(receive(&socket).0, b"bye");
    server.wait().exits(0);
}

/// Input that comes before the first peer is kept for it.
#[test]
fn an_answer_waits_for_the_first_peer() {
    let server = tuplecat("udp-bind 0").says("welcome").start();
    let (socket, _) = datagrams();
    socket.send_to(b"hello", server.ready()).unwrap();
    assert_eq!(receive(&socket), (b"welcome".to_vec(), server.ready()));
}

/// On a wildcard socket the answer comes from the address that the datagram was sent to.
#[test]
fn an_answer_comes_from_the_address_that_was_written_to() {
    for (words, hosts) in [
        ("-4 * 0", &["127.0.0.2", "127.0.0.1", "127.0.0.3"][..]),
        ("* 0", &["127.0.0.2", "[::1]", "127.0.0.1"][..]),
    ] {
        let mut server = tuplecat("udp-bind").args(words).stdin(Input::Held).start();
        let port = server.ready().port();
        for host in hosts {
            if host.contains(':') && !has_ipv6() {
                continue;
            }
            let written_to: SocketAddr = format!("{host}:{port}").parse().unwrap();
            let any = if written_to.is_ipv4() {
                "127.0.0.1:0"
            } else {
                "[::1]:0"
            };
            let (socket, own) = datagrams_at(any.parse().unwrap());
            socket.send_to(b"question", written_to).unwrap();
            let tuple = format!("udp {written_to} <- {own}  8 bytes\n");
            server.err().wait_for(&tuple);
            server.out().wait_for("question");
            server.write("answer");
            assert_eq!(receive(&socket), (b"answer".to_vec(), written_to));
        }
    }
}

/// Datagrams of every size arrive whole, neither cut nor merged.
#[test]
fn datagrams_of_every_size_stay_what_they_are() {
    let sizes = [0, 1, 1472, 1473, 9000, 65_506, 65_507];
    let count = sizes.len();
    let server = tuplecat(&format!("udp-bind -v --count {count} 0")).start();
    let (socket, _) = datagrams();
    let mut sent = Vec::new();
    for size in sizes {
        let datagram = bytes(size);
        socket.send_to(&datagram, server.ready()).unwrap();
        sent.extend(datagram);
        // One at a time, so that the socket buffer has room for each.
        server.out().wait_for_len(sent.len());
    }
    let done = server.wait().exits(0);
    assert!(done.out == sent);
    let columns: Vec<String> = lines(&done, "received")
        .iter()
        .map(|line| line.rsplit_once("  ").unwrap().1.to_owned())
        .collect();
    let expected = sizes.map(|size| format!("{size} byte{}", if size == 1 { "" } else { "s" }));
    assert_eq!(columns, expected);
}

#[test]
fn input_is_cut_to_size() {
    let sent = bytes(65_507 + 10);
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --reply-timeout 0 --datagram-size 65507").to(address);
    launch.stdin(Input::From(with_text(&sent))).run().exits(0);
    assert!(receive(&socket).0 == sent[..65_507]);
    assert!(receive(&socket).0 == sent[65_507..]);
    for (address, size) in [("127.0.0.1:0", 1472), ("[::1]:0", 1452)] {
        if size == 1452 && !has_ipv6() {
            continue;
        }
        let (socket, address) = datagrams_at(address.parse().unwrap());
        let launch = tuplecat("udp-sendto --reply-timeout 0").to(address);
        launch
            .stdin(Input::From(with_text(&sent[..2000])))
            .run()
            .exits(0);
        assert_eq!(receive(&socket).0.len(), size);
        assert_eq!(receive(&socket).0.len(), 2000 - size);
    }
}

/// Datagrams that the kernel drops are counted and reported.
#[test]
fn losses_are_reported() {
    let server = tuplecat("udp-bind --rcvbuf 4096 0").start();
    let (socket, address) = (datagrams().0, server.ready());
    socket.send_to(b"first", address).unwrap();
    server.out().wait_for("first");
    server.signal(Signal::STOP);
    for _ in 0..200 {
        socket.send_to(&[0; 1000], address).unwrap();
    }
    server.signal(Signal::CONT);
    server.out().wait_for_len(1005);
    server.signal(Signal::INT);
    let done = server.wait().exits(130);
    let line = done.line("dropped");
    assert!(line.contains("lost, the receive buffer was full"), "{line}");
    nothing_uncounted(done.line("closed"), 201);
}

/// With a slow reader of standard output, datagrams wait in the kernel; none is cut or merged.
#[test]
fn a_slow_output_gets_whole_datagrams() {
    let (process, mut reader) = UnixStream::pair().unwrap();
    let server = tuplecat("udp-bind --count 3 0").stdout(Output::To(process.into()));
    let server = server.start();
    let (socket, _) = datagrams();
    let sent: Vec<Vec<u8>> = (1..4).map(|step| bytes(step * 20_000)).collect();
    for datagram in &sent {
        socket.send_to(datagram, server.ready()).unwrap();
    }
    let mut arrived = vec![0; 120_000];
    reader.set_read_timeout(Some(BOUND)).unwrap();
    std::io::Read::read_exact(&mut reader, &mut arrived).unwrap();
    assert!(arrived == sent.concat());
    server.wait().exits(0);
}

/// An unreachable port is an error of one address at one time; the socket goes on.
#[test]
fn a_port_that_opens_meanwhile_is_reached() {
    let (socket, address) = refusing(Transport::Udp);
    let launch = tuplecat("udp-sendto --reply-timeout forever").to(address);
    let mut client = launch.stdin(Input::Held).start();
    client.write("too early");
    let line = client.err().wait_for_line("refused");
    assert!(line.ends_with("port unreachable"), "{line}");
    let (_, own, target) = tuple(&line);
    assert_eq!(target, address.to_string());
    // Now its owner connects the socket to the client: the next datagram arrives, and so does the answer.
    let own: SocketAddr = own.parse().unwrap();
    socket.connect(&own.into()).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(BOUND)).unwrap();
    client.write("in time");
    assert_eq!(receive(&socket), (b"in time".to_vec(), own));
    socket.send(b"answer").unwrap();
    client.out().wait_for("answer");
    client.signal(Signal::INT);
    client.wait().exits(130);
}

/// With `--eof-datagram` an empty frame is the end. One before the end of input is an error, or the rest would be lost.
#[test]
fn nothing_is_sent_after_the_eof_datagram() {
    for fast in ["", "--no-fast-path"] {
        let (socket, address) = datagrams();
        let client = tuplecat("udp-sendto --eof-datagram --in line").args(fast);
        let done = client.to(address).says("one\ntwo\n\nthree\n").run();
        let text = "cannot send anything after an empty datagram: that is the end (--eof-datagram)";
        done.fails(1, text);
        for expected in ["one", "two"] {
            assert_eq!(receive(&socket).0, expected.as_bytes());
        }
        assert!(is_silent_for(&socket, Duration::ZERO));

        let client = tuplecat("udp-sendto --eof-datagram --in line --reply-timeout 0").args(fast);
        client.to(address).says("one\n\n").run().exits(0);
        for expected in ["one", ""] {
            assert_eq!(receive(&socket).0, expected.as_bytes());
        }
        while !is_silent_for(&socket, Duration::ZERO) {
            assert_eq!(
                receive(&socket).0,
                b"",
                "the end may be said again, and nothing else"
            );
        }
    }
}
