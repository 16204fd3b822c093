//! Access lists (`--allow`, `--deny`), which hold for TCP at accept, and for UDP for each datagram.
//! Peers differ by their loopback address: 127.0.0.1 and 127.0.0.2.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use socket2::{Domain, Socket, Type};
use tuplecat::flow::Transport;

use crate::common::*;

const HOME: &str = "127.0.0.1:0";
const AWAY: &str = "127.0.0.2:0";

/// Sends one word from `source` and waits until the server has handled it.
fn speak(transport: Transport, source: &str, server: SocketAddr, word: &str) {
    let source: SocketAddr = source.parse().unwrap();
    if transport == Transport::Tcp {
        let mut stream = connect_from(source, server);
        // A rejected client may be reset before it has written anything.
        let _ = stream.write_all(word.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        await_end(&mut stream);
    } else {
        let (socket, _) = datagrams_at(source);
        socket.send_to(word.as_bytes(), server).unwrap();
    }
}

fn connect_from(source: SocketAddr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    socket.connect_timeout(&server.into(), BOUND).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.into()
}

fn await_end(stream: &mut TcpStream) {
    match stream.read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

fn count(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.starts_with(word)).count()
}

/// Returns the result of a server to which two sources send words in turn.
fn served(transport: Transport, rules: &str) -> Done {
    let many = match transport {
        Transport::Tcp => "-k",
        _ => "",
    };
    let server = waits(transport, many).args("0").args(rules).start();
    let address = server.ready();
    for (source, word) in [(HOME, "h1 "), (AWAY, "a1 "), (HOME, "h2 "), (AWAY, "a2 ")] {
        speak(transport, source, address, word);
    }
    server.out().wait_for("h2");
    server.signal(rustix::process::Signal::TERM);
    server.wait().exits(143)
}

both! {
    /// Data of a denied peer is ignored; other peers are served.
    fn denied_peers_are_ignored(transport) {
        let done = served(transport, "--deny 127.0.0.2");
        assert_eq!(done.text(), "h1 h2 ");
        let line = done.line("rejected");
        assert!(line.contains("127.0.0.2:"), "{line}");
        assert!(line.contains("not allowed here (--allow, --deny)"), "{line}");
    }

    /// A single `--allow` excludes all other peers.
    fn only_allowed_peers_are_served(transport) {
        let done = served(transport, "--allow 127.0.0.1/32");
        assert_eq!(done.text(), "h1 h2 ");
    }

    /// The first matching rule decides, in command-line order across both options.
    fn the_first_rule_decides(transport) {
        let done = served(transport, "--deny 127.0.0.2 --allow 127.0.0.0/8");
        assert_eq!(done.text(), "h1 h2 ");
        let done = served(transport, "--allow 127.0.0.0/8 --deny 127.0.0.2");
        assert_eq!(count(&done.err, "rejected"), 0);
    }

    /// On a dual-stack socket, an IPv4 peer matches IPv4 rules.
    fn a_mapped_address_counts_as_ipv4(transport) {
        let server = waits(transport, "--allow 127.0.0.1 * 0").start();
        let address = SocketAddr::new(LOOPBACK.ip(), server.ready().port());
        speak(transport, AWAY, address, "away");
        let line = server.err().wait_for_line("rejected");
        assert!(line.contains(" 127.0.0.2:"), "{line}");
        speak(transport, HOME, address, "home");
        server.out().wait_for("home");
        assert_eq!(server.out().so_far(), b"home");
    }

    /// The rules of a file take the place of the option that names it.
    fn a_list_in_a_file_counts_in_its_place(transport) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# guests\n192.0.2.0/24\n127.0.0.2 # away\n").unwrap();
        let rules = format!("--deny @{} --allow 127.0.0.0/8", file.path().display());
        assert_eq!(served(transport, &rules).text(), "h1 h2 ");
    }

    /// All addresses of a name count. It is looked up at the start, and blanks and commas separate the entries of a file.
    fn names_are_looked_up(transport) {
        let done = served(transport, "--allow localhost");
        assert_eq!(done.text(), "h1 h2 ");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "192.0.2.1, localhost\t192.0.2.0/24\n").unwrap();
        let done = served(transport, &format!("--allow @{}", file.path().display()));
        assert_eq!(done.text(), "h1 h2 ");
        for words in ["0 --deny no-such-host.invalid", "0 -n --allow localhost"] {
            let done = waits(transport, words).run().exits(3);
            assert!(done.errors().starts_with("cannot resolve host '"), "{}", done.err);
        }
        std::fs::write(file.path(), "192.0.2.1,no-such-host.invalid\n").unwrap();
        let done = waits(transport, "0").arg("--deny").arg(format!("@{}", file.path().display())).run();
        let place = format!("'{}', line 1: cannot resolve host 'no-such-host.invalid'", file.path().display());
        assert!(done.exits(3).errors().starts_with(&place));
    }

    /// A program is run for nobody then.
    fn everyone_may_be_denied(transport) {
        for words in ["--deny 0.0.0.0/0 --deny ::/0", "-4 --deny 0.0.0.0/0"] {
            let words = format!("* 0 {words} --exec cat");
            let server = waits(transport, &words).start();
            let address = SocketAddr::new(LOOPBACK.ip(), server.ready().port());
            speak(transport, HOME, address, "word");
            server.err().wait_for_line("rejected");
        }
        let done = waits(transport, "* 0 --deny ::/0 --exec cat").run().exits(2);
        assert!(done.err.contains("refusing to run a program for any remote host"), "{}", done.err);
    }

    /// A bad rule is an error before anything is opened.
    fn a_bad_rule_is_an_error(transport) {
        let done = waits(transport, "0 --allow 10.0.0.0/33").run().exits(2);
        assert!(done.err.contains("expected an address, a network"), "{}", done.err);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "10.0.0.0/8\n10.0.0.0/99\n").unwrap();
        let name = file.path().display();
        let done = waits(transport, "0").arg("--deny").arg(format!("@{name}")).run();
        let expected = "expected an address, a network such as 192.0.2.0/24 or 2001:db8::/32, or a host name";
        done.fails(1, &format!("'{name}', line 2: '10.0.0.0/99': {expected}"));
        waits(transport, "0 --allow @/nonexistent")
            .run()
            .fails(1, "cannot read the list '/nonexistent': no such file or directory");
    }
}

#[test]
fn a_rejected_client_does_not_end_the_wait_for_a_client() {
    let server = tuplecat("tcp-listen 0 --deny 127.0.0.2").start();
    let address = server.ready();
    speak(Transport::Tcp, AWAY, address, "away");
    speak(Transport::Tcp, HOME, address, "home");
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "home");
    assert!(done.line("accepted").ends_with("  #1"), "{}", done.err);
}

#[test]
fn rejected_datagrams_are_counted_and_reported_once() {
    let server = tuplecat("udp-bind 0 --deny 127.0.0.2 --count 1").start();
    let address = server.ready();
    let (away, _) = datagrams_at(AWAY.parse().unwrap());
    for _ in 0..5 {
        away.send_to(b"away", address).unwrap();
    }
    speak(Transport::Udp, HOME, address, "home");
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "home");
    assert_eq!(count(&done.err, "rejected"), 1);
    assert!(done.line("closed").contains(", 5 ignored"), "{}", done.err);
}

/// Datagrams of denied peers do not reset the idle timer.
#[test]
fn denied_datagrams_do_not_reset_the_idle_timer() {
    for words in ["", "--no-fast-path"] {
        let server = tuplecat("udp-bind 0 --deny 127.0.0.0/8 --idle-timeout 300ms").args(words);
        let server = server.start();
        let address = server.ready();
        let (stranger, _) = datagrams();
        stranger.send_to(b"noise", address).unwrap();
        let is_over = AtomicBool::new(false);
        let bound = Instant::now() + BOUND;
        let done = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) && Instant::now() < bound {
                    // After the program's end its port is closed.
                    let _ = stranger.send_to(b"noise", address);
                }
            });
            let done = server.wait();
            is_over.store(true, Ordering::Relaxed);
            done
        });
        done.fails(6, "nothing was sent or received for 0.3 s (--idle-timeout)");
    }
}
