//! What every mode sets up the same way: observers, the local end, and the rules of the pump.
//! From here on a mode only has to bring its links.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Context;
use socket2::Socket;

use super::children::Children;
use super::ready::Ready;
use super::settings;
use super::traffic::Traffic;
use crate::cli::{EndOptions, EngineOptions, OnPeerEof, OnStdinEof, ReportOptions, SocketOptions};
use crate::exit::{Exit, Failure};
use crate::local::output::Output;
use crate::local::stdio::Stdio;
use crate::pump::end::Link;
use crate::pump::rules::{Engine, InputTo, OnInputEnd, OnPeerEnd, Rules};
use crate::pump::{Pump, Wiring};
use crate::sys::inherited::{Inherited, Kind};
use crate::sys::signals::Signals;
use crate::tap::lines::{Detail, Lines, Palette};
use crate::tap::{Event, Taps};

/// A run from the options that all modes have.
pub(super) struct Session {
    /// The observers that the options ask for.
    pub(super) taps: Taps,
    /// The signals, caught from here on.
    pub(super) signals: Signals,
    /// The choices, to be adjusted by the mode.
    pub(super) rules: Rules,
    /// Where a script wants to be told of the socket.
    pub(super) ready: Ready,
    /// Those who talk with peers in the place of standard input and output.
    pub(super) children: Option<Children>,
    stdio: Stdio,
}

/// How a mode uses standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    /// A client: it ends its direction as soon as the input ends.
    Connects,
    /// A server: the same, but with no input at all it lets the peer finish first.
    Listens,
    /// Sends to an address: the end of the input is when waiting for answers begins, even if there was none.
    Sends,
}

impl Session {
    /// Prepares a run with the traffic that the mode has.
    pub(super) fn new(
        (report, ends, engine): (&ReportOptions, &EndOptions, &EngineOptions),
        manners: Manners,
        traffic: Traffic,
        start: Instant,
    ) -> anyhow::Result<Self> {
        let ready = Ready::new(report)?;
        let signals =
            Signals::new().map_err(|error| Failure::io("cannot catch signals", &error))?;
        let input = (!ends.recv_only).then(Inherited::stdin);
        let output = (!ends.send_only).then(Inherited::stdout);
        let output = output.map(|to| Output::new(to, traffic.output));
        let kind = input.as_ref().map(Inherited::kind);
        let rules = Rules {
            on_input_end: on_input_end(ends.on_stdin_eof, manners, kind),
            on_peer_end: OnPeerEnd::Auto,
            input_to: InputTo::All,
            client_timeout: None,
            input_is_terminal: kind == Some(Kind::Terminal),
            idle_timeout: ends.idle_timeout,
            deadline: ends.timeout.map(|limit| (start + limit, limit)),
            engine: if engine.no_fast_path {
                Engine::Portable
            } else {
                Engine::Fast
            },
        };
        Ok(Self {
            taps: taps(report),
            signals,
            rules,
            ready,
            children: None,
            stdio: Stdio::new(input.map(|from| traffic.input(from)), output),
        })
    }

    /// Tells where the kernel has granted less than the options ask for.
    pub(super) fn note_shortfalls(
        &mut self,
        socket: &Socket,
        options: &SocketOptions,
    ) -> anyhow::Result<()> {
        let texts =
            settings::shortfalls(socket, options).context("cannot read the size of a buffer")?;
        for text in &texts {
            self.taps.emit(&Event::Granted { text });
        }
        Ok(())
    }

    /// Moves bytes between `link` and what `wire` makes of standard input and output, until the session is over.
    pub(super) fn run(
        self,
        link: Box<dyn Link>,
        wire: impl FnOnce(Stdio) -> Wiring,
    ) -> anyhow::Result<Exit> {
        self.start(wire, |pump| pump.join(link))
    }

    /// The same with the links that `listener` brings.
    pub(super) fn listen(
        self,
        listener: Box<dyn Link>,
        wire: impl FnOnce(Stdio) -> Wiring,
    ) -> anyhow::Result<Exit> {
        self.start(wire, |pump| pump.listen(listener))
    }

    fn start(
        mut self,
        wire: impl FnOnce(Stdio) -> Wiring,
        begin: impl FnOnce(&mut Pump<'_>),
    ) -> anyhow::Result<Exit> {
        let pump = Pump::new(wire(self.stdio), self.rules, &self.signals, &mut self.taps);
        let mut pump = pump.map_err(|error| Failure::io("cannot wait for descriptors", &error))?;
        if let Some(children) = &self.children {
            pump.attend(Box::new(children.nursery()));
        }
        begin(&mut pump);
        let end = pump.run();
        Ok(match self.children {
            Some(children) => children.settle(end, &self.signals, &mut self.taps)?,
            None => end?,
        })
    }
}

/// The plain local end: standard input and output as they are, for all links.
pub(super) fn shared(stdio: Stdio) -> Wiring {
    Wiring::Shared(Box::new(stdio))
}

fn on_input_end(chosen: Option<OnStdinEof>, manners: Manners, input: Option<Kind>) -> OnInputEnd {
    match (chosen, manners, input) {
        // Clients of other makes take an early FIN for the end of everything, and cut their own transfer.
        (None, Manners::Listens, None | Some(Kind::Null | Kind::Closed)) => {
            OnInputEnd::FinishAfterPeer
        }
        (None, Manners::Connects, None) => OnInputEnd::FinishAfterPeer,
        (chosen, ..) => chosen.into(),
    }
}

impl From<Option<OnStdinEof>> for OnInputEnd {
    /// What to do at the end of an input that surely has something to say.
    fn from(choice: Option<OnStdinEof>) -> Self {
        match choice {
            Some(OnStdinEof::Keep) => Self::Keep,
            Some(OnStdinEof::Quit) => Self::Quit,
            Some(OnStdinEof::Shutdown) | None => Self::Finish,
        }
    }
}

impl From<OnPeerEof> for OnPeerEnd {
    fn from(choice: OnPeerEof) -> Self {
        match choice {
            OnPeerEof::Auto => Self::Auto,
            OnPeerEof::Wait => Self::Wait,
            OnPeerEof::Quit => Self::Quit,
        }
    }
}

fn taps(report: &ReportOptions) -> Taps {
    let mut taps = Taps::default();
    if let Some(lines) = lines(report) {
        taps.add(Box::new(lines));
    }
    taps
}

/// Lines on standard error, unless they are not wanted.
pub(super) fn lines(report: &ReportOptions) -> Option<Lines<std::io::Stderr>> {
    let detail = if report.verbose > 0 {
        Detail::Chunks
    } else {
        Detail::Events
    };
    let lines = || Lines::new(std::io::stderr(), detail, palette(report.color));
    (!report.quiet).then(lines)
}

/// Colours by the option, `NO_COLOR` and `CLICOLOR_FORCE`, or else where a person looks.
fn palette(choice: clap::ColorChoice) -> Palette {
    let wanted = match choice {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            let stderr = std::io::stderr();
            let choice = anstream::AutoStream::choice(&stderr);
            choice != anstream::ColorChoice::Never
                && (stderr.is_terminal() || choice != anstream::ColorChoice::Auto)
        }
    };
    if wanted {
        Palette::Colored
    } else {
        Palette::Plain
    }
}
