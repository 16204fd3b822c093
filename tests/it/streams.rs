//! Standard input and output of every kind: pipes, FIFOs, files, terminals, sockets, none.
//! The data is the same through all of them, and inherited descriptors stay unchanged.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use rustix::net::{SendFlags, send};
use tuplecat::flow::Transport;

use crate::common::*;

/// Ten megabytes, which is more than all buffers hold.
const MUCH: usize = 10_000_000;

/// Returns a standard input of every kind, with these bytes and an end.
fn inputs(directory: &Path, bytes: &[u8]) -> Vec<(&'static str, Input)> {
    let feed = |mut to: Box<dyn Write + Send>| {
        let bytes = bytes.to_vec();
        // The test notices unread input.
        thread::spawn(move || drop(to.write_all(&bytes)));
    };
    let path = fifo(directory);
    let reader = read_side(&path);
    feed(Box::new(write_side(&path)));
    fs::remove_file(&path).unwrap();
    let (process, test) = UnixStream::pair().unwrap();
    feed(Box::new(test));
    vec![
        ("a pipe", Input::Bytes(bytes.to_vec())),
        ("a file", Input::From(with_text(bytes))),
        ("a FIFO", Input::From(reader.into())),
        ("a socket", Input::From(process.into())),
    ]
}

/// Reads the data in a standard output.
type Arrived = Box<dyn FnOnce(&Done) -> Vec<u8>>;

/// A standard output, and the function that reads its data.
struct Sink {
    name: &'static str,
    output: Output,
    arrived: Arrived,
}

/// Returns a standard output of every kind.
fn sinks(directory: &Path) -> Vec<Sink> {
    let collect = |name, output, capture: Capture| Sink {
        name,
        output,
        arrived: Box::new(move |_| capture.finish()),
    };
    let path = fifo(directory);
    let reader = read_side(&path);
    let writer = write_side(&path);
    fs::remove_file(&path).unwrap();
    let (process, test) = UnixStream::pair().unwrap();
    let (file, append) = (with_text(b"head "), directory.join("append"));
    fs::write(&append, "head ").unwrap();
    let mut reread = File::from(file.try_clone().unwrap());
    reread.seek(SeekFrom::End(0)).unwrap();
    let appending = File::options().append(true).open(&append).unwrap();
    vec![
        Sink {
            name: "a pipe",
            output: Output::Captured,
            arrived: Box::new(|done| done.out.clone()),
        },
        Sink {
            name: "a file that has content",
            output: Output::To(file),
            arrived: Box::new(move |_| {
                let mut all = Vec::new();
                reread.rewind().unwrap();
                reread.read_to_end(&mut all).unwrap();
                all.strip_prefix(b"head ").unwrap().to_vec()
            }),
        },
        Sink {
            name: "a file open for appending",
            output: Output::To(appending.into()),
            arrived: Box::new(move |_| {
                let all = fs::read(append).unwrap();
                all.strip_prefix(b"head ").unwrap().to_vec()
            }),
        },
        collect("a FIFO", Output::To(writer.into()), Capture::start(reader)),
        collect("a socket", Output::To(process.into()), Capture::start(test)),
    ]
}

#[test]
fn a_stream_goes_from_any_kind_to_any_kind() {
    let sent = bytes(MUCH);
    for which in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        for (source, input) in inputs(directory.path(), &sent) {
            let sink = sinks(directory.path()).swap_remove(which);
            let server = tuplecat("tcp-listen 0").stdout(sink.output).start();
            let client = tuplecat("tcp-connect").to(server.ready()).stdin(input);
            client.run().exits(0);
            let done = server.wait().exits(0);
            let arrived = (sink.arrived)(&done);
            assert!(arrived == sent, "from {source} to {}", sink.name);
        }
    }
}

#[test]
fn a_stream_goes_both_ways_at_once() {
    let (there, back) = (bytes(MUCH), bytes(MUCH / 2));
    let server = tuplecat("tcp-listen 0").says(&back).start();
    let client = tuplecat("tcp-connect")
        .to(server.ready())
        .says(&there)
        .run();
    assert!(client.exits(0).out == back);
    assert!(server.wait().exits(0).out == there);
}

#[test]
fn datagrams_come_from_any_kind_of_input() {
    let sent = bytes(2500);
    let directory = tempfile::tempdir().unwrap();
    for (source, input) in inputs(directory.path(), &sent) {
        let (socket, address) = datagrams();
        let client = tuplecat("udp-sendto --datagram-size 1000 --reply-timeout 0").to(address);
        client.stdin(input).run().exits(0);
        let received: Vec<Vec<u8>> = (0..3).map(|_| receive(&socket).0).collect();
        let sizes: Vec<usize> = received.iter().map(Vec::len).collect();
        assert_eq!(sizes, [1000, 1000, 500], "from {source}");
        assert!(received.concat() == sent, "from {source}");
    }
}

#[test]
fn datagrams_go_to_any_kind_of_output() {
    for which in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let sink = sinks(directory.path()).swap_remove(which);
        let server = tuplecat("udp-bind --count 3 0").stdout(sink.output).start();
        let (socket, _) = datagrams();
        for datagram in ["one ", "", "three"] {
            socket.send_to(datagram.as_bytes(), server.ready()).unwrap();
        }
        let done = server.wait().exits(0);
        assert_eq!((sink.arrived)(&done), b"one three", "to {}", sink.name);
    }
}

/// The writer of a FIFO may be gone before the program starts.
#[test]
fn a_fifo_whose_writer_has_gone_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    for transport in [Transport::Tcp, Transport::Udp] {
        let reader = read_side(&path);
        write_side(&path).write_all(b"all of it").unwrap();
        let server = waits(transport, "0").start();
        let client = speaks(transport, server.ready());
        client.stdin(Input::From(reader.into())).run().exits(0);
        assert_eq!(server.wait().exits(0).text(), "all of it");
    }
}

/// One socket is both standard input and standard output, as under a super-server.
#[test]
fn one_socket_may_be_input_and_output() {
    let (process, test) = UnixStream::pair().unwrap();
    let (listener, address) = listen();
    let output = Output::To(process.try_clone().unwrap().into());
    let client = tuplecat("tcp-connect").to(address);
    let client = client
        .stdin(Input::From(process.into()))
        .stdout(output)
        .start();
    let mut peer = accept(&listener);
    (&test).write_all(b"question").unwrap();
    test.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&peer), b"question");
    peer.write_all(b"answer").unwrap();
    drop(peer);
    client.wait().exits(0);
    let mut answer = String::new();
    test.set_read_timeout(Some(BOUND)).unwrap();
    (&test).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

/// Files below /proc have size 0, and content.
#[test]
fn a_file_of_unknown_size_is_read_to_its_end() {
    let file = File::open("/proc/version").unwrap();
    let server = tuplecat("tcp-listen 0").start();
    let client = tuplecat("tcp-connect").to(server.ready());
    client.stdin(Input::From(file.into())).run().exits(0);
    assert_eq!(
        server.wait().exits(0).out,
        fs::read("/proc/version").unwrap()
    );
}

#[test]
fn closed_input_and_output_are_kinds_too() {
    let null = File::options().write(true).open("/dev/null").unwrap();
    let server = tuplecat("tcp-listen 0")
        .stdout(Output::To(null.into()))
        .start();
    let client = tuplecat("tcp-connect").to(server.ready()).says(bytes(MUCH));
    client.run().exits(0);
    assert!(
        server
            .wait()
            .exits(0)
            .line("closed")
            .contains("in 10000000 B,")
    );

    // Nothing arrives, so a closed standard output does not matter.
    let server = tuplecat("tcp-listen 0")
        .stdout(Output::Closed)
        .stdin(Input::Closed);
    let server = server.start();
    drop(connect(server.ready()));
    server.wait().exits(0);
}

/// The offset of a file is where reading ended, for the next reader.
#[test]
fn a_file_is_read_from_where_it_is_and_left_at_its_end() {
    let mut file = File::from(with_text(b"skipped, and sent"));
    file.seek(SeekFrom::Start(9)).unwrap();
    let server = tuplecat("tcp-listen 0").start();
    let input = Input::From(file.try_clone().unwrap().into());
    let client = tuplecat("tcp-connect").to(server.ready()).stdin(input);
    client.run().exits(0);
    assert_eq!(server.wait().exits(0).text(), "and sent");
    assert_eq!(file.stream_position().unwrap(), 17);
}

/// Urgent data is part of the stream.
#[test]
fn urgent_data_is_received_in_its_place() {
    for fast in ["", "--no-fast-path"] {
        let server = tuplecat("tcp-listen 0").args(fast).start();
        let peer = connect(server.ready());
        let mut expected = Vec::new();
        for piece in bytes(MUCH).chunks(MUCH / 10) {
            (&peer).write_all(piece).unwrap();
            send(&peer, b"!", SendFlags::OOB).unwrap();
            expected.extend_from_slice(piece);
            expected.push(b'!');
        }
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(server.wait().exits(0).out == expected, "other bytes");

        // Alone, and at the end.
        let (listener, address) = listen();
        let client = tuplecat("tcp-connect").args(fast).to(address).start();
        let peer = accept(&listener);
        send(&peer, b"?", SendFlags::OOB).unwrap();
        client.out().wait_for("?");
        send(&peer, b"!", SendFlags::OOB).unwrap();
        drop(peer);
        assert_eq!(client.wait().exits(0).text(), "?!");
    }
}

/// The kernel splices large pieces, and small ones are copied: all arrive in order.
#[test]
fn small_pieces_and_large_ones_arrive_in_order() {
    for side in SIDES {
        let (running, mut peer) = meet(side, "", Input::Null);
        let text = bytes(20 << 20);
        let (small, large) = text.split_at(40 * 1000);
        for (count, piece) in (1..).zip(small.chunks(1000)) {
            peer.write_all(piece).unwrap();
            running.out().wait_for_len(count * 1000);
        }
        peer.write_all(large).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(running.wait().exits(0).out == text);
    }
}
