//! Limits on time, bytes, datagrams and clients, in every mode that has them, each with its exit status.
//! One table: a limit ends the run in the same way with every peer and every local end.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// The behaviour of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// There is no peer. A TCP client gets no answer at all, not even a refusal.
    Absent,
    /// The peer is silent. To `udp-bind` it has sent one datagram.
    Silent,
    /// The peer sends ten bytes again and again.
    Busy,
}

use Peer::{Absent, Busy, Silent};

/// The command line, the behaviour of the peer, the exit status, and the beginning of the error message.
type Row = (&'static str, Peer, i32, &'static str);

const TIMEOUT: &str = "timed out after 0.1 s (--timeout)";
const NO_CLIENT: &str = "no client connected to ";
const IDLE: &str = "nothing was sent or received for 0.1 s (--idle-timeout)";

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("tcp-listen --timeout 100ms", Absent, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms", Silent, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms -k", Absent, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms -k", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms -k --prefix", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms -k --broker", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms --echo", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms --respond =x", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms --exec cat", Busy, 6, TIMEOUT),
    ("tcp-listen --timeout 100ms --expect x", Absent, 6, "--expect 'x': timed out"),
    ("tcp-listen --timeout 4 --expect x", Busy, 8, "--expect 'x': timed out"),
    ("tcp-listen --idle-timeout 100ms --accept-timeout 300ms", Absent, 6, NO_CLIENT),
    ("tcp-listen --idle-timeout 100ms", Silent, 6, IDLE),
    ("tcp-listen --idle-timeout 100ms -k --accept-timeout 300ms", Silent, 6, NO_CLIENT),
    ("tcp-listen --idle-timeout 100ms -k --echo --accept-timeout 300ms", Silent, 6, NO_CLIENT),
    ("tcp-listen --idle-timeout 100ms --respond =x", Silent, 6, IDLE),
    ("tcp-listen --idle-timeout 100ms --idle-ok", Silent, 0, ""),
    ("tcp-listen --idle-timeout 100ms --idle-ok -k --accept-timeout 300ms", Silent, 6, NO_CLIENT),
    ("tcp-listen --idle-timeout 100ms --exec cat", Silent, 6, IDLE),
    ("tcp-listen --idle-timeout 4 --expect x", Silent, 6, "--expect 'x': nothing was sent"),
    ("tcp-listen --accept-timeout 100ms", Absent, 6, "no client connected to 127.0.0.1:"),
    ("tcp-listen --accept-timeout 100ms -k", Absent, 6, "no client connected to 127.0.0.1:"),
    ("tcp-listen --accept-timeout 100ms --expect x", Absent, 6, "--expect 'x': no client connected"),
    ("tcp-listen --max-bytes 25", Busy, 0, ""),
    ("tcp-listen --max-bytes 25 --recv-only", Busy, 0, ""),
    ("tcp-listen --max-reads 3", Busy, 0, ""),
    ("tcp-listen --max-reads 3 --max-bytes 5", Busy, 0, ""),
    ("tcp-listen --max-bytes 25 --echo", Busy, 0, ""),
    ("tcp-listen --max-bytes 25 --expect x", Busy, 8, "--expect 'x': "),
    ("tcp-connect --timeout 100ms", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --timeout 100ms --probe", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --timeout 100ms --expect x", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --timeout 3", Silent, 6, "timed out after 3 s (--timeout)"),
    ("tcp-connect --timeout 3 --expect x", Silent, 6, "--expect 'x': timed out"),
    ("tcp-connect --timeout 3", Busy, 6, "timed out after 3 s (--timeout)"),
    ("tcp-connect --timeout 3 --exec cat", Busy, 6, "timed out after 3 s (--timeout)"),
    ("tcp-connect --connect-timeout 100ms", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --idle-timeout 100ms", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --idle-timeout 100ms", Silent, 6, IDLE),
    ("tcp-connect --idle-timeout 100ms --exec cat", Silent, 6, IDLE),
    ("tcp-connect --idle-timeout 100ms --idle-ok", Absent, 6, "cannot connect to 127.0.0.1:"),
    ("tcp-connect --idle-timeout 100ms --idle-ok", Silent, 0, ""),
    ("tcp-connect --max-reads 3", Busy, 0, ""),
    ("tcp-connect --idle-timeout 100ms --expect x", Silent, 6, "--expect 'x': nothing was sent"),
    ("tcp-connect --max-bytes 25", Busy, 0, ""),
    ("udp-bind --timeout 100ms", Absent, 6, TIMEOUT),
    ("udp-bind --timeout 100ms", Busy, 6, TIMEOUT),
    ("udp-bind --timeout 100ms --echo", Busy, 6, TIMEOUT),
    ("udp-bind --timeout 100ms --respond =x", Busy, 6, TIMEOUT),
    ("udp-bind --timeout 100ms --exec cat", Busy, 6, TIMEOUT),
    ("udp-bind --timeout 100ms --expect x", Absent, 6, "--expect 'x': timed out"),
    ("udp-bind --timeout 4 --expect x", Busy, 8, "--expect 'x': timed out"),
    ("udp-bind --idle-timeout 100ms", Absent, 6, IDLE),
    ("udp-bind --idle-timeout 100ms", Silent, 6, IDLE),
    ("udp-bind --idle-timeout 100ms --echo", Silent, 6, IDLE),
    ("udp-bind --idle-timeout 100ms --idle-ok", Silent, 0, ""),
    ("udp-bind --idle-timeout 100ms --respond =x", Silent, 6, IDLE),
    ("udp-bind --count 2 --timeout 100ms", Silent, 6, TIMEOUT),
    ("udp-bind --count 2", Busy, 0, ""),
    ("udp-bind --count 2 --echo", Busy, 0, ""),
    ("udp-bind --count 2 --respond =x", Busy, 0, ""),
    ("udp-bind --count 2 --exec cat", Busy, 0, ""),
    ("udp-bind --count 2 --expect x", Busy, 8, "--expect 'x': nothing more came"),
    ("udp-bind --max-bytes 25", Busy, 0, ""),
    ("udp-bind --max-bytes 25 --count 9", Busy, 0, ""),
    ("udp-bind --max-bytes 20 --count 9", Busy, 0, ""),
    ("udp-bind --max-bytes 25 --echo", Busy, 0, ""),
    ("udp-sendto --timeout 100ms", Silent, 6, TIMEOUT),
    ("udp-sendto --timeout 4", Busy, 6, "timed out after 4 s (--timeout)"),
    ("udp-sendto --timeout 100ms --connected", Silent, 6, TIMEOUT),
    ("udp-sendto --timeout 100ms --expect x", Silent, 6, "--expect 'x': timed out"),
    ("udp-sendto --timeout 4 --expect x", Busy, 8, "--expect 'x': timed out"),
    ("udp-sendto --idle-timeout 100ms", Silent, 6, IDLE),
    ("udp-sendto --idle-timeout 100ms --idle-ok --reply-timeout forever", Silent, 0, ""),
    ("udp-sendto --count 2 --timeout 100ms", Silent, 6, TIMEOUT),
    ("udp-sendto --count 2", Busy, 0, ""),
    ("udp-sendto --replies 2", Busy, 0, ""),
    ("udp-sendto --max-bytes 25", Busy, 0, ""),
    ("udp-sendto --max-bytes 25 --replies 9", Busy, 0, ""),
];

/// The number of rows that run at the same time.
const AT_ONCE: usize = 24;

#[test]
fn every_limit_has_its_status_in_every_mode() {
    for rows in TABLE.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for row in rows {
                scope.spawn(|| check(*row));
            }
        });
    }
}

#[track_caller]
fn check(row: Row) {
    let (words, peer, status, message) = row;
    let (mode, options) = words.split_once(' ').unwrap();
    let done = match mode {
        "tcp-connect" => connects(options, peer),
        "udp-sendto" => sends(options, peer),
        _ => waits_for(&format!("{mode} 0 {options}"), peer),
    };
    assert_eq!(done.status, status, "{row:?}:\n{}", done.err);
    let errors = done.errors();
    assert!(errors.starts_with(message), "{row:?}:\n{errors}");
    assert_eq!(errors.is_empty(), message.is_empty(), "{row:?}:\n{errors}");
    // Limits on received data are exact, and a datagram is whole.
    let size = match (mode, options) {
        ("tcp-listen" | "tcp-connect", "--max-bytes 25" | "--max-bytes 25 --recv-only") => 25,
        (_, "--max-bytes 25" | "--count 2" | "--replies 2") => 20,
        _ => return,
    };
    assert_eq!(done.out.len(), size, "{row:?}");
}

/// Runs a mode that waits for peers.
fn waits_for(words: &str, peer: Peer) -> Done {
    let running = tuplecat(words).stdin(Input::Held).start();
    let address = running.ready();
    let is_stream = words.starts_with("tcp");
    match peer {
        Absent => running.wait(),
        Silent if is_stream => {
            let _peer = TcpStream::connect(address);
            running.wait()
        }
        Silent => {
            send_from_anywhere(address);
            running.wait()
        }
        Busy if is_stream => {
            // The connection is refused if the run is over already.
            if let Ok(stream) = TcpStream::connect(address) {
                chatter(stream);
            }
            running.wait()
        }
        Busy => {
            let (socket, _) = datagrams();
            socket.connect(address).unwrap();
            chatter_in_datagrams(socket);
            running.wait()
        }
    }
}

fn send_from_anywhere(address: SocketAddr) {
    datagrams().0.send_to(b"once", address).unwrap();
}

fn connects(options: &str, peer: Peer) -> Done {
    let launch = |address| {
        let launch = tuplecat("tcp-connect").to(address).args(options);
        launch.stdin(Input::Held).start()
    };
    if peer == Absent {
        let (_queue, address) = silent();
        return launch(address).wait();
    }
    let (listener, address) = listen();
    let running = launch(address);
    let stream = accept(&listener);
    let _held = match peer {
        Busy => {
            chatter(stream);
            None
        }
        _ => Some(stream),
    };
    running.wait()
}

fn sends(options: &str, peer: Peer) -> Done {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --send question").to(address);
    let running = launch.args(options).start();
    if peer == Busy {
        let (_, sender) = receive(&socket);
        socket.connect(sender).unwrap();
        chatter_in_datagrams(socket);
        return running.wait();
    }
    running.wait()
}

/// Sends ten bytes again and again, until the connection breaks.
fn chatter(mut stream: TcpStream) {
    thread::spawn(move || {
        while stream.write_all(b"123456789\n").is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
}

/// Sends datagrams again and again, until they are refused.
fn chatter_in_datagrams(socket: UdpSocket) {
    thread::spawn(move || {
        while socket.send(b"123456789\n").is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
}

#[test]
fn many_clients_have_a_limit_each() {
    let server = tuplecat("tcp-listen -k 0 --max-bytes 4 --stdin-to none").start();
    let address = server.ready();
    for text in ["one two", "two three"] {
        let mut peer = connect(address);
        peer.write_all(text.as_bytes()).unwrap();
        server.out().wait_for(&text[..4]);
        // It is closed with unread data, which is a reset.
        assert!(is_ready_within(&peer, rustix::event::PollFlags::HUP, BOUND));
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().exits(143).text(), "one two ");
}

both! {
    /// Time in which the process did not run does not count as idle: received data is looked at first.
    fn a_stopped_process_is_not_idle(transport) {
        let server = waits(transport, "0 --idle-timeout 4").start();
        let mut client = speaks(transport, server.ready()).arg("-v").stdin(Input::Held).start();
        client.write("before");
        server.out().wait_for("before");
        server.signal(Signal::STOP);
        client.write("meanwhile");
        client.err().wait_for("  9 bytes");
        thread::sleep(Duration::from_millis(4100));
        server.signal(Signal::CONT);
        server.out().wait_for("meanwhile");
        client.write("after");
        client.close_stdin();
        assert_eq!(server.wait().exits(0).text(), "beforemeanwhileafter");
    }
}

#[test]
fn an_expected_answer_needs_a_reply_timeout() {
    for words in ["--send x --expect y", "--probe"] {
        let launch = tuplecat("udp-sendto --reply-timeout 0 127.0.0.1 9").args(words);
        let done = launch.run().exits(2);
        assert!(done.errors().contains("--reply-timeout 0"), "{}", done.err);
    }
}

/// At a limit, received data is still written for a moment. A reader that reads nothing is waited for, without spinning.
#[test]
fn a_passed_limit_does_not_spin() {
    for limit in ["--idle-timeout 1", "--timeout 3"] {
        let server = tuplecat("tcp-listen 0").args(limit).stdout(Output::Held);
        let server = server.start();
        let peer = connect(server.ready());
        push(&peer, &bytes(16 << 20));
        let before = ticks(&server);
        assert!(server.has_ended_within(BOUND));
        // A tick is a hundredth of a second: a busy loop would use about a hundred.
        assert!(ticks(&server) - before < 20, "it spins");
        server.wait().exits(6);
    }
}

/// The peer sees the FIN at the end of the input, and what it sends until the time has passed is received.
#[test]
fn a_run_quits_some_time_after_the_end_of_its_input() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--quit-after 1", Input::Bytes(b"all".to_vec()));
        assert_eq!(read_all(&peer), b"all", "{side:?}");
        peer.write_all(b"an answer").unwrap();
        assert_eq!(running.wait().exits(0).text(), "an answer", "{side:?}");
    }
    let (socket, address) = datagrams();
    let words = "udp-sendto --quit-after 1 --reply-timeout forever";
    let running = tuplecat(words).to(address).says("question").start();
    let (_, sender) = receive(&socket);
    socket.send_to(b"an answer", sender).unwrap();
    assert_eq!(running.wait().exits(0).text(), "an answer");
    let server = tuplecat("udp-bind 0 --quit-after 100ms").start();
    send_from_anywhere(server.ready());
    assert_eq!(server.wait().exits(0).text(), "once");
}

/// One read gives one message of a peer that waits for each to be read.
#[test]
fn a_stream_is_read_so_many_times() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--max-reads 2", Input::Held);
        peer.write_all(b"one ").unwrap();
        running.out().wait_for("one ");
        peer.write_all(b"two ").unwrap();
        assert_eq!(running.wait().exits(0).text(), "one two ", "{side:?}");
    }
}
