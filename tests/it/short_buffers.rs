//! The smallest socket buffers, so that reads and writes are short, in all modes and with every local end.
//! TCP only becomes slow. Of the datagrams some do not fit, and each of those is counted.

use std::fs::File;
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

/// The option for the smallest buffers; the kernel grants more (socket(7)).
const SHORT: &str = "--sndbuf 1 --rcvbuf 1";

const ENGINES: [&str; 2] = ["", "--no-fast-path"];

/// The size of a transfer: many times the buffers. More takes long, as the window stays small.
const LEN: usize = 30_000;

fn with_each_engine(check: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for words in ENGINES {
            let check = &check;
            scope.spawn(move || check(&format!("{SHORT} {words}")));
        }
    });
}

#[test]
fn both_directions_of_a_connection_arrive() {
    let (there, back) = (bytes(LEN), bytes(LEN + 1));
    with_each_engine(|words| {
        let server = tuplecat("tcp-listen 0").args(words).says(&back).start();
        let client = tuplecat("tcp-connect").args(words).to(server.ready());
        let client = client.says(&there).start();
        assert!(server.wait().exits(0).out == there);
        assert!(client.wait().exits(0).out == back);
    });
}

/// Local ends that return their input, over TCP.
#[test]
fn every_local_end_gives_back_all_it_gets() {
    let sent = bytes(LEN);
    with_each_engine(|words| {
        for end in ["--echo", "--exec cat", "--exec dd bs=1 status=none"] {
            let server = tuplecat("tcp-listen 0").args(words).args(end).start();
            let client = tuplecat("tcp-connect").args(words).to(server.ready());
            assert!(client.says(&sent).run().exits(0).out == sent, "{end}");
            server.wait().exits(0);
        }
        let server = tuplecat("tcp-listen 0").args(words).says(&sent).start();
        let client = tuplecat("tcp-connect").args(words).to(server.ready());
        client.args("--exec cat").run().exits(0);
        assert!(server.wait().exits(0).out == sent);
    });
}

#[test]
fn brokered_data_reaches_all_others() {
    let sent = bytes(LEN);
    with_each_engine(|words| {
        let server = tuplecat("tcp-listen -k --broker 0").args(words).start();
        let others = [(); 3].map(|()| {
            let client = tuplecat("tcp-connect --recv-only --max-bytes 30000").args(words);
            client.to(server.ready()).start()
        });
        server.err().wait_for("#3");
        let client = tuplecat("tcp-connect").args(words).to(server.ready());
        let client = client.says(&sent).start();
        for other in others {
            assert!(other.wait().exits(0).out == sent);
        }
        drop(client);
        server.signal(Signal::TERM);
        server.wait().exits(143);
    });
}

#[test]
fn dialogues_and_answers_are_whole() {
    let question = "question ".repeat(500);
    let answer = "answer ".repeat(500);
    with_each_engine(|words| {
        let server = tuplecat("tcp-listen 0").args(words);
        let server = server
            .arg("--expect")
            .arg(&question)
            .arg("--send")
            .arg(&answer);
        let server = server.start();
        let client = tuplecat("tcp-connect").args(words).to(server.ready());
        let client = client
            .arg("--send")
            .arg(&question)
            .arg("--expect")
            .arg(&answer);
        client.run().exits(0);
        server.wait().exits(0);

        let server = tuplecat("tcp-listen 0").args(words).arg("--respond");
        let server = server.arg(format!("={answer}")).start();
        let client = tuplecat("tcp-connect").args(words).to(server.ready());
        assert_eq!(client.says("?").run().exits(0).text(), answer);
        server.wait().exits(0);
    });
}

/// A dump has all of the short chunks, and replays as the same bytes.
#[test]
fn a_dump_of_short_pieces_is_whole() {
    let sent = bytes(LEN);
    with_each_engine(|words| {
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("dump");
        let server = tuplecat("tcp-listen 0 -x").args(words).start();
        let client = tuplecat("tcp-connect")
            .args(words)
            .arg("--hex-file")
            .arg(&dump);
        client.to(server.ready()).says(&sent).run().exits(0);
        assert!(server.wait().exits(0).out == sent);

        let server = tuplecat("tcp-listen 0").args(words).start();
        let file = File::open(&dump).unwrap();
        let client = tuplecat("tcp-connect --in dump")
            .args(words)
            .to(server.ready());
        client.stdin(Input::From(file.into())).run().exits(0);
        assert!(server.wait().exits(0).out == sent);
    });
}

/// Sizes of datagrams. Boundaries do not depend on the buffers.
const SIZES: [usize; 9] = [0, 1, 100, 1472, 2, 9000, 0, 65_507, 3];

/// Encodes datagrams of these sizes as `len16`.
fn framed(sizes: &[usize]) -> Vec<u8> {
    let frame = |&size: &usize| {
        let len = u16::try_from(size).unwrap().to_be_bytes();
        [&len, &bytes(size)[..]].concat()
    };
    sizes.iter().flat_map(frame).collect()
}

/// A client that waits for each answer loses nothing: there is always room for one datagram.
#[test]
fn a_datagram_of_any_size_is_answered() {
    with_each_engine(|words| {
        for end in ["--echo", "--datagram-size 65507 --exec cat"] {
            let server = tuplecat("udp-bind 0").args(words).args(end).start();
            for &size in SIZES.iter().filter(|&&size| size > 0 || end == "--echo") {
                let client = tuplecat("udp-sendto --in len16 --out len16 --replies 1");
                let client = client.args("--reply-timeout 15").args(words);
                let client = client.to(server.ready()).says(framed(&[size]));
                assert!(client.run().exits(0).out == framed(&[size]), "{end} {size}");
            }
            server.signal(Signal::TERM);
            let done = server.wait().exits(143);
            assert!(!done.line("closed").contains("dropped"), "{}", done.err);
        }
    });
}

/// Checks that the output, in frames, is a subsequence of the sent datagrams; returns their number.
fn is_part_of(mut out: &[u8], sent: &[usize]) -> u64 {
    let mut rest = sent.iter();
    let mut count = 0;
    while let Some((len, tail)) = out.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        assert!(rest.any(|&size| size == len), "nobody has sent {len} bytes");
        let (datagram, tail) = tail.split_at(len);
        assert!(datagram == bytes(len));
        (count, out) = (count + 1, tail);
    }
    count
}

/// In a flood some datagrams do not fit, and those are counted.
#[test]
fn every_datagram_arrives_or_is_counted() {
    let sizes: Vec<usize> = (0..300).map(|at| SIZES[at % SIZES.len()].max(1)).collect();
    with_each_engine(|words| {
        let words = format!("{words} --eof-datagram");
        let server = tuplecat("udp-bind --out len16 0").args(&words).start();
        let client = tuplecat("udp-sendto --in len16")
            .args(&words)
            .to(server.ready());
        let client = client.says(framed(&sizes)).run().exits(0);
        let line = client.line("transfer");
        assert!(line.contains("sent 300 datagrams"), "{line}");
        let done = server.wait().exits(0);
        let count = is_part_of(&done.out, &sizes);
        let line = done.line("transfer");
        assert_eq!(number_before(line, " datagram"), count, "{line}");
        // A repeated EOF datagram may be among the dropped ones.
        let lost = number_before(line, " lost here");
        assert!((300..320).contains(&(count + lost)), "{line}");
    });
}
