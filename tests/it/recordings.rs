//! Recordings of other programs as input: dumps (`--in hexdump`) and captures (`--in pcap`).
//! Each gives exactly the bytes that were recorded, or nothing and an error.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use tempfile::TempDir;
use tuplecat::flow::Transport;

use crate::common::*;

/// Result of reading a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Exact,
    Refused,
}
use Reading::{Exact, Refused};

/// Commands that dump FILE, and the reading of their output: the order of bytes in a group is not guessed.
const DUMPS: [(&str, &str, Reading); 25] = [
    ("hexdump", "-C FILE", Exact),
    ("hexdump", "-v -C FILE", Exact),
    ("hd", "FILE", Exact),
    ("hexdump", "FILE", Refused),
    ("hexdump", "-x FILE", Refused),
    ("xxd", "FILE", Exact),
    ("xxd", "-u -g1 FILE", Exact),
    ("xxd", "-g1 -c 8 FILE", Exact),
    ("xxd", "-c 32 FILE", Exact),
    ("xxd", "-d FILE", Exact),
    ("xxd", "-a FILE", Exact),
    ("xxd", "-i FILE", Exact),
    ("xxd", "-e FILE", Refused),
    ("xxd", "-b FILE", Refused),
    ("od", "-A x -t x1 FILE", Exact),
    ("od", "-A x -t x1z FILE", Exact),
    ("od", "-A d -t x1 FILE", Exact),
    ("od", "-A d -t x1z FILE", Exact),
    ("od", "-t x1 FILE", Exact),
    ("od", "-A n -t x1 FILE", Exact),
    ("od", "FILE", Refused),
    ("od", "-x FILE", Refused),
    ("od", "-c FILE", Refused),
    ("busybox", "hexdump -C FILE", Exact),
    ("busybox", "xxd FILE", Exact),
];

/// Sends a recording to a socket, and returns the datagrams.
#[track_caller]
fn sent(words: &str, recording: &[u8], count: usize) -> Vec<Vec<u8>> {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto -q --reply-timeout 0").args(words);
    launch.to(address).says(recording).run().exits(0);
    received(&socket, count)
}

/// Receives exactly this many datagrams.
#[track_caller]
fn received(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let take = || receive(socket).0;
    let datagrams = std::iter::repeat_with(take).take(count).collect();
    assert!(is_silent_for(socket, Duration::from_millis(20)));
    datagrams
}

/// Checks that a recording is refused with `message`, and nothing of it is sent.
#[track_caller]
fn refused(words: &str, recording: impl AsRef<[u8]>, message: &str) {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto -q --reply-timeout 0").args(words);
    let done = launch.to(address).says(recording).run().exits(1);
    let text = format!("cannot read the input: {message}");
    assert!(done.err.contains(&text), "{}", done.err);
    assert!(is_silent_for(&socket, Duration::from_millis(5)));
}

/// Returns the output of a command that reads a file.
#[track_caller]
fn output_of(name: &str, words: &str, file: &Path) -> Vec<u8> {
    let words = words.replace("FILE", file.to_str().unwrap());
    program(name, &words).run().exits(0).out
}

#[test]
fn the_dumps_of_each_program_are_exact_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<u8> = (0..=255).collect();
    for (name, words, reading) in DUMPS {
        if !is_installed(name) {
            skip(&format!("no {name}"));
            continue;
        }
        for content in [&all[..], b"a", &bytes(65_507), b""] {
            let file = directory.path().join("file");
            fs::write(&file, content).unwrap();
            let dump = output_of(name, words, &file);
            let (socket, address) = datagrams();
            let launch = tuplecat("udp-sendto -q --reply-timeout 0 --in hexdump");
            let done = launch.to(address).says(&dump).run();
            let context = format!("{name} {words}, {} bytes: {}", content.len(), done.err);
            if content.is_empty() {
                // Most programs show nothing, or only an offset.
                let is_silent = is_silent_for(&socket, Duration::from_millis(2));
                assert!(is_silent || receive(&socket).0.is_empty(), "{context}");
            } else if reading == Exact || done.status == 0 && content.len() == 1 {
                assert_eq!(done.status, 0, "{context}");
                assert!(receive(&socket).0 == content, "{context}");
            } else {
                assert_eq!(done.status, 1, "{context}");
                assert!(done.err.contains("line "), "{context}");
            }
            assert!(
                is_silent_for(&socket, Duration::from_millis(2)),
                "{context}"
            );
        }
    }
}

#[test]
fn text_beside_the_bytes_is_never_sent() {
    let directory = tempfile::tempdir().unwrap();
    let texts: [&[u8]; 6] = [
        b"ad be ef",
        b"61 62 63 64 65 66 67 68 69 70 71 72",
        b"deadbeefdeadbeef00",
        b"                    ad",
        b"|61 62|  >63 64<",
        &[b'0'; 80],
    ];
    for text in texts {
        let file = directory.path().join("file");
        fs::write(&file, text).unwrap();
        for (name, words, _) in DUMPS.into_iter().filter(|(.., reading)| *reading == Exact) {
            // Repeated lines have no offset, or one of an unknown base.
            if is_installed(name) && (name, text[0] == text[1]) != ("od", true) {
                let dump = output_of(name, words, &file);
                assert_eq!(sent("--in hexdump", &dump, 1), [text], "{name} {words}");
            }
        }
    }
}

both! {
    /// Two dumps are two datagrams, or one stream.
    fn two_dumps_are_two_datagrams_or_one_stream(transport) {
        let dumps = "00000000  61 62 63  |abc|\n00000003\n\n00000000: 6465 66  def\n";
        let (out, expected) = if transport.has_boundaries() {
            // The last one is the end.
            ("line", "abc\ndef\n")
        } else {
            ("raw", "abcdef")
        };
        let server = waits(transport, "0 --out").arg(out).start();
        let client = speaks(transport, server.ready()).args("--in hexdump");
        client.says(dumps).run().exits(0);
        self::assert_eq!(server.wait().exits(0).text(), expected);
    }
}

#[test]
fn a_dump_that_is_not_understood_is_an_error_with_its_place() {
    for (dump, message) in [
        (
            "00000000  61 6g\n",
            "line 1, column 14: '6g' where a byte in hexadecimal should be",
        ),
        (
            "00000000  6g\n",
            "line 1, column 11: '6g' where a byte in hexadecimal should be",
        ),
        (
            "00000000  61 62\n0000000O  63\n",
            "line 2, column 1: neither a line of a dump nor text",
        ),
        (
            "00000000  61 62\n00000003  63\n",
            "line 2, column 1: this offset is not where the bytes before it end",
        ),
        (
            "00000000  61 62\n*\n00000003\n",
            "line 3, column 1: this offset is not where",
        ),
        ("00000000  61\n*\n", "no offset follows a '*'"),
        (
            "0000000 00 00\n*\n0000020\n",
            "line 3, column 1: this offset may be octal, decimal or hexadecimal",
        ),
        (
            "*\n",
            "line 1, column 1: '*' repeats no line with an offset",
        ),
        (
            " 61 62\n*\n",
            "line 2, column 1: '*' repeats no line with an offset",
        ),
        (
            "0000000 6261 0063\n",
            "line 1, column 9: bytes in groups may be swapped",
        ),
        (
            "00000000: 6261 6463  abcd\n",
            "line 1, column 22: this text shows other bytes",
        ),
        (
            "00000000  61 62 63 64 65 66 67 68  61 62\n00000008: 61",
            "line 2, column 1: this offset is not where",
        ),
        (
            "6162636465\n00000000\n",
            "line 1, column 1: an offset without bytes",
        ),
        (
            "61626364\n",
            "line 1, column 1: an offset without bytes; if these are bytes, --in hex reads them",
        ),
        (
            "char a[] = {\n0x61, 62\n",
            "line 2, column 7: a byte such as 0x0a should be here",
        ),
        (
            "char a[] = { 1, 2 };\n",
            "line 1, column 14: a byte such as 0x0a should be here",
        ),
        (
            "\t0x0000:  4500 0024\n",
            "line 1, column 1: the dump that begins here is not an IP packet",
        ),
        (
            "Follow: udp,hex\n00000000  61\n",
            "line 1, column 1: it does not show where a datagram ends",
        ),
        (
            "00000000 61\n*\nfffffffffff0\n",
            "line 3, column 1: its dumps have more than 512 MiB",
        ),
        ("hello\n", "there is no dump in it"),
    ] {
        refused("--in hexdump", dump, message);
    }
    let one_side = "00000000  61\n";
    refused(
        "--in hexdump --leg client",
        one_side,
        "it does not show who sent it: leave --leg out",
    );
    refused(
        "--in hexdump --delay original",
        one_side,
        "it has no times, which '--delay original' needs",
    );
}

#[test]
fn each_side_of_a_conversation_can_be_sent() {
    let own = "2026-12-01T12:00:00.000000Z > udp 127.0.0.1:1 -> 127.0.0.1:9 #1 2 bytes\n00000000  61 62 |ab|\n\
        2026-12-01T12:00:00.100000Z < udp 127.0.0.1:1 <- 127.0.0.1:9 #1 1 byte\n00000000  63 |c|\n";
    let follow = "Node 0: 127.0.0.1:1\n00000000  61 62   ab\n\t00000000  63   c\n";
    let arrays =
        "char peer0_0[] = { /* Packet 1 */\n0x61, /* a */\n0x62 };\nchar peer1_0[] = {\n0x63 };\n";
    for recording in [own, follow, arrays] {
        for (words, payload) in [("", "ab"), ("--leg client", "ab"), ("--leg target", "c")] {
            let found = sent(&format!("--in hexdump {words}"), recording.as_bytes(), 1);
            assert_eq!(found, [payload.as_bytes()], "{recording}");
        }
    }
}

/// Returns a directory with two captures in it: a TCP connection, and datagrams with an empty one among them.
fn captures() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let part = |name: &str| directory.path().join(name);
    let server = tuplecat("tcp-listen -q --echo 0").start();
    let client = tuplecat("tcp-connect -q --pcap").arg(part("tcp.pcapng"));
    client.to(server.ready()).says("GET /\r\n").run().exits(0);
    server.wait().exits(0);
    let server = tuplecat("udp-bind -q --echo --count 3 0").start();
    let client = tuplecat("udp-sendto -q --in line --replies 3 --pcap").arg(part("udp.pcapng"));
    client
        .to(server.ready())
        .says("one\n\nthree\n")
        .run()
        .exits(0);
    server.wait().exits(0);
    directory
}

#[test]
fn a_flow_of_a_capture_is_chosen_by_number_or_address() {
    let directory = captures();
    let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
    // A section may follow another one.
    let file = [read("tcp.pcapng"), read("udp.pcapng")].concat();
    let (_socket, address) = datagrams();
    let done = tuplecat("udp-sendto -q --in pcap")
        .to(address)
        .says(&file)
        .run()
        .exits(1);
    let list: Vec<&str> = done.err.lines().collect();
    assert!(
        list[0].ends_with("2 flows in it: choose one with --flow N"),
        "{}",
        done.err
    );
    assert!(list[1].contains("  1  tcp 127.0.0.1:"), "{}", done.err);
    assert!(
        list[1].ends_with("  client 7 B, target 7 B"),
        "{}",
        done.err
    );
    assert!(list[2].contains("  2  udp 127.0.0.1:"), "{}", done.err);
    assert!(
        list[2].ends_with("  client 8 B, target 8 B"),
        "{}",
        done.err
    );
    let (from, to) = (tuple(list[2]).1, tuple(list[2]).2);
    for flow in [
        "2",
        "udp",
        &from,
        &format!("{from} -> {to}"),
        &format!("udp {to}"),
    ] {
        for leg in ["", "--leg target"] {
            let (socket, address) = datagrams();
            let launch = tuplecat("udp-sendto -q --reply-timeout 0 --in pcap --flow");
            let launch = launch.arg(flow).args(leg).to(address);
            launch.says(&file).run().exits(0);
            assert_eq!(
                received(&socket, 3),
                [&b"one"[..], b"", b"three"],
                "{flow} {leg}"
            );
        }
    }
    refused(
        "--in pcap --flow 3",
        &file,
        "no such flow among the 2 in it",
    );
    refused(
        "--in pcap --flow 192.0.2.1",
        &file,
        "no such flow among the 2 in it",
    );
    refused("--in pcap", "hello", "it is not a capture (pcap or pcapng)");
    refused(
        "--in pcap",
        &file[..file.len() - 9],
        "the capture ends within packet",
    );
    refused(
        "--in pcap",
        [0x1f, 0x8b, 8],
        "it is compressed: pipe it through 'gzip -dc'",
    );
    assert_eq!(sent("--in pcap", b"", 0), [b""; 0]);
}

/// tcpdump and tshark show the packets of a capture in several forms, and editcap writes other formats.
#[test]
fn packets_are_the_same_in_every_form() {
    let directory = captures();
    for (name, words, form) in [
        ("tcpdump", "-n -r FILE -x", "hexdump"),
        ("tcpdump", "-n -r FILE -xx", "hexdump"),
        ("tcpdump", "-n -r FILE -X", "hexdump"),
        ("tcpdump", "-n -r FILE -v -XX", "hexdump"),
        ("tshark", "-r FILE -x", "hexdump"),
        ("tshark", "-r FILE -P -x", "hexdump"),
        ("tshark", "-r FILE -V -x", "hexdump"),
        ("editcap", "-F pcap FILE -", "pcap"),
        ("editcap", "-F nsecpcap FILE -", "pcap"),
        ("editcap", "-F pcapng FILE -", "pcap"),
    ] {
        if !is_installed(name) {
            skip(&format!("no {name}"));
            continue;
        }
        for (file, payload) in [
            ("tcp", &[&b"GET /\r\n"[..]][..]),
            ("udp", &[b"one", b"", b"three"]),
        ] {
            let path = directory.path().join(file).with_extension("pcapng");
            let text = output_of(name, words, &path);
            for leg in ["client", "target"] {
                let words = format!("--in {form} --leg {leg}");
                let found = sent(&words, &text, payload.len());
                assert_eq!(found, payload, "{name} {words}");
            }
        }
    }
}

#[test]
fn a_recording_is_sent_again_with_its_pauses() {
    let chunk = |millis: u32, text: char| {
        format!(
            "12:00:00.{millis:03}000 IP 127.0.0.1.1 > 127.0.0.1.2: UDP, length 1\n\
            \t0x0000:  4500 001d 0000 0000 4011 0000 7f00 0001\n\
            \t0x0010:  7f00 0001 0001 0002 0009 0000 {:02x}\n",
            u32::from(text)
        )
    };
    let recording = chunk(100, 'a') + &chunk(150, 'b') + &chunk(200, 'c');
    let millis = Duration::from_millis;
    for (words, count, least) in [
        ("--delay original", 3, millis(100)),
        ("--delay original --loop 2", 6, millis(200)),
        ("--delay original --speed 2 --loop 2", 6, millis(100)),
        ("--delay original --speed 0.5", 3, millis(200)),
        ("--loop 3 --delay 10ms", 9, millis(80)),
        ("--loop 100", 300, millis(0)),
    ] {
        let server = tuplecat("udp-bind -q --rcvbuf 1M 0 --count")
            .arg(count.to_string())
            .start();
        let launch = tuplecat("udp-sendto -q --reply-timeout 0 --in hexdump").args(words);
        let start = Instant::now();
        launch.to(server.ready()).says(&recording).run().exits(0);
        assert!(start.elapsed() >= least, "{words}");
        assert_eq!(server.wait().exits(0).text(), "abc".repeat(count / 3));
    }
    let dump =
        "2026-12-01T12:00:00.000000Z > tcp 127.0.0.1:1 <-> 127.0.0.1:9 #1 1 byte\n00000000  61\n";
    let server = tuplecat("tcp-listen -q --max-bytes 1000 0").start();
    let client = tuplecat("tcp-connect -q --in dump --loop forever").to(server.ready());
    let _client = client.says(dump).start();
    assert_eq!(server.wait().exits(0).text(), "a".repeat(1000));
}

#[test]
fn options_of_recordings_have_their_limits() {
    for (words, part) in [
        ("--loop 2", "--loop is for recordings"),
        (
            "--in line --flow 1",
            "--flow is for '--in pcap' and '--in hexdump'",
        ),
        (
            "--in line --leg client",
            "--leg is for recordings: '--in dump', 'hexdump' or 'pcap'",
        ),
        ("--in pcap --speed 2", "--speed is for '--delay original'"),
        (
            "--in pcap --delay original --speed 0",
            "expected a number from 0.001",
        ),
        (
            "--in pcap --delay original --speed nan",
            "expected a number from 0.001",
        ),
        ("--in pcap --loop 0", "or 'forever'"),
        (
            "--in pcap --flow=",
            "a value is required for '--flow <FLOW>'",
        ),
        (
            "--in pcap --leg server",
            "[possible values: client, target]",
        ),
    ] {
        let done = tuplecat("udp-sendto 127.0.0.1 9")
            .args(words)
            .run()
            .exits(2);
        assert!(done.err.contains(part), "{}", done.err);
    }
}

#[test]
fn the_recipes_send_what_was_recorded() {
    let (listener, address) = listen();
    let client = recipe("hexdump").at("localhost 9000", address);
    let client = client.launch().start();
    assert_eq!(read_all(&accept(&listener)), b"GET / HTTP/1.0\r\n\r\n");
    client.wait().exits(0);

    let directory = captures();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let client = recipe("capture").at("localhost 9000", address);
    let client = client.put("requests.pcap", &file("tcp.pcapng"));
    let client = client.launch().start();
    assert_eq!(read_all(&accept(&listener)), b"GET /\r\n");
    client.wait().exits(0);

    let server = tuplecat("udp-bind -q --rcvbuf 4M --count 3000 0").start();
    let client = recipe("load").at("localhost 8125", server.ready());
    let client = client.put("metrics.pcap", &file("udp.pcapng"));
    client.launch().run().exits(0);
    assert_eq!(server.wait().exits(0).text(), "onethree".repeat(1000));
}
