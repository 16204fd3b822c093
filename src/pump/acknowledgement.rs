//! A link is closed only when its peer has acknowledged the last of what was sent.
//! Until then it may still be lost, and after close(2) nobody would hear of that.

use std::time::{Duration, Instant};

use super::Pump;
use super::end::Link;
use super::node::{NodeId, Route};
use super::rules::NOTICE;
use crate::tap::Event;

/// What a peer has not acknowledged, to whom nothing more is to be sent.
pub(super) struct Unacknowledged {
    /// How many bytes there were, when that was last asked.
    left: usize,
    /// Since when there have not been fewer.
    since: Instant,
}

impl Pump<'_> {
    /// Whether a link of which both directions have ended is kept open a while longer.
    pub(super) fn awaits_acknowledgement(&mut self, id: NodeId) -> bool {
        let is_orderly = matches!(&self.leaving, None | Some((Ok(()), _)));
        let node = &self.nodes[id];
        let Some(link) = node.party.link() else {
            return false;
        };
        let is_done = node.is_finished || node.route != Route::Others;
        if !is_orderly || node.failure.is_some() || !is_done {
            return false;
        }
        match link.unacknowledged() {
            Ok(0) => return false,
            Ok(left) => self.await_acknowledgement(id, left),
            Err(error) => self.fail(id, &error),
        }
        true
    }

    /// Asks again after a while: no descriptor becomes ready when the last byte is acknowledged.
    fn await_acknowledgement(&mut self, id: NodeId, left: usize) {
        let now = self.now;
        let node = &mut self.nodes[id];
        let latest = Unacknowledged { left, since: now };
        let ended = node.lane.end(now);
        let unacknowledged = match &mut ended.unacknowledged {
            Some(unacknowledged) if unacknowledged.left <= left => unacknowledged,
            older => older.insert(latest),
        };
        let silence = now - unacknowledged.since;
        if let Some(limit) = self.rules.client_timeout
            && silence >= limit
        {
            return self.fail_stalled(id, limit);
        }
        if silence >= NOTICE
            && let Some(socket) = node.party.link().map(Link::identity)
            && !std::mem::replace(&mut ended.is_told, true)
        {
            let text = "the peer has not acknowledged all that was sent: waiting until it does";
            let text = text.to_owned();
            self.taps.emit(&Event::Waiting {
                socket: &socket,
                text,
            });
        }
        let (least, most) = (Duration::from_millis(1), Duration::from_millis(100));
        self.timers.set(id, now + (silence / 8).clamp(least, most));
    }
}
