//! Formats of input and output (`--in`, `--out`), tested at both ends of a connection.
//! Boundaries are kept: any list of datagrams passes through the program unchanged.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// Returns the datagrams that `udp-sendto` makes of its input.
#[track_caller]
fn sent(words: &str, input: &[u8], count: usize) -> Vec<String> {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --reply-timeout 0").args(words);
    launch.to(address).says(input).run().exits(0);
    taken(&socket, count)
}

/// Receives exactly this many datagrams.
#[track_caller]
fn taken(socket: &UdpSocket, count: usize) -> Vec<String> {
    let take = || receive(socket).0.escape_ascii().to_string();
    let datagrams = std::iter::repeat_with(take).take(count).collect();
    assert!(is_silent_for(socket, Duration::from_millis(20)));
    datagrams
}

/// Returns the output of `udp-bind` for these datagrams.
#[track_caller]
fn written(words: &str, list: &[&[u8]]) -> Vec<u8> {
    let server = tuplecat(&format!("udp-bind --count {} 0", list.len())).args(words);
    let server = server.start();
    let (socket, _) = datagrams();
    for datagram in list {
        socket.send_to(datagram, server.ready()).unwrap();
    }
    server.wait().exits(0).out
}

/// Encodes the list as `len16`.
fn prefixed(list: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for frame in list {
        text.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
        text.extend(frame);
    }
    text
}

/// Sends the list from one process to another, through `--in len16` and `--out len16`.
fn survives(list: &[Vec<u8>], words: &str) {
    let text = prefixed(list);
    let server = tuplecat(&format!("udp-bind --out len16 --count {} 0", list.len()));
    let server = server.args(words).start();
    let client = tuplecat("udp-sendto --in len16 --reply-timeout 0 --rate 5M").args(words);
    client.to(server.ready()).says(&text).run().exits(0);
    assert!(server.wait().exits(0).out == text);
}

#[test]
fn any_list_of_datagrams_survives() {
    // In all no more than the socket buffer holds, so that the kernel drops nothing.
    let len = prop_oneof![
        Just(0),
        Just(1),
        Just(3),
        0..100_usize,
        1470..1475_usize,
        0..9000_usize
    ];
    let frame = (any::<u8>(), len).prop_map(|(first, len)| {
        let first = usize::from(first);
        bytes(first + len).split_off(first)
    });
    let config = ProptestConfig::with_cases(12);
    let lists = (vec(frame, 1..12), any::<bool>());
    let run = TestRunner::new(config).run(&lists, |(list, is_fast)| {
        survives(&list, if is_fast { "" } else { "--no-fast-path" });
        Ok(())
    });
    run.unwrap();
}

#[test]
fn the_longest_datagrams_survive_between_empty_ones() {
    let list = [0, 65_507, 0, 0, 65_507, 1, 65_506].map(bytes);
    for words in ["", "--no-fast-path"] {
        survives(&list, words);
    }
}

#[test]
fn each_form_of_input_becomes_datagrams() {
    assert_eq!(sent("--in line", b"a\nb\n\nc", 4), ["a", "b", "", "c"]);
    assert_eq!(sent("--in line", b"\r\n\n", 2), [r"\r", ""]);
    assert_eq!(sent("--in line", b"", 0), [""; 0]);
    assert_eq!(sent("--in nul", b"a\nb\0\0c", 3), [r"a\nb", "", "c"]);
    assert_eq!(sent("--in len16", b"\0\0\0\x02ab", 2), ["", "ab"]);
    assert_eq!(sent("--in len32", b"\0\0\0\x02ab\0\0\0\0", 2), ["ab", ""]);
    assert_eq!(sent("--in block:3", b"abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(sent("--in hex", b"61 62\n\n0aFf", 3), ["ab", "", r"\n\xff"]);
    assert_eq!(sent("--in raw", b"a\n", 1), [r"a\n"]);
    assert_eq!(sent("--in whole", b"a\nb\n", 1), [r"a\nb\n"]);
    assert_eq!(sent("--in whole", b"", 0), [""; 0]);
    let words = "--in packed-lines --datagram-size 6";
    let packed = [r"a\nbc\n\n", r"de\n", r"exact\n", r"f\n", "g"];
    assert_eq!(sent(words, b"a\nbc\n\nde\nexact\nf\ng", 5), packed);
    let lines = [
        vec![b'a'; 700],
        vec![b'b'; 2000],
        vec![b'c'; 700],
        vec![b'd'; 771],
    ]
    .join(&b'\n');
    let sizes: Vec<_> = sent("--in packed-lines", &lines, 4)
        .iter()
        .map(String::len)
        .collect();
    assert_eq!(sizes, [700 + 2, 2000 + 2, 700 + 2, 771]);
}

/// The file is read from its middle, and its last block is short. On a connected socket the kernel divides it (GSO).
#[test]
fn blocks_of_a_file_have_the_same_boundaries_on_every_path() {
    for (size, count) in [
        (1_usize, 130),
        (7, 65),
        (1200, 60),
        (8192, 9),
        (30_720, 3),
        (61_440, 2),
        (61_441, 2),
    ] {
        let text = bytes(size * count + size.div_ceil(2));
        for words in [
            format!("--in block:{size}"),
            format!("--connected --in block:{size}"),
            format!("--connected --datagram-size {size}"),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[b'x'; 777]).unwrap();
            file.write_all(&text).unwrap();
            file.seek(SeekFrom::Start(777)).unwrap();

            let (socket, address) = datagrams();
            // All of it may be queued before the first is received.
            socket2::SockRef::from(&socket)
                .set_recv_buffer_size(4 << 20)
                .unwrap();
            let taker = thread::spawn(move || {
                let take = || receive(&socket).0;
                std::iter::repeat_with(take)
                    .take(count + 1)
                    .collect::<Vec<_>>()
            });
            let launch = tuplecat("udp-sendto --reply-timeout 0")
                .args(&words)
                .to(address);
            let done = launch.stdin(Input::From(file.into())).run().exits(0);
            assert!(
                taker.join().unwrap().iter().eq(text.chunks(size)),
                "{words}"
            );
            let total = format!("out {} datagrams ({} B)", count + 1, text.len());
            assert!(done.line("closed").contains(&total), "{}", done.err);
        }
    }
}

/// Blocks that are longer than the path MTU are sent as IP fragments, which rules out GSO.
#[test]
fn blocks_that_are_longer_than_the_path_mtu_arrive() {
    let Some(namespace) = Namespace::new("ip link set lo mtu 1500 up") else {
        return;
    };
    // Less than the kernel takes at once, and more.
    for count in [5, 50] {
        let text = bytes(2000 * count);
        let list: Vec<_> = text.chunks(2000).map(<[u8]>::to_vec).collect();
        for words in ["", "--connected"] {
            let server = namespace.tuplecat("udp-bind --rcvbuf 1M --out len16 0");
            let server = server.args(&format!("--count {count}")).start();
            let client = namespace.tuplecat("udp-sendto --reply-timeout 0 --in block:2000");
            let client = client.args(words).to(server.ready());
            client.stdin(Input::From(with_text(&text))).run().exits(0);
            assert!(server.wait().exits(0).out == prefixed(&list), "{words}");
        }
    }
}

#[test]
fn a_block_waits_until_it_is_full() {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --in block:4 --reply-timeout 0").to(address);
    let mut client = launch.stdin(Input::Held).start();
    for (text, block) in [("abcde", "abcd"), ("fgh", "efgh")] {
        client.write(text);
        assert_eq!(receive(&socket).0, block.as_bytes());
    }
    client.write("i");
    assert!(is_silent_for(&socket, Duration::from_millis(50)));
    client.close_stdin();
    assert_eq!(receive(&socket).0, b"i");
    client.wait().exits(0);
}

#[test]
fn blocks_of_a_file_are_all_there() {
    let file = bytes(70_000);
    for words in ["", "--no-fast-path"] {
        let server = tuplecat("udp-bind --out len32 --count 70 0").start();
        let client = tuplecat("udp-sendto --in block:1000 --reply-timeout 0 --rate 5M");
        let client = client.args(words).to(server.ready());
        client.stdin(Input::From(with_text(&file))).run().exits(0);
        let expected: Vec<u8> = file
            .chunks(1000)
            .flat_map(|block| [&1000_u32.to_be_bytes()[..], block].concat())
            .collect();
        assert!(server.wait().exits(0).out == expected);
    }
}

#[test]
fn each_form_of_output_shows_the_boundaries() {
    let list = [&b"ab"[..], b"", b"\n\xff"];
    for (form, expected) in [
        ("raw", r"ab\n\xff"),
        ("line", r"ab\n\n\n\xff\n"),
        ("nul", r"ab\x00\x00\n\xff\x00"),
        ("len16", r"\x00\x02ab\x00\x00\x00\x02\n\xff"),
        (
            "len32",
            r"\x00\x00\x00\x02ab\x00\x00\x00\x00\x00\x00\x00\x02\n\xff",
        ),
        ("hex", r"6162\n\n0aff\n"),
    ] {
        let out = written(&format!("--out {form}"), &list);
        assert_eq!(out.escape_ascii().to_string(), expected, "{form}");
    }
}

#[test]
fn json_has_one_object_for_each_datagram() {
    let server = tuplecat("udp-bind --out json --count 3 0").start();
    let address = server.ready();
    let (socket, own) = datagrams();
    for datagram in [&b"\"a\"\n"[..], b"", b"\xff"] {
        socket.send_to(datagram, address).unwrap();
    }
    let text = server.wait().exits(0).text();
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = [
        (4, "2261220a", Some("\"a\"\n")),
        (0, "", Some("")),
        (1, "ff", None),
    ];
    assert_eq!(objects.len(), expected.len());
    for (object, (bytes, hex, text)) in objects.iter().zip(expected) {
        assert_eq!(object["proto"], "udp");
        assert_eq!(object["local"], address.to_string());
        assert_eq!(object["remote"], own.to_string());
        assert_eq!(
            (&object["bytes"], &object["hex"]),
            (&bytes.into(), &hex.into())
        );
        assert_eq!(object.get("text").and_then(|text| text.as_str()), text);
        let time = object["time"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    }
}

#[test]
fn a_stream_has_hex_and_json_too() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect --in hex --out hex").to(address);
    let client = client.says("68 65\n6c\n\n6c 6f0a").start();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"hello\n");
    std::io::Write::write_all(&mut &peer, b"\0\xff").unwrap();
    drop(peer);
    assert_eq!(client.wait().exits(0).text(), "00ff\n");

    let server = tuplecat("tcp-listen --out json 0").start();
    let client = connect(server.ready());
    let own = client.local_addr().unwrap();
    std::io::Write::write_all(&mut &client, b"hello").unwrap();
    drop(client);
    let text = server.wait().exits(0).text();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["proto"], "tcp");
    assert_eq!(object["remote"], own.to_string());
    assert_eq!(object["text"], "hello");
}

/// Bad input is reported with its position. What came before it is sent, and nothing of it.
#[test]
fn bad_input_is_reported_with_its_position() {
    let long = format!("ok\n{}\n", "x".repeat(70_000)).into_bytes();
    let too_long = "cannot send frame 2: it has 70000 bytes, and a datagram holds at most 65507";
    let short = "the input has ended, and it";
    let offset = "this looks like the offset of a dump, which --in hexdump reads";
    let cases: [(&str, &[u8], usize, String); 9] = [
        ("line", &long, 1, too_long.to_owned()),
        ("len32", b"\0\0\0\x01a\0\0\xff\xe4", 1, "cannot send frame 2: it has 65508 bytes, and a datagram holds at most 65507".to_owned()),
        ("len16", b"\0\x01a\xff\xff", 1, "cannot send frame 2: it has 65535 bytes, and a datagram holds at most 65507".to_owned()),
        ("len16", b"\0\x01a\0\x03bc", 1, format!("cannot send frame 2: {short} has only 2 of its 3 bytes")),
        ("len32", b"\0\0", 0, format!("cannot send frame 1: {short} ends within its length")),
        ("hex", b"61\n62 6x\n", 1, "cannot read the input: line 2, column 5: 'x' is not a hexadecimal digit".to_owned()),
        ("hex", b"61\n000000 61 62\n", 1, format!("cannot read the input: line 2, column 1: {offset}")),
        ("hex", b"00000000: 6162", 0, format!("cannot read the input: line 1, column 1: {offset}")),
        ("hex", b"6", 0, "cannot read the input: line 1, column 2: the second hexadecimal digit of a byte is missing".to_owned()),
    ];
    for (form, input, before, message) in cases {
        let (socket, address) = datagrams();
        let launch = tuplecat("udp-sendto --in").arg(form).to(address);
        launch.says(input).run().fails(1, &message);
        taken(&socket, before);
    }
}

/// The size of datagrams binds every source of them. What came before a frame that is too long is sent, and nothing of it.
#[test]
fn a_frame_is_never_longer_than_datagrams_may_be() {
    let message = |number| {
        format!("cannot send frame {number}: it has 11 bytes, and a datagram holds at most 10")
    };
    let cases: [(&str, &[u8]); 6] = [
        ("line", b"0123456789\n0123456789a\n"),
        ("packed-lines", b"012345678\n012345678a\n"),
        ("nul", b"0123456789\x000123456789a\0"),
        ("hex", b"30313233343536373839\n3031323334353637383961\n"),
        ("len16", b"\0\x0a0123456789\0\x0b0123456789a"),
        ("len32", b"\0\0\0\x0a0123456789\0\0\0\x0b0123456789a"),
    ];
    for (form, input) in cases {
        let (socket, address) = datagrams();
        let launch = tuplecat("udp-sendto --datagram-size 10 --in").arg(form);
        launch.to(address).says(input).run().fails(1, &message(2));
        assert!(taken(&socket, 1)[0].starts_with("012345678"), "{form}");
    }
    for (words, number) in [
        ("--send 0123456789 --send 0123456789a", 2),
        ("--send-hex 3031323334353637383961", 1),
        ("--send 0123456789a --expect x", 1),
    ] {
        let (socket, address) = datagrams();
        let launch = tuplecat("udp-sendto --datagram-size 10").args(words);
        launch.to(address).run().fails(2, &message(number));
        taken(&socket, 0);
    }
    let done = tuplecat("udp-sendto --datagram-size 10 --in block:11 ::1 9").run();
    done.fails(2, "--in block:11: a datagram holds at most 10 bytes here");
}

/// Nothing is sent of an input that no datagram holds.
#[test]
fn the_whole_input_is_one_datagram_or_none() {
    let longest = bytes(65_507);
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --in whole --reply-timeout 0").to(address);
    launch.says(&longest).run().exits(0);
    assert!(receive(&socket).0 == longest);
    let launch = tuplecat("udp-sendto --in whole --reply-timeout 0").to(address);
    let message = "cannot send frame 1: it has 65508 bytes, and a datagram holds at most 65507";
    launch.says(bytes(65_508)).run().fails(1, message);
    assert!(is_silent_for(&socket, Duration::from_millis(20)));
}

/// Lines that have come are sent, and the beginning of the next one waits for its end.
#[test]
fn packed_lines_are_not_held_up() {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --in packed-lines --reply-timeout 0").to(address);
    let mut client = launch.stdin(Input::Held).start();
    for (text, packed) in [("one\ntwo\nth", "one\ntwo\n"), ("ree\n", "three\n")] {
        client.write(text);
        assert_eq!(receive(&socket).0, packed.as_bytes());
    }
    client.write("last");
    assert!(is_silent_for(&socket, Duration::from_millis(50)));
    client.close_stdin();
    assert_eq!(receive(&socket).0, b"last");
    client.wait().exits(0);
}

#[test]
fn ipv6_holds_twenty_bytes_more() {
    if !has_ipv6() {
        return;
    }
    let (socket, address) = datagrams_at("[::1]:0".parse().unwrap());
    let launch = tuplecat("udp-sendto --in line --reply-timeout 0").to(address);
    let text = ["x".repeat(65_527), "y".repeat(65_528)].join("\n");
    let message = "cannot send frame 2: it has 65528 bytes, and a datagram holds at most 65527";
    launch.says(text).run().fails(1, message);
    assert_eq!(receive(&socket).0.len(), 65_527);
}

#[test]
fn an_unknown_format_is_a_usage_error() {
    for (words, part) in [
        ("tcp-listen --in line 0", "only --to udp:HOST:PORT takes"),
        (
            "tcp-connect --in line ::1 9",
            "invalid value 'line' for '--in",
        ),
        (
            "tcp-connect --out len16 ::1 9",
            "invalid value 'len16' for '--out",
        ),
        ("udp-bind --in block:0 0", "must be at least 1"),
        ("udp-bind --in lines 0", "[possible values: raw, line, nul"),
        (
            "udp-bind -C --in nul 0",
            "--crlf is for '--in raw', '--in line' and '--in full-line'",
        ),
        ("udp-bind --delay 0 0", "must be more than 0"),
        ("udp-bind --rate 0 0", "must be at least 1"),
        (
            "udp-sendto --in block:65508 127.0.0.1 9",
            "--in block:65508: a datagram holds at most 65507 bytes here",
        ),
        (
            "tcp-listen -k --prefix --out hex 0",
            "--out is for standard output as it is",
        ),
    ] {
        let done = tuplecat(words).run().exits(2);
        assert!(done.err.contains(part), "{words}:\n{}", done.err);
    }
}

#[test]
fn lines_can_end_in_crlf() {
    assert_eq!(sent("-C", b"a\nb\r\n", 1), [r"a\r\nb\r\n"]);
    assert_eq!(
        sent("-C --in line", b"a\n\nb", 3),
        [r"a\r\n", r"\r\n", r"b\r\n"]
    );
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect --crlf").to(address);
    let client = client.says("GET / HTTP/1.0\n\r\n").start();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"GET / HTTP/1.0\r\n\r\n");
    drop(peer);
    client.wait().exits(0);
}

/// A slow reader gets every frame whole and once.
#[test]
fn a_slow_reader_gets_all_of_the_text() {
    let list: Vec<Vec<u8>> = [60_000, 0, 50_000].map(bytes).to_vec();
    for form in ["hex", "len16", "json"] {
        let (process, mut reader) = UnixStream::pair().unwrap();
        let small = socket2::SockRef::from(&process);
        small.set_send_buffer_size(4096).unwrap();
        let server = tuplecat(&format!("udp-bind --count 3 --out {form} 0"));
        let server = server.stdout(Output::To(process.into())).start();
        let (socket, _) = datagrams();
        for datagram in &list {
            socket.send_to(datagram, server.ready()).unwrap();
        }
        reader.set_read_timeout(Some(BOUND)).unwrap();
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        server.wait().exits(0);
        let hex = |frame: &Vec<u8>| hex::encode(frame);
        match form {
            "len16" => assert!(text == prefixed(&list)),
            "hex" => {
                let expected: String = list.iter().map(|frame| hex(frame) + "\n").collect();
                assert!(text == expected.as_bytes());
            }
            _ => {
                let text = String::from_utf8(text).unwrap();
                let found: Vec<String> = text
                    .lines()
                    .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                    .map(|object| object["hex"].as_str().unwrap().to_owned())
                    .collect();
                assert!(found == list.iter().map(hex).collect::<Vec<_>>());
            }
        }
    }
}

/// Returns the processor time of a process, in hundredths of a second.
fn ticks(running: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields = fields.split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

both! {
    /// A rate is kept over time, and waiting takes no processor time.
    fn a_rate_is_exact(transport) {
        let text = bytes(100_000);
        let (server, address) = reader(transport);
        let start = Instant::now();
        let mut client = speaks(transport, address).args("--rate 100000").stdin(Input::Held).start();
        client.write(&text);
        let arrived = server.out().wait_for_len(99_000);
        let time = start.elapsed();
        assert!(time >= Duration::from_millis(900), "{time:?}");
        assert!(arrived == text[..arrived.len()]);
        assert!(ticks(&client) < 30, "{} hundredths of a second", ticks(&client));
        client.close_stdin();
        client.wait().exits(0);
    }
}

fn reader(transport: Transport) -> (Running, SocketAddr) {
    let server = waits(transport, "0").start();
    let address = server.ready();
    (server, address)
}

#[test]
fn a_delay_lies_between_frames_and_not_behind_the_last() {
    let (socket, address) = datagrams();
    let delay = Duration::from_millis(500);
    let start = Instant::now();
    let launch = tuplecat("udp-sendto --in line --delay 500ms --reply-timeout 0").to(address);
    let client = launch.says("a\n\nb\n").start();
    for (at, text) in (0..).zip(["a", "", "b"]) {
        assert_eq!(receive(&socket).0, text.as_bytes());
        assert!(start.elapsed() >= at * delay, "{text}");
    }
    client.wait().exits(0);
    // It would be longer than a test may take.
    let launch = tuplecat("udp-sendto --in line --delay 1000 --reply-timeout 0").to(address);
    launch.says("last\n").run().exits(0);
}

/// Waiting for the next frame takes no processor time, even with more input.
#[test]
fn waiting_for_the_next_frame_is_idle() {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --in line --delay 10m").to(address);
    let mut client = launch.stdin(Input::Held).start();
    client.write("a\nb\n");
    assert_eq!(receive(&socket).0, b"a");
    client.write("c\n");
    assert!(is_silent_for(&socket, Duration::from_millis(300)));
    assert!(
        ticks(&client) < 10,
        "{} hundredths of a second",
        ticks(&client)
    );
    client.signal(Signal::TERM);
    client.wait().exits(143);
}

#[test]
fn a_full_line_keeps_its_line_feed() {
    let lines = sent("--in full-line", b"one\n\nthree", 3);
    assert_eq!(lines, ["one\\n", "\\n", "three"]);
    let lines = sent("--in full-line -C", b"one\n\nthree", 3);
    assert_eq!(lines, ["one\\r\\n", "\\r\\n", "three"]);
    // In a stream it is what --delay waits for.
    let (listener, address) = listen();
    let words = "tcp-connect --in full-line --delay 100ms";
    let client = tuplecat(words).to(address).says("one\ntwo\nthree").start();
    let mut peer = accept(&listener);
    let mut first = [0; 20];
    let count = peer.read(&mut first).unwrap();
    assert_eq!(&first[..count], b"one\n");
    assert_eq!(read_all(&peer), b"two\nthree");
    drop(peer);
    client.wait().exits(0);
}
