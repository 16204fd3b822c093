//! Unix sockets: their names and files, the process at the other end, and what they share with TCP.
//! Each test has a directory of its own, or an abstract name.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

fn rest(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_go_both_ways_and_both_ends_finish() {
    let place = Place::new();
    let server = place.start("", |launch| launch.says("answer"));
    assert_eq!(
        server.ready_line(),
        format!("unix {}\n", place.path().display())
    );
    let client = place.launch("unix-connect", "").says(bytes(40_000)).run();
    assert_eq!(client.exits(0).text(), "answer");
    assert!(server.wait().exits(0).out == bytes(40_000));
    assert!(place.is_empty());
}

#[test]
fn the_process_of_a_client_is_named() {
    let place = Place::new();
    let events = place.directory.path().join("events");
    let server = place.start("--events", |launch| launch.arg(&events));
    let client = place.launch("unix-connect", "-v").says("x").start();
    let (pid, uid) = (client.pid(), rustix::process::getuid().as_raw());
    let client = client.wait().exits(0);
    let own = server.pid();
    let server = server.wait().exits(0);
    let path = place.path();
    let name = format!(
        "unix {} <-> pid {pid} (tuplecat) uid {uid}  #1",
        path.display()
    );
    assert_eq!(server.line("accepted"), format!("accepted   {name}"));
    let peer = format!(
        "unix unnamed <-> {} pid {own} (tuplecat) uid {uid}",
        path.display()
    );
    assert_eq!(client.line("connected"), format!("connected  {peer}"));
    let events = fs::read_to_string(events).unwrap();
    let accepted = events
        .lines()
        .find(|line| line.contains("\"accepted\""))
        .unwrap();
    let accepted: serde_json::Value = serde_json::from_str(accepted).unwrap();
    assert_eq!(accepted["process"]["pid"], pid);
    assert_eq!(accepted["process"]["uid"], uid);
    assert_eq!(accepted["process"]["program"], "tuplecat");
    assert_eq!(accepted["local"], path.to_str().unwrap());
    assert_eq!(accepted["remote"], "unnamed");
}

#[test]
fn a_client_of_another_user_is_named_and_needs_permission() {
    if !rustix::process::geteuid().is_root() || !is_installed("setpriv") {
        return skip("it takes root and setpriv");
    }
    let place = Place::new();
    rustix::fs::chmod(place.directory.path(), 0o755.into()).unwrap();
    let words = "--reuid 65534 --regid 65533 --clear-groups";
    let other = |words: &str| {
        let launch = program("setpriv", words).arg(env!("CARGO_BIN_EXE_tuplecat"));
        launch
            .args("unix-connect")
            .arg(place.path())
            .says("x")
            .run()
    };
    // The binary itself may be in a directory that others cannot read.
    let probe = program("setpriv", words).arg(env!("CARGO_BIN_EXE_tuplecat"));
    if probe.args("--version").run().status != 0 {
        return skip("another user cannot run the program");
    }
    let server = place.start("-k", |launch| launch);
    assert!(
        other(words)
            .exits(1)
            .errors()
            .ends_with("permission denied")
    );
    server.signal(Signal::TERM);
    server.wait().exits(143);
    let server = place.start("--mode 666", |launch| launch);
    other(words).exits(0);
    let server = server.wait().exits(0);
    assert!(
        server
            .line("accepted")
            .contains(" (tuplecat) uid 65534  #1"),
        "{}",
        server.err
    );
}

#[test]
fn the_file_has_its_mode_and_goes_with_the_socket() {
    let place = Place::new();
    for (words, mode) in [
        ("-k", 0o600),
        ("-k --mode 0666", 0o666),
        ("-k --no-sandbox", 0o600),
    ] {
        let server = place.start(words, |launch| launch);
        assert_eq!(
            place.path().metadata().unwrap().mode() & 0o777,
            mode,
            "{words}"
        );
        server.signal(Signal::TERM);
        server.wait().exits(143);
        assert!(place.is_empty(), "{words}");
    }
    let server = place.start("", |launch| launch.stdin(Input::Held));
    let client = place.connect();
    server.err().wait_for_line("accepted");
    // One client only: the name is free again.
    wait_until("the file is gone", || place.is_empty());
    drop(client);
    server.wait().exits(0);
}

#[test]
fn what_is_at_the_path_is_left_alone() {
    let place = Place::new();
    let check = |reason: &str| {
        let done = place.launch("unix-listen", "").run();
        let path = place.path();
        done.fails(4, &format!("cannot bind unix {}: {reason}", path.display()));
    };
    fs::write(place.path(), "kept").unwrap();
    check("it exists, and is not a socket");
    assert_eq!(fs::read(place.path()).unwrap(), b"kept");
    fs::remove_file(place.path()).unwrap();

    let elsewhere = place.directory.path().join("elsewhere");
    drop(UnixListener::bind(&elsewhere).unwrap());
    symlink(&elsewhere, place.path()).unwrap();
    check("it exists, and is not a socket");
    fs::remove_file(place.path()).unwrap();

    let listener = UnixListener::bind(place.path()).unwrap();
    check("another process has a socket there");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a client came");
    fs::remove_file(place.path()).unwrap();
    let datagrams = UnixDatagram::bind(place.path()).unwrap();
    check("another process has a socket there");
    drop(datagrams);
}

#[test]
fn the_file_of_a_killed_process_is_replaced() {
    let place = Place::new();
    let first = place.start("-k", |launch| launch);
    first.signal(Signal::KILL);
    first.wait();
    assert!(place.path().exists());
    let server = place.start("", |launch| launch);
    let line = server.err().wait_for_line("replaced");
    assert!(line.contains(&place.path().display().to_string()), "{line}");
    drop(place.connect());
    server.wait().exits(0);
    assert!(place.is_empty());
}

#[test]
fn a_file_that_is_no_longer_our_own_stays() {
    let place = Place::new();
    let server = place.start("-k", |launch| launch);
    fs::remove_file(place.path()).unwrap();
    let _other = UnixListener::bind(place.path()).unwrap();
    server.signal(Signal::TERM);
    server.wait().exits(143);
    drop(place.connect());
}

#[test]
fn nobody_at_a_path_is_a_refusal() {
    let place = Place::new();
    let check = |status, reason: &str| {
        let done = place.launch("unix-connect", "").run();
        let path = place.path();
        done.fails(
            status,
            &format!("cannot connect to {}: {reason}", path.display()),
        );
    };
    check(5, "no such file or directory");
    drop(UnixListener::bind(place.path()).unwrap());
    check(5, "connection refused");
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "").unwrap();
    check(5, "not a socket");
    fs::remove_file(place.path()).unwrap();
    let _datagrams = UnixDatagram::bind(place.path()).unwrap();
    check(
        1,
        "a socket of another type is there: stream, --seqpacket or datagram",
    );
}

#[test]
fn a_path_that_comes_later_is_tried_again() {
    let place = Place::new();
    let client = place
        .launch("unix-connect", "-v --retry-for 20")
        .says("late");
    let client = client.start();
    client.err().wait_for_line("retrying");
    let server = place.start("", |launch| launch);
    client.wait().exits(0);
    assert_eq!(server.wait().exits(0).text(), "late");
}

#[test]
fn a_full_backlog_is_waited_for() {
    let place = Place::new();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let listener = listener.unwrap();
    let address = socket2::SockAddr::unix(place.path()).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let first = place.connect();
    let done = place
        .launch("unix-connect", "--connect-timeout 100ms")
        .run();
    let path = place.path();
    done.fails(
        6,
        &format!(
            "cannot connect to {}: timed out after 0.1 s",
            path.display()
        ),
    );
    let client = place.launch("unix-connect", "-v").says("x").start();
    client.err().wait_for_line("connecting");
    drop(listener.accept().unwrap());
    drop(first);
    let (mut second, _) = listener.accept().unwrap();
    let mut text = String::new();
    second.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    drop(second);
    client.wait().exits(0);
}

#[test]
fn an_abstract_name_is_no_file() {
    let name = format!("@tuplecat test {}", std::process::id());
    let server = tuplecat("unix-listen").arg(&name).start();
    let shown = name.replace(' ', r"\x20");
    assert_eq!(server.ready_line(), format!("unix {shown}\n"));
    tuplecat("unix-listen").arg(&name).run().exits(4);
    tuplecat("unix-connect").arg(&name).says("x").run().exits(0);
    let server = server.wait().exits(0);
    assert_eq!(server.text(), "x");
    assert!(
        server
            .line("accepted")
            .contains(&format!("unix {shown} <-> pid "))
    );
    let done = tuplecat("unix-listen --mode 600").arg(&name).run().exits(2);
    assert!(
        done.errors().contains("--mode is for the file"),
        "{}",
        done.err
    );
}

#[test]
fn a_path_may_be_longer_than_an_address() {
    let place = Place::new();
    let deep = place.directory.path().join("d".repeat(150));
    fs::create_dir(&deep).unwrap();
    let path = deep.join("socket");
    let server = tuplecat("unix-listen").arg(&path).start();
    assert_eq!(server.ready_line(), format!("unix {}\n", path.display()));
    tuplecat("unix-connect").arg(&path).says("x").run().exits(0);
    assert_eq!(server.wait().exits(0).text(), "x");
    let path = deep.join("n".repeat(100));
    let done = tuplecat("unix-listen").arg(&path).run().exits(4);
    assert!(
        done.errors()
            .contains("a path of more than 107 bytes ends in a name of at most "),
        "{}",
        done.err
    );
}

#[test]
fn many_clients_are_served_and_told_apart() {
    let place = Place::new();
    let files = place.directory.path().join("files");
    fs::create_dir(&files).unwrap();
    let server = place.start("-k --out-dir", |launch| launch.arg(&files));
    // The same process twice.
    let mut clients = [place.connect(), place.connect()];
    for (client, text) in clients.iter_mut().zip(["one", "two"]) {
        client.write_all(text.as_bytes()).unwrap();
    }
    for (client, text) in clients.iter_mut().zip([" more", " more"]) {
        client.write_all(text.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    }
    drop(clients);
    server.err().wait_until("both are closed", |text| {
        String::from_utf8_lossy(text).matches("closed ").count() == 2
    });
    server.signal(Signal::TERM);
    server.wait().exits(143);
    let texts = files.read_dir().unwrap();
    let mut texts: Vec<_> = texts
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    texts.sort();
    assert_eq!(texts, ["one more", "two more"]);
}

#[test]
fn local_ends_are_those_of_tcp() {
    let place = Place::new();
    let ask = |words: &str, program: &[&str]| {
        let server = place.start(words, |launch| program.iter().fold(launch, Launch::arg));
        let mut client = place.connect();
        client.write_all(b"ping\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = rest(&client);
        drop(client);
        server.signal(Signal::TERM);
        server.wait().exits(143);
        String::from_utf8(answer).unwrap()
    };
    assert_eq!(ask("-k --echo", &[]), "ping\n");
    assert_eq!(ask("-k --respond", &["ping=pong\\n"]), "pong\n");
    assert_eq!(ask("-k --exec", &["tr", "a-z", "A-Z"]), "PING\n");
    let pid = std::process::id();
    let text = "$PROTO $UNIXLOCALPATH $UNIXREMOTEPID $UNIXREMOTEEUID $TUPLECAT_CONN";
    let uid = rustix::process::getuid().as_raw();
    let expected = format!("UNIX {} {pid} {uid} 1\n", place.path().display());
    assert_eq!(ask("-k --shell", &[&format!("echo {text}")]), expected);
}

#[test]
fn a_dialogue_and_a_broker_work() {
    let place = Place::new();
    let server = place.start("-k --broker", |launch| launch);
    let mut listener = place.connect();
    server.err().wait_for_line("accepted");
    let done = place
        .launch("unix-connect", "--send question --expect answer")
        .start();
    let mut question = [0; 8];
    listener.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"question");
    listener.write_all(b"the answer").unwrap();
    assert_eq!(done.wait().exits(0).text(), "the answer");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn packets_keep_their_borders_and_their_end() {
    let place = Place::new();
    let big = "b".repeat(100_000);
    let input = format!("a\n\n{big}\n\n");
    let server = place.start("--seqpacket --in line", |launch| launch.says(&input));
    let client = place
        .launch("unix-connect", "--seqpacket --out len32")
        .says("x")
        .run();
    let mut expected = Vec::new();
    for packet in ["a", "", &big, ""] {
        expected.extend(u32::try_from(packet.len()).unwrap().to_be_bytes());
        expected.extend(packet.as_bytes());
    }
    assert!(client.exits(0).out == expected);
    assert_eq!(server.wait().exits(0).text(), "x");
    let done = place.launch("unix-listen", "--in line").run().exits(2);
    assert!(done.errors().contains("for --seqpacket"), "{}", done.err);
}

#[test]
fn a_dump_is_sent_again() {
    let place = Place::new();
    let dump = place.directory.path().join("dump");
    let server = place.start("--hex-file", |launch| launch.arg(&dump));
    place
        .launch("unix-connect", "")
        .says("recorded")
        .run()
        .exits(0);
    server.wait().exits(0);
    let server = place.start("", |launch| launch);
    let replay = place.launch("unix-connect", "--in dump-received");
    replay.says(fs::read(&dump).unwrap()).run().exits(0);
    assert_eq!(server.wait().exits(0).text(), "recorded");
}

#[test]
fn what_needs_packets_or_ports_is_refused() {
    for words in [
        "--ttl 7",
        "--nodelay on",
        "-4",
        "--source-port 7",
        "--allow ::1",
    ] {
        tuplecat("unix-connect /tmp/x").args(words).run().exits(2);
    }
    let done = tuplecat("unix-listen /tmp/x --pcap f").run().exits(2);
    assert!(
        done.errors().contains("--hex-file records its traffic"),
        "{}",
        done.err
    );
    let done = tuplecat("unix-connect localhost 80").run().exits(2);
    assert!(
        done.errors().contains("one PATH, and no port"),
        "{}",
        done.err
    );
}

#[test]
fn a_peer_that_leaves_data_unread_is_a_reset() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    let client = place
        .launch("unix-connect", "")
        .stdin(Input::Begun(b"unread".to_vec()));
    let client = client.start();
    let (peer, _) = listener.accept().unwrap();
    assert!(is_ready_within(&peer, rustix::event::PollFlags::IN, BOUND));
    drop(peer);
    let done = client.wait().exits(7);
    assert!(
        done.errors().ends_with("connection reset by peer"),
        "{}",
        done.err
    );
}
