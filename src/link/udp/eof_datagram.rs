//! The empty datagram that stands for the end, where both sides have agreed on that (`--eof-datagram`): what a FIN is to TCP.
//! Nothing comes after it that could reveal its loss, so it is sent again until the peer has answered with its own, or is gone.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::addresses::Pair;
use super::receive::Over;
use super::{Refusal, Socket};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::flow::{Direction, Identity};
use crate::pump::end::Link;
use crate::tap::{Count, Event, Taps, Transfer};

/// After how long it is sent again, each time.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// How long the send buffer gets to drain before it is sent for the first time, looked at so often: the pump does not ask again.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// What was sent of it, and what came back.
#[derive(Debug, Default)]
pub(super) struct EofDatagram {
    /// How often it was sent, to the whole audience each time.
    rounds: usize,
    /// When it is to be sent again.
    due: Option<Instant>,
    /// How many datagrams that was in all.
    sent: u64,
    /// Whether it was sent because the peer had sent its own.
    is_answer: bool,
    /// Whether there was an empty datagram in the input, which stands for it.
    pub(super) is_in_input: bool,
    /// Errors that have come back for other datagrams.
    pub(super) errors: u64,
}

impl EofDatagram {
    /// When it is to be sent again, if it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an ICMP error for an empty datagram only means that the peer has received an earlier one, and has gone.
    pub(super) fn is_repeated(&self) -> bool {
        self.rounds > 1
    }
}

impl Socket {
    /// Sends it to the whole audience.
    pub(super) fn send_eof_datagram(&mut self, taps: &mut Taps) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.push(Run {
            start: 0,
            len: 0,
            shape: Shape::Datagrams(1),
            flow: None,
        });
        let before = self.totals.sent.chunks;
        let mut at = Cursor::default();
        let is_first = self.eof.rounds == 0;
        let deadline = Instant::now() + if is_first { PATIENCE } else { Duration::ZERO };
        let result = loop {
            match self.send_batch(&batch, &mut at, 1, taps) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break Err(error),
                Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
                Err(_) if is_first => return Err(self.cannot_end()),
                Err(error) => break Err(error),
                Ok(()) => break Ok(()),
            }
        };
        let eof = &mut self.eof;
        eof.is_answer |= eof.rounds == 0 && self.over == Some(Over::PeerFinished);
        eof.sent += self.totals.sent.chunks - before;
        // A socket that serves everybody does not wait for one of them.
        let again = AGAIN.get(eof.rounds);
        let again = again.filter(|_| self.settings.refusal == Refusal::Ends && !eof.is_answer);
        eof.due = again.map(|&time| Instant::now() + time);
        eof.rounds += 1;
        result
    }

    fn cannot_end(&self) -> io::Error {
        let text = format!(
            "{}: the datagram that stands for the end could not be sent within {} s",
            self.identity(),
            PATIENCE.as_secs()
        );
        Failure::new(Exit::Failed, text).into()
    }

    /// Sends it again if it is time.
    pub(super) fn repeat_eof_datagram(&mut self, taps: &mut Taps) {
        if self.eof.due.is_some_and(|due| due <= Instant::now()) {
            // It was only to make sure.
            let _ = self.send_eof_datagram(taps);
        }
    }

    /// Answers that of the peer: closing a UDP socket sends nothing.
    pub(super) fn answer_eof_datagram(&mut self, taps: &mut Taps) {
        if self.over == Some(Over::PeerFinished) && self.eof.rounds == 0 {
            let _ = self.send_eof_datagram(taps);
        }
    }

    /// The addresses of all datagrams, where they were always the same.
    fn only_flow(&self) -> Option<Pair> {
        let mut flows = self.peers.flows();
        match (flows.next(), flows.next(), self.outbox.routes.first()) {
            (Some(flow), None, _) => Some(flow),
            (None, _, Some(route)) => Some(route.flow),
            _ => None,
        }
    }

    /// Reports what was transferred in each direction that was used, and what is known of losses.
    pub(super) fn report_transfer(&self, taps: &mut Taps) {
        let has_end = self.over == Some(Over::PeerFinished);
        let flow = self.only_flow().map(Pair::flow);
        let socket = &flow.map_or_else(|| self.identity(), Identity::Pair);
        let drops = &self.totals.drops;
        let received = without_end(self.totals.received, has_end.into());
        let sent = without_end(self.totals.sent, self.eof.sent);
        let has_said = self.eof.rounds > 0 && !self.eof.is_answer;
        if received.chunks > 0 || has_end && !has_said {
            taps.emit(&Event::Transferred(Transfer {
                socket,
                direction: Direction::Incoming,
                count: received,
                complete: has_end,
                lost: drops.total() + self.totals.truncated,
                at_least: drops.may_be_more(),
            }));
        }
        if sent.chunks > 0 || has_said {
            taps.emit(&Event::Transferred(Transfer {
                socket,
                direction: Direction::Outgoing,
                count: sent,
                complete: self.eof.rounds > 0,
                lost: self.eof.errors,
                at_least: true,
            }));
        }
    }
}

fn without_end(count: Count, ends: u64) -> Count {
    Count {
        chunks: count.chunks.saturating_sub(ends),
        ..count
    }
}
