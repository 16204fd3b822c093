//! `tuplecat nc` beside OpenBSD's nc: the same bytes on standard output, the same at the peer, the same status.
//! Each row of the tables runs with both; a difference on purpose is in the table, and has to be one.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use tuplecat::flow::Transport;

use crate::common::*;

mod rows;
mod translations;
mod words;

/// The reference.
const REFERENCE: &str = "nc.openbsd";

/// One command line, and what it meets.
struct Row {
    /// The arguments; PORT, and OTHER for a port that refuses.
    words: &'static str,
    /// Standard input: `-` is `/dev/null`; a `+` at the end keeps it open.
    input: &'static str,
    /// The peer, step by step: see [`play`].
    peer: &'static str,
    /// The difference on purpose, if there is one.
    differs: Option<&'static str>,
}

const fn row(words: &'static str, input: &'static str, peer: &'static str) -> Row {
    Row {
        words,
        input,
        peer,
        differs: None,
    }
}

const fn differs(
    words: &'static str,
    input: &'static str,
    peer: &'static str,
    why: &'static str,
) -> Row {
    Row {
        differs: Some(why),
        ..row(words, input, peer)
    }
}

/// What others see of a run.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    out: String,
    status: i32,
    peer: String,
}

/// One of the two programs.
#[derive(Clone, Copy)]
enum Netcat {
    Theirs,
    Ours,
}

impl Netcat {
    fn launch(self, words: &str, row: &Row) -> Launch {
        let launch = match self {
            Self::Theirs => program(REFERENCE, words),
            Self::Ours => tuplecat("nc").args(words),
        };
        launch.stdin(input_of(row))
    }

    /// Starts a listener, and returns it with its address.
    fn listen(self, row: &Row, transport: Transport) -> (Running, SocketAddr) {
        let (program, words) = match self {
            Self::Theirs => (REFERENCE, row.words.to_owned()),
            Self::Ours => (env!("CARGO_BIN_EXE_tuplecat"), format!("nc {}", row.words)),
        };
        let words: &'static str = words.leak();
        let tool = Tool {
            program,
            connects: "",
            listens: words,
            sends: None,
            binds: Some(words),
        };
        listening(&tool, transport, || input_of(row))
    }
}

fn input_of(row: &Row) -> Input {
    match (row.input, row.input.strip_suffix('+')) {
        ("-", _) => Input::Null,
        (_, Some(begin)) => Input::Begun(begin.into()),
        (all, None) => Input::Bytes(all.into()),
    }
}

/// Runs the rows of a table with both programs, many at a time, and reports all that are not as they should be.
fn compare(rows: &[Row], see: impl Fn(Netcat, &Row) -> Seen + Sync) {
    if !is_installed(REFERENCE) {
        return skip("nc.openbsd is not installed");
    }
    let mut faults = Vec::new();
    for rows in rows.chunks(32) {
        thread::scope(|scope| {
            let see = &see;
            let runs = rows.iter().map(|row| {
                let both = move || (see(Netcat::Theirs, row), see(Netcat::Ours, row));
                (row, scope.spawn(both))
            });
            for (row, run) in runs.collect::<Vec<_>>() {
                let name = format!("nc {} < '{}' with '{}'", row.words, row.input, row.peer);
                match (run.join(), row.differs) {
                    (Ok((theirs, ours)), why) if (theirs == ours) == why.is_some() => {
                        faults.push(format!("{name}:\n  {theirs:?}\n  {ours:?} {why:?}"));
                    }
                    (Ok(_), _) => {}
                    (Err(_), _) => faults.push(format!("{name}: see the panic")),
                }
            }
        });
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Takes the steps of a peer over a connection, and returns what it has read.
///
/// `r5` reads five bytes, `R` reads to the end, `w:text` writes, `f` sends a FIN, `p300` pauses so many milliseconds, `x` resets. At the end
/// it is closed.
fn play(mut stream: TcpStream, steps: &str) -> String {
    let mut seen = Vec::new();
    for step in steps.split_whitespace() {
        let (act, value) = step.split_at(1);
        match act {
            "r" => seen.extend(read_len(&stream, value.parse().unwrap())),
            "R" => {
                // A reset is an end like any other here.
                let _ = stream.read_to_end(&mut seen);
            }
            "w" => {
                let text = value[1..].replace('_', " ").replace("\\n", "\n");
                let _ = stream.write_all(text.as_bytes());
            }
            "f" => {
                // The program may have reset it.
                let _ = stream.shutdown(Shutdown::Write);
            }
            "p" => thread::sleep(Duration::from_millis(value.parse().unwrap())),
            "x" => {
                reset(stream);
                break;
            }
            other => panic!("no step {other}"),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// The same with datagrams: `r` receives one, `w:text` answers, and the datagrams are shown in brackets.
fn play_datagrams(socket: &UdpSocket, steps: &str, mut to: Option<SocketAddr>) -> String {
    let mut seen = String::new();
    for step in steps.split_whitespace() {
        let (act, value) = step.split_at(1);
        match act {
            "r" => {
                let (bytes, sender) = receive(socket);
                to = Some(sender);
                seen = format!("{seen}[{}]", String::from_utf8_lossy(&bytes));
            }
            "w" => {
                let text = value[1..].replace('_', " ").replace("\\n", "\n");
                socket.send_to(text.as_bytes(), to.unwrap()).unwrap();
            }
            "p" => thread::sleep(Duration::from_millis(value.parse().unwrap())),
            other => panic!("no step {other}"),
        }
    }
    seen
}

fn seen(running: Running, peer: String) -> Seen {
    let done = running.wait();
    Seen {
        out: done.text(),
        status: done.status,
        peer,
    }
}

/// Puts the ports into the arguments. The one that refuses does so as long as the socket exists.
fn with_ports(words: &str, port: u16) -> (String, socket2::Socket) {
    let (held, refusing) = refusing(Transport::Tcp);
    let words = words.replace("PORT", &port.to_string());
    (words.replace("OTHER", &refusing.port().to_string()), held)
}

#[test]
fn clients_behave_alike() {
    compare(rows::CLIENTS, |netcat, row| {
        let (listener, address) = listen();
        let (words, _refusing) = with_ports(row.words, address.port());
        let running = netcat.launch(&words, row).start();
        let peer = play(accept(&listener), row.peer);
        seen(running, peer)
    });
}

#[test]
fn listeners_behave_alike() {
    compare(rows::LISTENERS, |netcat, row| {
        let (running, address) = netcat.listen(row, Transport::Tcp);
        let clients = row.peer.split(';');
        let peers = clients.map(|steps| play(connect(address), steps));
        let peer = peers.collect();
        if row.words.contains('k') {
            running.signal(rustix::process::Signal::TERM);
        }
        let mut seen = seen(running, peer);
        // A signal ends nc itself, and here it is a status.
        seen.status = seen.status.min(143);
        seen
    });
}

#[test]
fn datagram_clients_behave_alike() {
    compare(rows::DATAGRAM_CLIENTS, |netcat, row| {
        let (socket, address) = datagrams();
        let words = row.words.replace("PORT", &address.port().to_string());
        let running = netcat.launch(&words, row).start();
        let peer = play_datagrams(&socket, row.peer, None);
        seen(running, peer)
    });
}

#[test]
fn datagram_listeners_behave_alike() {
    compare(rows::DATAGRAM_LISTENERS, |netcat, row| {
        let (running, address) = netcat.listen(row, Transport::Udp);
        let peers = row.peer.split(';').map(|steps| {
            let (socket, _) = datagrams();
            let peer = play_datagrams(&socket, steps, Some(address));
            (socket, peer)
        });
        let peers: Vec<_> = peers.collect();
        let peer = peers.iter().map(|(_, peer)| peer.as_str()).collect();
        if row.words.contains('k') {
            running.signal(rustix::process::Signal::TERM);
        }
        let mut seen = seen(running, peer);
        seen.status = seen.status.min(143);
        seen
    });
}

/// Command lines that need no peer: PORT listens, and nothing comes over it.
#[test]
fn scans_and_errors_behave_alike() {
    compare(rows::ALONE, |netcat, row| {
        let (_listener, address) = listen();
        let (words, _refusing) = with_ports(row.words, address.port());
        let done = netcat.launch(&words, row).run();
        Seen {
            out: done.text(),
            status: done.status,
            peer: String::new(),
        }
    });
}

/// The arguments of a listener and of a client at PLACE, and the input and output of each.
type Pair = (
    &'static str,
    &'static str,
    [&'static str; 2],
    [&'static str; 2],
);

const PAIRS: &[Pair] = &[
    (
        "-lU PLACE",
        "-NU PLACE",
        ["answer", "request"],
        ["request", "answer"],
    ),
    (
        "-lNU PLACE",
        "-U PLACE",
        ["answer", "request"],
        ["request", "answer"],
    ),
    (
        "-lU PLACE",
        "-U -w 1 PLACE",
        ["-", "request"],
        ["request", ""],
    ),
    (
        "-lU -W 1 PLACE",
        "-U PLACE",
        ["-", "request"],
        ["request", ""],
    ),
    (
        "-lU @PLACE",
        "-NU @PLACE",
        ["answer", "request"],
        ["request", "answer"],
    ),
    (
        "-luU -W 1 PLACE",
        "-uU -w 1 PLACE",
        ["-", "request"],
        ["request", ""],
    ),
    (
        "-luU -w 2 PLACE",
        "-uU -w 2 PLACE",
        ["answer", "request"],
        ["request", "answer"],
    ),
];

/// Each program talks with itself and with the other one over Unix sockets, in both roles.
#[test]
fn unix_sockets_pair_in_every_combination() {
    use Netcat::{Ours, Theirs};
    if !is_installed(REFERENCE) {
        return skip("nc.openbsd is not installed");
    }
    thread::scope(|scope| {
        for pair in PAIRS {
            for netcats in [
                [Theirs, Theirs],
                [Theirs, Ours],
                [Ours, Theirs],
                [Ours, Ours],
            ] {
                scope.spawn(move || meet_at_path(pair, netcats));
            }
        }
    });
}

fn meet_at_path(pair: &Pair, [listener, client]: [Netcat; 2]) {
    let (listens, connects, inputs, outputs) = *pair;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("socket");
    let place = place.to_str().unwrap();
    let launch = |netcat: Netcat, words: &'static str, input| {
        netcat.launch(&words.replace("PLACE", place), &row(words, input, ""))
    };
    let server = launch(listener, listens, inputs[0]).start();
    // It is bound before it listens, and a refused client tries again.
    let client = loop {
        let done = launch(client, connects, inputs[1]).run();
        if done.status == 0 {
            break done;
        }
        assert!(
            !server.has_ended_within(Duration::from_millis(5)),
            "{pair:?}"
        );
    };
    let server = server.wait();
    // After datagrams nc.openbsd fails to disconnect its socket.
    let fails = matches!(listener, Netcat::Theirs) && listens.contains('u');
    assert_eq!(server.status, i32::from(fails), "{pair:?}: {}", server.err);
    assert_eq!([server.text(), client.text()], outputs, "{pair:?}");
}

#[test]
fn at_least_120_command_lines_are_compared() {
    let tables = [
        rows::CLIENTS,
        rows::LISTENERS,
        rows::DATAGRAM_CLIENTS,
        rows::DATAGRAM_LISTENERS,
        rows::ALONE,
    ];
    let count: usize = tables.iter().map(|rows| rows.len()).sum();
    assert!(count >= 120, "{count}");
}
