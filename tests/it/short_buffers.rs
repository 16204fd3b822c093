//! The smallest buffers that the kernel gives, so that reads and writes are short ones, in all modes and with every local end.
//! TCP only becomes slow; of datagrams some do not fit, and each of those is counted.

use std::fs::File;
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

/// As little as the kernel gives, which makes more of it (socket(7)).
const SHORT: &str = "--sndbuf 1 --rcvbuf 1";

const ENGINES: [&str; 2] = ["", "--no-fast-path"];

/// Many times what fits; more of it takes long, as the window stays so small.
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

/// Whatever gives back what it gets, over TCP.
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
fn what_is_brokered_reaches_everybody_else() {
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

/// A dump shows short pieces, and all of them: played back they are the same bytes.
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

/// Datagrams as [`framed`] has them: what one is, and what the next one is, does not depend on the buffers.
const SIZES: [usize; 9] = [0, 1, 100, 1472, 2, 9000, 0, 65_507, 3];

/// Each behind its length in two bytes (`len16`).
fn framed(sizes: &[usize]) -> Vec<u8> {
    let frame = |&size: &usize| {
        let len = u16::try_from(size).unwrap().to_be_bytes();
        [&len, &bytes(size)[..]].concat()
    };
    sizes.iter().flat_map(frame).collect()
}

/// Who waits for each answer before the next question loses nothing: there is always room for one.
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

/// Checks that what was written, in frames, is a part of what was sent, in order; returns how many datagrams it is.
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

/// A flood of them does not fit, and what does not is counted.
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
        let told = client.line("transfer");
        assert!(told.contains("sent 300 datagrams"), "{told}");
        let done = server.wait().exits(0);
        let count = is_part_of(&done.out, &sizes);
        let told = done.line("transfer");
        assert_eq!(number_before(told, " datagram"), count, "{told}");
        // What said the end in vain may be among the lost.
        let lost = number_before(told, " lost here");
        assert!((300..320).contains(&(count + lost)), "{told}");
    });
}
