//! Ends of a TCP session: each direction ends on its own, and each rule holds for client and listener.
//! Nothing is cut off: all input is sent, and all received bytes are written.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::*;

/// A time in which a wrong event would happen. If it is too short, a test can miss a fault, but not report one.
const A_WHILE: Duration = Duration::from_millis(200);

fn says(text: &str) -> Input {
    Input::Bytes(text.as_bytes().to_vec())
}

#[test]
fn the_end_of_input_ends_one_direction_only() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "", says("question"));
        // The peer sees all bytes and then the FIN.
        assert_eq!(read_all(&peer), b"question", "{side:?}");
        peer.write_all(b"answer").unwrap();
        running.out().wait_for("answer");
        peer.write_all(b", and more").unwrap();
        drop(peer);
        assert_eq!(running.wait().exits(0).text(), "answer, and more");
    }
}

#[test]
fn the_end_of_the_peer_ends_one_direction_only() {
    for side in SIDES {
        let (mut running, mut peer) = meet(side, "", Input::Held);
        running.write("early ");
        assert_eq!(read_len(&peer, 6), b"early ");
        peer.write_all(b"all").unwrap();
        finish(&peer);
        running.out().wait_for("all");
        running.write("late ");
        assert_eq!(read_len(&peer, 5), b"late ", "{side:?}");
        running.write("last");
        running.close_stdin();
        assert_eq!(read_all(&peer), b"last");
        running.wait().exits(0);
    }
}

#[test]
fn keep_sends_no_fin() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--on-stdin-eof keep", says("x"));
        assert_eq!(read_len(&peer, 1), b"x");
        assert!(
            is_silent_for(&peer, A_WHILE),
            "{side:?}: the peer sees an end"
        );
        peer.write_all(b"answer").unwrap();
        drop(peer);
        assert_eq!(running.wait().exits(0).text(), "answer");
    }
}

#[test]
fn quit_leaves_at_the_end_of_input_when_all_is_sent() {
    let sent = bytes(1_000_000);
    for side in SIDES {
        let (running, peer) = meet(side, "--on-stdin-eof quit", Input::Bytes(sent.clone()));
        assert!(read_all(&peer) == sent, "{side:?}");
        running.wait().exits(0);
    }
}

#[test]
fn quit_leaves_at_the_end_of_the_peer() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--on-peer-eof quit", Input::Held);
        peer.write_all(b"last words").unwrap();
        finish(&peer);
        let done = running.wait().exits(0);
        assert_eq!(done.text(), "last words", "{side:?}");
        assert!(!done.err.contains("waiting"), "{}", done.err);
    }
}

#[test]
fn a_terminal_is_not_waited_for() {
    for side in SIDES {
        let (_person, process) = terminal();
        let (running, mut peer) = meet(side, "", Input::From(process.into()));
        peer.write_all(b"bye").unwrap();
        finish(&peer);
        let done = running.wait().exits(0);
        assert_eq!(done.text(), "bye", "{side:?}");
        assert!(!done.err.contains("waiting"), "{}", done.err);
    }
}

/// Rules about seconds of silence, all at once because each takes its time.
#[test]
fn silent_input_is_waited_for_as_long_as_the_rules_say() {
    thread::scope(|scope| {
        for side in SIDES {
            scope.spawn(move || silent_from_the_start(side));
            scope.spawn(move || stays_until_the_input_ends(side, "", "a"));
        }
        let words = "--on-peer-eof wait";
        scope.spawn(|| stays_until_the_input_ends(Side::Connects, words, ""));
        scope.spawn(|| ends_within_the_silence(Side::Listens));
    });
}

/// An input that has never given a byte delays the end by 5 s.
fn silent_from_the_start(side: Side) {
    let (running, mut peer) = meet(side, "", Input::Held);
    peer.write_all(b"all").unwrap();
    let start = Instant::now();
    finish(&peer);
    let notice = running.err().wait_for_line("waiting");
    assert!(
        start.elapsed() >= Duration::from_millis(990),
        "reported too early"
    );
    assert!(notice.contains("for 5 s in all"), "{notice}");
    assert!(notice.contains("--on-peer-eof quit"), "{notice}");
    let done = running.wait().exits(0);
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(4990),
        "{side:?}: left after {waited:?}"
    );
    assert_eq!(done.text(), "all");
}

/// An input that has given a byte is never cut off, even if it is slow, nor one that is to be waited for.
fn stays_until_the_input_ends(side: Side, words: &str, first: &str) {
    let (mut running, peer) = meet(side, words, Input::Held);
    running.write(first);
    assert_eq!(read_len(&peer, first.len()), first.as_bytes());
    finish(&peer);
    let notice = running.err().wait_for_line("waiting");
    assert!(notice.contains("waiting until it ends"), "{notice}");
    assert!(
        !running.has_ended_within(Duration::from_millis(5500)),
        "{side:?}: cut off"
    );
    running.write("late");
    running.close_stdin();
    assert_eq!(read_all(&peer), b"late");
    running.wait().exits(0);
}

/// Without anything to wait for there is no report, and `--report none` suppresses the others.
fn ends_within_the_silence(side: Side) {
    let (mut running, peer) = meet(side, "--report none", Input::Held);
    finish(&peer);
    assert!(
        !running.has_ended_within(Duration::from_millis(1500)),
        "{side:?}: left"
    );
    running.close_stdin();
    assert_eq!(running.wait().exits(0).err, "");
}

/// A listener without input does not finish first: other tools take an early FIN for the end of their own transfer.
#[test]
fn a_listener_without_input_does_not_end_first() {
    for input in [Input::Null, Input::Closed] {
        let (running, mut peer) = meet(Side::Listens, "", input);
        peer.write_all(b"one ").unwrap();
        running.out().wait_for("one ");
        assert!(is_silent_for(&peer, A_WHILE), "the peer sees an end");
        peer.write_all(b"two").unwrap();
        finish(&peer);
        assert_eq!(read_all(&peer), b"");
        assert_eq!(running.wait().exits(0).text(), "one two");
    }
}

/// An empty pipe, and a client without input, finish at once.
#[test]
fn an_empty_input_is_an_end() {
    for (side, words, input) in [
        (Side::Connects, "", Input::Null),
        (Side::Connects, "", Input::Closed),
        (Side::Listens, "", says("")),
        (Side::Listens, "--on-stdin-eof shutdown", Input::Null),
    ] {
        let (running, mut peer) = meet(side, words, input);
        assert_eq!(read_all(&peer), b"");
        peer.write_all(b"answer").unwrap();
        drop(peer);
        assert_eq!(running.wait().exits(0).text(), "answer");
    }
}

#[test]
fn a_reset_is_an_error_and_what_arrived_before_it_is_written() {
    let sent = bytes(20_000);
    for side in SIDES {
        let (running, mut peer) = meet(side, "", Input::Held);
        peer.write_all(&sent[..1]).unwrap();
        running.out().wait_for_len(1);
        // Bytes and the reset are in the kernel's queue when the program goes on.
        running.signal(Signal::STOP);
        peer.write_all(&sent[1..]).unwrap();
        let (local, remote) = (peer.peer_addr().unwrap(), peer.local_addr().unwrap());
        reset(peer);
        running.signal(Signal::CONT);
        let done = running.wait().exits(7);
        assert!(
            done.out == sent,
            "{side:?}: {} of 20000 bytes",
            done.out.len()
        );
        let message = format!("tcp {local} <-> {remote}: connection reset by peer");
        assert_eq!(done.errors(), message);
    }
}

#[test]
fn a_reset_is_an_error_while_sending_and_after_the_end_of_input() {
    for side in SIDES {
        // More than the kernel buffers, so that some of it is still unsent at the reset.
        let (running, peer) = meet(side, "", Input::Bytes(vec![0; 20_000_000]));
        assert_eq!(read_len(&peer, 1).len(), 1);
        reset(peer);
        running.wait().exits(7);

        let (running, peer) = meet(side, "", says("x"));
        assert_eq!(read_all(&peer), b"x");
        reset(peer);
        running.wait().exits(7);
    }
}

#[test]
fn an_output_whose_reader_has_gone_ends_a_silent_session_too() {
    for side in SIDES {
        let (mut running, _peer) = meet_with(side, "", |launch| {
            launch.stdin(Input::Held).stdout(Output::Held)
        });
        drop(running.take_stdout());
        assert_eq!(running.wait().exits(141).errors(), "", "{side:?}");
    }
}

#[test]
fn an_output_whose_reader_goes_ends_a_busy_session() {
    for side in SIDES {
        let (mut running, peer) = meet_with(side, "", |launch| {
            launch.stdin(Input::Null).stdout(Output::Held)
        });
        let sender = thread::spawn(move || {
            let (mut peer, chunk) = (peer, bytes(64 << 10));
            // Until the program ends.
            while peer.write_all(&chunk).is_ok() {}
        });
        let mut reader = running.take_stdout();
        std::io::Read::read_exact(&mut reader, &mut [0; 1000]).unwrap();
        drop(reader);
        running.wait().exits(141);
        sender.join().unwrap();
    }
}

#[test]
fn a_signal_leaves_time_to_write_what_has_arrived() {
    let sent = bytes(20_000);
    for side in SIDES {
        let (running, mut peer) = meet(side, "", Input::Held);
        peer.write_all(&sent[..1]).unwrap();
        running.out().wait_for_len(1);
        running.signal(Signal::STOP);
        peer.write_all(&sent[1..]).unwrap();
        running.signal(Signal::TERM);
        running.signal(Signal::CONT);
        let done = running.wait().exits(143);
        assert!(
            done.out == sent,
            "{side:?}: {} of 20000 bytes",
            done.out.len()
        );
        assert!(done.line("closed").contains("in 20000 B, out 0 B"));
    }
}

#[test]
fn no_more_than_the_limit_is_passed_on() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--max-bytes 4", Input::Held);
        peer.write_all(b"123456").unwrap();
        assert_eq!(running.wait().exits(0).text(), "1234", "{side:?}");
    }
}

/// Where nothing is waited for, it is by chance that the refusal of a local port comes in time.
#[test]
fn a_refusal_is_no_failure_where_no_reply_is_waited_for() {
    let (_nobody, address) = refusing(tuplecat::flow::Transport::Udp);
    for engine in ["", "--no-fast-path"] {
        for (words, status) in [
            ("--reply-timeout 0", 0),
            ("--reply-timeout 0 --fail-on-loss", 9),
            ("--reply-timeout 0 --replies 1", 5),
            ("", 5),
        ] {
            let client = tuplecat("udp-sendto").args(words).args(engine).to(address);
            client.says("metric:1|c").run().exits(status);
        }
    }
}
