//! Peers that are stopped in the middle of a transfer and continued: as sender, as receiver, as both, and as a child.
//! TCP blocks both sides meanwhile: nothing spins, and no byte is lost. Datagrams that meet a full buffer are counted.

use std::io::Write;
use std::net::TcpStream;
use std::process::ChildStdin;
use std::sync::LazyLock;
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::{Pid, Signal, kill_process};
use socket2::Socket;

use crate::common::*;

/// More than two sockets with these buffers hold, and the pipes before and behind them.
static SENT: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(8_000_000));
const BUFFERS: &str = "--sndbuf 200k --rcvbuf 200k";

/// The number of bytes that have arrived when the peer is stopped.
const BEGUN: usize = 300_000;

/// The paths of data through the program: spliced by the kernel, copied, and observed by a tap.
const ENGINES: [&str; 3] = ["", "--no-fast-path", "--pcap /dev/null"];

/// Starts the program with these arguments, and another tuplecat as its peer.
fn session(ours: Side, words: &str) -> [Running; 2] {
    let start = |mode: &str, words: &str| tuplecat(mode).args(BUFFERS).args(words);
    let held = |launch: Launch| launch.stdin(Input::Held).start();
    match ours {
        Side::Listens => {
            let us = held(start("tcp-listen", words).args("0"));
            let peer = held(start("tcp-connect", "").to(us.ready()));
            [us, peer]
        }
        Side::Connects => {
            let peer = held(start("tcp-listen", "0"));
            let us = held(start("tcp-connect", words).to(peer.ready()));
            [us, peer]
        }
    }
}

/// Checks both roles on each path, all at once.
fn with_each(check: impl Fn(&mut Running, &mut Running) + Sync) {
    thread::scope(|scope| {
        for (side, words) in SIDES
            .into_iter()
            .flat_map(|side| ENGINES.map(|words| (side, words)))
        {
            let name = thread::Builder::new().name(format!("{side:?} {words}"));
            let check = &check;
            let case = move || {
                let [mut us, mut peer] = session(side, words);
                check(&mut us, &mut peer);
                for running in [us, peer] {
                    running.wait().exits(0);
                }
            };
            name.spawn_scoped(scope, case).unwrap();
        }
    });
}

/// One direction of a transfer.
struct Transfer {
    input: ChildStdin,
    to: Capture,
    taken: usize,
}

impl Transfer {
    /// Starts it, and waits until the beginning arrives.
    fn begin(from: &mut Running, to: &Running) -> Self {
        let mut input = from.take_stdin();
        input.write_all(&SENT[..BEGUN]).unwrap();
        let to = to.out().clone();
        to.wait_for_len(BEGUN);
        let taken = BEGUN;
        Self { input, to, taken }
    }

    /// Continues until nothing more is taken.
    fn fill(&mut self) {
        self.taken += push(&self.input, &SENT[self.taken..]);
        assert!(self.taken < SENT.len(), "everything was taken");
    }

    /// Continues to the end, and checks that everything arrives.
    fn complete(mut self) {
        self.input.write_all(&SENT[self.taken..]).unwrap();
        drop(self.input);
        assert!(self.to.wait_for_len(SENT.len()) == *SENT);
    }
}

#[test]
fn a_receiver_that_is_stopped_gets_everything_later() {
    with_each(|us, peer| {
        let mut transfer = Transfer::begin(us, peer);
        peer.signal(Signal::STOP);
        transfer.fill();
        is_calm(us);
        peer.signal(Signal::CONT);
        peer.close_stdin();
        transfer.complete();
    });
}

#[test]
fn a_sender_that_is_stopped_is_waited_for() {
    with_each(|us, peer| {
        let mut transfer = Transfer::begin(peer, us);
        peer.signal(Signal::STOP);
        transfer.fill();
        is_calm(us);
        peer.signal(Signal::CONT);
        us.close_stdin();
        transfer.complete();
    });
}

#[test]
fn both_directions_outlive_a_stop() {
    with_each(|us, peer| {
        let mut transfers = [Transfer::begin(us, peer), Transfer::begin(peer, us)];
        for _ in 0..3 {
            peer.signal(Signal::STOP);
            is_calm(us);
            peer.signal(Signal::CONT);
        }
        peer.signal(Signal::STOP);
        for transfer in &mut transfers {
            transfer.fill();
        }
        is_calm(us);
        peer.signal(Signal::CONT);
        thread::scope(|scope| {
            for transfer in transfers {
                scope.spawn(|| transfer.complete());
            }
        });
    });
}

/// A process that leaves does not wait for a peer that is stopped.
#[test]
fn a_stopped_peer_does_not_delay_leaving() {
    for side in SIDES {
        let [mut us, mut peer] = session(side, "");
        let mut transfer = Transfer::begin(&mut us, &peer);
        peer.signal(Signal::STOP);
        transfer.fill();
        us.signal(Signal::TERM);
        us.wait().exits(143);
        // Data that the kernel had taken from us still arrives.
        peer.signal(Signal::CONT);
        peer.close_stdin();
        let done = peer.wait().exits(0);
        assert!(done.out.len() > BEGUN && SENT.starts_with(&done.out));
    }
}

#[test]
fn a_stopped_client_delays_no_other() {
    for words in ["--echo", "--echo --no-fast-path", "--exec cat"] {
        let server = tuplecat("tcp-listen -k 0")
            .args(BUFFERS)
            .args(words)
            .start();
        let client = || {
            let launch = tuplecat("tcp-connect").args(BUFFERS).to(server.ready());
            launch.stdin(Input::Held).start()
        };
        let (mut stopped, mut other) = (client(), client());
        let mut input = stopped.take_stdin();
        input.write_all(&SENT[..BEGUN]).unwrap();
        stopped.out().wait_for_len(BEGUN);
        stopped.signal(Signal::STOP);
        other.write(&SENT[..]);
        other.close_stdin();
        assert!(other.wait().exits(0).out == *SENT);
        is_calm(&server);
        stopped.signal(Signal::CONT);
        input.write_all(&SENT[BEGUN..]).unwrap();
        drop(input);
        assert!(stopped.wait().exits(0).out == *SENT);
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}

#[test]
fn a_child_that_is_stopped_holds_its_peer_back() {
    for words in ["tcp-listen 0", "tcp-listen --no-fast-path 0"] {
        let words = format!("{words} {BUFFERS}");
        let server = shell(&words, "kill -STOP $$; exec cat").start();
        let peer = Socket::from(connect(server.ready()));
        peer.set_send_buffer_size(200 << 10).unwrap();
        let mut peer = TcpStream::from(peer);
        let taken = push(&peer, &SENT);
        assert!(taken < SENT.len(), "everything was taken");
        is_calm(&server);
        let child = children_of(server.pid()).remove(0).parse().unwrap();
        kill_process(Pid::from_raw(child).unwrap(), Signal::CONT).unwrap();
        let answer = peer.try_clone().unwrap();
        let answer = thread::spawn(move || read_all(&answer));
        peer.write_all(&SENT[taken..]).unwrap();
        finish(&peer);
        assert!(answer.join().unwrap() == *SENT);
        server.wait().exits(0);
    }
}

#[test]
fn another_tool_may_be_stopped_too() {
    with_each_tool(|tool| {
        for words in ["", "--no-fast-path"] {
            let start = || {
                let us = tuplecat("tcp-listen 0").args(BUFFERS).args(words);
                let us = us.stdin(Input::Held).start();
                let peer = tool.launch(tool.connects, us.ready().port());
                (us, peer.stdin(Input::Held).start())
            };
            let (mut us, peer) = start();
            let mut transfer = Transfer::begin(&mut us, &peer);
            peer.signal(Signal::STOP);
            transfer.fill();
            is_calm(&us);
            peer.signal(Signal::CONT);
            transfer.complete();
            let (us, mut peer) = start();
            let mut transfer = Transfer::begin(&mut peer, &us);
            peer.signal(Signal::STOP);
            transfer.fill();
            is_calm(&us);
            peer.signal(Signal::CONT);
            transfer.complete();
        }
    });
}

#[test]
fn datagrams_of_a_sender_that_is_stopped_are_waited_for() {
    for words in ["", "--no-fast-path"] {
        let us = tuplecat("udp-bind --eof-datagram 0").args(words).start();
        let peer = tuplecat("udp-sendto --eof-datagram --rate 3M").to(us.ready());
        let mut peer = peer.stdin(Input::Held).start();
        peer.write(&SENT[..10_000]);
        us.out().wait_for_len(10_000);
        peer.signal(Signal::STOP);
        peer.write(&SENT[10_000..40_000]);
        is_calm(&us);
        peer.signal(Signal::CONT);
        peer.write(&SENT[40_000..100_000]);
        peer.close_stdin();
        assert!(us.wait().exits(0).out == SENT[..100_000]);
        peer.wait().exits(0);
    }
}

#[test]
fn an_answer_of_a_peer_that_is_stopped_is_waited_for() {
    for words in ["", "--no-fast-path", "--connected"] {
        let peer = tuplecat("udp-bind --echo 0").start();
        let us = tuplecat("udp-sendto --replies 2 --reply-timeout 15").args(words);
        let mut us = us.to(peer.ready()).stdin(Input::Held).start();
        us.write("one");
        us.out().wait_for("one");
        peer.signal(Signal::STOP);
        us.write("two");
        us.close_stdin();
        is_calm(&us);
        peer.signal(Signal::CONT);
        assert_eq!(us.wait().exits(0).text(), "onetwo");
    }
}
