//! Letting the kernel move bytes from end to end, unseen by this process.
//! Only where nobody looks at them and nobody else shares the way; where the kernel declines, the lane goes on by copying.

use std::io::ErrorKind;

use super::Pump;
use super::lane::{Bypass, PortId, Route, Side};
use super::rules::Engine;
use crate::sys::conduit::{Broken, Conduit, Halt, WORTHWHILE};

impl Pump<'_> {
    /// Lets the kernel move bytes from `id` unseen; `ready` is the side that was waited for. Returns false where there is
    /// something to look at, or to copy.
    pub(super) fn pass(&mut self, id: PortId, ready: Side) -> bool {
        if matches!(self.ports[id].lane.bypass, Bypass::Closed) {
            return false;
        }
        if self.leaving.is_some() || self.ports[id].failure.is_some() {
            return self.give_up(id, Bypass::Closed);
        }
        let Some(to) = self.only_recipient(id) else {
            return self.give_up(id, Bypass::Untried);
        };
        if !self.is_worthwhile(id) {
            return false;
        }
        let Some((from, sink)) = self.ports.get2_mut(id, to) else {
            return false;
        };
        let (source_end, sink_end) = (from.party.end_mut(), sink.party.end_mut());
        let (Some(limit), true) = (source_end.unseen_source(), sink_end.has_unseen_sink()) else {
            return false;
        };
        let (Some(source_fd), Some(sink_fd)) = (source_end.source(), sink_end.sink()) else {
            return false;
        };
        if matches!(from.lane.bypass, Bypass::Untried) {
            let conduit = Conduit::open(source_fd, sink_fd);
            from.lane.bypass =
                conduit.map_or(Bypass::Closed, |conduit| Bypass::Open(conduit.into()));
        }
        let Bypass::Open(conduit) = &mut from.lane.bypass else {
            return false;
        };
        let passed = match conduit.pass(source_fd, sink_fd, limit) {
            Ok(passed) => passed,
            Err(broken) => {
                self.break_pass(id, to, broken);
                return true;
            }
        };
        if passed.taken > 0 {
            from.lane.last = Some(passed.taken);
            source_end.took_unseen(passed.taken, self.taps);
            if source_end.is_pending() {
                self.runnable.push_back(id);
            }
        }
        if passed.put > 0 {
            sink_end.put_unseen(passed.put, self.taps);
            self.last_moved = self.now;
        }
        self.halt(id, to, passed.halt, ready)
    }

    /// Whether there is likely to be enough for the kernel: as much as came last, as far as anybody can know.
    fn is_worthwhile(&self, id: PortId) -> bool {
        let lane = &self.ports[id].lane;
        match (&lane.bypass, lane.last) {
            (Bypass::Open(conduit), Some(last)) => conduit.is_worth(last),
            (_, Some(last)) => last >= WORTHWHILE,
            // Most clients that come and go say little; a lone peer may be about to say much.
            (_, None) => self.listeners.is_empty(),
        }
    }

    /// The end that gets all that comes from `id` unseen, if there is just one and it is free.
    fn only_recipient(&self, id: PortId) -> Option<PortId> {
        if self.rules.engine == Engine::Portable || self.taps.wants_bytes() {
            return None;
        }
        // Among many, each would need a pipe of its own, and none would be that fast.
        let &[link] = self.links.as_slice() else {
            return None;
        };
        let to = match self.ports[id].route {
            Route::To(to) if to != id => to,
            Route::Links => link,
            _ => return None,
        };
        (self.ports[to].is_open_to_send() && !self.is_busy(to)).then_some(to)
    }

    /// Notes what stopped the kernel; returns false if the lane has to be looked at, or copied from now on.
    fn halt(&mut self, id: PortId, to: PortId, halt: Option<Halt>, ready: Side) -> bool {
        match halt {
            None | Some(Halt::SourceEmpty) => {}
            // What was waited for is ready, or this turn would not be: so it is the other side.
            Some(Halt::Either) if ready == Side::Sink => {}
            Some(Halt::Either | Halt::SinkFull) => self.park(id, to),
            // The end is for the link to see.
            Some(Halt::End) => return false,
            Some(Halt::Declined) => return self.give_up(id, Bypass::Closed),
        }
        true
    }

    /// Stops moving unseen, and delivers what is already on the way; returns whether there was any.
    fn give_up(&mut self, id: PortId, then: Bypass) -> bool {
        let bypass = std::mem::replace(&mut self.ports[id].lane.bypass, then);
        let Bypass::Open(mut conduit) = bypass else {
            return false;
        };
        let mut batch = self.spare_batch();
        let len = conduit.reclaim(&mut batch);
        if len == 0 {
            self.keep(batch);
            return false;
        }
        batch.push_stream(len, None);
        self.deliver(id, batch);
        true
    }

    /// Moving unseen has failed on one side.
    fn break_pass(&mut self, id: PortId, to: PortId, broken: Broken) {
        match broken {
            Broken::Sink(error) => self.break_sink(to, &error),
            // Only writing meets a closed pipe; anything else is the network's.
            Broken::Either(error)
                if error.kind() == ErrorKind::BrokenPipe
                    || self.ports[to].party.link().is_some() =>
            {
                self.break_sink(to, &error);
            }
            Broken::Source(error) | Broken::Either(error) => self.break_source(id, &error),
        }
    }
}
