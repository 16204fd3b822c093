//! Long runs with many clients that send, stall, leave early or reset; both sides account for each byte.
//! At the end there are as many descriptors as at the start, and no more memory. `TUPLECAT_SOAK` sets the duration, such as 2h;
//! 4s by default.

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
const CLIENTS: u8 = 12;

/// The growth that a process may have after its first rounds, in kilobytes.
const GROWTH: u64 = 6 << 10;

/// The time after which a client concludes that a server takes nothing more.
const STALL: Duration = Duration::from_millis(20);

fn length() -> Duration {
    let text = std::env::var("TUPLECAT_SOAK").unwrap_or_else(|_| "4s".to_owned());
    tuplecat::cli::values::duration(&text).unwrap_or_else(|error| panic!("TUPLECAT_SOAK: {error}"))
}

/// A random sequence, the same in every run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// The server's account: the connection of each client, by the client's address, and the sums.
#[derive(Default)]
struct Account {
    closed: HashMap<SocketAddr, [u64; 2]>,
    accepted: u64,
    ended: u64,
    sums: [u64; 2],
    summary: Option<[u64; 2]>,
}

#[derive(Default)]
struct Ledger {
    account: Mutex<Account>,
    changed: Condvar,
}

impl Ledger {
    /// Reads events until their end.
    fn keep(&self, events: impl Read) {
        for line in BufReader::new(events).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let figures = ["received", "sent"].map(|way| event[way]["bytes"].as_u64());
            let mut account = self.account.lock().unwrap();
            match event["event"].as_str().unwrap() {
                "accepted" => account.accepted += 1,
                "closed" if event["remote"].is_string() => {
                    let remote = event["remote"].as_str().unwrap().parse().unwrap();
                    let figures = figures.map(Option::unwrap);
                    account.ended += 1;
                    account.sums = [account.sums[0] + figures[0], account.sums[1] + figures[1]];
                    account.closed.insert(remote, figures);
                }
                "summary" => account.summary = Some(figures.map(Option::unwrap)),
                _ => {}
            }
            self.changed.notify_all();
        }
    }

    /// Returns the bytes received from a client and sent to it, once its connection has ended.
    fn of(&self, client: SocketAddr) -> [u64; 2] {
        let account = self.account.lock().unwrap();
        let is_open = |account: &mut Account| !account.closed.contains_key(&client);
        let (mut account, _) = self
            .changed
            .wait_timeout_while(account, BOUND, is_open)
            .unwrap();
        let figures = account.closed.remove(&client);
        figures.unwrap_or_else(|| panic!("nothing is account of the end of {client}"))
    }
}

/// Returns random bytes for a client to send.
fn pattern(len: usize, chance: &mut Chance) -> Vec<u8> {
    let first = chance.below(251);
    (0..len)
        .map(|at| u8::try_from((first + at) % 251).unwrap())
        .collect()
}

/// Connects from an address that no other client has, so that its events are unambiguous.
fn call(server: SocketAddr, number: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = IpAddr::from(Ipv4Addr::new(127, 0, 1, number));
    socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
    socket.connect_timeout(&server.into(), BOUND).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket.set_write_timeout(Some(BOUND)).unwrap();
    socket.into()
}

/// Runs one client, which reads its echo or leaves early.
fn visit(server: SocketAddr, number: u8, chance: &mut Chance, ledger: &Ledger) {
    let mut stream = call(server, number);
    let client = stream.local_addr().unwrap();
    let kind = chance.below(8);
    let mut sent = 0;
    match kind {
        // Connects and sends nothing.
        0 => {}
        // Stalls: it reads only when the server takes nothing more.
        1 => {
            let bytes = pattern(200_000 + chance.below(2_000_000), chance);
            sent = bytes.len();
            stall(&stream, &bytes);
        }
        // Leaves without reading the echo, which may be a reset.
        2 => {
            sent = 1 + chance.below(100_000);
            stream.write_all(&pattern(sent, chance)).unwrap();
            drop(stream);
            return inexact(ledger.of(client), sent);
        }
        // Resets in the middle of the transfer.
        3 => {
            sent = 1 + chance.below(100_000);
            stream.write_all(&pattern(sent, chance)).unwrap();
            stream.read_exact(&mut [0]).unwrap();
            reset(stream);
            return inexact(ledger.of(client), sent);
        }
        // Sends, and reads the echo.
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

/// Checks a client that left early: not all of its data must have arrived, and the echo is no longer than the data.
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

/// Returns its child processes.
fn children(running: &Running) -> String {
    let pid = running.pid();
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

/// Runs clients again and again for `time`.
fn run_clients(time: Duration, seed: u64, visit: impl Fn(u8, &mut Chance) + Sync) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for number in 1..=CLIENTS {
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

/// Waits until the process has no more descriptors than before, and no children.
fn wait_until_idle(running: &Running, expected: usize) {
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

/// Runs a server that echoes, with `words` as its arguments.
fn soak(words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    let (events, ledger) = (read_side(&fifo), Arc::new(Ledger::default()));
    let server = tuplecat("tcp-listen -k -q 0 --events")
        .arg(&fifo)
        .args(words);
    let server = server.start();
    let book = Arc::clone(&ledger);
    // The reading end must not see an end before the server has opened the FIFO.
    let address = server.ready();
    let keeper = thread::spawn(move || book.keep(events));
    // Once it answers, it has all its descriptors.
    let first = call(address, CLIENTS + 1);
    assert_eq!((&first).write(b"first").unwrap(), 5);
    assert_eq!(read_len(&first, 5), b"first");
    let client = first.local_addr().unwrap();
    drop(first);
    assert_eq!(ledger.of(client), [5, 5]);
    wait_until_idle(&server, usize::MAX);
    let before = descriptors(&server);

    let third = length() / 3;
    run_clients(third, 1, |number, chance| {
        visit(address, number, chance, &ledger);
    });
    wait_until_idle(&server, before);
    let full = memory(&server);
    run_clients(2 * third, 2, |number, chance| {
        visit(address, number, chance, &ledger);
    });
    wait_until_idle(&server, before);
    let grown = memory(&server).saturating_sub(full);
    assert!(grown < GROWTH, "grew by {grown} kB");

    server.signal(Signal::TERM);
    server.wait().exits(143);
    keeper.join().unwrap();
    let account = ledger.account.lock().unwrap();
    assert_eq!(account.accepted, account.ended);
    assert!(account.ended > u64::from(CLIENTS));
    assert_eq!(account.summary, Some(account.sums));
}

#[test]
fn an_echo_server() {
    soak("--echo");
}

#[test]
fn an_echo_server_without_the_fast_path() {
    soak("--echo --no-fast-path");
}

#[test]
fn a_server_with_a_child_for_each_client() {
    soak("--max-children 8 --exec cat");
}

#[test]
fn datagrams_of_peers_that_come_and_go() {
    let server = tuplecat("udp-bind -q --stats --echo 0").start();
    let address = server.ready();
    let (first, _) = datagrams();
    // Once it answers, it has all its descriptors.
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
        // One in four leaves before the answer, and the server gets an ICMP error. No other peer has that address: the answer would reach
        // the next owner of the port.
        if chance.below(4) == 0 {
            own[0] += 1;
            let (leaver, _) = datagrams_at((Ipv4Addr::new(127, 0, 2, number), 0).into());
            leaver.send_to(b"", address).unwrap();
        }
        let mut sent = sent.lock().unwrap();
        *sent = [sent[0] + own[0], sent[1] + own[1]];
    };
    let third = length() / 3;
    run_clients(third, 1, peer);
    let full = memory(&server);
    run_clients(2 * third, 2, peer);
    let grown = memory(&server).saturating_sub(full);
    assert!(grown < GROWTH, "grew by {grown} kB");
    wait_until_idle(&server, before);

    // An answer to the last datagram shows that all before it were received.
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

/// Sends a datagram and receives its echo. Loopback loses nothing as long as each waits for its answer.
#[track_caller]
fn exchange(socket: &UdpSocket, address: SocketAddr, bytes: &[u8]) {
    socket.send_to(bytes, address).unwrap();
    assert!(
        receive(socket) == (bytes.to_vec(), address),
        "another answer"
    );
}
