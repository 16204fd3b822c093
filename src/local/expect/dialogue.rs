//! Local end with a script between the network and another local end.
//! It sends the data of a step once everything expected before has come; all that comes is passed on unchanged.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::{Action, Exchange, Peer, Script};
use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::tap::Taps;

/// Another local end, with a script between it and the network.
pub struct Dialogue {
    inner: Box<dyn End>,
    exchange: Rc<RefCell<Exchange>>,
    /// The batch that is passed on has been searched.
    is_searched: bool,
}

/// Outcome of a dialogue, known after the run.
pub struct Outcome(Rc<RefCell<Exchange>>);

impl Outcome {
    /// Returns the end of the run in place of `end`: a failure if an expectation is not met.
    pub fn verdict(&self, end: Result<(), Failure>) -> Result<(), Failure> {
        self.0.borrow().verdict(end)
    }
}

impl Dialogue {
    /// Puts `script` before `inner`, which gets all that comes.
    pub fn new(inner: Box<dyn End>, script: Script) -> (Self, Outcome) {
        let exchange = Rc::new(RefCell::new(Exchange::new(script)));
        let outcome = Outcome(Rc::clone(&exchange));
        let dialogue = Self {
            inner,
            exchange,
            is_searched: false,
        };
        (dialogue, outcome)
    }

    fn next_action(&self) -> Action {
        self.exchange.borrow().next_action()
    }

    /// Decides whether the session goes on, after something has come.
    fn next(&self) -> Next {
        if self.next_action() == Action::Leave || self.exchange.borrow().is_hopeless {
            Next::Stop
        } else {
            Next::Continue
        }
    }
}

impl End for Dialogue {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let exchange = &mut *self.exchange.borrow_mut();
        if exchange.peer == Peer::Absent {
            exchange.peer = Peer::Present;
        }
        match exchange.next_action() {
            Action::Send(step) => exchange.give(step, batch),
            Action::Read => {
                let arrival = self.inner.recv(batch, taps)?;
                if !matches!(arrival, Arrival::End) || exchange.search.is_none() {
                    return Ok(arrival);
                }
                // Many servers take a FIN for a client that has gone: it waits until what is expected has come.
                exchange.input_has_ended = true;
                return Ok(Arrival::Nothing);
            }
            Action::Wait => return Ok(Arrival::Nothing),
            Action::End => return Ok(Arrival::End),
            Action::Leave => return Ok(Arrival::Enough),
        }
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        if !std::mem::replace(&mut self.is_searched, true) {
            self.exchange.borrow_mut().search_batch(batch);
        }
        self.inner.send(batch, at, taps)?;
        self.is_searched = !batch.is_taken(*at);
        Ok(self.next())
    }

    fn finish(&mut self, what: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        if let Finish::Stream(link) = what
            && link.transport().has_connections()
        {
            self.exchange.borrow_mut().peer = Peer::Finished;
        }
        self.inner.finish(what, taps)?;
        Ok(self.next())
    }

    fn readiness(&self) -> Readiness<'_> {
        let inner = self.inner.readiness();
        let recv = match self.next_action() {
            Action::Read => inner.recv,
            Action::Wait => Wait::Never,
            Action::Send(_) | Action::End | Action::Leave => Wait::Now,
        };
        Readiness { recv, ..inner }
    }

    fn health(&mut self) -> io::Result<usize> {
        self.inner.health()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::{Run, Shape};
    use crate::exit::Exit;
    use crate::flow::{Flow, Identity, Transport};
    use crate::local::expect::{HalfClose, Pattern, PeerChoice, StdinUse, Step};

    /// Another local end: gives `x` for ever, and takes two bytes at a time.
    struct Other;

    impl End for Other {
        fn recv(&mut self, batch: &mut Batch, _: &mut Taps) -> io::Result<Arrival> {
            batch.space(1)[0] = b'x';
            batch.push_front(1, Shape::Stream, None);
            Ok(Arrival::Data)
        }

        fn send(&mut self, batch: &Batch, at: &mut Cursor, _: &mut Taps) -> io::Result<Next> {
            batch.advance(at, 2);
            Ok(Next::Continue)
        }

        fn finish(&mut self, _: Finish<'_>, _: &mut Taps) -> io::Result<Next> {
            Ok(Next::Continue)
        }

        fn readiness(&self) -> Readiness<'_> {
            Readiness {
                recv: Wait::Now,
                send: Wait::Now,
                watch: false,
            }
        }
    }

    fn send(text: &str) -> Step {
        Step::Send(text.into())
    }

    fn expect(text: &str) -> Step {
        Step::Expect(Pattern::bytes(text.into()).unwrap())
    }

    fn dialogue(steps: Vec<Step>, input: StdinUse) -> Dialogue {
        let script = Script {
            steps,
            input,
            half_close: HalfClose::AfterExpected,
            peer: PeerChoice::Any,
        };
        Dialogue::new(Box::new(Other), script).0
    }

    /// Returns what `recv` gives.
    fn gives(dialogue: &mut Dialogue) -> String {
        let mut batch = Batch::default();
        match dialogue.recv(&mut batch, &mut Taps::default()) {
            Ok(Arrival::Data) => {
                String::from_utf8_lossy(batch.bytes(&batch.runs()[0])).into_owned()
            }
            Ok(Arrival::Nothing) => "(waits)".to_owned(),
            Ok(Arrival::End) => "(ends)".to_owned(),
            Ok(Arrival::Enough) => "(leaves)".to_owned(),
            Ok(Arrival::Link(_) | Arrival::Established(_)) => "(a link)".to_owned(),
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
    fn data_is_sent_when_its_turn_has_come() {
        let steps = vec![send("A"), expect("b"), send("C"), send("D"), expect("e")];
        let mut dialogue = dialogue(steps, StdinUse::Unused);
        assert_eq!(gives(&mut dialogue), "A");
        assert_eq!(gives(&mut dialogue), "(waits)");
        takes(&mut dialogue, "..b", Shape::Stream);
        assert_eq!(gives(&mut dialogue), "C");
        assert_eq!(gives(&mut dialogue), "D");
        assert_eq!(gives(&mut dialogue), "(waits)");
        assert_eq!(dialogue.next(), Next::Continue);
        takes(&mut dialogue, "e", Shape::Stream);
        assert_eq!(dialogue.next(), Next::Stop);
        assert_eq!(gives(&mut dialogue), "(leaves)");
    }

    #[test]
    fn early_data_is_matched_once() {
        let steps = || vec![expect("aa"), send("B"), expect("c"), expect("a")];
        let mut stream = dialogue(steps(), StdinUse::Unused);
        takes(&mut stream, "aaca", Shape::Stream);
        assert_eq!(gives(&mut stream), "B");
        assert_eq!(gives(&mut stream), "(leaves)");
        // The bytes of "aa" are not there for the last "a", and one datagram is one answer.
        let mut stream = dialogue(steps(), StdinUse::Unused);
        takes(&mut stream, "aac", Shape::Stream);
        assert_eq!(stream.next(), Next::Continue);
        let mut datagrams = dialogue(steps(), StdinUse::Unused);
        takes(&mut datagrams, "aaca", Shape::Datagrams(4));
        assert_eq!(gives(&mut datagrams), "B");
        assert_eq!(gives(&mut datagrams), "(waits)");
        takes(&mut datagrams, ".c.a", Shape::Datagrams(2));
        assert_eq!(gives(&mut datagrams), "(leaves)");
    }

    #[test]
    fn a_datagram_is_not_continued_by_the_next() {
        let mut datagrams = dialogue(vec![expect("ab")], StdinUse::Unused);
        takes(&mut datagrams, "ab", Shape::Datagrams(1));
        assert_eq!(gives(&mut datagrams), "(waits)");
        let mut stream = dialogue(vec![expect("ab")], StdinUse::Unused);
        takes(&mut stream, "a", Shape::Stream);
        takes(&mut stream, "b", Shape::Stream);
        assert_eq!(gives(&mut stream), "(leaves)");
    }

    #[test]
    fn the_other_end_sends_during_or_after_the_script() {
        let mut beside = dialogue(vec![expect("a")], StdinUse::DuringScript);
        assert_eq!(gives(&mut beside), "x");
        takes(&mut beside, "a", Shape::Stream);
        assert_eq!(gives(&mut beside), "(leaves)");
        let mut after = dialogue(vec![send("A"), expect("b")], StdinUse::AfterScript);
        assert_eq!(gives(&mut after), "A");
        assert_eq!(gives(&mut after), "(waits)");
        takes(&mut after, "b", Shape::Stream);
        assert_eq!(gives(&mut after), "x");
        assert_eq!(after.next(), Next::Continue);
        let mut says = dialogue(vec![send("A")], StdinUse::Unused);
        assert_eq!(
            (gives(&mut says), gives(&mut says)),
            ("A".to_owned(), "(ends)".to_owned())
        );
        assert_eq!(says.next(), Next::Continue);
    }

    #[test]
    fn the_verdict_names_the_end_of_the_wait() {
        let timed_out = || Err(Failure::new(Exit::TimedOut, "timed out"));
        let status = |dialogue: &Dialogue, end| match dialogue.exchange.borrow().verdict(end) {
            Ok(()) => Exit::Done,
            Err(failure) => failure.exit,
        };
        let mut waiting = dialogue(vec![expect("a")], StdinUse::Unused);
        assert_eq!(status(&waiting, timed_out()), Exit::TimedOut);
        takes(&mut waiting, "b", Shape::Stream);
        assert_eq!(status(&waiting, timed_out()), Exit::Unexpected);
        assert_eq!(status(&waiting, Ok(())), Exit::Unexpected);
        assert_eq!(status(&waiting, Err(Failure::signal(2))), Exit::Signal(2));
        let address = || "127.0.0.1:9".parse().unwrap();
        let link = Identity::Pair(Flow::new(Transport::Tcp, address(), address()));
        let end = Finish::Stream(&link);
        waiting.finish(end, &mut Taps::default()).unwrap();
        assert_eq!(gives(&mut waiting), "(ends)");
        let reset = || Err(Failure::new(Exit::Reset, ""));
        let unread = || Err(Failure::new(Exit::OutputClosed, ""));
        assert_eq!(status(&waiting, reset()), Exit::Reset);
        assert_eq!(status(&waiting, unread()), Exit::OutputClosed);
        takes(&mut waiting, "a", Shape::Stream);
        for end in [reset(), unread(), Ok(())] {
            assert_eq!(status(&waiting, end), Exit::Done);
        }
        // The peer has not acknowledged what was sent.
        assert_eq!(status(&waiting, timed_out()), Exit::TimedOut);
        let failed = Err(Failure::new(Exit::Failed, "the disk is full"));
        assert_eq!(status(&waiting, failed), Exit::Failed);
    }
}
