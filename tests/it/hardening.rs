//! Hostile input: it never controls a terminal, never leaves its folder, and finds few privileges.
//! Each test is a promise of the section SECURITY in tuplecat(1).

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::common::*;

/// Control sequences: clear the screen, set the title, colours in 7 and in 8 bits, reverse the line, and carriage return.
const ORDERS: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\u{202e}\r\x08\x7f";

fn say(address: SocketAddr, bytes: impl AsRef<[u8]>) -> SocketAddr {
    let mut stream = connect(address);
    stream.write_all(bytes.as_ref()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The server closes once it has read everything.
    assert_eq!(read_all(&stream), b"");
    stream.local_addr().unwrap()
}

/// Checks that a terminal would show every line literally.
#[track_caller]
fn assert_inert(text: &str) {
    let orders = |letter: &char| {
        *letter != '\n' && (letter.is_control() || ('\u{202a}'..='\u{202e}').contains(letter))
    };
    let found = text.chars().find(orders);
    assert_eq!(found, None, "{text:?}");
}

#[test]
fn nothing_received_reaches_a_terminal_through_a_report() {
    let words = "tcp-listen -vv --explain --stats -x --events - --events-payload 0";
    let server = tuplecat(words).start();
    say(server.ready(), ORDERS);
    let done = server.wait();
    assert_eq!((done.status, &done.out[..]), (0, ORDERS.as_bytes()));
    assert_inert(&done.err);

    let words =
        "udp-bind -vv --explain --stats -x --events - --events-payload --count 1 --out json 0";
    let server = tuplecat(words).start();
    let (socket, _) = datagrams();
    socket.send_to(ORDERS.as_bytes(), server.ready()).unwrap();
    let done = server.wait();
    assert_eq!(done.status, 0);
    assert_inert(&done.err);
    let json = String::from_utf8(done.out).unwrap();
    assert_inert(&json);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["text"], ORDERS);
}

#[test]
fn a_dialogue_that_fails_shows_what_came_and_what_was_expected() {
    for expect in ["--expect", "--expect-regex"] {
        let (listener, address) = listen();
        let client = tuplecat("tcp-connect").to(address).arg(expect).arg(ORDERS);
        let client = client.start();
        let mut peer = accept(&listener);
        peer.write_all(format!("{ORDERS}no").replace('2', "3").as_bytes())
            .unwrap();
        drop(peer);
        let done = client.wait();
        assert_eq!(done.status, 8, "{}", done.err);
        assert_inert(&done.err);
    }
}

#[test]
fn an_error_shows_bad_text_escaped() {
    let place = format!("/no{ORDERS}\n/file");
    let cases: [&[&str]; 12] = [
        &["tcp-connect", ORDERS, "1"],
        &["tcp-connect", "localhost", ORDERS],
        &["tcp-connect", "--retry-for", ORDERS, "localhost", "1"],
        &["tcp-listen", "0", &format!("--{ORDERS}")],
        &["tcp-listen", "0", "-k", "--out-dir", &place],
        &["tcp-listen", "0", "--hex-file", &place],
        &["tcp-listen", "0", "--allow", &format!("@{place}")],
        &["tcp-listen", "0", "--exec", &place],
        &["tcp-listen", "0", "--ready-file", &place],
        &["udp-bind", "0", "--interface", ORDERS],
        &["udp-bind", "0", "--canned", &place],
        &[ORDERS],
    ];
    for words in cases {
        let launch = program(env!("CARGO_BIN_EXE_tuplecat"), "");
        let done = words.iter().fold(launch, Launch::arg).run();
        assert!((1..=4).contains(&done.status), "{words:?}: {}", done.err);
        assert!(done.err.contains("tuplecat: "), "{words:?}: {}", done.err);
        assert_inert(&done.err);
    }
}

#[test]
fn an_error_shows_bad_file_content_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, ORDERS).unwrap();
    let allow = format!("@{}", list.display());
    let done = tuplecat("tcp-listen 0 --allow").arg(allow).run();
    assert_ne!(done.status, 0);
    assert_inert(&done.err);
    let header = "2026-11-20T12:00:00.123456Z > udp 127.0.0.1:1 -> 127.0.0.1:2 #1 8 bytes\n";
    for (framing, text) in [
        ("hex", ORDERS.to_owned()),
        ("dump", format!("{header}00000000  41 {ORDERS} |A|\n")),
    ] {
        let client = tuplecat("udp-sendto 127.0.0.1 9 --in").arg(framing);
        let done = client.says(text).run();
        assert_eq!(done.status, 1, "{}", done.err);
        assert_inert(&done.err);
    }
}

#[test]
fn a_failed_program_is_named_escaped() {
    let server = tuplecat("tcp-listen 0 --shell").arg(format!("exit 3 # {ORDERS}"));
    let server = server.start();
    say(server.ready(), "");
    let done = server.wait();
    assert!(done.err.contains("status 3"), "{}", done.err);
    assert_inert(&done.err);
}

#[test]
fn on_a_terminal_no_client_overwrites_the_prefix_of_another() {
    let line = format!("{ORDERS}tcp 127.0.0.1:1 <-> 127.0.0.1:2: forged\tn\u{fc}\n");
    let (person, process) = terminal();
    let shown = tuplecat("tcp-listen -k --prefix 0").stdout(Output::To(process.into()));
    let shown = shown.start();
    let client = say(shown.ready(), &line);
    let text = Capture::start(person);
    text.wait_for("n\u{fc}\r\n");
    let text = String::from_utf8(text.so_far()).unwrap();
    let mark = format!("<-> {client}: ");
    let (_, rest) = text.split_once(&mark).unwrap();
    assert_eq!(
        rest,
        "\\x1b[2J\\x1b]0;owned\\x07\\u{9b}31m\\u{202e}\\r\\x08\\x7ftcp 127.0.0.1:1 <-> 127.0.0.1:2: forged  n\u{fc}\r\n"
            .replace("forged  ", "forged\t")
    );
    shown.signal(Signal::TERM);
    shown.wait();

    // A pipe gets the bytes unchanged.
    let kept = tuplecat("tcp-listen -k --prefix 0").start();
    say(kept.ready(), &line);
    kept.out().wait_for(&line);
}

/// Returns the files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_folder_cannot_be_changed_under_the_files_that_go_there() {
    for words in ["", "--no-sandbox"] {
        let root = tempfile::tempdir().unwrap();
        let [named, moved, other] = ["named", "moved", "other"].map(|name| root.path().join(name));
        fs::create_dir(&named).unwrap();
        fs::create_dir(&other).unwrap();
        let server = tuplecat("tcp-listen -k 0 --out-dir")
            .arg(&named)
            .args(words);
        let server = server.start();
        let address = server.ready();
        say(address, "one");
        fs::rename(&named, &moved).unwrap();
        symlink(&other, &named).unwrap();
        say(address, "two");
        assert!(files(&other).is_empty());
        let texts = files(&moved)
            .into_iter()
            .map(|file| fs::read_to_string(file).unwrap());
        let mut texts: Vec<_> = texts.collect();
        texts.sort();
        assert_eq!(texts, ["one", "two"]);
    }
}

#[test]
fn unneeded_privileges_are_dropped() {
    let is_bound = |running: &Running| {
        let path = format!("/proc/{}/status", running.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("NoNewPrivs:"));
        line.map(|line| line.ends_with('1'))
    };
    for (words, expected) in [
        ("", true),
        ("--no-sandbox", false),
        ("--exec cat", false),
        ("--shell cat", false),
        ("--echo", true),
    ] {
        let server = tuplecat("tcp-listen -k 0").args(words).start();
        let mut client = connect(server.ready());
        client.write_all(b"here").unwrap();
        if words.contains('c') {
            // An echo shows that it serves.
            assert_eq!(read_len(&client, 4), b"here");
        } else {
            server.out().wait_for("here");
        }
        let Some(is_bound) = is_bound(&server) else {
            return skip("this kernel does not tell");
        };
        assert_eq!(is_bound, expected, "{words}");
        server.signal(Signal::TERM);
        server.wait();
    }
}

#[test]
fn a_ready_file_replaces_regular_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let errors = folder.path().join("link");
    symlink("/proc/self/fd/2", &errors).unwrap();
    let server = tuplecat("udp-bind -q --count 1 0")
        .ready_at(&errors)
        .start();
    server.err().wait_for("\n");
    let line = String::from_utf8(server.err().so_far()).unwrap();
    let address = line.trim_end().strip_prefix("udp ").unwrap();
    let (socket, _) = datagrams();
    socket.send_to(b"", address).unwrap();
    assert_eq!(server.wait().err, line);
    assert!(errors.is_symlink());

    let fifo = fifo(folder.path());
    let reader = read_side(&fifo);
    let server = tuplecat("udp-bind -q --count 1 0").ready_at(&fifo).start();
    assert!(is_ready_within(&reader, PollFlags::IN, BOUND));
    Capture::start(reader).wait_for("\n");
    drop(server);
    assert!(!fifo.is_file() && fifo.exists());
}

/// A draft with a name that can be guessed would be written through the link of another user.
#[test]
fn a_ready_file_is_never_written_through_a_planted_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("victim"), "precious").unwrap();
    let line =
        "cd \"$1\"; ln -s victim ready.$$; exec \"$0\" udp-bind --count 1 --ready-file ready 0";
    let server = program("/bin/sh", "-c")
        .arg(line)
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .arg(folder.path())
        .start();
    let text = server.wait_for_file(&path("ready"));
    assert!(path("ready").is_file() && !path("ready").is_symlink());
    assert_eq!(fs::read_to_string(path("victim")).unwrap(), "precious");
    assert_eq!(files(folder.path()).len(), 3, "the draft has gone");
    let (socket, _) = datagrams();
    let address = text.trim_end().strip_prefix("udp ").unwrap();
    socket.send_to(b"", address).unwrap();
    server.wait().exits(0);
}
