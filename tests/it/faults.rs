//! Faults at every stage of a connection: the peer resets, finishes or is killed, a signal comes, output breaks.
//! Nothing hangs, spins or is lost silently, and the status names the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::process::{ChildStdin, ChildStdout};
use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::common::*;

/// The state of a connection when the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// New.
    Open,
    /// Bytes have been received and written.
    Received,
    /// Bytes have been sent and received by the peer.
    Sent,
    /// The peer does not read, and more is to be sent.
    BlockedOut,
    /// Standard output is full, and more arrives.
    BlockedIn,
    /// Both at once.
    BlockedBoth,
    /// Our FIN has been received.
    InputEnded,
    /// The peer's FIN has been received; the input is open and has given something.
    PeerEnded,
    /// Both have finished, and the peer does not read what is still in flight.
    Unheard,
}

const STAGES: [Stage; 9] = [
    Stage::Open,
    Stage::Received,
    Stage::Sent,
    Stage::BlockedOut,
    Stage::BlockedIn,
    Stage::BlockedBoth,
    Stage::InputEnded,
    Stage::PeerEnded,
    Stage::Unheard,
];

/// The data for each direction: more than all buffers hold.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(12_000_000));

/// A connection in one of the stages.
struct Session {
    stage: Stage,
    running: Running,
    input: Option<ChildStdin>,
    peer: Option<TcpStream>,
    reader: ChildStdout,
    /// Bytes written to standard input, and read by the peer.
    fed: usize,
    heard: usize,
    /// Bytes sent by the peer, and read from standard output.
    said: usize,
    read: usize,
}

impl Session {
    fn new(side: Side, stage: Stage) -> Self {
        let words = "--sndbuf 200k --rcvbuf 16k";
        let (mut running, peer) = meet_with(side, words, |launch| {
            launch.stdin(Input::Held).stdout(Output::Held)
        });
        running.err().wait_for_line(match side {
            Side::Connects => "connected",
            Side::Listens => "accepted",
        });
        let mut session = Self {
            stage,
            input: Some(running.take_stdin()),
            reader: running.take_stdout(),
            running,
            peer: Some(peer),
            fed: 0,
            heard: 0,
            said: 0,
            read: 0,
        };
        session.proceed();
        session
    }

    fn proceed(&mut self) {
        match self.stage {
            Stage::Open => {}
            Stage::Received => {
                self.say(10);
                self.reader.read_exact(&mut [0; 10]).unwrap();
                self.read = 10;
            }
            Stage::Sent => self.send(),
            Stage::BlockedOut => self.feed(&BYTES),
            Stage::BlockedIn => self.say(BYTES.len()),
            Stage::BlockedBoth => {
                self.feed(&BYTES);
                self.say(BYTES.len());
            }
            Stage::InputEnded => {
                self.send();
                self.input = None;
                assert_eq!(read_all(self.peer()), b"");
            }
            Stage::PeerEnded => {
                self.send();
                finish(self.peer());
                self.running.err().wait_for_line("waiting");
            }
            Stage::Unheard => {
                finish(self.peer());
                // More than the peer's system buffers, and less than ours does.
                let input = self.input.take().unwrap();
                let start = Instant::now();
                while self.fed < 150_000 {
                    self.fed += push(&input, &BYTES[self.fed..150_000]);
                    assert!(start.elapsed() < BOUND, "blocked");
                }
                drop(input);
                self.running.err().wait_for("has not acknowledged");
            }
        }
        is_calm(&self.running);
    }

    fn peer(&self) -> &TcpStream {
        self.peer.as_ref().unwrap()
    }

    /// Sends from the peer as much as is taken.
    fn say(&mut self, len: usize) {
        self.said = push(self.peer(), &BYTES[..len]);
    }

    /// Writes to standard input as much as is taken.
    fn feed(&mut self, bytes: &[u8]) {
        self.fed = push(self.input.as_ref().unwrap(), bytes);
    }

    /// Sends ten bytes, and waits until they arrive.
    fn send(&mut self) {
        self.feed(&BYTES[..10]);
        assert!(read_len(self.peer(), 10) == BYTES[..10]);
        self.heard = 10;
    }

    /// Waits for the end, which comes without a reader; with `drain`, reads everything first.
    fn ends(self, status: i32, drain: bool) -> Vec<u8> {
        let Self {
            running, reader, ..
        } = self;
        let mut held = Some(reader);
        let out = held.take_if(|_| drain).map(Capture::start);
        assert!(running.has_ended_within(BOUND));
        let used = ticks(&running);
        assert!(used < 200, "{used} ticks");
        running.wait().exits(status);
        let out = out.or_else(|| held.map(Capture::start));
        out.unwrap().finish()
    }

    /// Sends the rest from both sides, and checks that everything arrives.
    fn complete(mut self) {
        drop(self.input.take());
        if !matches!(self.stage, Stage::PeerEnded | Stage::Unheard) {
            finish(self.peer());
        }
        let (fed, heard, said, read) = (self.fed, self.heard, self.said, self.read);
        let peer = self.peer().try_clone().unwrap();
        let peer = thread::spawn(move || read_all(&peer));
        assert!(self.ends(0, true) == BYTES[read..said]);
        assert!(peer.join().unwrap() == BYTES[heard..fed]);
    }
}

/// Checks every stage of a client and of a listener, all at once.
fn at_every_stage(check: impl Fn(Session) + Sync) {
    thread::scope(|scope| {
        for (side, stage) in SIDES
            .into_iter()
            .flat_map(|side| STAGES.map(|stage| (side, stage)))
        {
            let name = format!("{side:?} {stage:?}");
            let check = &check;
            let case = thread::Builder::new().name(name);
            case.spawn_scoped(scope, move || check(Session::new(side, stage)))
                .unwrap();
        }
    });
}

#[test]
fn nothing_is_lost_from_any_stage_on() {
    at_every_stage(Session::complete);
}

#[test]
fn a_reset_is_an_error_at_every_stage() {
    at_every_stage(|mut session| {
        let expected = &BYTES[session.read..session.said];
        reset(session.peer.take().unwrap());
        let out = session.ends(7, true);
        assert!(expected.starts_with(&out));
    });
}

/// A killed peer sends FIN; it sends RST if it has unread data, or once it receives more.
#[test]
fn a_killed_peer_is_an_error_if_bytes_are_lost() {
    at_every_stage(|mut session| {
        let expected = &BYTES[session.read..session.said];
        session.peer = None;
        if let Some(input) = &mut session.input
            && session.fed <= 10
        {
            input.write_all(b"lost").unwrap();
        }
        let is_lost = session.stage != Stage::InputEnded;
        let out = session.ends(if is_lost { 7 } else { 0 }, true);
        assert!(expected.starts_with(&out));
    });
}

#[test]
fn a_signal_ends_every_stage() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        at_every_stage(|session| {
            let expected = &BYTES[session.read..session.said];
            session.running.signal(signal);
            let out = session.ends(status, false);
            assert!(expected.starts_with(&out));
        });
    }
}

#[test]
fn a_reader_of_output_that_goes_away_ends_every_stage() {
    at_every_stage(|mut session| {
        if matches!(session.stage, Stage::PeerEnded | Stage::Unheard) {
            // Standard output has ended with the peer, and has no reader any more.
            return session.complete();
        }
        // Replaces the reader, which goes away.
        let (nobody, _) = std::io::pipe().unwrap();
        session.reader = ChildStdout::from(OwnedFd::from(nobody));
        session.ends(141, false);
    });
}

/// Sends signals that change nothing: the table, a window change, stop and continue.
fn storm(running: &Running) {
    let signals = [
        Signal::USR1,
        Signal::CHILD,
        Signal::WINCH,
        Signal::URG,
        Signal::TSTP,
        Signal::STOP,
        Signal::CONT,
    ];
    for signal in signals.into_iter().cycle().take(40 * signals.len()) {
        running.signal(signal);
    }
    running.err().wait_for_line("socket ");
}

#[test]
fn a_storm_of_signals_changes_no_stage() {
    at_every_stage(|session| {
        storm(&session.running);
        is_calm(&session.running);
        session.complete();
    });
}

#[test]
fn a_storm_of_signals_changes_no_datagram() {
    let mut server = tuplecat("udp-bind 0").stdin(Input::Held).start();
    let client = tuplecat("udp-sendto").to(server.ready());
    let mut client = client.stdin(Input::Held).start();
    for round in 1..=3 {
        for running in [&server, &client] {
            running.ready();
            storm(running);
        }
        client.write("question");
        server.out().wait_for(&"question".repeat(round));
        server.write("answer");
        client.out().wait_for(&"answer".repeat(round));
    }
    for running in [server, client] {
        is_calm(&running);
        running.signal(Signal::TERM);
        running.wait().exits(143);
    }
}
