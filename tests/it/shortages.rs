//! Shortages and defects below the program: descriptors, memory, buffers, disks. Each call fails with each error.
//! What can continue does, without spinning, and reports the error; the rest ends with status 1 and one line. Nothing is lost silently.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use libc::{
    SYS_accept4, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendfile,
    SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_socket, SYS_splice, SYS_write, SYS_writev,
};
use pretty_assertions::assert_eq;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::*;

/// Shortages, in the words of the program.
const SHORTAGES: [(Errno, &str); 4] = [
    (Errno::MFILE, "too many open files"),
    (Errno::NFILE, "too many open files in system"),
    (Errno::NOBUFS, "no buffer space available"),
    (Errno::NOMEM, "cannot allocate memory"),
];

/// Those that concern memory.
const MEMORY: [(Errno, &str); 2] = [SHORTAGES[2], SHORTAGES[3]];

const ENGINES: [&str; 2] = ["", "--no-fast-path"];

/// Counts the lines of a report that begin with `word`.
fn lines(text: &[u8], word: &str) -> usize {
    let text = String::from_utf8_lossy(text);
    text.lines().filter(|line| line.starts_with(word)).count()
}

#[test]
fn a_listener_that_cannot_accept_reports_it_and_waits() {
    if !has_faults() {
        return;
    }
    thread::scope(|scope| {
        for (error, reason) in SHORTAGES {
            for words in ["tcp-listen 0", "tcp-listen -k 0"] {
                scope.spawn(move || cannot_accept(words, error, reason));
            }
        }
    });
}

fn cannot_accept(words: &str, error: Errno, reason: &str) {
    let start = |option: &str| {
        let launch = tuplecat(words).args(option);
        let launch = launch.with_faults(Faults::of(&[SYS_accept4], error));
        let server = launch.start();
        let client = connect(server.ready());
        let line = server.err().wait_for_line("waiting");
        let expected = format!("no client can be accepted: {reason}; trying again until one can");
        assert!(line.ends_with(&expected), "{line}");
        (server, client)
    };
    let (server, _client) = start("");
    is_calm(&server);
    assert_eq!(lines(&server.err().so_far(), "waiting"), 1);
    server.signal(Signal::TERM);
    server.wait().exits(143);
    let (server, _client) = start("--timeout 2");
    server.wait().exits(6);
    let (server, _client) = start("--accept-timeout 2");
    let errors = server.wait().exits(6).errors();
    assert!(
        errors.starts_with("no client connected to 127.0.0.1:"),
        "{errors}"
    );
}

/// The affected connection ends; other clients are served.
#[test]
fn a_connection_without_memory_does_not_affect_others() {
    if !has_faults() {
        return;
    }
    for (error, reason) in MEMORY {
        for calls in [&[SYS_sendto, SYS_sendmsg][..], &[SYS_recvfrom, SYS_recvmsg]] {
            let server = tuplecat("tcp-listen -k --echo 0").with_faults(Faults::of(calls, error));
            let server = server.start();
            let clients = [1, 2, 3].map(|number| {
                let mut client = connect(server.ready());
                client.write_all(b"hello").unwrap();
                let line = format!("#{number}  {reason}");
                server.err().wait_for(&line);
                client
            });
            is_calm(&server);
            drop(clients);
            server.signal(Signal::TERM);
            server.wait().exits(143);

            let faults = || Faults::of(calls, error);
            let alone = |mut peer: TcpStream, running: Running| {
                // The server may have closed it already.
                let _ = peer.write_all(b"hello");
                let done = running.wait().exits(1);
                let (transport, local, remote) = tuple(done.line("broken"));
                let line = format!("{transport} {local} <-> {remote}: {reason}");
                assert_eq!(done.errors(), line);
            };
            for side in SIDES {
                let words = "--no-fast-path";
                let (running, peer) = meet_with(side, words, |launch| {
                    launch.says("hi").with_faults(faults())
                });
                alone(peer, running);
            }
        }
    }
}

/// Without zero-copy calls the data is copied.
#[test]
fn a_fast_path_that_fails_is_no_loss() {
    if !has_faults() {
        return;
    }
    let (there, back) = (bytes(300_000), bytes(300_001));
    for error in [
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::IO,
        Errno::NOSYS,
        Errno::PERM,
        Errno::ACCESS,
    ] {
        for side in SIDES {
            for is_file in [true, false] {
                let faults = Faults::of(&[SYS_splice, SYS_sendfile], error);
                let (running, peer) = meet_with(side, "", |launch| {
                    let launch = launch.with_faults(faults);
                    if is_file {
                        launch.stdin(Input::From(with_text(&there)))
                    } else {
                        launch.says(&there)
                    }
                });
                let (mut other, back) = (peer.try_clone().unwrap(), back.clone());
                let sender = thread::spawn(move || {
                    other.write_all(&back).unwrap();
                    other.shutdown(Shutdown::Write).unwrap();
                    back
                });
                assert!(read_all(&peer) == there);
                assert!(running.wait().exits(0).out == sender.join().unwrap());
            }
        }
    }
}

/// Without the calls for many datagrams each goes and comes alone.
#[test]
fn calls_for_many_datagrams_that_fail_are_no_loss() {
    if !has_faults() {
        return;
    }
    let lines = "a line\n".repeat(500);
    for error in [Errno::NOSYS, Errno::PERM, Errno::ACCESS] {
        let faults = || Faults::of(&[SYS_recvmmsg, SYS_sendmmsg], error);
        let server = tuplecat("udp-bind 0 --echo").with_faults(faults()).start();
        let client = tuplecat("udp-sendto --in line --out line --replies 500 --reply-timeout 30");
        let client = client.to(server.ready()).with_faults(faults()).says(&lines);
        assert_eq!(client.run().exits(0).text().len(), lines.len());
    }
}

const SEND: [i64; 2] = [SYS_sendmsg, SYS_sendmmsg];

/// A datagram that the kernel does not take is tried again, which is reported after a second.
#[test]
fn a_datagram_without_buffer_space_is_tried_again() {
    if !has_faults() {
        return;
    }
    let (_peer, address) = datagrams();
    thread::scope(|scope| {
        for (error, reason) in MEMORY {
            for words in ["", "--no-fast-path", "--connected", "--eof-datagram"] {
                scope.spawn(move || {
                    let launch = tuplecat("udp-sendto --timeout 4").args(words).to(address);
                    let launch = launch.with_faults(Faults::of(&SEND, error));
                    stays(launch.says(bytes(20_000)).start(), reason);
                });
            }
            for words in ENGINES {
                scope.spawn(move || {
                    let launch = tuplecat("udp-bind --timeout 4 --echo 0").args(words);
                    let server = launch.with_faults(Faults::of(&SEND, error)).start();
                    datagrams().0.send_to(b"hello", server.ready()).unwrap();
                    stays(server, reason);
                });
            }
        }
    });
}

/// Checks that it does not spin, reports once why nothing is sent, and counts nothing as sent.
#[track_caller]
fn stays(running: Running, reason: &str) {
    is_calm(&running);
    let line = running.err().wait_for_line("waiting");
    assert!(
        line.contains(&format!(": {reason}; trying again")),
        "{line}"
    );
    let done = running.wait().exits(6);
    assert_eq!(lines(done.err.as_bytes(), "waiting"), 1, "{}", done.err);
    assert!(
        done.line("closed").contains("out 0 datagrams"),
        "{}",
        done.err
    );
}

/// A queue that was full for a while loses no datagram.
#[test]
fn datagrams_arrive_once_there_is_buffer_space() {
    if !has_strace() {
        return;
    }
    let sent = bytes(20_000);
    for error in ["ENOBUFS", "ENOMEM"] {
        for words in ENGINES {
            let server = tuplecat("udp-bind --eof-datagram --fail-on-loss 0").args(words);
            let server = server.start();
            let client = tuplecat("udp-sendto --eof-datagram").args(words);
            let client = client.to(server.ready()).says(&sent);
            let client = client.failing_at("sendmsg,sendmmsg", error, "1..25");
            client.run().exits(0);
            assert!(server.wait().exits(0).out == sent);
        }
    }
}

#[test]
fn a_client_that_could_not_be_accepted_is_accepted_later() {
    if !has_strace() {
        return;
    }
    for words in ["tcp-listen --echo 0", "tcp-listen -k --echo 0"] {
        let server = tuplecat(words).failing_at("accept4", "ENFILE", "1..3");
        let server = server.start();
        let mut client = connect(server.ready());
        client.write_all(b"hello").unwrap();
        assert_eq!(read_len(&client, 5), b"hello");
        server.signal(Signal::TERM);
        let done = server.wait().exits(143);
        assert_eq!(lines(done.err.as_bytes(), "waiting"), 1, "{}", done.err);
    }
}

/// The EOF datagram must arrive, so one that cannot be sent is an error.
#[test]
fn an_end_that_cannot_be_sent_is_an_error() {
    if !has_faults() {
        return;
    }
    let (_peer, address) = datagrams();
    let client = tuplecat("udp-sendto --eof-datagram").to(address);
    let client = client.with_faults(Faults::of(&SEND, Errno::NOBUFS));
    let done = client.run().exits(1);
    let errors = done.errors();
    let reason = "the datagram that stands for the end could not be sent within 1 s";
    assert!(
        errors.starts_with("udp ") && errors.ends_with(reason),
        "{errors}"
    );
    assert!(!done.err.contains("and the end"), "{}", done.err);
}

#[test]
fn a_socket_that_cannot_be_read_is_an_error() {
    if !has_faults() {
        return;
    }
    let (_peer, address) = datagrams();
    for (error, reason) in MEMORY {
        for words in ENGINES {
            let faults = || Faults::of(&[SYS_recvmsg, SYS_recvmmsg], error);
            let server = tuplecat("udp-bind 0").args(words).with_faults(faults());
            let client = tuplecat("udp-sendto").args(words).to(address).says("hello");
            for launch in [server, client.with_faults(faults())] {
                let done = launch.run().exits(1);
                let errors = done.errors();
                assert!(
                    errors.starts_with("udp ") && errors.ends_with(reason),
                    "{errors}"
                );
            }
        }
    }
}

#[test]
fn a_failure_at_the_start_is_an_error_in_every_mode() {
    if !has_faults() {
        return;
    }
    for (error, reason) in SHORTAGES {
        for words in [
            "tcp-listen 0",
            "tcp-connect 127.0.0.1 9",
            "udp-bind 0",
            "udp-sendto 127.0.0.1 9",
        ] {
            let launch = tuplecat(words).with_faults(Faults::of(&[SYS_socket], error));
            let done = launch.says("hello").run().exits(1);
            let errors = done.errors();
            assert!(
                errors.ends_with(reason) && errors.lines().count() == 1,
                "{errors}"
            );
        }
    }
}

/// A child that cannot be started is an error of its own client only.
#[test]
fn a_child_that_cannot_be_started_costs_one_client() {
    if !has_strace() {
        return;
    }
    let reason = "cannot start 'cat': resource temporarily unavailable";
    let start = |words: &str| {
        let launch = tuplecat(words).failing_at("clone,clone3,fork,vfork", "EAGAIN", "1..1");
        launch.start()
    };
    let server = start("tcp-listen -k 0 --exec cat");
    let (first, mut second) = (connect(server.ready()), connect(server.ready()));
    assert_eq!(read_all(&first), b"");
    server.err().wait_for(&format!("#1  {reason}"));
    second.write_all(b"hello").unwrap();
    assert_eq!(read_len(&second, 5), b"hello");
    is_calm(&server);
    server.signal(Signal::TERM);
    server.wait().exits(143);

    let server = start("tcp-listen 0 --exec cat");
    let _client = connect(server.ready());
    server.wait().fails(1, reason);

    let server = start("udp-bind 0 --exec cat");
    let (first, second) = (datagrams().0, datagrams().0);
    first.send_to(b"hello", server.ready()).unwrap();
    server.err().wait_for(&format!("#1  {reason}"));
    second.send_to(b"hello", server.ready()).unwrap();
    assert_eq!(receive(&second).0, b"hello");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

/// The first two descriptors are those of the signals and the listening socket.
#[test]
fn a_client_without_an_epoll_entry_affects_no_other() {
    if !has_strace() {
        return;
    }
    let server = tuplecat("tcp-listen -k --echo 0").env("TUPLECAT_NO_FAST_PATH", "0");
    let server = server.failing_at("epoll_ctl", "ENOSPC", "3").start();
    let client = connect(server.ready());
    let reason = "#1  cannot wait for a descriptor: no space left on device";
    server.err().wait_for(reason);
    assert_eq!(read_all(&client), b"");
    let mut client = connect(server.ready());
    is_calm(&server);
    client.write_all(b"hello").unwrap();
    assert_eq!(read_len(&client, 5), b"hello");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

/// `ulimit -f` counts blocks of 512 bytes.
#[test]
fn a_folder_without_room_is_an_error() {
    let sent = bytes(100_000);
    let server = tuplecat("tcp-listen -k --out-dir . 0").limited("-f 16");
    let server = server.start();
    let mut client = connect(server.ready());
    // The run may be over before all is sent.
    let _ = client.write_all(&sent);
    let name = client.local_addr().unwrap().to_string().replace(':', "_");
    let kept = server.path(&format!(
        "tcp_{}_{name}",
        server.ready().to_string().replace(':', "_")
    ));
    assert!(server.has_ended_within(BOUND));
    assert!(std::fs::read(kept).unwrap() == sent[..8192]);
    let errors = server.wait().exits(1).errors();
    assert!(errors.ends_with("in '.': file too large"), "{errors}");
}

#[test]
fn an_input_that_breaks_is_an_error_in_every_mode() {
    if !has_faults() {
        return;
    }
    let (_listener, open) = listen();
    let (_socket, bound) = datagrams();
    for engine in ENGINES {
        let faults = Faults::of(&[SYS_sendfile, SYS_splice], Errno::IO);
        let faults = faults.and_at(0, &[SYS_read, SYS_readv]);
        let break_input = |launch: Launch| {
            let file = Input::From(with_text(b"never read"));
            let launch = launch.args(engine).with_faults(faults.clone());
            launch.stdin(file).start()
        };
        let server = break_input(tuplecat("tcp-listen 0"));
        let _client = connect(server.ready());
        for running in [
            server,
            break_input(tuplecat("tcp-connect").to(open)),
            break_input(tuplecat("udp-sendto").to(bound)),
        ] {
            let done = running.wait();
            done.fails(1, "cannot read standard input: input/output error");
        }
        let server = break_input(tuplecat("udp-bind 0"));
        // Standard input is read once there is a peer.
        datagrams().0.send_to(b"hello", server.ready()).unwrap();
        let done = server.wait();
        done.fails(1, "cannot read standard input: input/output error");
    }
}

#[test]
fn an_output_that_breaks_is_an_error_in_every_mode() {
    if !has_faults() {
        return;
    }
    for (error, reason) in [
        (Errno::IO, "input/output error"),
        (Errno::NOSPC, "no space left on device"),
        (Errno::DQUOT, "disk quota exceeded"),
    ] {
        for engine in ENGINES {
            let declined = Faults::of(&[SYS_splice], Errno::INVAL);
            let faults = Faults::of(&[], error).and_at(1, &[SYS_write, SYS_writev]);
            let message = format!("cannot write to standard output: {reason}");
            let break_output = |launch: Launch| {
                let file = tempfile::tempfile().unwrap();
                let launch = launch.args(engine).stdout(Output::To(file.into()));
                launch
                    .with_faults(declined.clone())
                    .with_faults(faults.clone())
            };
            for side in SIDES {
                let (running, mut peer) = meet_with(side, "", break_output);
                let _ = peer.write_all(b"hello");
                running.wait().fails(1, &message);
            }
            let server = break_output(tuplecat("udp-bind 0")).start();
            datagrams().0.send_to(b"hello", server.ready()).unwrap();
            server.wait().fails(1, &message);
        }
    }
}
