//! Standard descriptors that are closed, full or of an unexpected kind, in every combination; and resource limits.
//! A descriptor that cannot be read or written is an error with one line and status 1, if there is anything to read or write.

use std::fs::{self, File};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// The modes, as on the command line.
const MODES: [&str; 4] = ["tcp-listen", "tcp-connect", "udp-bind", "udp-sendto"];

/// Inputs, and the error of each.
const INPUTS: [(&str, &str); 7] = [
    ("null", ""),
    ("closed", ""),
    ("bytes", ""),
    ("file", ""),
    ("directory", "is a directory"),
    ("wrong way", "bad file descriptor"),
    ("socket", "transport endpoint is not connected"),
];

/// Outputs, and the error of each once there is something to write.
const OUTPUTS: [(&str, &str); 7] = [
    ("pipe", ""),
    ("null", ""),
    ("full", "no space left on device"),
    ("closed", "it was closed when the program started"),
    ("directory", "bad file descriptor"),
    ("wrong way", "bad file descriptor"),
    ("epoll", "invalid argument"),
];

const ERRORS: [&str; 4] = ["pipe", "null", "full", "closed"];

fn unusual(name: &str) -> OwnedFd {
    match name {
        "full" => File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into(),
        "directory" => File::open("/").unwrap().into(),
        "epoll" => epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
        "socket" => Socket::new(Domain::IPV4, Type::STREAM, None)
            .unwrap()
            .into(),
        name => panic!("what is '{name}'?"),
    }
}

fn input(name: &str) -> Input {
    match name {
        "null" => Input::Null,
        "closed" => Input::Closed,
        "bytes" => Input::Bytes(b"hello".to_vec()),
        "file" => Input::From(with_text(b"hello")),
        "wrong way" => Input::From(unusual("full")),
        name => Input::From(unusual(name)),
    }
}

fn output(name: &str) -> Output {
    match name {
        "null" => Output::Null,
        "closed" => Output::Closed,
        "pipe" => Output::Captured,
        "wrong way" => Output::To(File::open("/dev/null").unwrap().into()),
        name => Output::To(unusual(name)),
    }
}

/// Runs a mode with a peer that reads everything and answers, and tolerates a mode that has ended.
fn converse(
    mode: &str,
    speaks: bool,
    is_fine: bool,
    with: impl Fn(Launch) -> Launch,
) -> (Done, bool) {
    let start = |launch| with(launch).start();
    let mut has_answered = true;
    let done = match mode {
        "tcp-listen" => {
            let running = start(tuplecat("tcp-listen 0"));
            let mut peer = connect(running.ready());
            let _ = peer
                .write_all(b"answer")
                .and(peer.shutdown(Shutdown::Write));
            running.wait()
        }
        "tcp-connect" => {
            let (listener, address) = listen();
            let running = start(tuplecat(mode).to(address));
            let mut peer = accept(&listener);
            let _ = peer
                .write_all(b"answer")
                .and(peer.shutdown(Shutdown::Write));
            running.wait()
        }
        "udp-bind" => {
            // Without an error it would not end.
            let count = if is_fine { "--count 1" } else { "" };
            let running = start(tuplecat("udp-bind --idle-timeout 20 0").args(count));
            let (socket, _) = datagrams();
            let _ = socket.send_to(b"answer", running.ready());
            running.wait()
        }
        _ => {
            let (socket, address) = datagrams();
            let words = if speaks {
                "--replies 1 --reply-timeout 30"
            } else {
                "--reply-timeout 0"
            };
            let running = start(tuplecat(mode).args(words).to(address));
            // Without a datagram there is no answer.
            has_answered = speaks;
            if speaks {
                let (_, sender) = receive(&socket);
                let _ = socket.send_to(b"answer", sender);
            }
            running.wait()
        }
    };
    (done, has_answered)
}

fn check(
    mode: &str,
    (from, unreadable): (&str, &str),
    (to, unwritable): (&str, &str),
    errors: &str,
) {
    let with = |launch: Launch| {
        launch
            .stdin(input(from))
            .stdout(output(to))
            .stderr(output(errors))
    };
    let speaks = ["bytes", "file"].contains(&from);
    let is_fine = unreadable.is_empty() && unwritable.is_empty();
    let (done, is_answered) = converse(mode, speaks, is_fine, with);
    let case = format!("{mode}, {from} > {to} 2> {errors}: {done:?}");
    let input = format!("cannot read standard input: {unreadable}");
    let output = format!("cannot write to standard output: {unwritable}");
    let is_wrong = !unreadable.is_empty() || !unwritable.is_empty() && is_answered;
    if is_wrong {
        assert_eq!(done.status, 1, "{case}");
        let found = done.errors();
        assert!(
            errors != "pipe" || found == input || found == output,
            "{case}"
        );
    } else {
        assert_eq!(done.status, 0, "{case}");
        assert!(
            to != "pipe" || !is_answered || done.text() == "answer",
            "{case}"
        );
    }
}

#[test]
fn every_combination_of_descriptors_has_its_status() {
    thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(move || {
                for from in INPUTS {
                    for to in OUTPUTS {
                        for errors in ERRORS {
                            check(mode, from, to, errors);
                        }
                    }
                }
            });
        }
    });
}

/// `ulimit -f` counts blocks of 512 bytes.
#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let sent = bytes(100_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let server = tuplecat("tcp-listen 0").limited("-f 16");
    let server = server
        .stdout(Output::To(File::create(&path).unwrap().into()))
        .start();
    let _ = connect(server.ready()).write_all(&sent);
    let done = server
        .wait()
        .fails(1, "cannot write to standard output: file too large");
    assert!(fs::read(&path).unwrap() == sent[..8192]);
    // The bytes that were written were received before, and count.
    let received = number_before(done.line("closed"), " B, out");
    assert!(received >= 8192, "{}", done.err);

    let server = tuplecat("udp-bind 0").limited("-f 16");
    let server = server
        .stdout(Output::To(File::create(&path).unwrap().into()))
        .start();
    let (socket, _) = datagrams();
    for piece in sent.chunks(1000) {
        let _ = socket.send_to(piece, server.ready());
    }
    server
        .wait()
        .fails(1, "cannot write to standard output: file too large");
    assert!(sent.starts_with(&fs::read(&path).unwrap()));
}

/// An incomplete record does not stop the transfer, and is an error at its end.
#[test]
fn a_record_that_may_not_grow_is_an_error_at_the_end() {
    let sent = bytes(100_000);
    for option in ["--hex-file", "--events", "--pcap"] {
        let server = tuplecat("tcp-listen -v")
            .args(option)
            .args("record 0")
            .limited("-f 1")
            .start();
        let mut peer = connect(server.ready());
        for piece in sent.chunks(100) {
            peer.write_all(piece).unwrap();
        }
        drop(peer);
        let done = server.wait().exits(1);
        assert!(done.out == sent);
        assert!(
            done.errors().contains(option) && done.errors().contains("file too large"),
            "{}",
            done.err
        );
    }
}

/// With fewer descriptors than it needs, the program fails with an error; with enough, it works.
#[test]
fn too_few_descriptors_are_an_error_that_says_so() {
    let rows: [(&str, i32); 4] = [
        ("tcp-listen --timeout 50ms 0", 6),
        ("tcp-connect --on-stdin-eof quit 127.0.0.1 PORT", 0),
        ("udp-bind --timeout 50ms 0", 6),
        ("udp-sendto --reply-timeout 0 127.0.0.1 9", 0),
    ];
    let (_listener, address) = listen();
    for (words, good) in rows {
        let words = words.replace("PORT", &address.port().to_string());
        let mut statuses = Vec::new();
        for count in 4..20 {
            let done = tuplecat(&words)
                .bare()
                .limited(&format!("-n {count}"))
                .run();
            let errors = done.errors();
            assert!(
                done.status == good || done.status == 1 && errors.ends_with("too many open files"),
                "{words}, {count}: {done:?}"
            );
            statuses.push(done.status);
        }
        assert_eq!((statuses[0], statuses[15]), (1, good), "{words}");
    }
}

/// A limit on the address space, in kilobytes. The transfer is many times as large.
#[test]
fn little_memory_is_enough_for_much_data() {
    let sent = bytes(20_000_000);
    let server = tuplecat("tcp-listen 0").limited("-v 100000").start();
    let client = tuplecat("tcp-connect")
        .to(server.ready())
        .limited("-v 100000");
    client.says(&sent).run().exits(0);
    assert!(server.wait().exits(0).out == sent);
}
