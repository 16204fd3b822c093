//! Explanations of a run (`--explain`, `--stats`, `--progress`): the system calls, and measurements.
//! The calls are in the order of man pages, each with the name that the socket has by then.

use std::io::Read;
use std::net::UdpSocket;
use std::path::Path;

use rustix::event::PollFlags;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// Returns the steps in a text as a call and the rest; other lines are left out.
fn steps(text: &str) -> Vec<(&str, &str)> {
    let split = |line| str::split_once(line, ' ').map(|(call, rest)| (call, rest.trim()));
    let steps = text.lines().filter_map(split);
    steps
        .filter(|(call, _)| call.ends_with("()") || *call == "waiting")
        .collect()
}

fn calls(text: &str) -> Vec<&str> {
    steps(text).into_iter().map(|(call, _)| call).collect()
}

/// Returns the first step with this call.
#[track_caller]
fn step<'a>(text: &'a str, call: &str) -> &'a str {
    let found = steps(text).into_iter().find(|(name, _)| *name == call);
    found.unwrap_or_else(|| panic!("no {call} in:\n{text}")).1
}

#[test]
fn a_listener_is_explained_from_socket_to_close() {
    let server = tuplecat("tcp-listen -q --explain 0").start();
    let address = server.ready().to_string();
    let client = tuplecat("tcp-connect -q --explain").to(server.ready());
    let client = client.says("hello").run().exits(0).err;
    let server = server.wait().exits(0).err;

    let mut names = calls(&server);
    // The listening socket is closed once its client is there: before or after the first bytes.
    let closes = names.iter().position(|&call| call == "close()").unwrap();
    names.remove(closes);
    let expected = [
        "socket()", "bind()", "listen()", "waiting", "accept()", "waiting", "recv()", "recv()",
        "close()",
    ];
    assert_eq!(names, expected);
    assert!(step(&server, "socket()").contains("TCP"));
    assert!(step(&server, "bind()").starts_with(&format!("tcp {address}  ")));
    assert!(step(&server, "listen()").contains("4096"));
    assert_eq!(step(&server, "waiting"), "for a client");
    assert!(step(&server, "accept()").contains("a new socket, same local port"));
    assert!(step(&server, "recv()").ends_with("5 bytes"));

    let expected = [
        "socket()",
        "connect()",
        "waiting",
        "connect()",
        "waiting",
        "send()",
        "shutdown()",
        "recv()",
        "close()",
    ];
    assert_eq!(calls(&client), expected);
    let (_, local, remote) = tuple(step(&client, "send()"));
    assert_eq!(remote, address);
    assert_eq!(
        tuple(step(&server, "accept()")),
        ("tcp".to_owned(), remote, local)
    );
    for line in server.lines().chain(client.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn as_many_clients_wait_as_listen_is_explained_with() {
    let server = tuplecat("tcp-listen -q --explain -k --max-clients 1 --backlog 2 0").start();
    let address = server.ready();
    let shown = server.err().wait_for_line("listen()");
    assert!(
        shown.ends_with("the kernel answers; backlog 2: 3 may wait for accept()"),
        "{shown}"
    );
    let _served = connect(address);
    server.err().wait_for_line("accept()");
    let _waiting = [(); 3].map(|()| connect(address));
    let other = tuplecat("tcp-connect --connect-timeout 0.5").to(address);
    other.run().fails(
        6,
        &format!("cannot connect to {address}: timed out after 0.5 s"),
    );
}

#[test]
fn a_datagram_socket_needs_fewer_steps_and_learns_names_late() {
    let server = tuplecat("udp-bind -q --explain --count 1 0").start();
    let client = tuplecat("udp-sendto -q --explain --reply-timeout 0.1").to(server.ready());
    let client = client.says("hello").run().exits(0).err;
    let server = server.wait().exits(0).err;
    let expected = ["socket()", "bind()", "waiting", "recvmsg()", "close()"];
    assert_eq!(calls(&server), expected);
    assert!(step(&server, "recvmsg()").contains("a new sender, the same socket"));
    let expected = ["socket()", "sendmsg()", "waiting", "close()"];
    assert_eq!(calls(&client), expected);
    assert!(step(&client, "sendmsg()").contains("the kernel chose our port"));
    let (_, local, remote) = tuple(step(&client, "sendmsg()"));
    assert_eq!(
        tuple(step(&server, "recvmsg()")),
        ("udp".to_owned(), remote, local)
    );
    assert!(step(&server, "close()").contains("UDP has no end"));
}

#[test]
fn connecting_a_datagram_socket_sends_nothing() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto -q --explain --connected --reply-timeout 0").to(address);
    let client = client.run().exits(0).err;
    assert_eq!(calls(&client), ["socket()", "connect()", "close()"]);
    assert!(step(&client, "connect()").contains("nothing is sent"));
    assert!(is_silent_for(&socket, std::time::Duration::ZERO));
}

#[test]
fn a_refusal_is_a_failed_call_or_a_late_message() {
    let (_nobody, address) = refusing(Transport::Tcp);
    let client = tuplecat("tcp-connect -q --explain")
        .to(address)
        .run()
        .exits(5)
        .err;
    assert_eq!(
        calls(&client),
        ["socket()", "connect()", "waiting", "connect()"]
    );
    assert!(client.contains("failed: connection refused"));
    let (_nobody, address) = refusing(Transport::Udp);
    let client = tuplecat("udp-sendto -q --explain")
        .to(address)
        .says("x")
        .run()
        .exits(5)
        .err;
    assert!(
        step(&client, "recvmsg()").contains("port unreachable (ICMP)"),
        "{client}"
    );
}

/// Connects with these arguments and a long input to a peer that reads nothing, and closes with what has come unread.
fn reset_while_sending(client: Launch) -> Done {
    let (listener, address) = listen();
    let input = Input::From(with_text(&bytes(8_000_000)));
    let client = client.to(address).stdin(input).start();
    let peer = accept(&listener);
    assert!(is_ready_within(&peer, PollFlags::IN, BOUND));
    drop(peer);
    client.wait().exits(7)
}

#[test]
fn the_call_that_failed_is_named_and_no_fin_that_did_not_come() {
    for _ in 0..5 {
        let done = reset_while_sending(tuplecat("tcp-connect -q --explain"));
        let failed = |line: &&str| line.contains("  failed: ");
        let failed: Vec<&str> = done.err.lines().filter(failed).collect();
        assert_eq!(failed.len(), 1, "{}", done.err);
        assert!(!done.err.contains("the FIN of the peer"), "{}", done.err);
        let close = step(&done.err, "close()");
        assert!(
            close.ends_with("sends nothing: the peer has reset the connection"),
            "{close}"
        );
    }
    for words in ["", "--no-fast-path"] {
        let client = tuplecat("tcp-connect --events /dev/stderr").args(words);
        let done = reset_while_sending(client);
        assert!(!done.err.contains("peer-finished"), "{}", done.err);
        assert!(!done.err.contains("peer finished"), "{}", done.err);
    }
}

#[test]
fn strace_shows_the_failed_call_by_the_same_name() {
    if !has_strace() {
        return;
    }
    for _ in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace");
        let client = program("strace", "-f -q -e trace=network -o").arg(&trace);
        let client = client.arg(env!("CARGO_BIN_EXE_tuplecat"));
        let done = reset_while_sending(client.args("tcp-connect -q --explain"));
        let trace = std::fs::read_to_string(&trace).unwrap();
        let is_failed =
            |line: &&str| line.contains(" = -1 ECONNRESET") || line.contains(" = -1 EPIPE");
        let failed = trace.lines().find(is_failed).expect("a failed call");
        let call = if failed.contains(" recvfrom(") {
            "recv()"
        } else {
            "send()"
        };
        let shown = done
            .err
            .lines()
            .find(|line| line.contains("  failed: "))
            .unwrap();
        assert!(shown.starts_with(call), "{shown}\n{failed}");
    }
}

/// Every call that is named is in the trace, as often and in that order. What is waited for has no call of its own.
#[test]
fn strace_shows_every_explained_call_in_the_same_order() {
    if !has_strace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let traced = |calls: &str| {
        let client = program("strace", "-q -e").arg(format!("trace={calls}"));
        let client = client.arg("-o").arg(&trace);
        client.arg(env!("CARGO_BIN_EXE_tuplecat"))
    };
    let (listener, address) = listen();
    let client = traced("socket,bind,connect,sendto,recvfrom,shutdown,close");
    let client = client
        .args("tcp-connect -q --explain --source 127.0.0.1")
        .to(address);
    let client = client.says("hello").start();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"hello");
    drop(peer);
    are_traced(&client.wait().exits(0).err, &trace);

    let (socket, address) = datagrams();
    let client = traced("socket,sendto,recvfrom,sendmsg,sendmmsg,recvmsg,recvmmsg,close");
    let client = client.args("udp-sendto -q --explain --replies 1 --reply-timeout 30");
    let client = client.to(address).says("hello").start();
    let (_, sender) = receive(&socket);
    socket.send_to(b"hello", sender).unwrap();
    are_traced(&client.wait().exits(0).err, &trace);
}

/// Checks that the trace has the calls that are shown, in the same order.
#[track_caller]
fn are_traced(shown: &str, trace: &Path) {
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut traced = trace.lines();
    let mut named = calls(shown);
    named.retain(|&call| call != "waiting");
    // connect() has a line before the call, and one with its result.
    named.dedup();
    for call in named {
        let name = match call {
            "send()" => "sendto(",
            "recv()" => "recvfrom(",
            call => call.trim_end_matches(')'),
        };
        let is_next = |line: &str| line.contains(name) && !line.contains("EAGAIN");
        assert!(traced.any(is_next), "no {call}:\n{shown}\n{trace}");
    }
}

#[test]
fn repeated_calls_are_explained_on_request_only() {
    for (words, most) in [("", 11), ("-v", 20)] {
        let server = tuplecat("udp-bind --explain --count 20 0")
            .args(words)
            .start();
        let (socket, _) = datagrams();
        for _ in 0..20 {
            UdpSocket::send_to(&socket, b"x", server.ready()).unwrap();
        }
        let server = server.wait().exits(0).err;
        let count = calls(&server)
            .iter()
            .filter(|&&call| call == "recvmsg()")
            .count();
        assert_eq!(count, most, "{server}");
        assert_eq!(server.contains("and so on"), most < 20);
    }
}

both! {
    /// The statistics at the end are those of the transfer.
    fn stats_are_printed_at_the_end(transport) {
        let server = waits(transport, "-q --stats 0").start();
        let client = speaks(transport, server.ready()).args("-q --stats").says("hello you");
        let client = client.run().exits(0).err;
        let server = server.wait().exits(0).err;
        assert!(server.contains("stats      received 9 bytes in "), "{server}");
        assert!(client.contains("stats      sent 9 bytes in "), "{client}");
        assert!(client.contains("stats      lasted "), "{client}");
        assert_eq!(server.contains("rtt "), transport == Transport::Tcp, "{server}");
        assert_eq!(server.contains(" retransmits, cwnd "), transport == Transport::Tcp, "{server}");
    }

    /// The table of sockets also has their buffers.
    fn the_table_shows_queued_bytes(transport) {
        let mut server = waits(transport, "0").stdin(Input::Held).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        client.write("x");
        server.out().wait_for("x");
        server.signal(Signal::USR1);
        let row = server.err().wait_for_line("           ");
        match transport {
            Transport::Tcp => assert!(row.contains("ESTABLISHED, unread 0 bytes, unsent 0 bytes, rtt "), "{row}"),
            _ => assert!(row.contains("next datagram 0 bytes, unsent 0 bytes"), "{row}"),
        }
        server.close_stdin();
        client.close_stdin();
        client.wait().exits(0);
        server.wait().exits(0);
    }

    /// A terminal shows the progress, and is clean at the end.
    fn progress_is_shown_on_a_terminal(transport) {
        let (mut person, process) = terminal();
        let server = waits(transport, "-q 0").start();
        let client = speaks(transport, server.ready()).args("-q --progress");
        let client = client.env("TERM", "xterm").stdin(Input::From(with_text(&bytes(5000))));
        let client = client.stderr(Output::To(process.into())).start();
        let mut shown = String::new();
        let mut space = [0; 4096];
        // The terminal reports an error once no process has its other end open: that is the end of the output.
        while let Ok(count @ 1..) = person.read(&mut space) {
            shown.push_str(&String::from_utf8_lossy(&space[..count]));
        }
        client.wait().exits(0);
        server.wait().exits(0);
        assert!(shown.contains("/4.88 KiB"), "{shown:?}");
        assert!(shown.ends_with("\u{1b}[2K") || shown.ends_with('\r'), "{shown:?}");
    }

    /// Redrawing the progress line never erases received data on the same terminal.
    fn progress_makes_room_for_what_is_received(transport) {
        let (mut person, process) = terminal();
        let server = waits(transport, "-q --progress 0").env("TERM", "xterm");
        let errors = process.try_clone().unwrap().into();
        let server = server.stdout(Output::To(process.into())).stderr(Output::To(errors)).start();
        let client = speaks(transport, server.ready()).args("-q --delay 300ms --in hex");
        client.says("7175\n6974\n6521").run().exits(0);
        let mut shown = String::new();
        let mut space = [0; 4096];
        while let Ok(count @ 1..) = person.read(&mut space) {
            shown.push_str(&String::from_utf8_lossy(&space[..count]));
        }
        server.wait().exits(0);
        let (before, received) = shown.split_at(shown.find("qu").unwrap());
        assert!(before.contains("received 0 B"), "{shown:?}");
        assert_eq!(received, "quite!", "{shown:?}");
    }

    /// Progress is shown on a terminal only.
    fn progress_is_not_shown_elsewhere(transport) {
        let server = waits(transport, "-q --progress 0").start();
        let client = speaks(transport, server.ready()).args("-q --progress").says("x");
        assert_eq!(client.run().exits(0).err, "");
        assert_eq!(server.wait().exits(0).err, "");
    }
}
