//! Standard input and output shared by the clients of one listener: to all or one of them, prefixed, into files, or brokered.
//! A client that reads nothing delays others for a limited time, and is then dropped with a message.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// Connects a client and waits until it is accepted as the one with this number.
fn join(server: &Running, number: usize) -> TcpStream {
    let client = connect(server.ready());
    server.err().wait_for(&format!("  #{number}\n"));
    client
}

/// Checks that exactly these bytes arrive.
#[track_caller]
fn gets(client: &TcpStream, text: &str) {
    assert_eq!(read_len(client, text.len()), text.as_bytes());
    assert!(is_silent_for(client, Duration::from_millis(20)));
}

/// Columns: the option, the clients that get the first line, and those that get the next one after the first client has left and a
/// third has come.
#[test]
fn input_goes_to_the_clients_of_the_policy() {
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

/// A file goes to the clients that are connected when it is read; later ones get a FIN.
#[test]
fn a_file_goes_to_connected_clients() {
    for which in ["all", "first", "last"] {
        let server = tuplecat("tcp-listen -k 0 --stdin-to").arg(which);
        let server = server.stdin(Input::From(with_text(b"a file"))).start();
        let one = connect(server.ready());
        assert_eq!(read_all(&one), b"a file");
        let mut two = connect(server.ready());
        assert_eq!(read_all(&two), b"");
        // The other direction goes on.
        two.write_all(b"still here").unwrap();
        server.out().wait_for("still here");
        server.signal(Signal::INT);
        server.wait().exits(130);
    }
}

/// Without input, a client that has finished is closed, and nothing is waited for.
#[test]
fn without_input_a_client_that_has_finished_is_closed() {
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
fn a_broker_forwards_each_client_to_all_others() {
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
    // The end of one client does not end the others.
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

/// Returns the size of the chunks of a sender, which its letter identifies.
fn chunk_of(letter: u8) -> usize {
    500 + 700 * usize::from(letter - b'a')
}

/// Chunks of clients that send at once are not mixed, neither for other clients nor on standard output.
#[test]
fn a_broker_forwards_whole_chunks() {
    // All of it fits into the initial window of the server, so that nothing is divided on its way there.
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

/// Writes until the server takes nothing more, or `len` bytes are written.
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
fn a_broker_drops_a_client_that_does_not_read() {
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
        "broken     tcp {} <-> {}  #1  acknowledged nothing for 2 s (--client-timeout)",
        server.ready(),
        deaf.local_addr().unwrap()
    );
    assert_eq!(server.err().wait_for_line("broken"), message);
    server.signal(Signal::INT);
    server.wait().exits(130);
}

/// A client that reads nothing is dropped by an echo, and by shared input, which the others then get.
#[test]
fn a_client_that_reads_nothing_is_dropped() {
    let server = tuplecat("tcp-listen -k --echo --client-timeout 300ms 0").start();
    let deaf = connect(server.ready());
    flood(&deaf, usize::MAX);
    let broken = server.err().wait_for_line("broken");
    assert!(
        broken.contains("  #1  acknowledged nothing for 0.3 s"),
        "{broken}"
    );

    let server = tuplecat("tcp-listen -k --client-timeout 2 0");
    let mut server = server.stdin(Input::Held).start();
    let mut deaf = join(&server, 1);
    let hears = join(&server, 2);
    let text = bytes(30 << 20);
    let reader = thread::spawn(move || read_len(&hears, 30 << 20));
    server.write(&text);
    assert!(reader.join().unwrap() == text);
    let broken = server.err().wait_for_line("broken");
    assert!(
        broken.contains("  #1  acknowledged nothing for 2 s"),
        "{broken}"
    );
    // It can read what is in flight, and learns by a reset that this is not all.
    let end = deaf.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

/// A client that does not read standard input delays the input, and not the output of others.
#[test]
fn a_client_that_reads_nothing_delays_no_output() {
    let server = tuplecat("tcp-listen -k 0");
    let mut server = server.stdin(Input::Held).start();
    let _deaf = join(&server, 1);
    let mut speaks = join(&server, 2);
    let mut stdin = server.take_stdin();
    // The client does not read it: the rest stays in the pipe when its buffers are full.
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

/// Returns the files in a folder with their content, sorted by name.
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
            // An existing file stays unchanged.
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

/// A client may come from one port any number of times, and costs the others no time.
#[test]
fn a_port_that_comes_back_ten_thousand_times_has_a_file_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = tuplecat("tcp-listen -k 0 --out-dir")
        .arg(folder.path())
        .start();
    let port = server.ready().port();
    let mut client = connect(server.ready());
    let own = client.local_addr().unwrap().port();
    let name = folder
        .path()
        .join(format!("tcp_127.0.0.1_{port}_127.0.0.1_{own}"));
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", name.display()));
    fs::write(&name, "").unwrap();
    (1..=10_000).for_each(|number| fs::write(numbered(number), "").unwrap());
    client.write_all(b"again").unwrap();
    drop(client);
    let mut other = connect(server.ready());
    other.write_all(b"other").unwrap();
    drop(other);
    server.err().wait_until("two ends", |err| {
        String::from_utf8_lossy(err).matches("closed ").count() >= 2
    });
    assert_eq!(fs::read_to_string(numbered(10_001)).unwrap(), "again");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

/// A client that has finished, and does not read, does not keep its place for ever.
#[test]
fn a_finished_client_that_reads_nothing_is_dropped() {
    let server = tuplecat("tcp-listen -k --echo --max-clients 1 --client-timeout 300ms 0").start();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.ready().into()).unwrap();
    let mut deaf = TcpStream::from(socket);
    // More than the client's buffer holds, and less than all buffers hold.
    deaf.write_all(&bytes(200_000)).unwrap();
    finish(&deaf);
    let broken = server.err().wait_for_line("broken");
    assert!(
        broken.contains("  #1  acknowledged nothing for 0.3 s"),
        "{broken}"
    );
    let mut next = connect(server.ready());
    next.write_all(b"next").unwrap();
    assert_eq!(read_len(&next, 4), b"next");
}

/// The first client has got all of it, and the others should not wait.
#[test]
fn a_client_that_comes_after_the_end_of_the_input_is_reported_once() {
    let server = tuplecat("tcp-listen -k 0").says("for the first").start();
    for number in 1..=3 {
        let client = connect(server.ready());
        let expected: &[u8] = if number == 1 { b"for the first" } else { b"" };
        assert_eq!(read_all(&client), expected);
    }
    server.signal(Signal::TERM);
    let done = server.wait().exits(143);
    let line = done.line("late");
    assert!(
        line.ends_with("#2  standard input has ended: this client gets nothing of it"),
        "{line}"
    );
    assert_eq!(done.err.matches("late ").count(), 1, "{}", done.err);
}
