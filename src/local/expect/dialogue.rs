//! A dialogue: what to send (`--send`) and what to expect (`--expect`), in one order, between the network and another local end.
//! It sends a thing once all that is expected before it has come; what comes is passed on to the other local end unchanged.

use std::io;
use std::os::fd::BorrowedFd;

use super::mismatch::{self, Received};
use super::pattern::{Pattern, Progress, Search};
use super::{HalfClose, PeerChoice, Script, StdinUse, Step};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::flow::Flow;
use crate::pump::end::{Arrival, End};
use crate::tap::Taps;

/// Another local end, with a script between it and the network.
pub struct Dialogue {
    inner: Box<dyn End>,
    script: Script,
    /// The steps before these are done: of those that send, and of those that expect.
    sent: usize,
    met: usize,
    search: Option<Search>,
    received: Received,
    peer: Peer,
    /// The addresses of what was expected and came first, where the dialogue goes on between them.
    chosen_peer: Option<Flow>,
    /// Whether what is expected cannot come any more, whatever follows.
    is_hopeless: bool,
    /// Whether the batch that is being passed on was searched already.
    is_searched: bool,
}

/// The peer it talks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Nobody has been there so far.
    Absent,
    Present,
    /// Nothing more will come.
    Finished,
}

/// What is to be done now.
enum Action<'a> {
    Send(&'a [u8]),
    /// Send what the other end reads.
    Read,
    Wait,
    /// Nothing more will be sent.
    End,
    Leave,
}

impl Dialogue {
    /// Puts `script` before `inner`, which gets all that comes.
    #[must_use]
    pub fn new(inner: Box<dyn End>, script: Script) -> Self {
        let mut dialogue = Self {
            inner,
            script,
            sent: 0,
            met: 0,
            search: None,
            received: Received::default(),
            peer: Peer::Absent,
            chosen_peer: None,
            is_hopeless: false,
            is_searched: false,
        };
        dialogue.expect_from(0);
        dialogue
    }

    /// Waits for what is expected at `step` or after it.
    fn expect_from(&mut self, step: usize) {
        let mut steps = self.script.steps.iter().enumerate().skip(step);
        let next = steps.find_map(|(at, step)| match step {
            Step::Expect(pattern) => Some((at, pattern)),
            Step::Send(_) => None,
        });
        self.met = next.map_or(self.script.steps.len(), |(at, _)| at);
        self.search = next.map(|(_, pattern)| pattern.search());
        self.received = Received::default();
    }

    /// What is expected next.
    fn expected(&self) -> Option<&Pattern> {
        match self.script.steps.get(self.met) {
            Some(Step::Expect(pattern)) => Some(pattern),
            _ => None,
        }
    }

    /// What is to be sent next, whether its turn has come or not, and where in the script that is.
    fn next_to_send(&self) -> Option<(usize, &[u8])> {
        let steps = self.script.steps.iter().enumerate().skip(self.sent);
        let mut payload = steps.filter_map(|(at, step)| match step {
            Step::Send(payload) => Some((at, payload.as_slice())),
            Step::Expect(_) => None,
        });
        payload.next()
    }

    fn turn(&self) -> Action<'_> {
        let payload = self.next_to_send();
        let expects = self.expected().is_some();
        match (payload, self.script.input) {
            (Some((at, payload)), _) if at < self.met => Action::Send(payload),
            _ if expects && self.peer == Peer::Finished => Action::End,
            (_, StdinUse::DuringScript) if expects => Action::Read,
            (None, _) if expects && self.script.half_close == HalfClose::AfterSending => {
                Action::End
            }
            _ if expects => Action::Wait,
            (_, StdinUse::AfterScript) => Action::Read,
            _ if self.has_expectations() => Action::Leave,
            _ => Action::End,
        }
    }

    /// Whether anything was expected at all.
    fn has_expectations(&self) -> bool {
        let mut steps = self.script.steps.iter();
        steps.any(|step| matches!(step, Step::Expect(_)))
    }

    /// Whether the script is done and there is nothing to go on with.
    fn is_over(&self) -> bool {
        matches!(self.turn(), Action::Leave)
    }

    /// Searches a piece of a stream, which may hold what several steps expect; no bytes are the end of the stream.
    fn search_stream(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            self.peer = Peer::Finished;
        }
        while !bytes.is_empty() {
            let (Some(search), Some(Step::Expect(pattern))) =
                (&mut self.search, self.script.steps.get(self.met))
            else {
                return;
            };
            match search.feed(pattern, bytes) {
                Progress::EndsAt(end) => {
                    bytes = &bytes[end..];
                    self.expect_from(self.met + 1);
                }
                found => {
                    self.received.add_stream(bytes);
                    self.is_hopeless = found == Progress::Impossible;
                    return;
                }
            }
        }
    }

    /// Searches a datagram, which can be what one step expects.
    fn search_datagram(&mut self, bytes: &[u8], flow: Option<&Flow>) {
        let is_other =
            |chosen_peer: &Flow| flow.is_some_and(|flow| flow.remote != chosen_peer.remote);
        let Some(pattern) = self
            .expected()
            .filter(|_| !self.chosen_peer.as_ref().is_some_and(is_other))
        else {
            return;
        };
        match pattern.search().feed(pattern, bytes) {
            Progress::EndsAt(_) => {
                self.chosen_peer = flow
                    .cloned()
                    .filter(|_| self.script.peer == PeerChoice::FirstMatch);
                self.expect_from(self.met + 1);
            }
            Progress::Pending | Progress::Impossible => self.received.add_datagram(bytes),
        }
    }

    fn search_batch(&mut self, batch: &Batch) {
        for run in batch.runs() {
            let bytes = batch.bytes(run);
            match run.shape {
                Shape::Stream => self.search_stream(bytes),
                Shape::Datagrams(_) if bytes.is_empty() => {
                    self.search_datagram(bytes, run.flow.as_ref());
                }
                Shape::Datagrams(size) => {
                    for one in bytes.chunks(size) {
                        self.search_datagram(one, run.flow.as_ref());
                    }
                }
            }
        }
    }

    /// The failure that something expected did not come, and why it is not waited for any longer.
    fn unmet(&self, reason: &str) -> Option<Failure> {
        let pattern = self.expected()?;
        let text = mismatch::explain(pattern, &self.received, reason);
        let exit = match self.received.is_nothing() {
            true if self.peer == Peer::Absent => Exit::TimedOut,
            true => self.script.silence,
            false => Exit::Unexpected,
        };
        Some(Failure::new(exit, text))
    }
}

impl End for Dialogue {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if self.peer == Peer::Absent {
            self.peer = Peer::Present;
        }
        let payload = match self.turn() {
            Action::Send(payload) => payload,
            Action::Read => return self.inner.recv(batch, taps),
            Action::Wait => return Ok(Arrival::Nothing(None)),
            Action::End => return Ok(Arrival::End),
            Action::Leave => return Ok(Arrival::Enough),
        };
        let len = payload.len();
        batch.space(len)[..len].copy_from_slice(payload);
        batch.push(Run {
            start: 0,
            len,
            // As a datagram it is one; to a stream its boundaries mean nothing.
            shape: Shape::Datagrams(len.max(1)),
            flow: self.chosen_peer.clone(),
        });
        self.sent = self.next_to_send().map_or(self.sent, |(at, _)| at + 1);
        Ok(Arrival::Data)
    }

    fn is_pending(&self) -> bool {
        matches!(self.turn(), Action::Read) && self.inner.is_pending()
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_searched, true) {
            self.search_batch(batch);
        }
        self.inner.send(batch, at, taps)?;
        self.is_searched = !batch.is_taken(*at);
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_over() || self.is_hopeless
    }

    fn finish(&mut self, taps: &mut Taps) -> io::Result<()> {
        self.inner.finish(taps)
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        match self.turn() {
            Action::Read => self.inner.source(),
            _ => None,
        }
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.inner.sink()
    }

    fn sink_lost(&self) -> Option<Failure> {
        self.inner.sink_lost()
    }

    /// What did not come is a failure, whatever ended the wait for it: the peer, a limit, or that it cannot come any more. Once
    /// everything has come, it does not matter any more how the peer goes, or the reader of the output.
    fn verdict(&self, end: Result<(), Failure>) -> Result<(), Failure> {
        match end {
            Ok(()) => {
                let reason = match self.peer {
                    _ if self.is_hopeless => "what came rules it out",
                    Peer::Finished => "the peer has finished",
                    Peer::Absent | Peer::Present => "nothing more came",
                };
                self.unmet(reason).map_or(end, Err)
            }
            Err(failure) if failure.exit == Exit::TimedOut => {
                let unmet = self.unmet(&failure.message);
                match unmet {
                    Some(unmet) => Err(unmet),
                    None if self.is_over() => Ok(()),
                    None => Err(failure),
                }
            }
            Err(failure) if self.is_over() && is_parting(failure.exit) => Ok(()),
            Err(failure) if failure.exit == Exit::Reset => {
                let unmet = self.unmet(&failure.message);
                Err(unmet.map_or(failure, |unmet| Failure::new(Exit::Reset, unmet.message)))
            }
            end => end,
        }
    }
}

/// Whether somebody has only gone away.
fn is_parting(exit: Exit) -> bool {
    matches!(exit, Exit::Reset | Exit::OutputClosed)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    /// Another local end: gives `x` for ever, and takes two bytes at a time.
    struct Other;

    impl End for Other {
        fn recv(&mut self, batch: &mut Batch, _: &mut Taps) -> io::Result<Arrival> {
            batch.space(1)[0] = b'x';
            batch.push_stream(1, None);
            Ok(Arrival::Data)
        }

        fn send(&mut self, batch: &Batch, at: &mut Cursor, _: &mut Taps) -> io::Result<()> {
            batch.advance(at, 2);
            Ok(())
        }

        fn finish(&mut self, _: &mut Taps) -> io::Result<()> {
            Ok(())
        }

        fn source(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn sink(&self) -> Option<BorrowedFd<'_>> {
            None
        }
    }

    fn say(text: &str) -> Step {
        Step::Send(text.into())
    }

    fn hear(text: &str) -> Step {
        Step::Expect(Pattern::bytes(text.into()).unwrap())
    }

    fn dialogue(steps: Vec<Step>, input: StdinUse) -> Dialogue {
        let script = Script {
            steps,
            input,
            half_close: HalfClose::AfterExpected,
            silence: Exit::TimedOut,
            peer: PeerChoice::Any,
        };
        Dialogue::new(Box::new(Other), script)
    }

    /// What it gives when it is asked.
    fn gives(dialogue: &mut Dialogue) -> String {
        let mut batch = Batch::default();
        match dialogue.recv(&mut batch, &mut Taps::default()) {
            Ok(Arrival::Data) => {
                String::from_utf8_lossy(batch.bytes(&batch.runs()[0])).into_owned()
            }
            Ok(Arrival::Nothing(_)) => "(waits)".to_owned(),
            Ok(Arrival::End) => "(ends)".to_owned(),
            Ok(Arrival::Enough) => "(leaves)".to_owned(),
            Ok(Arrival::Link(_)) => "(a link)".to_owned(),
            Err(error) => format!("({error})"),
        }
    }

    /// Passes `bytes` on until all are taken.
    fn takes(dialogue: &mut Dialogue, bytes: &str, shape: Shape) {
        let len = bytes.len();
        let mut batch = Batch::default();
        batch.space(len)[..len].copy_from_slice(bytes.as_bytes());
        let run = Run {
            start: 0,
            len,
            shape,
            flow: None,
        };
        batch.push(run);
        let mut at = Cursor::default();
        while !batch.is_taken(at) {
            dialogue
                .send(&batch, &mut at, &mut Taps::default())
                .unwrap();
        }
    }

    #[test]
    fn a_thing_is_said_when_its_turn_has_come() {
        let steps = vec![say("A"), hear("b"), say("C"), say("D"), hear("e")];
        let mut dialogue = dialogue(steps, StdinUse::Unused);
        assert_eq!(gives(&mut dialogue), "A");
        assert_eq!(gives(&mut dialogue), "(waits)");
        takes(&mut dialogue, "..b", Shape::Stream);
        assert_eq!(gives(&mut dialogue), "C");
        assert_eq!(gives(&mut dialogue), "D");
        assert_eq!(gives(&mut dialogue), "(waits)");
        assert!(!dialogue.is_done());
        takes(&mut dialogue, "e", Shape::Stream);
        assert!(dialogue.is_done());
        assert_eq!(gives(&mut dialogue), "(leaves)");
    }

    #[test]
    fn what_comes_early_is_heard_once() {
        let steps = || vec![hear("aa"), say("B"), hear("c"), hear("a")];
        let mut stream = dialogue(steps(), StdinUse::Unused);
        takes(&mut stream, "aaca", Shape::Stream);
        assert_eq!(gives(&mut stream), "B");
        assert_eq!(gives(&mut stream), "(leaves)");
        // The bytes of "aa" are not there for the last "a", and one datagram is one answer.
        let mut stream = dialogue(steps(), StdinUse::Unused);
        takes(&mut stream, "aac", Shape::Stream);
        assert!(!stream.is_done());
        let mut datagrams = dialogue(steps(), StdinUse::Unused);
        takes(&mut datagrams, "aaca", Shape::Datagrams(4));
        assert_eq!(gives(&mut datagrams), "B");
        assert_eq!(gives(&mut datagrams), "(waits)");
        takes(&mut datagrams, ".c.a", Shape::Datagrams(2));
        assert_eq!(gives(&mut datagrams), "(leaves)");
    }

    #[test]
    fn a_datagram_is_not_continued_by_the_next() {
        let mut datagrams = dialogue(vec![hear("ab")], StdinUse::Unused);
        takes(&mut datagrams, "ab", Shape::Datagrams(1));
        assert_eq!(gives(&mut datagrams), "(waits)");
        let mut stream = dialogue(vec![hear("ab")], StdinUse::Unused);
        takes(&mut stream, "a", Shape::Stream);
        takes(&mut stream, "b", Shape::Stream);
        assert_eq!(gives(&mut stream), "(leaves)");
    }

    #[test]
    fn the_other_end_speaks_beside_it_or_after_it() {
        let mut beside = dialogue(vec![hear("a")], StdinUse::DuringScript);
        assert_eq!(gives(&mut beside), "x");
        takes(&mut beside, "a", Shape::Stream);
        assert_eq!(gives(&mut beside), "(leaves)");
        let mut after = dialogue(vec![say("A"), hear("b")], StdinUse::AfterScript);
        assert_eq!(gives(&mut after), "A");
        assert_eq!(gives(&mut after), "(waits)");
        takes(&mut after, "b", Shape::Stream);
        assert_eq!(gives(&mut after), "x");
        assert!(!after.is_done());
        let mut says = dialogue(vec![say("A")], StdinUse::Unused);
        assert_eq!(
            (gives(&mut says), gives(&mut says)),
            ("A".to_owned(), "(ends)".to_owned())
        );
        assert!(!says.is_done());
    }

    #[test]
    fn what_ended_the_wait_is_told() {
        let timed_out = || Err(Failure::new(Exit::TimedOut, "timed out"));
        let status = |dialogue: &Dialogue, end| match dialogue.verdict(end) {
            Ok(()) => Exit::Done,
            Err(failure) => failure.exit,
        };
        let mut waiting = dialogue(vec![hear("a")], StdinUse::Unused);
        assert_eq!(status(&waiting, timed_out()), Exit::TimedOut);
        takes(&mut waiting, "b", Shape::Stream);
        assert_eq!(status(&waiting, timed_out()), Exit::Unexpected);
        assert_eq!(status(&waiting, Ok(())), Exit::Unexpected);
        assert_eq!(status(&waiting, Err(Failure::signal(2))), Exit::Signal(2));
        takes(&mut waiting, "", Shape::Stream);
        assert_eq!(gives(&mut waiting), "(ends)");
        let reset = || Err(Failure::new(Exit::Reset, ""));
        let unread = || Err(Failure::new(Exit::OutputClosed, ""));
        assert_eq!(status(&waiting, reset()), Exit::Reset);
        assert_eq!(status(&waiting, unread()), Exit::OutputClosed);
        takes(&mut waiting, "a", Shape::Stream);
        for end in [timed_out(), reset(), unread(), Ok(())] {
            assert_eq!(status(&waiting, end), Exit::Done);
        }
        let failed = Err(Failure::new(Exit::Failed, "the disk is full"));
        assert_eq!(status(&waiting, failed), Exit::Failed);
    }
}
