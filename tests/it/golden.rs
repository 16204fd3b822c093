//! Whole sessions, kept as files below fixtures/: the command line, the peer's data, and everything that is printed.
//! `GOLDEN=write` writes the actual results to the files; review the difference.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use pretty_assertions::assert_eq;
use tuplecat::flow::Transport;

use crate::common::*;

/// A directory below fixtures/. All files but `args` are optional:
///
/// - `args`: the command line. PORT is the port of the peer, if the peer listens.
/// - `in`: standard input; /dev/null by default.
/// - `peer`: the data of the peer: a stream over TCP, a datagram for each line over UDP. It answers each datagram with one, or
///   sends all at once if the program is the one that waits.
/// - `nobody`: there is no peer, and PORT refuses.
/// - `status`, `out`, `err`, `got`: exit status, standard output, standard error, and the data that the peer received.
struct Case {
    directory: PathBuf,
}

impl Case {
    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.directory.join(name)).ok()
    }

    fn words(&self) -> String {
        self.text("args").expect("args")
    }

    fn transport(&self) -> Transport {
        if self.words().starts_with("udp") {
            Transport::Udp
        } else {
            Transport::Tcp
        }
    }

    fn launch(&self, port: u16) -> Launch {
        let words = self.words().replace("PORT", &port.to_string());
        let launch = tuplecat(&words).env("COLUMNS", "100");
        match self.text("in") {
            Some(text) => launch.says(text),
            None => launch,
        }
    }

    /// Runs it, and returns the process's result and the data that the peer received.
    fn run(&self) -> (Done, Vec<u8>) {
        let words = self.words();
        if self.text("nobody").is_some() {
            let (_nobody, address) = refusing(self.transport());
            return (self.launch(address.port()).run(), Vec::new());
        }
        let says = self.text("peer").unwrap_or_default();
        match words.split_whitespace().next() {
            _ if self.text("peer").is_none() => (self.launch(0).bare().run(), Vec::new()),
            Some("tcp-listen") => {
                let running = self.launch(0).start();
                let got = converse(&connect(running.ready()), &says);
                (running.wait(), got)
            }
            Some("tcp-connect") => {
                let (listener, address) = listen();
                let running = self.launch(address.port()).start();
                let got = converse(&accept(&listener), &says);
                (running.wait(), got)
            }
            Some("udp-bind") => {
                let running = self.launch(0).start();
                send_all(running.ready(), &says);
                (running.wait(), Vec::new())
            }
            _ => {
                let (socket, address) = datagrams();
                let running = self.launch(address.port()).start();
                let mut got = Vec::new();
                for line in says.lines() {
                    let (datagram, sender) = receive(&socket);
                    got.extend(datagram);
                    socket.send_to(line.as_bytes(), sender).unwrap();
                }
                (running.wait(), got)
            }
        }
    }

    /// Compares a part of the result with its file, or writes it there.
    fn check(&self, name: &str, seen: &str, default: &str) {
        let path = self.directory.join(name);
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
            if seen == default {
                // The file may not exist.
                let _ = fs::remove_file(path);
            } else {
                fs::write(path, seen).unwrap();
            }
            return;
        }
        let expected = self.text(name).unwrap_or_else(|| default.to_owned());
        assert_eq!(seen, expected, "{}", path.display());
    }
}

/// Sends `says` and a FIN, and receives until the end.
fn converse(mut peer: &TcpStream, says: &str) -> Vec<u8> {
    peer.write_all(says.as_bytes()).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    read_all(peer)
}

/// Sends a datagram for each line.
fn send_all(to: SocketAddr, says: &str) {
    let (socket, _) = datagrams();
    for line in says.lines() {
        socket.send_to(line.as_bytes(), to).unwrap();
    }
}

/// Replaces every port by PORT, every duration by T, and every point in time by TIME.
fn normalized(text: &str) -> String {
    let lines = text
        .split_inclusive('\n')
        .map(|line| match line.split_once(' ') {
            Some((time, rest)) if humantime::parse_rfc3339(time).is_ok() => format!("TIME {rest}"),
            _ => line.to_owned(),
        });
    let text: String = lines.collect();
    let mut rest = text.as_str();
    let mut result = String::new();
    while let Some(first) = rest.chars().next() {
        let (tail, marker) = if let Some(tail) = rest.strip_prefix("'*' ") {
            (tail, "'*' PORT")
        } else if let Some(tail) = rest.strip_prefix(", ") {
            (tail, ", T")
        } else if let Some(tail) = rest.strip_prefix(':') {
            (tail, ":PORT")
        } else {
            ("", "")
        };
        let digits = tail.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let digits = digits.unwrap_or(tail.len());
        // Shorter numbers are parts of IPv6 addresses.
        if digits >= 4 {
            result.push_str(marker);
            rest = &tail[digits..];
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    result
}

#[test]
fn variable_parts_are_replaced() {
    let line = "closed     tcp 127.0.0.1:40001 <-> [::1]:50312  #1  in 0 B, out 3 B, 0.01 s";
    let expected = "closed     tcp 127.0.0.1:PORT <-> [::1]:PORT  #1  in 0 B, out 3 B, T s";
    assert_eq!(normalized(line), expected);
}

#[test]
fn sessions_are_unchanged() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut cases: Vec<PathBuf> = fs::read_dir(fixtures)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("args").exists())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases");
    let mut failed = String::new();
    for directory in cases {
        let name = directory.display().to_string();
        let case = thread::spawn(move || {
            let case = Case { directory };
            let (done, got) = case.run();
            case.check("status", &format!("{}\n", done.status), "0\n");
            case.check("err", &normalized(&done.err), "");
            case.check("out", &done.text(), "");
            case.check("got", &String::from_utf8_lossy(&got), "");
        });
        if case.join().is_err() {
            writeln!(failed, "{name}").unwrap();
        }
    }
    assert!(
        failed.is_empty(),
        "these went differently, see above:\n{failed}"
    );
}
