//! Other netcats as peers over Unix sockets, in both roles: everything arrives, and both ends finish.
//! A tool that is not installed is skipped.

use std::fs;

use rustix::process::Signal;

use crate::common::*;

/// Bytes that each side sends: more than the buffers hold.
const SIZE: usize = 600_000;

/// Programs with their words to listen and to connect, which a path follows.
const STREAMS: [(&str, &str, &str); 2] = [
    ("socat", "-t 30 - UNIX-LISTEN:", "-t 30 - UNIX-CONNECT:"),
    ("nc.openbsd", "-lUN ", "-UN "),
];

fn peer(name: &str, words: &str, place: &Place) -> Launch {
    program(name, &format!("{words}{}", place.path().display()))
}

/// Bytes of ours and of theirs in one session. nc ends at the first end, and cuts what it still has to send.
fn sessions(name: &str) -> &'static [(usize, usize)] {
    match name {
        "socat" => &[(SIZE, SIZE), (SIZE, 0), (0, SIZE)],
        _ => &[(SIZE, 0), (0, SIZE)],
    }
}

/// Gives a launch so many bytes; with none, it has nothing to say.
fn with(launch: Launch, len: usize) -> Launch {
    if len == 0 {
        launch
    } else {
        launch.says(bytes(len))
    }
}

#[test]
fn a_stream_arrives_from_and_at_each_listener() {
    for (name, listens, _) in STREAMS {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        for &(ours, theirs) in sessions(name) {
            let place = Place::new();
            let peer = with(peer(name, listens, &place), theirs).start();
            let client = with(place.launch("unix-connect", "--retry-for 20"), ours);
            assert!(
                client.run().exits(0).out == bytes(theirs),
                "{name} {ours} {theirs}"
            );
            assert!(
                peer.wait().exits(0).out == bytes(ours),
                "{name} {ours} {theirs}"
            );
        }
    }
}

#[test]
fn a_stream_arrives_from_and_at_each_client() {
    for (name, _, connects) in STREAMS {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        for &(ours, theirs) in sessions(name) {
            let place = Place::new();
            let server = place.start("", |launch| with(launch, ours));
            let peer = with(peer(name, connects, &place), theirs).run();
            assert!(peer.exits(0).out == bytes(ours), "{name} {ours} {theirs}");
            let server = server.wait().exits(0);
            assert!(server.out == bytes(theirs), "{name} {ours} {theirs}");
            let line = server.line("accepted");
            assert!(line.contains(" pid ") && line.contains(" uid "), "{line}");
        }
    }
}

#[test]
fn a_request_gets_its_answer_from_each_listener() {
    for (name, listens, _) in STREAMS {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        let place = Place::new();
        let peer = peer(name, listens, &place).says("answer").start();
        let client = place.launch(
            "unix-connect",
            "--retry-for 20 --send question --expect answer",
        );
        assert_eq!(client.run().exits(0).text(), "answer");
        assert_eq!(peer.wait().text(), "question");
    }
}

#[test]
fn packets_are_those_of_socat() {
    if !is_installed("socat") {
        return skip("socat is not installed");
    }
    let place = Place::new();
    let server = place.start("--seqpacket --out json", |launch| launch.says("answer"));
    let words = format!("-t 30 - UNIX-CONNECT:{},socktype=5", place.path().display());
    assert_eq!(
        program("socat", &words)
            .says("packet")
            .run()
            .exits(0)
            .text(),
        "answer"
    );
    assert!(
        server
            .wait()
            .exits(0)
            .text()
            .contains("\"text\":\"packet\"")
    );
}

#[test]
fn datagrams_come_from_each_sender() {
    let place = Place::new();
    for (name, words) in [("socat", "-u - UNIX-SENDTO:"), ("nc.openbsd", "-q 0 -uU ")] {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        let server = place.bind("--count 1", |launch| launch);
        let peer = peer(name, words, &place).says("datagram").start();
        assert_eq!(server.wait().exits(0).text(), "datagram", "{name}");
        peer.wait();
    }
}

#[test]
fn datagrams_are_received_and_answered_by_socat() {
    if !is_installed("socat") {
        return skip("socat is not installed");
    }
    let place = Place::new();
    let receiver = program(
        "socat",
        &format!("-u UNIX-RECV:{} -", place.path().display()),
    )
    .start();
    let client = place.launch(
        "unix-sendto",
        "--retry-for 20 --reply-timeout 0 --send datagram",
    );
    client.run().exits(0);
    receiver.out().wait_for("datagram");
    receiver.signal(Signal::TERM);
    receiver.wait();

    let answering = format!("UNIX-RECVFROM:{},fork EXEC:cat", place.path().display());
    let _ = fs::remove_file(place.path());
    let server = program("socat", &answering).start();
    let ask = "--retry-for 20 --send question --expect question --from any";
    assert_eq!(
        place.launch("unix-sendto", ask).run().exits(0).text(),
        "question"
    );
    drop(server);
}
