//! Replays of dumps: the same bytes again, with the same boundaries and, on request, the same pauses.
//! Both sides of a dump can be replayed: the sent data, and the received data.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use tuplecat::flow::Transport;

use crate::common::*;

each! {
    /// The dump of one side replays its sent or its received data.
    fn a_dump_gives_the_same_bytes_again(transport) {
        let text = bytes(30_000);
        let server = waits(transport, "-q -x 0").start();
        let client = meets(transport, &server).args("--hex").says(&text).run().exits(0);
        let server = server.wait().exits(0);
        for (dump, form) in [(client.err, "dump"), (server.err, "dump-received")] {
            let again = waits(transport, "0").start();
            let player = meets(transport, &again).args("--in").arg(form);
            player.says(dump).run().exits(0);
            assert!(again.wait().exits(0).out == text, "{form}");
        }
    }
}

/// Returns a dump of three datagrams with pauses between them, one of them empty, from the sender's side.
fn recording() -> String {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto -x --in line --delay 100ms --reply-timeout 0").to(address);
    let done = launch.says("one\n\nthree\n").run().exits(0);
    for text in ["one", "", "three"] {
        assert_eq!(receive(&socket).0, text.as_bytes());
    }
    done.err
}

#[test]
fn datagrams_keep_their_boundaries() {
    let dump = recording();
    let is_dump = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    let shorter: Vec<&str> = dump.lines().filter(is_dump).collect();
    let shorter = shorter.join("\n");
    assert!(shorter.len() < dump.len());
    for dump in [dump, shorter, format!("# kept\n{}", recording())] {
        let (socket, address) = datagrams();
        let player = tuplecat("udp-sendto --in dump --reply-timeout 0").to(address);
        player.says(dump).run().exits(0);
        for text in ["one", "", "three"] {
            assert_eq!(receive(&socket).0, text.as_bytes());
        }
        assert!(is_silent_for(&socket, Duration::from_millis(20)));
    }
}

#[test]
fn the_pauses_can_be_kept() {
    let dump = recording();
    for (words, least) in [("--delay original", 200), ("", 0), ("--delay 150ms", 300)] {
        let (_socket, address) = datagrams();
        let player = tuplecat("udp-sendto -q --in dump --reply-timeout 0").args(words);
        let start = Instant::now();
        player.to(address).says(&dump).run().exits(0);
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(least), "{words}: {time:?}");
    }
}

/// A chunk is sent at its time, even if no further input arrives.
#[test]
fn times_that_go_backwards_delay_nothing() {
    let times = [
        "2026-11-20T12:00:00.000000Z",
        "2026-11-20T11:00:00.000000Z",
        "1970-01-01T00:00:00.000000Z",
        "2026-11-20T12:00:00.100000Z",
        "2026-11-20T12:00:00.050000Z",
    ];
    let chunk = |(number, time): (usize, &str)| {
        let head = format!("{time} > udp 127.0.0.1:1 -> 127.0.0.1:9 #{number} 1 byte");
        format!("{head}\n00000000  {:02x}\n", 0x61 + number)
    };
    let dump: String = times.into_iter().enumerate().map(chunk).collect();
    for words in ["--delay original", ""] {
        let (socket, address) = datagrams();
        let player = tuplecat("udp-sendto --in dump --reply-timeout 0").args(words);
        player.to(address).says(&dump).run().exits(0);
        for text in ["a", "b", "c", "d", "e"] {
            assert_eq!(receive(&socket).0, text.as_bytes());
        }
    }
}

/// Returns a chunk of a dump with these milliseconds as its time.
fn chunk(millis: u32, byte: u8) -> String {
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let time = format!("2026-11-20T12:00:{seconds:02}.{millis:03}000Z");
    format!("{time} > udp 127.0.0.1:1 -> 127.0.0.1:9 #1 1 byte\n00000000  {byte:02x}\n")
}

/// Three dumps one after the other, and a clock that went back once, keep all pauses.
#[test]
fn each_pause_counts_from_the_chunk_before() {
    let dump = chunk(0, b'a') + &chunk(100, b'b');
    let set_back: Vec<_> = [30_000, 30_100, 10_000, 10_100, 10_200]
        .map(|millis| chunk(millis, b'c'))
        .into();
    for (dump, chunks, pauses) in [(dump.repeat(3), 6, 3), (set_back.concat(), 5, 3)] {
        for transport in [Transport::Tcp, Transport::Udp] {
            let server = waits(transport, "-q 0").start();
            let player = speaks(transport, server.ready()).args("--in dump --delay original");
            let start = Instant::now();
            player.says(&dump).run().exits(0);
            assert!(start.elapsed() >= pauses * Duration::from_millis(100));
            assert_eq!(server.wait().exits(0).out.len(), chunks);
        }
    }
}

#[test]
fn the_last_pause_ends_although_the_input_does_not() {
    let (socket, address) = datagrams();
    let player = tuplecat("udp-sendto --in dump --delay original --reply-timeout 0").to(address);
    let mut player = player.stdin(Input::Held).start();
    // No further input has to be read first.
    let dump = recording();
    let is_dump = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    for line in dump.lines().filter(is_dump) {
        player.write(format!("{line}\n"));
    }
    for text in ["one", "", "three"] {
        assert_eq!(receive(&socket).0, text.as_bytes());
    }
    player.close_stdin();
    player.wait().exits(0);
}

#[test]
fn an_incomplete_dump_is_an_error() {
    let dump = recording();
    let (header, _) = dump.split_once("\n00000000").unwrap();
    let header = header.lines().last().unwrap();
    let (_socket, address) = datagrams();
    let player = tuplecat("udp-sendto --in dump").to(address).says(header);
    let message =
        "cannot read the input: line 1, column 1: only 0 of the 3 bytes that line 1 announces";
    player.run().fails(1, message);
    let player = tuplecat("udp-sendto --in dump").to(address);
    let player = player.says(format!("{header}\n00000000  6x"));
    let message = "cannot read the input: line 2, column 11: not two hexadecimal digits";
    player.run().fails(1, message);
}

#[test]
fn nothing_to_play_is_an_error() {
    let one_way = "it shows nothing as received; for what it shows as sent (3) there is --in dump";
    let other = "it is not a dump of tuplecat; --in hexdump reads those of other programs";
    let cases = [
        ("dump-received", recording(), one_way),
        ("dump", "hello\n".to_owned(), other),
        ("dump", "\u{1}\u{2}".to_owned(), other),
    ];
    for (form, input, reason) in cases {
        let (_socket, address) = datagrams();
        let player = tuplecat("udp-sendto --reply-timeout 0 --in")
            .arg(form)
            .to(address);
        let message = format!("cannot read the input: {reason}");
        player.says(input).run().fails(1, &message);
    }
    // A recording without data is no mistake.
    let (_socket, address) = datagrams();
    let player = tuplecat("udp-sendto --reply-timeout 0 --in dump").to(address);
    player.says("").run().exits(0);
}

#[test]
fn a_record_never_overwrites_a_file_of_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("session.dump");
    fs::write(&path, recording()).unwrap();
    let name = path.display();
    let open = || File::open(&path).unwrap().into();
    for option in ["--hex-file", "--pcap", "--events"] {
        let player = tuplecat("udp-sendto --in dump 127.0.0.1 9").arg(option);
        let player = player.arg(&path).stdin(Input::From(open()));
        let reason =
            format!("cannot write to '{name}' ({option}): standard input is the same file");
        player.run().fails(1, &reason);
    }
    let appended = File::options().append(true).open(&path).unwrap();
    let listener = tuplecat("tcp-listen 0 --hex-file").arg(&path);
    let done = listener.stdout(Output::To(appended.into())).run();
    let reason = format!("cannot write to '{name}' (--hex-file): standard output is the same file");
    done.fails(1, &reason);
    assert!(fs::read_to_string(&path).unwrap().contains("|three|"));
    let done = tuplecat("tcp-listen 0 --hex-file x --pcap x").run();
    done.fails(
        1,
        "cannot write to 'x' (--pcap): --hex-file is the same file",
    );
    // A device has no content to lose.
    let done = tuplecat("tcp-listen --timeout 1ms 0 --hex-file /dev/null --pcap /dev/null").run();
    done.exits(6);
}

#[test]
fn only_a_dump_has_times() {
    let done = tuplecat("udp-bind --delay original 0").run().exits(2);
    let part = "'--delay original' is for recordings: '--in dump', 'hexdump' or 'pcap'";
    assert!(done.err.contains(part), "{}", done.err);
    let done = tuplecat("tcp-listen --delay late --in dump 0")
        .run()
        .exits(2);
    assert!(done.err.contains("or 'original'"), "{}", done.err);
}
