//! Unix datagrams, and relays to and from Unix sockets: borders, names, answers, and full queues.
//! Each test has a directory of its own.

use std::fs;
use std::os::unix::net::UnixDatagram;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 300_000];
    let len = socket.recv(&mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

#[test]
fn datagrams_of_any_size_keep_their_borders() {
    let place = Place::new();
    let server = place.bind("--out len32 --count 4", |launch| launch);
    let peer = place.peer("peer");
    let sizes = [1, 0, 70_000, 200_000];
    for size in sizes {
        peer.send_to(&vec![b'x'; size], place.path()).unwrap();
    }
    let out = server.wait().exits(0).out;
    let mut rest = out.as_slice();
    for size in sizes {
        let (len, bytes) = rest.split_at(4);
        assert_eq!(u32::from_be_bytes(len.try_into().unwrap()) as usize, size);
        rest = &bytes[size..];
    }
    assert!(rest.is_empty() && place.directory.path().join("peer").exists());
    assert!(!place.path().exists());
}

#[test]
fn a_datagram_names_its_sender_and_its_process() {
    let place = Place::new();
    let server = place.bind("--report data", |launch| launch.stdin(Input::Held));
    let uid = rustix::process::getuid().as_raw();
    let unnamed = UnixDatagram::unbound().unwrap();
    unnamed.send_to(b"1", place.path()).unwrap();
    let name = fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
    let process = format!("pid {} ({}) uid {uid}", std::process::id(), name.trim());
    let path = place.path();
    let line = server.err().wait_for_line("received");
    assert_eq!(
        line,
        format!(
            "received   unix-dgram {} <- unnamed {process}  1 byte",
            path.display()
        )
    );
    let peer = place.peer("peer");
    peer.send_to(b"22", &path).unwrap();
    let own = peer.local_addr().unwrap();
    let own = own.as_pathname().unwrap().display();
    server
        .err()
        .wait_for(&format!("{} <- {own} {process}  2 bytes", path.display()));
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn answers_go_to_the_peer_that_is_chosen() {
    let place = Place::new();
    for (words, expected) in [
        ("", "second"),
        ("--reply-to first", "first"),
        ("--reply-to all", "both"),
    ] {
        let mut server = place.bind(words, |launch| launch.stdin(Input::Held));
        let peers = [place.peer("first"), place.peer("second")];
        for (peer, text) in peers.iter().zip(["1", "2"]) {
            peer.send_to(text.as_bytes(), place.path()).unwrap();
        }
        // One without a name is no peer that can be answered.
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"3", place.path())
            .unwrap();
        server.out().wait_for("123");
        server.write("answer");
        for (peer, name) in peers.iter().zip(["first", "second"]) {
            if expected == name || expected == "both" {
                assert_eq!(received(peer), b"answer", "{words} {name}");
            } else {
                assert!(is_silent_for(peer, std::time::Duration::from_millis(50)));
            }
        }
        server.signal(Signal::TERM);
        server.wait().exits(143);
        for name in ["first", "second"] {
            fs::remove_file(place.directory.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_client_is_answered_by_its_target_alone() {
    let place = Place::new();
    let server = place.bind("--echo", |launch| launch);
    let client = place
        .launch("unix-sendto", "--send question --expect question")
        .run();
    assert_eq!(client.exits(0).text(), "question");
    let source = place.directory.path().join("source");
    let client = place
        .launch("unix-sendto", "--replies 2 --in line --source")
        .arg(&source);
    assert_eq!(client.says("a\nb\n").run().exits(0).text(), "ab");
    assert!(!source.exists());
    server.signal(Signal::TERM);
    server.wait().exits(143);

    let target = UnixDatagram::bind(place.path()).unwrap();
    let mut client = place
        .launch("unix-sendto", "--source")
        .arg(&source)
        .stdin(Input::Held)
        .start();
    client.write("x");
    assert_eq!(received(&target), b"x");
    let refused = place
        .peer("other")
        .send_to(b"stranger", &source)
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    target.send_to(b"answer", &source).unwrap();
    client.out().wait_for("answer");
    client.close_stdin();
    client.wait().exits(0);
}

#[test]
fn nobody_to_send_to_is_a_refusal() {
    let place = Place::new();
    let path = place.path();
    let done = place.launch("unix-sendto", "--send x").run();
    done.fails(
        5,
        &format!(
            "cannot send to {}: no such file or directory",
            path.display()
        ),
    );
    drop(UnixDatagram::bind(&path).unwrap());
    let done = place.launch("unix-sendto", "--send x").run();
    done.fails(
        5,
        &format!("cannot send to {}: connection refused", path.display()),
    );
    fs::remove_file(&path).unwrap();
    let client = place
        .launch("unix-sendto", "-v --retry-for 20 --send late")
        .start();
    client.err().wait_for_line("retrying");
    let server = place.bind("--count 1", |launch| launch);
    client.wait().exits(0);
    assert_eq!(server.wait().exits(0).text(), "late");
}

#[test]
fn a_full_queue_holds_the_sender_back_and_nothing_is_lost() {
    let place = Place::new();
    for words in ["", "--from any"] {
        let slow = UnixDatagram::bind(place.path()).unwrap();
        slow.set_read_timeout(Some(BOUND)).unwrap();
        let words = format!("--reply-timeout 0 --in block:1000 {words}");
        let client = place
            .launch("unix-sendto", &words)
            .says(bytes(1_000_000))
            .start();
        // Its queue is full by now, and the sender has not ended.
        assert!(is_ready_within(&slow, rustix::event::PollFlags::IN, BOUND));
        assert!(!client.has_ended_within(std::time::Duration::from_millis(100)));
        let mut all = Vec::new();
        while all.len() < 1_000_000 {
            all.extend(received(&slow));
        }
        assert!(all == bytes(1_000_000));
        client.wait().exits(0);
        fs::remove_file(place.path()).unwrap();
    }
}

#[test]
fn an_empty_datagram_may_mean_the_end() {
    let place = Place::new();
    let server = place.bind("--eof-datagram", |launch| launch);
    let client = place.launch("unix-sendto", "--eof-datagram --datagram-size 1000");
    client.says(bytes(50_000)).run().exits(0);
    assert!(server.wait().exits(0).out == bytes(50_000));
}

#[test]
fn a_program_answers_each_datagram() {
    let place = Place::new();
    let server = place.bind("--exec tr a-z A-Z", |launch| launch);
    let client = place
        .launch("unix-sendto", "--send hello --expect HELLO")
        .run();
    assert_eq!(client.exits(0).text(), "HELLO");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn a_relay_goes_to_a_unix_socket_and_from_one() {
    let place = Place::new();
    let server = place.start("-k --echo", |launch| launch);
    let target = format!("unix:{}", place.path().display());
    let tcp = tuplecat("tcp-listen -k 0 --report events --to")
        .arg(&target)
        .start();
    let middle = place.directory.path().join("middle");
    let back = format!("tcp:{}", tcp.ready());
    let unix = tuplecat("unix-listen -k --to")
        .arg(&back)
        .arg(&middle)
        .start();
    unix.ready_line();
    let client = tuplecat("unix-connect").arg(&middle).says(bytes(3_000_000));
    assert!(client.run().exits(0).out == bytes(3_000_000));
    let line = tcp.err().wait_for_line("relayed");
    let peer = format!(
        "to  unix unnamed <-> {} pid {} (tuplecat)",
        place.path().display(),
        server.pid()
    );
    assert!(line.contains(&peer), "{line}");
    for running in [unix, tcp, server] {
        running.signal(Signal::TERM);
        running.wait().exits(143);
    }
    assert!(place.is_empty());
}

#[test]
fn a_relay_of_packets_and_datagrams_keeps_borders() {
    let place = Place::new();
    let server = place.start("-k --seqpacket --echo", |launch| launch);
    let middle = place.directory.path().join("middle");
    let target = format!("unix:{}", place.path().display());
    let relay = tuplecat("unix-listen -k --seqpacket --to")
        .arg(&target)
        .arg(&middle)
        .start();
    relay.ready_line();
    let client = tuplecat("unix-connect --seqpacket --in line --out line").arg(&middle);
    assert_eq!(client.says("a\n\nbc\n").run().exits(0).text(), "a\n\nbc\n");
    for running in [relay, server] {
        running.signal(Signal::TERM);
        running.wait().exits(143);
    }
    let server = place.bind("--echo", |launch| launch);
    let relay = tuplecat("udp-bind 0 --to").arg(&target).start();
    let client = tuplecat("udp-sendto")
        .to(relay.ready())
        .args("--in line --out line --replies 3");
    assert_eq!(client.says("a\n\nbc\n").run().exits(0).text(), "a\n\nbc\n");
    drop((relay, server));
}
