//! The last bytes of a link: it is kept until its peer has acknowledged them.
//! What is still on its way may be lost, and after closing nobody would know.

use std::time::{Duration, Instant};

use super::Pump;
use super::end::Link;
use super::lane::{PortId, Route};
use super::rules::NOTICE;
use crate::exit::Exit;
use crate::tap::Event;

/// What is on its way to a peer to whom nothing more is to be sent.
pub(super) struct Receipt {
    /// How many bytes its peer had not acknowledged when that was last asked.
    left: usize,
    /// Since when they have not become fewer.
    since: Instant,
}

impl Pump<'_> {
    /// Whether a link of which both directions have ended is kept for a while.
    pub(super) fn awaits_receipt(&mut self, id: PortId) -> bool {
        let is_orderly = matches!(&self.leaving, None | Some((Ok(Exit::Done), _)));
        let port = &self.ports[id];
        let Some(link) = port.party.link() else {
            return false;
        };
        let is_done = port.is_finished || !matches!(port.route, Route::Others(_));
        if !is_orderly || port.failure.is_some() || !is_done {
            return false;
        }
        match link.unheard() {
            Ok(0) => return false,
            Ok(left) => self.await_receipt(id, left),
            Err(error) => self.fail(id, &error),
        }
        true
    }

    /// Asks again after a while: no descriptor tells.
    fn await_receipt(&mut self, id: PortId, left: usize) {
        let now = self.now;
        let port = &mut self.ports[id];
        let latest = Receipt { left, since: now };
        let receipt = match &mut port.receipt {
            Some(receipt) if receipt.left <= left => receipt,
            older => older.insert(Box::new(latest)),
        };
        let silence = now - receipt.since;
        if let Some(limit) = self.rules.client_timeout
            && silence >= limit
        {
            return self.give_up_on(id, limit);
        }
        if silence >= NOTICE
            && let Some(socket) = port.party.link().map(Link::identity)
            && !std::mem::replace(&mut port.lane.noticed, true)
        {
            let text = "the peer has not acknowledged all that was sent: waiting until it does";
            let text = text.to_owned();
            self.taps.emit(&Event::Waiting { socket, text });
        }
        let (least, most) = (Duration::from_millis(1), Duration::from_millis(100));
        self.set_alarm(id, now + (silence / 8).clamp(least, most));
    }
}
