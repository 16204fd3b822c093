//! Slow and silent sides: a transfer that the peer acknowledges is never cut, and an end is passed on as soon as it is known.
//! The pauses here are what the tests are about; nothing is decided by how long something took.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use tuplecat::sys::sockopt::unsent;

use crate::common::*;

/// Time in which a wrong FIN would come. If it is too short, a test can miss a fault, but not report one.
const A_WHILE: Duration = Duration::from_millis(300);

/// Reads to the end with a pause before each chunk, and sends a byte after each.
fn read_slowly(mut peer: &TcpStream, chunk: usize, pause: Duration) -> std::io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; chunk]);
    loop {
        thread::sleep(pause);
        match peer.read(&mut buffer)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
        // The run may be over: then the byte is not received.
        let _ = peer.write_all(b".");
    }
}

fn with_small_buffer(peer: &TcpStream) {
    socket2::SockRef::from(peer)
        .set_recv_buffer_size(32 << 10)
        .unwrap();
}

/// A connection whose bytes are acknowledged is not idle, however much of them the send buffer hides.
#[test]
fn a_slow_reader_is_not_idle() {
    let sent = bytes(6 << 20);
    for side in SIDES {
        let words = "--idle-timeout 1";
        let (running, peer) = meet(side, words, Input::Bytes(sent.clone()));
        with_small_buffer(&peer);
        let got = read_slowly(&peer, 512 << 10, Duration::from_millis(100)).unwrap();
        assert!(got == sent, "{side:?}: {} bytes", got.len());
        drop(peer);
        running.wait().exits(0);
    }
}

/// Nor is one whose bytes a slow reader of the output takes.
#[test]
fn a_slow_reader_of_output_is_not_idle() {
    let sent = bytes(400_000);
    for side in SIDES {
        let (mut running, mut peer) = meet_with(side, "--idle-timeout 1", |launch| {
            launch.stdin(Input::Held).stdout(Output::Held)
        });
        let mut out = running.take_stdout();
        let expected = sent.clone();
        let writer = thread::spawn(move || {
            let _ = peer.write_all(&expected);
            finish(&peer);
            peer
        });
        let (mut got, mut chunk) = (Vec::new(), [0; 16 << 10]);
        while got.len() < sent.len() {
            thread::sleep(Duration::from_millis(150));
            match out.read(&mut chunk).unwrap() {
                0 => break,
                count => got.extend_from_slice(&chunk[..count]),
            }
        }
        assert!(got == sent, "{side:?}: {} of {}", got.len(), sent.len());
        drop(writer.join().unwrap());
        running.close_stdin();
        running.wait();
    }
}

/// A client of many is served to the end by each kind of local end as long as it acknowledges something.
#[test]
fn a_slow_client_is_served_to_the_end() {
    let sent = bytes(6 << 20);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &sent).unwrap();
    for program in ["", "--exec cat FILE"] {
        let server = tuplecat("tcp-listen -k --client-timeout 1 0");
        let server = match program {
            "" => server.stdin(Input::Bytes(sent.clone())),
            _ => server.args("--exec cat").arg(file.path()),
        };
        let server = server.start();
        let peer = connect(server.ready());
        with_small_buffer(&peer);
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let mut chunk = vec![0; 512 << 10];
            thread::sleep(Duration::from_millis(100));
            let count = (&peer).read(&mut chunk).unwrap();
            assert_ne!(count, 0, "'{program}': cut after {}", got.len());
            got.extend_from_slice(&chunk[..count]);
        }
        assert!(got == sent, "'{program}'");
        assert!(
            server
                .err()
                .so_far()
                .windows(6)
                .all(|word| word != b"broken")
        );
    }
}

/// Leaving early waits until all that was sent is acknowledged, and reads meanwhile what the peer still says.
#[test]
fn leaving_early_destroys_nothing_that_was_sent() {
    let sent = bytes(3 << 20);
    for side in SIDES {
        let words = "--on-stdin-eof quit";
        let (running, peer) = meet(side, words, Input::Bytes(sent.clone()));
        with_small_buffer(&peer);
        let got = read_slowly(&peer, 64 << 10, Duration::from_millis(40));
        let got = got.unwrap_or_else(|error| panic!("{side:?}: {error}"));
        assert!(got == sent, "{side:?}: {} of {}", got.len(), sent.len());
        drop(peer);
        running.wait().exits(0);
    }
}

/// Leaving early writes all that had arrived by then, however slowly the output is read.
#[test]
fn leaving_early_writes_all_that_has_arrived() {
    let sent = bytes(150_000);
    let words = "--on-stdin-eof quit --no-fast-path";
    for side in SIDES {
        let (mut running, mut peer) = meet_with(side, words, |launch| {
            launch.stdin(Input::Held).stdout(Output::Held)
        });
        let mut out = running.take_stdout();
        peer.write_all(&sent).unwrap();
        while unsent(&peer).unwrap() > 0 {
            thread::yield_now();
        }
        running.close_stdin();
        // Longer than a signal would leave it.
        assert!(!running.has_ended_within(Duration::from_millis(1200)));
        let mut got = Vec::new();
        out.read_to_end(&mut got).unwrap();
        assert!(got == sent, "{side:?}: {} bytes", got.len());
        drop(peer);
        running.wait().exits(0);
    }
}

/// What was sent before a limit or the end of a dialogue arrives as well, and the end is one, not a reset.
#[test]
fn having_enough_destroys_nothing_that_was_sent() {
    let sent = bytes(64 << 20);
    for words in ["--max-bytes 4", "--expect stop"] {
        for side in SIDES {
            let (running, mut peer) = meet(side, words, Input::Bytes(sent.clone()));
            with_small_buffer(&peer);
            assert_eq!(read_len(&peer, 1), sent[..1]);
            peer.write_all(b"stop").unwrap();
            let got = read_slowly(&peer, 1 << 20, Duration::from_millis(10));
            let got = got.unwrap_or_else(|error| panic!("{side:?} {words}: {error}"));
            assert!(sent[1..].starts_with(&got), "{side:?} {words}");
            drop(peer);
            let done = running.wait().exits(0);
            assert_eq!(done.text(), "stop", "{side:?} {words}");
            assert!(!done.err.contains("broken"), "{}", done.err);
        }
    }
}

/// The time limit of the run holds also while it waits for an acknowledgement that never comes.
#[test]
fn leaving_takes_no_longer_than_the_run_may() {
    for (side, limit) in SIDES
        .into_iter()
        .flat_map(|side| [(side, "--timeout 2"), (side, "--idle-timeout 2")])
    {
        let words = &format!("--on-stdin-eof quit {limit}");
        let (running, mut peer) = meet(side, words, Input::Bytes(bytes(150_000)));
        with_small_buffer(&peer);
        running.wait().exits(6);
        let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{side:?}");
    }
}

/// A run that gives up in the middle resets, so that the peer does not take a part for the whole.
#[test]
fn giving_up_in_the_middle_is_a_reset() {
    for limit in ["--timeout 1", "--idle-timeout 1"] {
        for side in SIDES {
            let (running, mut peer) = meet(side, limit, Input::Bytes(bytes(16 << 20)));
            running.wait().exits(6);
            let end = peer.read_to_end(&mut Vec::new());
            let error = end.expect_err("the peer saw an orderly end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{side:?} {limit}");
        }
    }
}

/// Nor does a sender of datagrams say then that this was all.
#[test]
fn giving_up_sends_no_end_datagram() {
    let (socket, address) = datagrams();
    let sender = tuplecat("udp-sendto --eof-datagram --timeout 1").to(address);
    let mut sender = sender.stdin(Input::Held).start();
    sender.write("part");
    assert_eq!(receive(&socket).0, b"part");
    sender.wait().exits(6);
    assert!(is_silent_for(&socket, A_WHILE), "an end that is none");
}

/// Without input, the FIN waits for that of a peer that sends: many take an early one for the end of everything.
#[test]
fn without_input_the_fin_does_not_come_first() {
    for input in [|| Input::Null, || Input::Closed] {
        for side in SIDES {
            let (running, mut peer) = meet(side, "", input());
            for _ in 0..4 {
                peer.write_all(b"part ").unwrap();
                assert!(is_silent_for(&peer, A_WHILE), "{side:?}: an early FIN");
            }
            finish(&peer);
            assert!(read_all(&peer).is_empty());
            let done = running.wait().exits(0);
            assert_eq!(done.text(), "part part part part ", "{side:?}");
        }
    }
}

/// Two silent ends do not wait for each other for ever.
#[test]
fn without_input_a_silent_peer_gets_the_fin() {
    thread::scope(|scope| {
        for text in ["", "hello"] {
            for side in SIDES {
                scope.spawn(move || {
                    let (running, mut peer) = meet(side, "", Input::Null);
                    peer.write_all(text.as_bytes()).unwrap();
                    // A server that closes at the FIN.
                    assert!(read_all(&peer).is_empty());
                    drop(peer);
                    assert_eq!(running.wait().exits(0).text(), text, "{side:?}");
                });
            }
        }
    });
}

#[test]
fn a_shutdown_that_is_asked_for_comes_at_once() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "--on-stdin-eof shutdown", Input::Null);
        assert!(read_all(&peer).is_empty());
        peer.write_all(b"answer").unwrap();
        drop(peer);
        assert_eq!(running.wait().exits(0).text(), "answer");
    }
}

/// Standard output ends when nothing more can come, although the run goes on.
#[test]
fn the_reader_of_output_sees_the_end_of_the_peer() {
    for side in SIDES {
        let (mut running, mut peer) = meet(side, "", Input::Held);
        running.write("begun");
        assert_eq!(read_len(&peer, 5), b"begun");
        peer.write_all(b"banner").unwrap();
        finish(&peer);
        assert_eq!(running.out().finish(), b"banner", "{side:?}");
        running.write("late");
        assert_eq!(read_len(&peer, 4), b"late", "{side:?}: it is over");
        running.close_stdin();
        assert!(read_all(&peer).is_empty());
        running.wait().exits(0);
    }
}

/// A server for many goes on with its output after one of them.
#[test]
fn output_for_many_ends_at_the_very_end() {
    let server = tuplecat("tcp-listen -k 0").stdin(Input::Null).start();
    for text in ["one ", "two "] {
        let mut peer = connect(server.ready());
        peer.write_all(text.as_bytes()).unwrap();
        drop(peer);
        server.out().wait_for(text);
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().exits(143).text(), "one two ");
}

/// While something is expected, no FIN is sent, whatever standard input does.
#[test]
fn no_fin_is_sent_while_something_is_expected() {
    for (words, input) in [
        ("--expect yes", "q"),
        ("--expect yes", ""),
        ("--send q --expect yes", ""),
    ] {
        for side in SIDES {
            let (running, mut peer) = meet(side, words, Input::Bytes(input.into()));
            if !input.is_empty() || words.contains("--send") {
                assert_eq!(read_len(&peer, 1), b"q");
            }
            assert!(is_silent_for(&peer, A_WHILE), "{side:?} {words}: a FIN");
            peer.write_all(b"yes").unwrap();
            assert!(read_all(&peer).is_empty());
            drop(peer);
            running.wait().exits(0);
        }
    }
}

/// Among many, an idle client is disconnected alone.
#[test]
fn an_idle_client_is_disconnected_alone() {
    let server = tuplecat("tcp-listen -k --echo --idle-timeout 1 0").start();
    let (idle, mut busy) = (connect(server.ready()), connect(server.ready()));
    let watcher = thread::spawn(move || read_all(&idle));
    while !watcher.is_finished() {
        busy.write_all(b"x").unwrap();
        assert_eq!(read_len(&busy, 1), b"x");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(watcher.join().unwrap().is_empty());
    busy.write_all(b"y").unwrap();
    assert_eq!(read_len(&busy, 1), b"y");
}
