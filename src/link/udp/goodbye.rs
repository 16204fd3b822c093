//! The empty datagram that says that this was all, where both sides have agreed on it.
//! Nothing comes after it that could show its loss, so it is said again until the peer has ended too, or is found to be gone.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::receive::Over;
use super::{Refusal, Socket};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::pump::end::Link;
use crate::tap::{Count, Event, Taps};
use crate::tuple::{Direction, FourTuple};

/// After how long it is said again, each time.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// How long the buffer gets to drain before it, for nobody would call again.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES: u32 = 1000;

/// What was said of the end, and heard.
#[derive(Debug, Default)]
pub(super) struct Goodbye {
    /// How often it was said.
    said: usize,
    /// When it is to be said again.
    due: Option<Instant>,
    /// Datagrams that said it, to the whole audience.
    sent: u64,
    /// Whether it was said because the peer had said it.
    is_answer: bool,
    /// Errors that have come back for other datagrams.
    pub(super) errors: u64,
}

impl Goodbye {
    /// When it is to be said again, if it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether an error about an empty datagram only means that the peer has heard the end and has gone.
    pub(super) fn is_repeated(&self) -> bool {
        self.said > 1
    }
}

impl Socket {
    /// Says that this was all.
    pub(super) fn say_goodbye(&mut self, taps: &mut Taps) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.push(Run {
            start: 0,
            len: 0,
            shape: Shape::Datagrams(1),
            flow: None,
        });
        let before = self.totals.sent.chunks;
        let mut at = Cursor::default();
        let mut result = self.dispatch(&batch, &mut at, taps);
        for _ in 0..PAUSES {
            match &result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                _ => break,
            }
            result = self.dispatch(&batch, &mut at, taps);
        }
        let goodbye = &mut self.goodbye;
        goodbye.is_answer |= goodbye.said == 0 && self.over == Some(Over::PeerFinished);
        goodbye.sent += self.totals.sent.chunks - before;
        // Where others are served as well, one that is gone is no news.
        let again = AGAIN.get(goodbye.said);
        let again = again.filter(|_| self.settings.refusal == Refusal::Ends && !goodbye.is_answer);
        goodbye.due = again.map(|&time| Instant::now() + time);
        goodbye.said += 1;
        result
    }

    /// Says it again if it is time.
    pub(super) fn repeat_goodbye(&mut self, taps: &mut Taps) {
        if self.goodbye.due.is_some_and(|due| due <= Instant::now()) {
            // If it cannot be said, this was only to make sure.
            let _ = self.say_goodbye(taps);
        }
    }

    /// Tells the peer, who has ended, that this side has heard it: closing says nothing.
    pub(super) fn answer_goodbye(&mut self, taps: &mut Taps) {
        if self.over == Some(Over::PeerFinished) && self.goodbye.said == 0 {
            let _ = self.say_goodbye(taps);
        }
    }

    /// The addresses of all that was sent and received, where they are always the same.
    fn only_flow(&self) -> Option<FourTuple> {
        let mut flows = self.peers.flows();
        match (flows.next(), flows.next(), self.outbox.routes.first()) {
            (Some(flow), None, _) => Some(flow),
            (None, _, Some(route)) => Some(route.flow),
            _ => None,
        }
    }

    /// Reports for each direction that was used what is known of losses.
    pub(super) fn sum_up(&self, taps: &mut Taps) {
        let has_end = self.over == Some(Over::PeerFinished);
        let (socket, flow, drops) = (self.identity(), self.only_flow(), &self.totals.drops);
        let received = without_end(self.totals.received, has_end.into());
        let sent = without_end(self.totals.sent, self.goodbye.sent);
        let has_said = self.goodbye.said > 0 && !self.goodbye.is_answer;
        if received.chunks > 0 || has_end && !has_said {
            taps.emit(&Event::Transferred {
                socket,
                flow,
                direction: Direction::Incoming,
                count: received,
                has_end,
                lost: drops.total() + self.totals.truncated,
                or_more: drops.may_be_more(),
            });
        }
        if sent.chunks > 0 || has_said {
            taps.emit(&Event::Transferred {
                socket,
                flow,
                direction: Direction::Outgoing,
                count: sent,
                has_end: self.goodbye.said > 0,
                lost: self.goodbye.errors,
                or_more: true,
            });
        }
    }
}

fn without_end(count: Count, ends: u64) -> Count {
    Count {
        chunks: count.chunks.saturating_sub(ends),
        ..count
    }
}
