//! Reply policies of `udp-bind` (`--reply-to`), and the peers that it accepts.
//! A peer is known by the sender address of a datagram alone, so a lock on one peer must check every datagram.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

/// A server with a held standard input, and three peers that have each sent their letter, in this order.
struct Meeting {
    server: Running,
    address: SocketAddr,
    peers: [UdpSocket; 3],
}

impl Meeting {
    fn new(words: &str) -> Self {
        let server = tuplecat("udp-bind").args(words).arg("0");
        let server = server.stdin(Input::Held).start();
        let address = server.ready();
        let peers = [(); 3].map(|()| datagrams().0);
        let meeting = Self {
            server,
            address,
            peers,
        };
        for (letter, all) in [("a", "a"), ("b", "ab"), ("c", "abc")] {
            meeting.say(letter, all);
        }
        meeting
    }

    /// Sends the letter of a peer, and waits until it is received.
    fn say(&self, letter: &str, all: &str) {
        let peer = &self.peers[usize::from(letter.as_bytes()[0] - b'a')];
        peer.send_to(letter.as_bytes(), self.address).unwrap();
        self.server.out().wait_for(all);
    }

    /// Sends a text from the server, and checks that only these peers receive it.
    #[track_caller]
    fn answers(&mut self, text: &str, expected: &str) {
        self.server.write(text);
        let letters = || ['a', 'b', 'c'].into_iter().zip(&self.peers);
        for (_, peer) in letters().filter(|(letter, _)| expected.contains(*letter)) {
            assert_eq!(receive(peer), (text.as_bytes().to_vec(), self.address));
        }
        for (letter, peer) in letters() {
            assert!(is_silent_for(peer, Duration::from_millis(50)), "{letter}");
        }
    }
}

#[test]
fn an_answer_reaches_exactly_the_peers_of_the_policy() {
    for (words, first, then) in [
        ("", "c", "a"),
        ("--reply-to last", "c", "a"),
        ("--reply-to first", "a", "a"),
        ("--reply-to all", "abc", "abc"),
        ("--reply-to none", "", ""),
        ("--reply-to all --max-peers 2", "bc", "ac"),
    ] {
        let mut meeting = Meeting::new(words);
        meeting.answers("one", first);
        meeting.say("a", "abca");
        if words != "--reply-to none" {
            meeting.answers("two", then);
        }
    }
}

#[test]
fn answers_can_go_to_one_fixed_address() {
    let (chosen, address) = datagrams();
    let mut meeting = Meeting::new(&format!("--reply-to {address}"));
    meeting.answers("for another", "");
    assert_eq!(receive(&chosen), (b"for another".to_vec(), meeting.address));
    // The address need not have written: here it gets data before any datagram has come.
    let server = tuplecat(&format!("udp-bind --reply-to {address} 0"));
    let server = server.says("hello").start();
    assert_eq!(receive(&chosen), (b"hello".to_vec(), server.ready()));
}

#[test]
fn an_address_of_the_other_family_cannot_be_answered() {
    let done = tuplecat("udp-bind --reply-to [::1]:9 0").run();
    done.fails(
        4,
        "--reply-to: the socket and that address have no address family in common",
    );
    for words in ["--reply-to nobody 0", "--reply-to :9 0", "--max-peers 0 0"] {
        tuplecat("udp-bind").args(words).run().exits(2);
    }
}

#[test]
fn a_full_table_forgets_the_peer_that_is_idle_longest() {
    let meeting = Meeting::new("--max-peers 2");
    let line = meeting.server.err().wait_for_line("forgotten");
    assert_eq!(
        tuple(&line).2,
        meeting.peers[0].local_addr().unwrap().to_string()
    );
    assert!(line.ends_with("idle longest of the peers"), "{line}");
}

#[test]
fn the_table_and_the_closing_lines_count_for_each_peer() {
    let mut meeting = Meeting::new("");
    meeting.say("b", "abcb");
    meeting.answers("answer", "b");
    meeting.server.signal(Signal::USR1);
    let own: Vec<String> = meeting
        .peers
        .iter()
        .map(|peer| peer.local_addr().unwrap().to_string())
        .collect();
    meeting.server.err().wait_for_line("socket");
    meeting.server.signal(Signal::TERM);
    let address = meeting.address;
    let done = meeting.server.wait().exits(143);
    let rows = |word: &str| -> Vec<String> {
        let lines = done.err.lines().filter(|line| line.starts_with(word));
        lines
            .map(|line| line.rsplit_once(", ").unwrap().0.to_owned())
            .collect()
    };
    let count = |peer: &str, received: &str, sent: &str| {
        format!("udp {address} <- {peer}  in {received}, out {sent}")
    };
    let none = "0 datagrams (0 B)";
    let peers = [
        count(&own[0], "1 datagram (1 B)", none),
        count(&own[2], "1 datagram (1 B)", none),
        count(&own[1], "2 datagrams (2 B)", "1 datagram (6 B)"),
    ];
    let total = format!("udp {address}  in 4 datagrams (4 B), out 1 datagram (6 B)");
    let prefixed = |word: &str, rows: &[String]| -> Vec<String> {
        rows.iter().map(|row| format!("{word:<10} {row}")).collect()
    };
    assert_eq!(rows("socket "), prefixed("socket", &[total]));
    // In the table, then at the end.
    let twice = [&peers[..], &peers].concat();
    assert_eq!(rows("peer "), prefixed("peer", &twice));
}

/// Datagrams of other peers that were queued before the lock are dropped.
#[test]
fn a_lock_holds_for_what_was_queued_before_it() {
    for words in ["", "--no-fast-path"] {
        let server = tuplecat("udp-bind --lock-first 0").args(words).start();
        let address = server.ready();
        let [(first, _), (other, own)] = [datagrams(), datagrams()];
        server.signal(Signal::STOP);
        for (peer, text) in [
            (&first, "A1 "),
            (&other, "B1 "),
            (&first, "A2 "),
            (&other, "B2 "),
        ] {
            peer.send_to(text.as_bytes(), address).unwrap();
        }
        server.signal(Signal::CONT);
        server.out().wait_for("A1 A2 ");
        other.send_to(b"B3 ", address).unwrap();
        first.send_to(b"A3 ", address).unwrap();
        server.out().wait_for("A3 ");
        server.signal(Signal::TERM);
        let done = server.wait().exits(143);
        assert_eq!(done.text(), "A1 A2 A3 ");
        let lines = done.err.lines().filter(|line| line.starts_with("ignored "));
        let lines: Vec<&str> = lines.collect();
        let line = format!("ignored    udp {address} <- {own}  3 bytes from another sender");
        assert_eq!(lines, [line], "only the first of each sender is reported");
        let closed = done.line("closed");
        assert!(closed.contains("in 3 datagrams (9 B)"), "{closed}");
        assert!(closed.ends_with(", 3 ignored"), "{closed}");
    }
}

/// Each peer is answered from the address that it has written to. The machine has one IPv6 loopback address, so the test adds another.
#[test]
fn an_answer_comes_from_the_address_that_was_written_to() {
    let setup = "ip link set lo up\nip -6 address add fd00::1 dev lo nodad\nip -6 address add fd00::2 dev lo nodad";
    let Some(namespace) = Namespace::new(setup) else {
        return;
    };
    for words in ["-6 * 0", "* 0"] {
        let server = namespace.tuplecat("udp-bind --echo").args(words).start();
        let port = server.ready().port();
        for host in ["fd00::2", "fd00::1", "::1", "127.0.0.2"] {
            if words.starts_with("-6") && !host.contains(':') {
                continue;
            }
            // A client ignores an answer from another address.
            let client = namespace
                .tuplecat("udp-sendto --replies 1 --reply-timeout 30")
                .arg(host);
            let client = client.arg(port.to_string()).says(host);
            let done = client.run().exits(0);
            assert_eq!(done.text(), host, "{words}");
        }
    }
}

/// A peer that goes away is reported for that peer only.
#[test]
fn a_peer_that_goes_away_ends_nothing() {
    let mut meeting = Meeting::new("--reply-to all");
    let [first, ..] = &meeting.peers;
    let gone = first.local_addr().unwrap();
    // Connected to itself, the socket refuses all others. A closed one may stay open for a moment in a child of another test.
    first.connect(gone).unwrap();
    meeting.answers("one", "bc");
    let line = meeting.server.err().wait_for_line("refused");
    assert_eq!(tuple(&line).2, gone.to_string());
    meeting.answers("two", "bc");
}
