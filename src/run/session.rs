//! A run of one mode, from the options that all modes have: signals, rules, local end, and the pump.
//! A mode makes a session, then its socket, and hands the socket to [`Session::run`] or [`Session::listen`].

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::Socket;

use super::local_end::{ClientOutput, LocalEnd};
use super::observers::Observers;
use super::ready::Ready;
use super::traffic::{Traffic, default_idle_timeout};
use crate::address::proxy::Proxy;
use crate::batch::Batch;
use crate::cli::{
    AddressOptions, CommonOptions, EndOptions, OnPeerEof, OnStdinEof, PeerEndOptions, Place,
};
use crate::flow::Transport;
use crate::link::stream::ReceiveLimits;
use crate::local::expect::{Dialogue, Outcome};
use crate::local::stdio::Stdio;
use crate::local::stdio::output::Output;
use crate::pump::end::{Link, Wait};
use crate::pump::rules::{Engine, OnIdle, OnInputEnd, OnPeerEnd, Rules, Words};
use crate::pump::{Pump, Wiring};
use crate::socket::options::shortfalls;
use crate::sys::inherited::{Inherited, Kind};
use crate::sys::sandbox::{self, Rights};
use crate::sys::signals::Signals;
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{Console, Event, Reach, Taps};

/// Plan for the pump, and the outcome of the dialogue, if there is one.
type Planned = (Wiring, Option<Outcome>);

/// A run of one mode.
pub(crate) struct Session<'a> {
    /// Options of every mode.
    pub(crate) common: &'a CommonOptions,
    /// Restrictions on look-ups.
    pub(crate) address: AddressOptions,
    /// Start of the run: when the command line was read.
    pub(crate) start: Instant,
    /// Observers that the options ask for.
    pub(crate) taps: &'a mut Taps,
    /// Signals, caught from here on.
    pub(crate) signals: &'a Signals,
    /// Proxy that leads to the targets.
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// Limits and choices, for the mode to adjust.
    pub(crate) rules: Rules,
    /// Bytes to send and to expect.
    pub(crate) traffic: Traffic,
    /// Bytes that the local end has given before there is a link, for its first packet.
    pub(crate) first_bytes: Batch,
    /// The plan for the pump, if it is made before there is a link.
    planned: Option<Planned>,
    /// Other side of every link.
    pub(crate) local: LocalEnd,
    /// True if rights are given up before the first byte moves.
    pub(crate) is_sandboxed: bool,
    /// Transport of its socket.
    pub(crate) transport: Transport,
    /// Folder of the file of a Unix socket, which is removed at the end.
    pub(crate) socket_folder: Option<OwnedFd>,
    /// Scripts to notify of the socket.
    pub(crate) ready: Ready,
    /// Standard error, for lines.
    pub(crate) console: Console,
}

/// Side of a conversation that a mode is on. It decides what the end of standard input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It connects: its direction ends as soon as the input does, but with no input it does not end first.
    Client,
    /// It accepts connections: likewise.
    Server,
    /// It waits for datagrams: with no input it only answers.
    Receiver,
    /// It sends to an address: waiting for answers begins at the end of the input, even if there was none.
    Sender,
}

/// Options and ends that the messages of the pump name.
const WORDS: Words = Words {
    client_timeout: "--client-timeout",
    idle_timeout: "--idle-timeout",
    deadline: "--timeout",
    input_is_over: "standard input has ended: this client gets nothing of it",
    input_still_open: "the peer has finished, standard input has not",
    input_still_open_advice: "--recv-only leaves at once",
};

impl<'a> Session<'a> {
    /// Prepares a run with standard input and output as the local end.
    pub(crate) fn new(
        common: &'a CommonOptions,
        (side, transport): (Side, Transport),
        traffic: Traffic,
        observers: Observers<'a>,
    ) -> Self {
        let (ends, engine) = (&common.ends, &common.engine);
        let stdin = traffic.stdin_kind();
        let rules = Rules {
            on_input_end: if common.dialogue.sends() {
                chosen_input_end(ends).unwrap_or_default()
            } else {
                chosen_input_end(ends).unwrap_or_else(|| default_input_end(side, stdin))
            },
            input_is_terminal: stdin == Some(Kind::Terminal),
            idle_timeout: ends
                .idle_timeout
                .or_else(|| default_idle_timeout(common, side)),
            on_idle: if ends.idle_ok {
                OnIdle::Done
            } else {
                OnIdle::Fail
            },
            deadline: ends.timeout.map(|limit| (observers.start + limit, limit)),
            // The calls that are explained are those for one datagram.
            engine: if engine.no_fast_path || common.report.explain {
                Engine::Portable
            } else {
                Engine::Fast
            },
            words: WORDS,
            ..Rules::default()
        };
        Self {
            common,
            address: AddressOptions::default(),
            start: observers.start,
            taps: observers.taps,
            signals: observers.signals,
            proxy: None,
            rules,
            traffic,
            first_bytes: Batch::default(),
            planned: None,
            local: LocalEnd::Stdio(ClientOutput::Plain),
            is_sandboxed: !engine.no_sandbox,
            transport,
            socket_folder: None,
            ready: observers.ready,
            console: observers.console,
        }
    }

    /// Adopts the choice for the end of a peer, where there is one.
    pub(crate) fn choose_peer_end(&mut self, choice: OnPeerEof) {
        self.rules.on_peer_end = match choice {
            OnPeerEof::Auto => OnPeerEnd::Auto,
            OnPeerEof::Wait => OnPeerEnd::Wait,
            OnPeerEof::Quit => OnPeerEnd::Quit,
        };
        self.rules.words.input_still_open_advice = "--on-peer-eof quit leaves at once, wait stays";
    }

    /// Reports where the kernel grants less than the options ask for.
    pub(crate) fn report_shortfalls(&mut self, socket: &Socket) -> Result<()> {
        let texts = shortfalls(socket, &self.common.buffers);
        for text in &texts.context("cannot read the size of a buffer")? {
            self.taps.emit(&Event::Capped { text });
        }
        Ok(())
    }

    /// Joins a link to the local end, and moves bytes until both directions have ended.
    pub(crate) fn run(&mut self, link: Box<dyn Link>) -> Result<()> {
        let first = std::mem::take(&mut self.first_bytes);
        self.pump(|pump| {
            pump.join(link);
            pump.begin_with(first);
        })
    }

    /// Announces a link to the local end, and joins it.
    pub(crate) fn announce_and_run(&mut self, link: Box<dyn Link>) -> Result<()> {
        self.announce(&link.identity())?;
        self.run(link)
    }

    /// Announces the socket of a receiver of datagrams, and joins it to the local end.
    pub(crate) fn receive(&mut self, link: Box<dyn Link>, reach: Reach) -> Result<()> {
        self.taps.emit(&Event::Bound {
            socket: &link.identity(),
            reach,
        });
        self.announce_and_run(link)
    }

    /// Returns the limits on what a connection receives.
    pub(crate) fn receive_limits(&self, peer_end: &PeerEndOptions) -> ReceiveLimits {
        ReceiveLimits {
            bytes: self.common.ends.max_bytes,
            reads: peer_end.max_reads,
        }
    }

    /// Runs over the links that `begin` hands to the pump, until both directions of each have ended.
    pub(super) fn pump(&mut self, begin: impl FnOnce(&mut Pump<'_>)) -> Result<()> {
        let (wiring, outcome) = self.planned.take().unwrap_or_else(|| self.wiring());
        let mut rules = self.rules.clone();
        if self.local.replaces_stdin() {
            rules.input_is_terminal = false;
            rules.on_input_end = chosen_input_end(&self.common.ends).unwrap_or_default();
        }
        let pump = Pump::new(wiring, rules, self.signals, self.taps);
        let mut pump = pump.context("cannot wait for descriptors")?;
        let children = self.local.children();
        if let Some(children) = children {
            pump.attend(Box::new(children.supervisor.clone()));
        }
        begin(&mut pump);
        // A program would inherit the sandbox, and not know why its calls fail.
        if self.is_sandboxed && children.is_none() {
            let rights = self.local.rights();
            sandbox::enter(Rights {
                unix: self.transport.is_unix() || rights.unix,
                socket_folder: self.socket_folder.as_ref().map(AsFd::as_fd),
                ..rights
            });
        }
        let end = pump.run();
        let end = match outcome {
            Some(outcome) => outcome.verdict(end),
            None => end,
        };
        match children {
            Some(children) => children.settle(end, self.signals, self.taps),
            None => Ok(end?),
        }
    }

    /// Reads what the local end has to send by now.
    pub(crate) fn read_first_bytes(&mut self) -> Result<()> {
        let (mut wiring, outcome) = self.wiring();
        if let Wiring::Shared(end) = &mut wiring {
            let (first, now) = (&mut self.first_bytes, Some(Instant::now()));
            let is_ready = match end.readiness().recv {
                Wait::For {
                    fd: Some((fd, _)), ..
                } => {
                    let woken = wait(&[(fd, Interest::READ)], None, now)?;
                    matches!(woken, Wakeup::Ready(_))
                }
                other => other.is_now(),
            };
            match is_ready.then(|| end.recv(first, self.taps)) {
                Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        self.planned = Some((wiring, outcome));
        Ok(())
    }

    fn wiring(&self) -> Planned {
        // A capture in the place of standard output has the received bytes in it.
        let is_captured = self.common.dump.pcap == Some(Place::Standard);
        let is_written = !self.common.ends.send_only && !is_captured;
        let output = is_written.then(|| Output::new(Inherited::stdout(), self.traffic.output));
        let stdio = Stdio::new(self.traffic.input(), output).beside(self.console.clone());
        match (self.local.wiring(stdio), self.traffic.script.clone()) {
            (Wiring::Shared(end), Some(script)) => {
                let (dialogue, outcome) = Dialogue::new(end, script);
                (Wiring::Shared(Box::new(dialogue)), Some(outcome))
            }
            (wiring, _) => (wiring, None),
        }
    }
}

/// Returns the rule that the options choose for the end of the input.
fn chosen_input_end(ends: &EndOptions) -> Option<OnInputEnd> {
    let action = ends.on_stdin_eof.map(|action| match action {
        OnStdinEof::Shutdown => OnInputEnd::Finish,
        OnStdinEof::Keep => OnInputEnd::Keep,
        OnStdinEof::Quit => OnInputEnd::Quit(Duration::ZERO),
    });
    ends.quit_after.map(OnInputEnd::Quit).or(action)
}

/// Returns the rule for the end of standard input where the options choose none.
fn default_input_end(side: Side, stdin: Option<Kind>) -> OnInputEnd {
    match (side, stdin) {
        // Other implementations take an early FIN for the end of everything, and cut their own transfer.
        (Side::Client | Side::Server, Some(Kind::Null | Kind::Closed)) => {
            OnInputEnd::FinishWhenSilent
        }
        (Side::Client | Side::Server | Side::Receiver, None)
        | (Side::Receiver, Some(Kind::Null | Kind::Closed)) => OnInputEnd::FinishAfterPeer,
        _ => OnInputEnd::Finish,
    }
}
