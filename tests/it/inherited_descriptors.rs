//! Terminals, and descriptors that other processes have open too: they are used without changing their state.
//! `O_NONBLOCK` belongs to the open file description, which the shell shares; setting it breaks the next program.

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::ioctl_fionread;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tuplecat::flow::Transport;

use crate::common::*;

/// A terminal gives input by line, and shows the output.
#[test]
fn a_terminal_gives_input_by_line() {
    let (person, process) = terminal();
    let (socket, address) = datagrams();
    let output = Output::To(process.try_clone().unwrap().into());
    let client = tuplecat("udp-sendto").to(address);
    let client = client
        .stdin(Input::From(process.into()))
        .stdout(output)
        .start();
    let screen = Capture::start(person.try_clone().unwrap());
    let mut sender = None;
    for line in ["first\n", "second\n"] {
        (&person).write_all(line.as_bytes()).unwrap();
        let (datagram, from) = receive(&socket);
        assert_eq!(datagram, line.as_bytes());
        sender = Some(from);
    }
    socket.send_to(b"answer\n", sender.unwrap()).unwrap();
    screen.wait_for("answer");
    // Control-D at the start of a line is the end.
    (&person).write_all(b"\x04").unwrap();
    client.wait().exits(0);
}

#[test]
fn a_terminal_that_hangs_up_has_ended() {
    let (person, process) = terminal();
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect").to(address);
    let client = client.stdin(Input::From(process.into())).start();
    let peer = accept(&listener);
    (&person).write_all(b"line\n").unwrap();
    assert_eq!(read_len(&peer, 5), b"line\n");
    drop(person);
    assert_eq!(read_all(&peer), b"");
    drop(peer);
    client.wait().exits(0);
}

#[test]
fn a_terminal_takes_all_that_arrives() {
    let (person, process) = terminal();
    let mut settings = tcgetattr(&process).unwrap();
    settings.make_raw();
    tcsetattr(&process, OptionalActions::Now, &settings).unwrap();
    let sent = bytes(300_000);
    let output = Output::To(process.into());
    let server = tuplecat("tcp-listen 0").stdout(output).start();
    let mut peer = connect(server.ready());
    let screen = Capture::start(person);
    peer.write_all(&sent).unwrap();
    drop(peer);
    assert!(screen.wait_for_len(sent.len()) == sent);
    server.wait().exits(0);
}

/// Flags of the standard descriptors are shared with other processes.
#[test]
fn inherited_descriptors_keep_their_flags() {
    type Pair = fn() -> (OwnedFd, OwnedFd);
    let kinds: [(&str, Pair); 4] = [
        ("a pipe", || {
            let (reader, writer) = std::io::pipe().unwrap();
            (reader.into(), writer.into())
        }),
        ("a terminal", || {
            let (person, process) = terminal();
            (process.into(), person.into())
        }),
        ("a socket", || {
            let (one, other) = UnixStream::pair().unwrap();
            (one.into(), other.into())
        }),
        ("a file", || (with_text(b"x\n"), with_text(b""))),
    ];
    for (name, pair) in kinds {
        for flags in [OFlags::empty(), OFlags::NONBLOCK] {
            keeps_flags(name, pair(), pair(), flags);
        }
    }
}

/// Runs the program between two pairs of connected descriptors: it reads from the first of the one, and writes received data and
/// reports to an end of the other.
fn keeps_flags(name: &str, input: (OwnedFd, OwnedFd), output: (OwnedFd, OwnedFd), set: OFlags) {
    let (process_in, test_in) = input;
    // A pipe is written at its second end.
    let (process_out, _test_out) = match name {
        "a pipe" => (output.1, output.0),
        _ => output,
    };
    let inherited = [&process_in, &process_out].map(|fd| fd.try_clone().unwrap());
    for fd in &inherited {
        fcntl_setfl(fd, fcntl_getfl(fd).unwrap() | set).unwrap();
    }
    let before = inherited.each_ref().map(|fd| fcntl_getfl(fd).unwrap());
    let (listener, address) = listen();
    let errors = Output::To(process_out.try_clone().unwrap());
    let client = tuplecat("tcp-connect")
        .to(address)
        .stdin(Input::From(process_in));
    let client = client
        .stdout(Output::To(process_out))
        .stderr(errors)
        .start();
    let mut peer = accept(&listener);
    File::from(test_in.try_clone().unwrap())
        .write_all(b"x\n")
        .unwrap();
    if name != "a file" {
        assert_eq!(read_len(&peer, 2), b"x\n", "{name}");
    }
    peer.write_all(b"answer").unwrap();
    let flags = || inherited.each_ref().map(|fd| fcntl_getfl(fd).unwrap());
    assert_eq!(flags(), before, "{name}, while it runs");
    drop(test_in);
    peer.shutdown(Shutdown::Write).unwrap();
    read_all(&peer);
    client.wait().exits(0);
    assert_eq!(flags(), before, "{name}, after the run");
}

/// A record on standard output waits for its reader, also if another process has made the descriptor non-blocking.
#[test]
fn a_record_on_a_pipe_that_does_not_block_is_whole() {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let output = Output::To(writer.into());
    let server = tuplecat("tcp-listen --pcap - 0").stdout(output).start();
    let sent = bytes(1_000_000);
    let mut peer = connect(server.ready());
    thread::scope(|scope| {
        scope.spawn(|| {
            peer.write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        wait_until("the pipe is full", || {
            ioctl_fionread(&reader).unwrap() > 60_000
        });
        let record = Capture::start(reader);
        server.wait().exits(0);
        assert!(record.finish().len() > sent.len());
    });
}

/// A message socket as input keeps boundaries: each message is a datagram, and only one that is too long is cut.
#[test]
fn messages_of_a_socket_are_a_datagram_each() {
    let kind = SocketType::SEQPACKET;
    let (process_in, test_in) =
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let lens = [64, 64, 64, 1, 64, 1472, 2000, 7, 70_000, 5];
    for (number, &len) in (b'a'..).zip(&lens) {
        let sent = send(&test_in, &vec![number; len], SendFlags::empty()).unwrap();
        assert_eq!(sent, len);
    }
    drop(test_in);
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --reply-timeout 0").to(address);
    client.stdin(Input::From(process_in)).run().exits(0);
    for (number, len) in (b'a'..).zip(lens) {
        for datagram in vec![number; len].chunks(1472) {
            assert_eq!(receive(&socket).0, datagram);
        }
    }
}

/// Each message takes a call that measures it, and one that reads it. The third one fails.
#[test]
fn messages_before_a_broken_one_are_sent() {
    if !has_strace() {
        return;
    }
    let kind = SocketType::SEQPACKET;
    let (process_in, test_in) =
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    for message in [b"one", b"two", b"six"] {
        send(&test_in, message, SendFlags::empty()).unwrap();
    }
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --no-fast-path --reply-timeout 0").to(address);
    let client = client.failing_at("recvfrom", "ECONNRESET", "5");
    let done = client.stdin(Input::From(process_in)).run().exits(1);
    assert_eq!([receive(&socket).0, receive(&socket).0], [b"one", b"two"]);
    let message = "cannot read standard input: connection reset by peer";
    assert_eq!(done.errors(), message);
    drop(test_in);
}

/// Over a stream there is no boundary to keep, and all of a message goes, whatever its size.
#[test]
fn a_message_of_any_size_is_sent_whole() {
    let message = bytes(150_000);
    for kind in [SocketType::SEQPACKET, SocketType::DGRAM] {
        for words in ["", "--no-fast-path", "-C"] {
            let (process_in, test_in) =
                socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
            let sent = send(&test_in, &message, SendFlags::empty());
            assert_eq!(sent.unwrap(), message.len());
            let (listener, address) = listen();
            let client = tuplecat("tcp-connect").args(words).to(address);
            let client = client.stdin(Input::From(process_in)).start();
            let peer = accept(&listener);
            let expected = match words {
                "-C" => tuplecat::framing::CrLf::default().convert(&message),
                _ => message.clone(),
            };
            assert!(read_len(&peer, expected.len()) == expected, "{words}");
            drop((client, test_in));
        }
    }
}

/// The name of a master in /proc opens another pseudo-terminal.
#[test]
fn the_master_of_a_terminal_is_read_and_written_itself() {
    let (master, slave) = terminal();
    let mut settings = tcgetattr(&slave).unwrap();
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings).unwrap();
    let (input, output) = (master.try_clone().unwrap(), Output::To(master.into()));
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect").to(address);
    let client = client
        .stdin(Input::From(input.into()))
        .stdout(output)
        .start();
    let mut peer = accept(&listener);
    (&slave).write_all(b"question").unwrap();
    assert_eq!(read_len(&peer, 8), b"question");
    let answer = bytes(100_000);
    let screen = Capture::start(slave);
    peer.write_all(&answer).unwrap();
    assert!(screen.wait_for_len(answer.len()) == answer);
    drop(client);
}

both! {
    /// As with a pipe: its reader wants no more.
    fn a_socket_as_output_whose_reader_has_gone_is_a_closed_output(transport) {
        let (listener, address) = listen();
        let away = connect(address);
        reset(accept(&listener));
        let (kept, reader) = UnixStream::pair().unwrap();
        drop(reader);
        for output in [OwnedFd::from(kept), OwnedFd::from(away)] {
            let server = waits(transport, "0").stdout(Output::To(output)).start();
            let client = speaks(transport, server.ready()).says("data");
            let client = client.start();
            server.wait().fails(141, "");
            drop(client);
        }
    }

    /// A status of the network is about the peer.
    fn a_reset_of_standard_input_is_no_reset_by_the_peer(transport) {
        let (listener, address) = listen();
        let input = connect(address);
        reset(accept(&listener));
        let server = waits(transport, "-q 0").start();
        let client = speaks(transport, server.ready()).stdin(Input::From(input.into()));
        client.run().fails(1, "cannot read standard input: connection reset by peer");
    }

    fn a_ready_descriptor_without_a_reader_is_an_error_of_its_own(transport) {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let server = waits(transport, "--ready-fd 1 0").stdout(Output::To(writer.into()));
        server.run().fails(1, "cannot write to descriptor 1 (--ready-fd): its reader has gone");
    }
}
