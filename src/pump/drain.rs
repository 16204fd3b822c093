//! The last phase of a link: its peer acknowledges what was sent, and what it still says is read and dropped.
//! Closed earlier, a link could lose the end of what was sent without an error.

use std::time::{Duration, Instant};

use super::Pump;
use super::end::Close;
use super::lane::STALL_TIME;
use super::node::{NodeId, Outgoing, Route};
use super::rules::{OnInputEnd, Seconds, WAIT_REPORT_TIME};
use crate::tap::{Event, FailedCall};

/// Time for which a peer may be silent before a drain ends, and time for which a drain may last.
const DRAIN_SILENCE: Duration = Duration::from_secs(1);
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Shortest and longest pause between two looks at what a peer has acknowledged.
const ACK_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// Reading of a link whose bytes have no recipient any more, to give its peer time to finish.
///
/// Closed with bytes that are not read, or that come later, it would be reset (RFC 1122, 4.2.2.13), and what the peer has not read
/// yet would be lost.
pub(super) struct Drain {
    /// Time at which bytes last came.
    last_read: Instant,
    /// Time at which it ends even if bytes still come.
    until: Instant,
}

impl Drain {
    fn new(now: Instant) -> Self {
        Self {
            last_read: now,
            until: now + DRAIN_TIME,
        }
    }

    fn ends_at(&self) -> Instant {
        self.until.min(self.last_read + DRAIN_SILENCE)
    }
}

impl Pump<'_> {
    /// Closes a link of which both directions have ended, as soon as its peer has acknowledged everything.
    pub(super) fn close_once_acknowledged(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        if node.has_enough || self.ending.is_leaving() {
            // Input that waits for room is not sent any more.
            self.release_queue(id);
        }
        let node = &self.nodes[id];
        let is_complete = if self.ending.is_leaving() {
            self.ending.is_orderly()
        } else {
            node.has_enough || self.rules.on_input_end == OnInputEnd::Finish
        };
        // Otherwise close(2) sends the FIN, and nothing says that this was all.
        if is_complete && node.failure.is_none() && node.close == Close::Orderly {
            self.finish(id);
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        // One that has failed never finishes.
        let is_finishing = node.outgoing == Outgoing::Finishing && node.failure.is_none();
        if !is_finishing && !self.awaits_acknowledgement(id) {
            self.remove(id);
        }
    }

    /// Returns true if a link is kept open because what was sent may still be lost: after close(2) no error would be reported.
    fn awaits_acknowledgement(&mut self, id: NodeId) -> bool {
        let is_orderly = self.ending.is_orderly();
        let node = &mut self.nodes[id];
        let is_done = node.outgoing == Outgoing::Finished || node.route != Route::Others;
        if !is_orderly || node.failure.is_some() || !is_done {
            return false;
        }
        match node.party.end_mut().health() {
            Ok(0) => return false,
            Ok(left) => self.await_acknowledgement(id, left),
            Err(error) => self.fail(id, &error, Some(FailedCall::PendingError)),
        }
        true
    }

    /// Looks again after a while: no descriptor becomes ready when the last byte is acknowledged.
    fn await_acknowledgement(&mut self, id: NodeId, left: usize) {
        let now = self.clock.now;
        let node = &mut self.nodes[id];
        let ended = node.lane.end(now);
        let since = match ended.unacknowledged {
            Some((before, since)) if before <= left => since,
            _ => {
                ended.unacknowledged = Some((left, now));
                now
            }
        };
        if !ended.is_last {
            // A peer that still sends may not read before it is read.
            let drain = &mut node.lane.drain;
            drain.get_or_insert_with(|| Box::new(Drain::new(now)));
            self.schedule.touch(id);
        }
        let ended = node.lane.end(now);
        let silence = now - since;
        // A run that is over does not wait for a peer for ever.
        let is_over = node.has_enough || self.ending.is_leaving();
        let last_limit = is_over.then_some(STALL_TIME);
        let limit = self.rules.client_timeout.or(last_limit);
        if let Some(limit) = limit.filter(|limit| silence >= *limit) {
            return self.fail_stalled(id, limit);
        }
        if silence >= WAIT_REPORT_TIME
            && let Some(link) = node.party.link()
            && !std::mem::replace(&mut ended.is_reported, true)
        {
            let end = limit.map_or(String::new(), |limit| {
                format!(", or acknowledges nothing for {}", Seconds(limit))
            });
            self.taps.emit(&Event::Waiting {
                socket: &link.identity(),
                text: format!(
                    "the peer has not acknowledged all that was sent: waiting until it does{end}"
                ),
            });
        }
        let [shortest, longest] = ACK_PAUSES;
        let pause = (silence / 8).clamp(shortest, longest);
        self.schedule.run_at(id, now + pause);
    }

    /// Begins to drain a link whose own local end neither gives nor takes any more.
    pub(super) fn drain_partner(&mut self, own: NodeId) {
        let Some(node) = self.nodes.get(own) else {
            return;
        };
        if node.lane.ended.is_none() || node.failure.is_none() {
            return;
        }
        let (link, now) = (node.partner, self.clock.now);
        if link != own
            && let Some(node) = self.nodes.get_mut(link)
        {
            let drain = &mut node.lane.drain;
            drain.get_or_insert_with(|| Box::new(Drain::new(now)));
            self.schedule.run(link);
        }
    }

    /// Goes on with a link that is drained, whose bytes have just been dropped.
    pub(super) fn drain(&mut self, id: NodeId) {
        let now = self.clock.now;
        if let Some(drain) = &mut self.nodes[id].lane.drain {
            drain.last_read = now;
        }
        self.schedule.touch(id);
        self.check_drain(id);
    }

    /// Ends the drain of a link once it has lasted long enough.
    pub(super) fn check_drain(&mut self, id: NodeId) {
        let lane = &self.nodes[id].lane;
        let (Some(drain), None) = (&lane.drain, &lane.ended) else {
            return;
        };
        let end = drain.ends_at();
        if self.clock.now < end {
            self.schedule.run_at(id, end);
        } else {
            self.on_enough(id);
        }
    }
}
