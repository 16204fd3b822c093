//! How the clients of one listener share standard input and output: all or one of them, marked, filed, or handed on.
//! Whoever does not take what is meant for it holds others up for a bounded time, and is dropped with a message.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// A client that the server has accepted: its number is how many there were.
fn join(server: &Running, number: usize) -> TcpStream {
    let client = connect(server.ready());
    server.err().wait_for(&format!("  #{number}\n"));
    client
}

/// Checks that these bytes come, and none that are not said here.
#[track_caller]
fn gets(client: &TcpStream, text: &str) {
    assert_eq!(read_len(client, text.len()), text.as_bytes());
    assert!(is_silent_for(client, Duration::from_millis(20)));
}

/// The second column is who gets what is typed first, the last one who gets the next, when the first client has gone and a third
/// has come.
#[test]
fn what_is_typed_goes_to_whom_it_should() {
    for (which, before, after) in [
        ("all", ["1", "1"], ["2", "2"]),
        ("first", ["1", ""], ["2", ""]),
        ("last", ["", "1"], ["", "2"]),
        ("none", ["", ""], ["", ""]),
    ] {
        let server = tuplecat("tcp-listen -k 0 --stdin-to").arg(which);
        let mut server = server.stdin(Input::Held).start();
        let (one, two) = (join(&server, 1), join(&server, 2));
        server.write("1");
        gets(&one, before[0]);
        gets(&two, before[1]);
        reset(one);
        server.err().wait_for_line("closed");
        let three = join(&server, 3);
        server.write("2");
        gets(&two, after[0]);
        gets(&three, after[1]);
        server.signal(Signal::INT);
        server.wait().exits(130);
    }
}

/// A file is for those who are there when it is read; those who come later see its end.
#[test]
fn a_file_is_for_those_who_are_there() {
    for which in ["all", "first", "last"] {
        let server = tuplecat("tcp-listen -k 0 --stdin-to").arg(which);
        let server = server.stdin(Input::From(with_text(b"a file"))).start();
        let one = connect(server.ready());
        assert_eq!(read_all(&one), b"a file");
        let mut two = connect(server.ready());
        assert_eq!(read_all(&two), b"");
        // Their own direction goes on.
        two.write_all(b"still here").unwrap();
        server.out().wait_for("still here");
        server.signal(Signal::INT);
        server.wait().exits(130);
    }
}

/// Where there is nothing to say, a client that has finished is gone, and nobody waits for anything.
#[test]
fn without_input_a_client_that_has_finished_is_let_go() {
    let file = || Input::From(with_text(b"unread"));
    for (words, input) in [
        ("", Input::Null),
        ("", Input::Closed),
        ("--stdin-to none", Input::Null),
        ("--stdin-to none", Input::Held),
        ("--stdin-to none", file()),
        ("--recv-only", file()),
    ] {
        let server = tuplecat("tcp-listen -k 0").args(words).stdin(input).start();
        let mut client = connect(server.ready());
        assert!(is_silent_for(&client, Duration::from_millis(20)));
        client.write_all(b"all there is").unwrap();
        finish(&client);
        assert_eq!(read_all(&client), b"", "{words}");
        server.out().wait_for("all there is");
        server.err().wait_for_line("closed");
        server.signal(Signal::INT);
        let done = server.wait().exits(130);
        assert!(!done.err.contains("waiting"), "{words}: {}", done.err);
    }
}

#[test]
fn a_broker_hands_on_what_each_says_to_all_others() {
    let server = tuplecat("tcp-listen -k --broker 0");
    let mut server = server.stdin(Input::Held).start();
    let (mut one, two, three) = (join(&server, 1), join(&server, 2), join(&server, 3));
    one.write_all(b"from one").unwrap();
    gets(&two, "from one");
    gets(&three, "from one");
    gets(&one, "");
    server.out().wait_for("from one");
    server.write("from here");
    for client in [&one, &two, &three] {
        gets(client, "from here");
    }
    // The end of one is that of nobody else.
    finish(&one);
    assert_eq!(read_all(&one), b"");
    server.close_stdin();
    let (mut two, three) = (two, three);
    two.write_all(b"still").unwrap();
    gets(&three, "still");
    server.out().wait_for("from onestill");
    server.signal(Signal::INT);
    server.wait().exits(130);
}

/// The size of the chunks that a speaker sends, known by its letter.
fn chunk_of(letter: u8) -> usize {
    500 + 700 * usize::from(letter - b'a')
}

/// Chunks of many that speak at once are not cut into one another, neither for the others nor on standard output.
#[test]
fn a_broker_hands_on_whole_chunks() {
    // All of it fits into the window that the server offers at first: nothing is cut on its way there.
    const COUNT: usize = 20;
    let server = tuplecat("tcp-listen -k --broker 0").start();
    let hears = join(&server, 1);
    let speakers: Vec<_> = (2..5).map(|number| join(&server, number)).collect();
    let letters = b'a'..=b'c';
    let len: usize = letters.clone().map(|letter| COUNT * chunk_of(letter)).sum();
    thread::scope(|scope| {
        for (letter, mut speaker) in letters.clone().zip(&speakers) {
            scope.spawn(move || {
                for _ in 0..COUNT {
                    speaker.write_all(&vec![letter; chunk_of(letter)]).unwrap();
                }
            });
        }
    });
    let text = read_len(&hears, len);
    for letter in letters {
        let found = text.split(|&byte| byte == letter).count() - 1;
        assert_eq!(found, COUNT * chunk_of(letter));
    }
    let mut pieces = text.chunk_by(|a, b| a == b);
    assert!(pieces.all(|piece| piece.len().is_multiple_of(chunk_of(piece[0]))));
    assert!(server.out().wait_for_len(len) == text);
}

/// Writes until the server takes nothing more, or has taken so much.
fn flood(mut client: &TcpStream, len: usize) -> usize {
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while sent < len {
        match client.write(&piece) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    sent
}

#[test]
fn a_broker_drops_who_does_not_listen() {
    let server = tuplecat("tcp-listen -k --broker --client-timeout 2 0");
    let server = server.stdout(Output::Null).start();
    let deaf = join(&server, 1);
    let speaks = join(&server, 2);
    let mut hears = join(&server, 3);
    let total = 30 << 20;
    let reader = thread::spawn(move || {
        let mut count = 0;
        let mut space = vec![0; 1 << 20];
        while count < total {
            count += hears.read(&mut space).unwrap();
        }
    });
    assert!(flood(&speaks, total) >= total);
    reader.join().unwrap();
    let message = format!(
        "broken     tcp {} <-> {}  #1  took nothing for 2 s (--client-timeout)",
        server.ready(),
        deaf.local_addr().unwrap()
    );
    assert_eq!(server.err().wait_for_line("broken"), message);
    server.signal(Signal::INT);
    server.wait().exits(130);
}

/// An echo, and standard input for all: the others get theirs when the one that does not take it is gone.
#[test]
fn who_takes_nothing_is_dropped_after_a_while() {
    let server = tuplecat("tcp-listen -k --echo --client-timeout 300ms 0").start();
    let deaf = connect(server.ready());
    flood(&deaf, usize::MAX);
    let broken = server.err().wait_for_line("broken");
    assert!(broken.contains("  #1  took nothing for 0.3 s"), "{broken}");

    let server = tuplecat("tcp-listen -k --client-timeout 2 0");
    let mut server = server.stdin(Input::Held).start();
    let mut deaf = join(&server, 1);
    let hears = join(&server, 2);
    let text = bytes(30 << 20);
    let reader = thread::spawn(move || read_len(&hears, 30 << 20));
    server.write(&text);
    assert!(reader.join().unwrap() == text);
    let broken = server.err().wait_for_line("broken");
    assert!(broken.contains("  #1  took nothing for 2 s"), "{broken}");
    // It can take what is on its way for all of its own, and learns that this is not all.
    let end = deaf.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

/// Whoever does not take standard input holds it back, and nothing of what the others say.
#[test]
fn who_takes_nothing_holds_up_nobody_s_output() {
    let server = tuplecat("tcp-listen -k 0");
    let mut server = server.stdin(Input::Held).start();
    let _deaf = join(&server, 1);
    let mut speaks = join(&server, 2);
    let mut stdin = server.take_stdin();
    // Nobody reads all of this: it stays in the pipe when the client's buffers are full.
    let writer = thread::spawn(move || drop(stdin.write_all(&bytes(30 << 20))));
    assert!(!server.has_ended_within(A_WHILE));
    is_calm(&server);
    for number in 0..10 {
        speaks.write_all(b"x").unwrap();
        server.out().wait_for_len(number + 1);
    }
    server.signal(Signal::INT);
    server.wait().exits(130);
    writer.join().unwrap();
}

/// The files in a folder, each with its content, in order of their names.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn each_client_fills_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let server = tuplecat("tcp-listen -k 0 --out-dir")
        .arg(folder.path())
        .start();
    let port = server.ready().port();
    let mut expected: Vec<_> = (0..3)
        .map(|number| {
            let mut client = connect(server.ready());
            let own = client.local_addr().unwrap().port();
            let name = format!("tcp_127.0.0.1_{port}_127.0.0.1_{own}");
            // Somebody has left something there: it stays as it is.
            fs::write(folder.path().join(&name), "old").unwrap();
            client
                .write_all(format!("text {number}").as_bytes())
                .unwrap();
            drop(client);
            server.err().wait_until("so many ends", |err| {
                String::from_utf8_lossy(err).matches("closed ").count() > number
            });
            [
                (format!("{name}.1"), format!("text {number}")),
                (name, "old".to_owned()),
            ]
        })
        .collect::<Vec<_>>()
        .concat();
    expected.sort();
    assert_eq!(files(folder.path()), expected);
    server.signal(Signal::INT);
    assert_eq!(server.wait().exits(130).text(), "");
    let missing = tuplecat("tcp-listen -k 0 --out-dir nowhere").run();
    missing.fails(1, "--out-dir 'nowhere': no such file or directory");
}

/// Also at the end: what a client has not taken is no reason to keep its place for ever.
#[test]
fn who_has_finished_and_takes_nothing_is_dropped_as_well() {
    let server = tuplecat("tcp-listen -k --echo --max-clients 1 --client-timeout 300ms 0").start();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.ready().into()).unwrap();
    let mut deaf = TcpStream::from(socket);
    // More than it has room for, less than there is room for on the way to it.
    deaf.write_all(&bytes(200_000)).unwrap();
    finish(&deaf);
    let broken = server.err().wait_for_line("broken");
    assert!(broken.contains("  #1  took nothing for 0.3 s"), "{broken}");
    let mut next = connect(server.ready());
    next.write_all(b"next").unwrap();
    assert_eq!(read_len(&next, 4), b"next");
}
