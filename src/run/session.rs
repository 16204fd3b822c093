//! What the modes set up in the same way: signals, the local end, the rules of the pump.
//! A mode makes a session, then its socket, and hands the socket to [`Session::run`] or [`Session::listen`].

use anyhow::Context;
use socket2::Socket;

use super::children::Children;
use super::dialogue;
use super::observers::{StdoutUse, Watched};
use super::ready::Ready;
use super::traffic::Traffic;
use crate::cli::{
    DialogueOptions, EndOptions, EngineOptions, OnPeerEof, OnStdinEof, SocketOptions,
};
use crate::exit::Failure;
use crate::flow::Identity;
use crate::local::expect::{Dialogue, PeerChoice, Script, StdinUse};
use crate::local::stdio::Stdio;
use crate::local::stdio::output::Output;
use crate::pump::end::Link;
use crate::pump::rules::{Engine, InputTo, OnInputEnd, OnPeerEnd, Rules};
use crate::pump::{Pump, Wiring};
use crate::socket::options;
use crate::sys::inherited::{Inherited, Kind};
use crate::sys::sandbox::Sandbox;
use crate::sys::signals::Signals;
use crate::tap::{Console, Event, Taps};

/// A run of a mode, from the options that all modes have.
pub(crate) struct Session<'a> {
    /// The observers that the options ask for.
    pub(crate) taps: &'a mut Taps,
    /// The signals, caught from here on.
    pub(crate) signals: Signals,
    /// The choices, to be adjusted by the mode.
    pub(crate) rules: Rules,
    /// Where a script wants to be told of the socket.
    pub(crate) ready: Ready,
    /// The processes that take the place of standard input and output.
    pub(crate) children: Option<Children>,
    /// Where lines go.
    pub(crate) console: Console,
    /// What goes in and out of the local end.
    pub(crate) traffic: Traffic,
    /// The rights that are given up before the first byte moves.
    pub(crate) sandbox: Option<Sandbox>,
    script: Option<Script>,
    takes_input: bool,
    takes_output: bool,
}

/// Which side of a conversation a mode is on: that decides what the end of standard input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It connects: its direction ends as soon as the input does.
    Client,
    /// It waits for others: the same, but with no input at all it lets the peer finish first.
    Server,
    /// It sends to an address: waiting for answers begins at the end of the input, even if there was none.
    Sender,
}

impl<'a> Session<'a> {
    /// Prepares a run with the traffic that the mode has.
    pub(crate) fn new(
        (ends, dialogue, engine): (&EndOptions, &DialogueOptions, &EngineOptions),
        side: Side,
        traffic: Traffic,
        watched: Watched<'a>,
    ) -> anyhow::Result<Self> {
        let Watched {
            start,
            ready,
            taps,
            console,
            stdout,
        } = watched;
        let takes_input = dialogue::input_use(dialogue) != StdinUse::Unused && !ends.recv_only;
        let takes_output = !ends.send_only && stdout == StdoutUse::Payload;
        let signals =
            Signals::new().map_err(|error| Failure::io("cannot catch signals", &error))?;
        let kind = takes_input.then(|| Inherited::stdin().kind());
        let rules = Rules {
            on_input_end: if dialogue.sends() {
                ends.on_stdin_eof.into()
            } else {
                on_input_end(ends.on_stdin_eof, side, kind)
            },
            on_peer_end: OnPeerEnd::Auto,
            peer_end_advice: "--recv-only leaves at once",
            input_to: InputTo::All,
            client_timeout: None,
            input_is_terminal: kind == Some(Kind::Terminal),
            idle_timeout: ends
                .idle_timeout
                .or_else(|| dialogue::patience(dialogue, ends, side)),
            deadline: ends.timeout.map(|limit| (start + limit, limit)),
            engine: if engine.no_fast_path {
                Engine::Portable
            } else {
                Engine::Fast
            },
        };
        Ok(Self {
            taps,
            signals,
            rules,
            ready,
            children: None,
            console,
            sandbox: (!engine.no_sandbox).then(Sandbox::default),
            script: dialogue::script(dialogue, ends, &traffic),
            traffic,
            takes_input,
            takes_output,
        })
    }

    /// Notes that something else takes the place of standard input, which has something to send for certain.
    pub(crate) fn replace_input(&mut self, ends: &EndOptions) {
        self.rules.input_is_terminal = false;
        self.rules.on_input_end = ends.on_stdin_eof.into();
    }

    /// Reports values that are below those the options ask for.
    pub(crate) fn report_shortfalls(
        &mut self,
        socket: &Socket,
        options: &SocketOptions,
    ) -> anyhow::Result<()> {
        let texts =
            options::shortfalls(socket, options).context("cannot read the size of a buffer")?;
        for text in &texts {
            self.taps.emit(&Event::Capped { text });
        }
        Ok(())
    }

    /// Tells whoever waits for it that the socket is ready.
    pub(crate) fn announce(&mut self, socket: &Identity) -> Result<(), Failure> {
        let tell = |text| self.taps.emit(&Event::Waiting { socket, text });
        self.ready
            .announce(socket, self.rules.deadline, &self.signals, tell)
    }

    /// Hands a socket to the pump, which moves bytes between it and what `wire` makes of standard input and output, until both
    /// directions have ended.
    pub(crate) fn run(
        &mut self,
        link: Box<dyn Link>,
        wire: impl FnOnce(Stdio) -> Wiring,
    ) -> anyhow::Result<()> {
        self.start(wire, |pump| pump.join(link))
    }

    /// Hands a listening socket to the pump: the same with every connection that it accepts.
    pub(crate) fn listen(
        &mut self,
        listener: Box<dyn Link>,
        wire: impl FnOnce(Stdio) -> Wiring,
    ) -> anyhow::Result<()> {
        self.start(wire, |pump| pump.listen(listener))
    }

    /// Has a dialogue, if there is one, go on with whoever has begun it.
    pub(crate) fn find_partner(&mut self) {
        if let Some(script) = &mut self.script {
            script.peer = PeerChoice::FirstMatch;
        }
    }

    fn stdio(&self) -> Stdio {
        let input = self.takes_input.then(Inherited::stdin);
        let output = self.takes_output.then(Inherited::stdout);
        let output = output.map(|to| Output::new(to, self.traffic.output));
        Stdio::new(self.traffic.input(input), output).beside(self.console.clone())
    }

    fn start(
        &mut self,
        wire: impl FnOnce(Stdio) -> Wiring,
        begin: impl FnOnce(&mut Pump<'_>),
    ) -> anyhow::Result<()> {
        let (wiring, outcome) = match (wire(self.stdio()), self.script.clone()) {
            (Wiring::Shared(end), Some(script)) => {
                let (dialogue, outcome) = Dialogue::new(end, script);
                (Wiring::Shared(Box::new(dialogue)), Some(outcome))
            }
            (wiring, _) => (wiring, None),
        };
        let pump = Pump::new(wiring, self.rules.clone(), &self.signals, self.taps);
        let mut pump = pump.map_err(|error| Failure::io("cannot wait for descriptors", &error))?;
        if let Some(children) = &self.children {
            pump.attend(Box::new(children.supervisor()));
        }
        begin(&mut pump);
        // A program that is started from here inherits it, and would be none the wiser.
        if let Some(sandbox) = self.sandbox.as_ref().filter(|_| self.children.is_none()) {
            sandbox.enter();
        }
        let end = pump.run();
        let end = match &outcome {
            Some(outcome) => outcome.verdict(end),
            None => end,
        };
        match &self.children {
            Some(children) => children.settle(end, &self.signals, self.taps)?,
            None => end?,
        }
        Ok(())
    }
}

/// The plain local end: standard input and output as they are, for all links.
pub(crate) fn shared_stdio(stdio: Stdio) -> Wiring {
    Wiring::Shared(Box::new(stdio))
}

fn on_input_end(chosen: Option<OnStdinEof>, side: Side, input: Option<Kind>) -> OnInputEnd {
    match (chosen, side, input) {
        // Clients of other makes take an early FIN for the end of everything, and cut their own transfer.
        (None, Side::Server, None | Some(Kind::Null | Kind::Closed))
        | (None, Side::Client, None) => OnInputEnd::FinishAfterPeer,
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

/// Takes over what was chosen for the end of a peer, where there is the choice.
pub(crate) fn choose_peer_end(rules: &mut Rules, choice: OnPeerEof) {
    rules.on_peer_end = match choice {
        OnPeerEof::Auto => OnPeerEnd::Auto,
        OnPeerEof::Wait => OnPeerEnd::Wait,
        OnPeerEof::Quit => OnPeerEnd::Quit,
    };
    rules.peer_end_advice = "--on-peer-eof quit leaves at once, wait stays";
}
