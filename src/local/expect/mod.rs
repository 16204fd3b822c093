//! Dialogues: data to send (`--send`) and data to expect (`--expect`), in one order.
//! [`Script`] is the plain data that the command line describes; `Exchange` is how far it has come; [`Dialogue`] acts on it.

use crate::batch::{Batch, Cursor, Shape};
use crate::exit::{Exit, Failure};
use crate::flow::Flow;

mod dialogue;
mod mismatch;
mod pattern;

pub use dialogue::{Dialogue, Outcome};
pub use pattern::{Pattern, PatternText};

use mismatch::Received;
use pattern::{Progress, Search};

/// One step of a [`Script`].
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends data: over UDP, one datagram.
    Send(Vec<u8>),
    /// Waits for data: anywhere in the stream after the data expected before, or in one datagram.
    Expect(Pattern),
}

impl Step {
    /// Returns true if it waits for data.
    pub fn expects(&self) -> bool {
        matches!(self, Self::Expect(_))
    }
}

/// Description of a dialogue.
#[derive(Clone, Debug)]
pub struct Script {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Use of the input of the other local end.
    pub input: StdinUse,
    /// Time at which the sending direction ends.
    pub half_close: HalfClose,
    /// Peer of the dialogue, if several may send datagrams.
    pub peer: PeerChoice,
}

/// Peer of a dialogue over datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChoice {
    /// The peer that the link chooses.
    Any,
    /// The first peer that matches; the rest of the dialogue is with that peer.
    FirstMatch,
}

/// Use of the input of the other local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinUse {
    /// It is not read.
    Unused,
    /// It is sent from the beginning: the script only expects.
    DuringScript,
    /// It is sent after the script, and the session continues.
    AfterScript,
}

/// Time at which the sending direction ends: a FIN, if it is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// The end of the data to send.
    AfterSending,
    /// The end of the script: many servers take an earlier FIN for a client that has gone.
    AfterExpected,
}

/// State of a dialogue.
struct Exchange {
    script: Script,
    /// Steps before this one have sent their data.
    sent: usize,
    /// Steps before this one have met their expectation.
    met: usize,
    /// Search for the pattern of step `met`, unless all are met.
    search: Option<Search>,
    /// Data that came during this search.
    received: Received,
    peer: Peer,
    /// Addresses of the datagram that has chosen the peer.
    chosen_peer: Option<Flow>,
    /// The expected data cannot come any more.
    is_hopeless: bool,
    /// The input has ended while something is still expected.
    input_has_ended: bool,
}

/// Peer of the dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Absent,
    Present,
    /// It sends nothing more.
    Finished,
}

/// Next action of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Send the data of this step.
    Send(usize),
    /// Send the input of the other local end.
    Read,
    Wait,
    /// End the sending direction.
    End,
    /// End the session.
    Leave,
}

impl Exchange {
    fn new(script: Script) -> Self {
        let mut exchange = Self {
            script,
            sent: 0,
            met: 0,
            search: None,
            received: Received::default(),
            peer: Peer::Absent,
            chosen_peer: None,
            is_hopeless: false,
            input_has_ended: false,
        };
        exchange.expect_from(0);
        exchange
    }

    /// Moves on to the expectation at `step` or after it.
    fn expect_from(&mut self, step: usize) {
        let steps = &self.script.steps;
        let next = steps.iter().skip(step).position(Step::expects);
        self.met = next.map_or(steps.len(), |at| step + at);
        self.search = self.expected().map(Pattern::search);
        self.received = Received::default();
    }

    /// Returns the pattern that is expected next.
    fn expected(&self) -> Option<&Pattern> {
        match self.script.steps.get(self.met) {
            Some(Step::Expect(pattern)) => Some(pattern),
            _ => None,
        }
    }

    fn next_action(&self) -> Action {
        let mut steps = self.script.steps.iter().enumerate().skip(self.sent);
        let next = steps.find(|(_, step)| matches!(step, Step::Send(_)));
        let expects = self.search.is_some();
        let ends_early = self.script.half_close == HalfClose::AfterSending;
        match (next, self.script.input) {
            (Some((at, _)), _) if at < self.met => Action::Send(at),
            _ if expects && self.peer == Peer::Finished => Action::End,
            (_, StdinUse::DuringScript) if expects && !self.input_has_ended => Action::Read,
            (None, _) if expects && ends_early => Action::End,
            _ if expects => Action::Wait,
            (_, StdinUse::AfterScript) => Action::Read,
            _ if self.script.steps.iter().any(Step::expects) => Action::Leave,
            _ => Action::End,
        }
    }

    /// Puts the data of a step into `batch`.
    fn give(&mut self, step: usize, batch: &mut Batch) {
        let Some(Step::Send(data)) = self.script.steps.get(step) else {
            return;
        };
        let len = data.len();
        batch.space(len)[..len].copy_from_slice(data);
        // It is one datagram; a stream ignores boundaries.
        let shape = Shape::Datagrams(len.max(1));
        batch.push_front(len, shape, self.chosen_peer.clone());
        self.sent = step + 1;
    }

    fn search_batch(&mut self, batch: &Batch) {
        let mut at = Cursor::default();
        while let Some((run, bytes)) = batch.next_chunk(&mut at) {
            match run.shape {
                Shape::Stream => self.search_stream(bytes),
                Shape::Datagrams(_) => self.search_datagram(bytes, run.flow.as_ref()),
            }
        }
    }

    /// Searches a chunk of a stream, which may meet several steps.
    fn search_stream(&mut self, mut bytes: &[u8]) {
        while let (Some(search), false) = (&mut self.search, bytes.is_empty()) {
            match search.feed(bytes) {
                Progress::EndsAt(end) => {
                    bytes = &bytes[end..];
                    self.expect_from(self.met + 1);
                }
                progress => {
                    self.received.add_stream(bytes);
                    self.is_hopeless = progress == Progress::Impossible;
                    return;
                }
            }
        }
    }

    /// Searches a datagram, which meets one step at most.
    fn search_datagram(&mut self, bytes: &[u8], flow: Option<&Flow>) {
        if let (Some(chosen), Some(flow)) = (&self.chosen_peer, flow)
            && chosen.remote != flow.remote
        {
            return self.received.add_other(&flow.remote, &chosen.remote);
        }
        let Some(pattern) = self.expected() else {
            return;
        };
        match pattern.search().feed(bytes) {
            Progress::EndsAt(_) => {
                let is_choice = self.script.peer == PeerChoice::FirstMatch;
                self.chosen_peer = flow.filter(|_| is_choice).cloned();
                self.expect_from(self.met + 1);
            }
            Progress::Pending | Progress::Impossible => self.received.add_datagram(bytes),
        }
    }

    /// Converts the end of the run.
    ///
    /// Unmet expectations are a failure, whether the peer, a limit or the data ended the wait. Once all are met, the way in which
    /// the peer or the reader of the output goes does not matter. A time limit does: the peer has not acknowledged everything.
    fn verdict(&self, end: Result<(), Failure>) -> Result<(), Failure> {
        let is_over = self.next_action() == Action::Leave;
        match end {
            Ok(()) => {
                let (reason, silence) = match self.peer {
                    _ if self.is_hopeless => ("no match is possible any more", Exit::Unexpected),
                    Peer::Finished => ("the peer has finished", Exit::Unexpected),
                    Peer::Absent | Peer::Present => ("nothing more came", Exit::TimedOut),
                };
                self.unmet(reason, silence).map_or(Ok(()), Err)
            }
            Err(failure) if is_over && failure.exit != Exit::TimedOut => match failure.exit {
                Exit::Reset | Exit::OutputClosed => Ok(()),
                _ => Err(failure),
            },
            Err(failure) if failure.exit == Exit::TimedOut => Err(self
                .unmet(&failure.message, Exit::TimedOut)
                .unwrap_or(failure)),
            Err(failure) if failure.exit == Exit::Reset => {
                let unmet = self.unmet(&failure.message, Exit::Reset);
                Err(unmet.map_or(failure, |unmet| Failure::new(Exit::Reset, unmet.message)))
            }
            end => end,
        }
    }

    /// Returns the failure of the pattern that is still expected, if there is one. `reason` is why the wait has ended, `silence` the status if
    /// nothing came.
    fn unmet(&self, reason: &str, silence: Exit) -> Option<Failure> {
        let pattern = self.expected()?;
        let text = mismatch::explain(pattern, &self.received, reason);
        let exit = if self.received.is_nothing() {
            silence
        } else {
            Exit::Unexpected
        };
        Some(Failure::new(exit, text))
    }
}
