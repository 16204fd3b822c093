//! Hex dumps: they contain exactly the bytes that went through the socket.
//! Two readers check them: hexdump(1), which has the same lines, and the program itself, which can replay them.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;

use pretty_assertions::assert_eq as assert_same;
use tuplecat::flow::{Direction, Transport};
use tuplecat::framing::recording::dump::{DumpReader, Recorded};

use crate::common::*;

/// Parses the chunks of a dump.
#[track_caller]
fn chunks(dump: &str) -> Vec<Recorded> {
    let mut reader = DumpReader::default();
    let read = |line: &str| reader.line(line.as_bytes()).expect("a line of a dump");
    let chunks = dump.lines().filter_map(read).collect();
    reader.end().expect("a whole dump");
    chunks
}

/// Joins the chunks of one direction.
fn joined(chunks: &[Recorded], direction: Direction) -> Vec<u8> {
    let chunks = chunks.iter().filter(|chunk| chunk.direction == direction);
    chunks.flat_map(|chunk| chunk.bytes.clone()).collect()
}

/// Returns the lines of bytes, without headers.
fn hex_lines(dump: &str) -> String {
    let lines = dump.lines().filter(|line| !line.starts_with("20"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

each! {
    /// A dump can be read among reports and comments, and without the comments.
    fn a_dump_among_other_lines_is_read(transport) {
        let server = waits(transport, "-vx 0").start();
        let client = meets(transport, &server).args("-vvx --color always");
        let client = client.says("hello").run().exits(0);
        let server = server.wait().exits(0);
        assert!(server.err.starts_with("listening") || server.err.starts_with("bound"));
        let received = chunks(&format!("# the server\n\n{}", server.err));
        assert_eq!(joined(&received, Direction::Incoming), b"hello");
        assert!(client.err.contains("\u{1b}["), "no colours in {}", client.err);
        assert_eq!(joined(&chunks(&client.err), Direction::Outgoing), b"hello");
    }
}

both! {
    /// Both sides show the same bytes between the same addresses, as sent and as received.
    fn both_sides_see_the_same(transport) {
        let text = bytes(20_000);
        let server = waits(transport, "-qx 0").start();
        let address = server.ready();
        let client = speaks(transport, address).args("-qx").says(&text).run().exits(0);
        let server = server.wait().exits(0);
        assert_eq!(server.out, text);
        let (sent, received) = (chunks(&client.err), chunks(&server.err));
        assert_eq!(joined(&sent, Direction::Outgoing), text);
        assert_eq!(joined(&received, Direction::Incoming), text);
        for (there, here) in sent.iter().zip(&received) {
            assert_eq!((&there.flow.local, &there.flow.remote), (&here.flow.remote, &address.into()));
            assert_eq!((&there.flow.remote, &here.flow.local), (&address.into(), &address.into()));
            assert_eq!((there.flow.transport, here.flow.transport), (transport, transport));
        }
    }

    /// A dump in a file can be followed during the session.
    fn a_dump_can_be_followed(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let side = read_side(&path);
        let mut server = waits(transport, "0 --hex-file").arg(&path).stdin(Input::Held).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        let dump = Capture::start(side);
        for text in ["one", "two"] {
            client.write(text);
            dump.wait_for(&format!("|{text}|\n"));
        }
        client.close_stdin();
        client.wait().exits(0);
        server.close_stdin();
        server.wait().exits(0);
        let dump = String::from_utf8(dump.finish()).unwrap();
        assert_eq!(joined(&chunks(&dump), Direction::Incoming), b"onetwo");
    }

    /// A dump that cannot be written does not stop the transfer, and the status reports it.
    fn a_dump_on_a_full_disk_is_reported_and_stops_nothing(transport) {
        let server = waits(transport, "-q 0 --hex-file /dev/full").start();
        speaks(transport, server.ready()).says("hello").run().exits(0);
        let server = server.wait();
        assert_eq!(server.text(), "hello");
        let message = "cannot write to '/dev/full' (--hex-file): no space left on device; nothing more goes there";
        server.fails(1, message);
    }

    /// A dump file that cannot be created is an error at the start.
    fn a_dump_without_a_place_is_an_error(transport) {
        let message = "cannot write to 'missing/dump' (--hex-file): no such file or directory";
        waits(transport, "0 --hex-file missing/dump").run().fails(1, message);
    }

    /// Bad values of width, limit and place are usage errors.
    fn bad_values_are_usage_errors(transport) {
        for words in ["-x --hex-width 0", "-x --hex-width 256", "-x --hex-limit 0", "--hex-width 8", "--hex-limit 8"] {
            let done = waits(transport, words).arg("0").run().exits(2);
            assert!(done.err.contains("--hex"), "{}", done.err);
        }
    }
}

/// Receives one datagram with these options, and returns the dump.
fn dump_of(words: &str, datagram: &[u8]) -> String {
    let server = tuplecat("udp-bind -q --count 1 0").args(words).start();
    let (socket, _) = datagrams();
    socket.send_to(datagram, server.ready()).unwrap();
    server.wait().exits(0).err
}

#[test]
fn lines_equal_those_of_hexdump() {
    let mut text = bytes(1000);
    // Repeated lines are not squeezed.
    text.extend([0; 100]);
    let dump = dump_of("-x", &text);
    if !is_installed("hexdump") {
        return skip("hexdump is not installed");
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&text).unwrap();
    let expected = Command::new("hexdump")
        .args(["-v", "-C"])
        .arg(file.path())
        .output()
        .unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let (lines, _offset_at_the_end) = expected.trim_end().rsplit_once('\n').unwrap();
    assert_same!(hex_lines(&dump), format!("{lines}\n"));
}

#[test]
fn a_width_and_a_limit_are_kept() {
    let dump = dump_of("-x --hex-width 4 --hex-limit 6", b"hello you");
    let expected = "\
00000000  68 65 6c 6c  |hell|
00000004  6f 20        |o |
# 3 bytes more (--hex-limit)
";
    assert_same!(hex_lines(&dump), expected);
    let reader = &mut DumpReader::default();
    dump.lines()
        .for_each(|line| assert_same!(reader.line(line.as_bytes()), Ok(None)));
    assert!(reader.end().is_err(), "a dump with a limit is not whole");
}

#[test]
fn every_datagram_has_a_header_even_an_empty_one() {
    let server = tuplecat("udp-bind -q --count 4 0 --hex-file -").start();
    let sent = [&b"one"[..], b"", b"three", b""];
    let (socket, _) = datagrams();
    for datagram in sent {
        socket.send_to(datagram, server.ready()).unwrap();
    }
    let chunks = chunks(&server.wait().exits(0).err);
    let seen: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.number.number, &chunk.bytes[..]))
        .collect();
    assert_same!(
        seen,
        [(1, sent[0]), (2, sent[1]), (3, sent[2]), (4, sent[3])]
    );
}

#[test]
fn datagrams_of_one_call_are_kept_apart() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto -qx --datagram-size 100 --reply-timeout 0").to(address);
    let client = client
        .stdin(Input::From(with_text(&bytes(1050))))
        .run()
        .exits(0);
    let sizes: Vec<_> = chunks(&client.err)
        .iter()
        .map(|chunk| chunk.bytes.len())
        .collect();
    assert_same!(sizes, [[100; 10].to_vec(), vec![50]].concat());
    assert_same!(receive(&socket).0.len(), 100);
}

#[test]
fn a_datagram_has_its_sender_and_destination() {
    let server = tuplecat("udp-bind -4 -qx --count 2 * 0").start();
    let port = server.ready().port();
    let to = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
    let sockets = [datagrams(), datagrams()];
    for ((socket, _), ip) in sockets.iter().zip(["127.0.0.1", "127.0.0.2"]) {
        UdpSocket::send_to(socket, b"x", to(ip)).unwrap();
    }
    let chunks = chunks(&server.wait().exits(0).err);
    for (chunk, (ip, (_, sender))) in chunks
        .iter()
        .zip(["127.0.0.1", "127.0.0.2"].iter().zip(&sockets))
    {
        assert_same!(
            (&chunk.flow.local, &chunk.flow.remote),
            (&to(ip).into(), &(*sender).into())
        );
    }
}

#[test]
fn a_terminal_gets_colours_and_a_file_none() {
    let (mut person, process) = terminal();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dump");
    let server = tuplecat("udp-bind -qx --count 1 0 --hex-file").arg(&path);
    let server = server.stderr(Output::To(process.into())).start();
    let (socket, _) = datagrams();
    socket.send_to(b"a \n\0\xff\x01", server.ready()).unwrap();
    server.wait().exits(0);
    let mut shown = vec![0; 4096];
    let len = std::io::Read::read(&mut person, &mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..len]).into_owned();
    // The five kinds of bytes: printable, blank, control, zero, and above 127.
    for look in [
        "\u{1b}[36m",
        "\u{1b}[32m",
        "\u{1b}[35m",
        "\u{1b}[2m",
        "\u{1b}[33m",
    ] {
        assert!(shown.contains(look), "{look:?} in {shown:?}");
    }
    assert!(!fs::read_to_string(path).unwrap().contains('\u{1b}'));
}

/// Converts a dump with text2pcap(1), and returns the payload of each packet as tshark(1) prints it.
fn through_text2pcap(dump: &Path, filter: &str) -> Vec<String> {
    let script = format!(
        "{filter} < \"$1\" | text2pcap -q -t %Y-%m-%dT%H:%M:%S.%fZ -u 1,2 - \"$1.pcapng\" &&
         tshark -r \"$1.pcapng\" -T fields -e frame.time_epoch -e udp.payload"
    );
    let output = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(dump)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn text2pcap_reads_a_dump_as_the_manual_shows() {
    if !is_installed("text2pcap") || !is_installed("tshark") {
        return skip("text2pcap or tshark is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, dump: &str| {
        let path = directory.path().join(name);
        fs::write(&path, dump).unwrap();
        path
    };
    let expected = |dump: &str| -> Vec<String> {
        let describe = |chunk: Recorded| {
            let time = chunk.time.duration_since(std::time::UNIX_EPOCH).unwrap();
            format!(
                "{}.{:06}000\t{}",
                time.as_secs(),
                time.subsec_micros(),
                hex::encode(chunk.bytes)
            )
        };
        chunks(dump).into_iter().map(describe).collect()
    };
    let dump = [150, 1472].map(|len| dump_of("-x", &bytes(len))).concat();
    assert_same!(
        through_text2pcap(&write("datagrams", &dump), "sed 's/Z .*/Z/'"),
        expected(&dump)
    );

    let mut server = tuplecat("tcp-listen -qx 0").stdin(Input::Held).start();
    let mut client = tuplecat("tcp-connect -q")
        .to(server.ready())
        .stdin(Input::Held)
        .start();
    let text = bytes(40_000);
    client.write(&text[..200]);
    server.out().wait_for_len(200);
    client.write(&text[200..]);
    server.out().wait_for_len(text.len());
    client.close_stdin();
    server.close_stdin();
    let dump = server.wait().exits(0).err;
    // Offsets of a stream count through all chunks. For text2pcap each packet begins at 0 and fits into one packet.
    let awk = r#"awk '/^[0-9a-f]+  / { printf "%08x%s\n", n, substr($0, 9); n = (n + 16) % 32768; next } { n = 0; sub(/Z .*/, "Z"); print }'"#;
    let packets = through_text2pcap(&write("stream", &dump), awk);
    assert_same!(packets[0], expected(&dump)[0]);
    let payload = |packet: &String| packet.split_once('\t').unwrap().1.to_owned();
    let payload: String = packets.iter().map(payload).collect();
    assert!(payload == hex::encode(&text), "{} digits", payload.len());
}
