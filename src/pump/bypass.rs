//! The bypass: the kernel moves bytes from one descriptor to the other by itself (splice(2), sendfile(2)), and this process never sees them.
//! Only where no tap looks at them and nobody else shares the way; where the kernel declines, the lane goes on by copying.

use std::io::ErrorKind;

use super::Pump;
use super::node::{Amount, Node, NodeId, Route, Side};
use super::rules::Engine;
use crate::sys::conduit::{Broken, Conduit, Halt};

/// So often in a row fewer bytes than this: the peer sends in small pieces. To carry each at once, and to wake the reader for it, takes
/// the processor from those who make the next; while one is copied, more come.
const SCRAP: usize = 96 << 10;
const SCRAPS: u8 = 16;

/// How many batches are copied then.
const COPIES: u8 = u8::MAX;

impl Pump<'_> {
    /// Lets the kernel move bytes from `id`; `ready` is the side that was waited for. Returns false where they are to be copied
    /// instead, or there is something else to look at.
    pub(super) fn bypass(&mut self, id: NodeId, ready: Side) -> bool {
        if self.nodes[id].lane.is_copied {
            return false;
        }
        if self.leaving.is_some() || self.nodes[id].failure.is_some() {
            return self.end_bypass(id);
        }
        let Some(to) = self.only_recipient(id) else {
            return self.stop_bypass(id);
        };
        if !self.is_worthwhile(id) {
            return false;
        }
        let Some((from, sink)) = self.nodes.get2_mut(id, to) else {
            return false;
        };
        let (source_end, sink_end) = (from.party.end_mut(), sink.party.end_mut());
        let Some(unseen) = source_end.unseen_source() else {
            return false;
        };
        if !sink_end.has_unseen_sink(unseen.stride) {
            return false;
        }
        let (Some(source_fd), Some(sink_fd)) = (source_end.source(), sink_end.sink()) else {
            return false;
        };
        if from.lane.bypass.is_none() {
            from.lane.bypass = Conduit::open(source_fd, sink_fd, unseen.stride).map(Box::new);
        }
        let Some(conduit) = &mut from.lane.bypass else {
            from.lane.is_copied = true;
            return false;
        };
        let passed = match conduit.pass(source_fd, sink_fd, unseen.limit) {
            Ok(passed) => passed,
            Err(broken) => {
                self.break_bypass(id, to, broken);
                return true;
            }
        };
        if passed.taken > 0 {
            from.lane.last = Amount::of(passed.taken);
            // Where the reader is what was waited for, little is what it has room for.
            let is_scrap =
                conduit.wakes_a_reader() && ready == Side::Source && passed.taken < SCRAP;
            from.lane.scraps = if is_scrap { from.lane.scraps + 1 } else { 0 };
            source_end.took_unseen(passed.taken, self.taps);
            if source_end.is_pending() {
                self.runnable.push_back(id);
            }
        }
        if passed.put > 0 {
            sink_end.put_unseen(passed.put, unseen.stride, self.taps);
            self.last_moved = self.now;
        }
        let are_scraps = from.lane.scraps >= SCRAPS;
        if are_scraps {
            (from.lane.scraps, from.lane.copies) = (0, COPIES);
        }
        let has_moved = self.note_halt(id, to, passed.halt, ready);
        if has_moved && are_scraps {
            self.stop_bypass(id);
        }
        has_moved
    }

    /// Whether there is likely to be enough for the kernel: as much as came last, as far as anybody can know, and not in small pieces.
    fn is_worthwhile(&mut self, id: NodeId) -> bool {
        let lane = &mut self.nodes[id].lane;
        if let Some(left) = lane.copies.checked_sub(1) {
            lane.copies = left;
            return false;
        }
        match lane.last {
            Amount::Much => true,
            Amount::Little => (lane.bypass.as_ref()).is_some_and(|conduit| conduit.is_for_little()),
            // Most clients that come and go say little; a lone peer may be about to say much.
            Amount::Nothing => self.listeners.is_empty(),
        }
    }

    /// The one end that gets all that comes from `id`, if there is just one and it is free.
    fn only_recipient(&self, id: NodeId) -> Option<NodeId> {
        if self.rules.engine == Engine::Portable || self.taps.wants_bytes() {
            return None;
        }
        // Among many, each would need a pipe of its own, and none would be that fast.
        let &[link] = self.links.as_slice() else {
            return None;
        };
        let Node { route, partner, .. } = self.nodes[id];
        let to = match route {
            Route::Partner if partner != id => partner,
            Route::Links => link,
            _ => return None,
        };
        (self.nodes[to].is_open_to_send() && !self.is_busy(to)).then_some(to)
    }

    /// Notes what stopped the kernel; returns false if the lane is to be looked at now, or copied from now on.
    fn note_halt(&mut self, id: NodeId, to: NodeId, halt: Option<Halt>, ready: Side) -> bool {
        match halt {
            None | Some(Halt::SourceEmpty) => {}
            // What was waited for is ready, or this turn would not be: so it is the other side.
            Some(Halt::Either) if ready == Side::Sink => {}
            Some(Halt::Either | Halt::SinkFull) => self.park(id, to),
            // The end is for the link to see.
            Some(Halt::End) => return false,
            Some(Halt::Declined) => return self.end_bypass(id),
        }
        true
    }

    /// Stops the bypass for good.
    fn end_bypass(&mut self, id: NodeId) -> bool {
        self.nodes[id].lane.is_copied = true;
        self.stop_bypass(id)
    }

    /// Stops the bypass, and delivers what is already on its way in the kernel; returns whether there was any.
    fn stop_bypass(&mut self, id: NodeId) -> bool {
        let Some(mut conduit) = self.nodes[id].lane.bypass.take() else {
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

    /// Handles a failure of one side of the bypass.
    fn break_bypass(&mut self, id: NodeId, to: NodeId, broken: Broken) {
        match broken {
            // Only writing meets a closed pipe; anything else is the network's.
            Broken::Either(error)
                if error.kind() == ErrorKind::BrokenPipe
                    || self.nodes[to].party.link().is_some() =>
            {
                self.break_sink(to, &error);
            }
            Broken::Source(error) | Broken::Either(error) => self.break_source(id, &error),
        }
    }
}
