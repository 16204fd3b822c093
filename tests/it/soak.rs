//! Many clients for a long time: some talk, some stall, some leave early, some reset; each byte is accounted for, by them and by the server.
//! At the end there are as many descriptors as at the start, and no more memory. `TUPLECAT_SOAK` says how long, such
//! as 2h; a few seconds else.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use rustix::event::PollFlags;
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// Clients at the same time.
const CROWD: u8 = 12;

/// How much a process may grow once everything has happened often, in kilobytes.
const GROWTH: u64 = 6 << 10;

/// How long a client waits before it holds that a server takes nothing more.
const STALL: Duration = Duration::from_millis(20);

fn length() -> Duration {
    let text = std::env::var("TUPLECAT_SOAK").unwrap_or_else(|_| "4s".to_owned());
    tuplecat::cli::values::duration(&text).unwrap_or_else(|error| panic!("TUPLECAT_SOAK: {error}"))
}

/// Chance, the same in every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// What the server has told of: a connection of each client, by the client's address, and the sums.
#[derive(Default)]
struct Told {
    closed: HashMap<SocketAddr, [u64; 2]>,
    accepted: u64,
    ended: u64,
    sums: [u64; 2],
    summary: Option<[u64; 2]>,
}

#[derive(Default)]
struct Ledger {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Ledger {
    /// Takes events until there are no more.
    fn keep(&self, events: impl Read) {
        for line in BufReader::new(events).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let figures = ["received", "sent"].map(|way| event[way]["bytes"].as_u64());
            let mut told = self.told.lock().unwrap();
            match event["event"].as_str().unwrap() {
                "accepted" => told.accepted += 1,
                "closed" if event["remote"].is_string() => {
                    let remote = event["remote"].as_str().unwrap().parse().unwrap();
                    let figures = figures.map(Option::unwrap);
                    told.ended += 1;
                    told.sums = [told.sums[0] + figures[0], told.sums[1] + figures[1]];
                    told.closed.insert(remote, figures);
                }
                "summary" => told.summary = Some(figures.map(Option::unwrap)),
                _ => {}
            }
            self.changed.notify_all();
        }
    }

    /// What was received from a client and sent to it, once its connection has ended.
    fn of(&self, client: SocketAddr) -> [u64; 2] {
        let told = self.told.lock().unwrap();
        let is_open = |told: &mut Told| !told.closed.contains_key(&client);
        let (mut told, _) = self
            .changed
            .wait_timeout_while(told, BOUND, is_open)
            .unwrap();
        let figures = told.closed.remove(&client);
        figures.unwrap_or_else(|| panic!("nothing is told of the end of {client}"))
    }
}

/// Which bytes a client sends.
fn pattern(len: usize, chance: &mut Chance) -> Vec<u8> {
    let first = chance.below(251);
    (0..len)
        .map(|at| u8::try_from((first + at) % 251).unwrap())
        .collect()
}

/// A connection from an address that no other client has, so that what is told of it can only be about this one.
fn call(server: SocketAddr, number: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = IpAddr::from(Ipv4Addr::new(127, 0, 1, number));
    socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
    socket.connect_timeout(&server.into(), BOUND).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.set_write_timeout(Some(BOUND)).unwrap();
    socket.into()
}

/// One client: it gets back what it sends, or leaves before that.
fn visit(server: SocketAddr, number: u8, chance: &mut Chance, ledger: &Ledger) {
    let mut stream = call(server, number);
    let client = stream.local_addr().unwrap();
    let kind = chance.below(8);
    let mut sent = 0;
    match kind {
        // It comes, and has nothing to say.
        0 => {}
        // It stalls: it reads only when the server takes nothing more.
        1 => {
            let bytes = pattern(200_000 + chance.below(2_000_000), chance);
            sent = bytes.len();
            stall(&stream, &bytes);
        }
        // It leaves without a look at the answer, which may be a reset.
        2 => {
            sent = 1 + chance.below(100_000);
            stream.write_all(&pattern(sent, chance)).unwrap();
            drop(stream);
            return inexact(ledger.of(client), sent);
        }
        // It resets in mid-sentence.
        3 => {
            sent = 1 + chance.below(100_000);
            stream.write_all(&pattern(sent, chance)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            reset(stream);
            return inexact(ledger.of(client), sent);
        }
        // It talks.
        _ => {
            for _ in 0..chance.below(6) {
                let bytes = pattern(1 + chance.below(20_000), chance);
                stream.write_all(&bytes).unwrap();
                assert!(read_len(&stream, bytes.len()) == bytes, "another answer");
                sent += bytes.len();
            }
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&stream), b"");
    assert_eq!(ledger.of(client), [sent as u64; 2], "kind {kind}");
}

/// Of who leaves early not everything need have come, and the answer is no longer than what came.
#[track_caller]
fn inexact([received, answered]: [u64; 2], sent: usize) {
    assert!(
        received <= sent as u64 && answered <= received,
        "{answered} of {received} of {sent}"
    );
}

fn stall(stream: &TcpStream, bytes: &[u8]) {
    let mut taken = 0;
    stream.set_nonblocking(true).unwrap();
    while taken < bytes.len() && is_ready_within(stream, PollFlags::OUT, STALL) {
        taken += (&*stream).write(&bytes[taken..]).unwrap_or(0);
    }
    stream.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        let rest = &bytes[taken..];
        scope.spawn(move || {
            let mut stream = stream;
            stream.write_all(rest).unwrap();
        });
        assert!(read_len(stream, bytes.len()) == bytes, "another answer");
    });
}

fn descriptors(running: &Running) -> usize {
    fs::read_dir(format!("/proc/{}/fd", running.pid()))
        .unwrap()
        .count()
}

fn memory(running: &Running) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processes that have it as their parent.
fn children(running: &Running) -> String {
    let pid = running.pid();
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

/// Lets a crowd come again and again for `time`.
fn crowd(time: Duration, seed: u64, visit: impl Fn(u8, &mut Chance) + Sync) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for number in 1..=CROWD {
            let visit = &visit;
            scope.spawn(move || {
                let mut chance = Chance(seed * 1000 + u64::from(number));
                while Instant::now() < end {
                    visit(number, &mut chance);
                }
            });
        }
    });
}

/// Waits until the process has no more descriptors than it had, and no children.
fn settles(running: &Running, expected: usize) {
    let end = Instant::now() + BOUND;
    while descriptors(running) > expected || !children(running).is_empty() {
        assert!(
            Instant::now() < end,
            "{} descriptors, {expected} before",
            descriptors(running)
        );
        assert!(!running.has_ended_within(Duration::from_millis(1)));
    }
}

/// The server answers every client with what it sends.
fn soak(words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let (events, ledger) = (read_side(&fifo), Arc::new(Ledger::default()));
    let server = tuplecat("tcp-listen -k -q 0 --events")
        .arg(&fifo)
        .args(words);
    let server = server.start();
    let book = Arc::clone(&ledger);
    // The reading end must not see an end before the server has opened the other one.
    let address = server.ready();
    let keeper = thread::spawn(move || book.keep(events));
    // It has all that it needs once it answers.
    let first = call(address, CROWD + 1);
    assert_eq!((&first).write(b"first").unwrap(), 5);
    assert_eq!(read_len(&first, 5), b"first");
    let client = first.local_addr().unwrap();
    drop(first);
    assert_eq!(ledger.of(client), [5, 5]);
    settles(&server, usize::MAX);
    let before = descriptors(&server);

    let third = length() / 3;
    crowd(third, 1, |number, chance| {
        visit(address, number, chance, &ledger);
    });
    settles(&server, before);
    let full = memory(&server);
    crowd(2 * third, 2, |number, chance| {
        visit(address, number, chance, &ledger);
    });
    settles(&server, before);
    let grown = memory(&server).saturating_sub(full);
    assert!(grown < GROWTH, "grew by {grown} kB");

    server.signal(Signal::TERM);
    server.wait().exits(143);
    keeper.join().unwrap();
    let told = ledger.told.lock().unwrap();
    assert_eq!(told.accepted, told.ended);
    assert!(told.ended > u64::from(CROWD));
    assert_eq!(told.summary, Some(told.sums));
}

#[test]
fn an_echo_for_everybody() {
    soak("--echo");
}

#[test]
fn an_echo_by_plain_copying() {
    soak("--echo --no-fast-path");
}

#[test]
fn a_program_for_everybody() {
    soak("--max-children 8 --exec cat");
}

#[test]
fn datagrams_of_peers_that_come_and_go() {
    let server = tuplecat("udp-bind -q --stats --echo 0").start();
    let address = server.ready();
    let (first, _) = datagrams();
    // It has all that it needs once it answers.
    exchange(&first, address, b"first");
    let before = descriptors(&server);
    let sent = Mutex::new([1, 5]);
    let peer = |number: u8, chance: &mut Chance| {
        let (socket, _) = datagrams();
        let mut own = [0; 2];
        for _ in 0..=chance.below(20) {
            let bytes = pattern(chance.below(4000), chance);
            own = [own[0] + 1, own[1] + bytes.len() as u64];
            exchange(&socket, address, &bytes);
        }
        // One in four leaves before the answer, and the server is told that nobody is there. Nobody else has that address: the
        // answer would reach whoever gets the port next.
        if chance.below(4) == 0 {
            own[0] += 1;
            let (leaver, _) = datagrams_at((Ipv4Addr::new(127, 0, 2, number), 0).into());
            leaver.send_to(b"", address).unwrap();
        }
        let mut sent = sent.lock().unwrap();
        *sent = [sent[0] + own[0], sent[1] + own[1]];
    };
    let third = length() / 3;
    crowd(third, 1, peer);
    let full = memory(&server);
    crowd(2 * third, 2, peer);
    let grown = memory(&server).saturating_sub(full);
    assert!(grown < GROWTH, "grew by {grown} kB");
    settles(&server, before);

    // An answer to the last datagram shows that everything before it was taken.
    let (socket, _) = datagrams();
    exchange(&socket, address, b"last");
    server.signal(Signal::TERM);
    let done = server.wait().exits(143);
    let line = done.err.lines().find(|line| line.contains("received"));
    let line = line.unwrap();
    let [count, len] = *sent.lock().unwrap();
    assert_eq!(number_before(line, " datagrams"), count + 1);
    assert_eq!(number_before(line, " bytes"), len + 4);
}

/// Sends a datagram and gets it back. On the loopback interface nothing is lost as long as each waits for its answer.
#[track_caller]
fn exchange(socket: &UdpSocket, address: SocketAddr, bytes: &[u8]) {
    socket.send_to(bytes, address).unwrap();
    assert!(
        receive(socket) == (bytes.to_vec(), address),
        "another answer"
    );
}
