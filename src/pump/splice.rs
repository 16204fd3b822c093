//! Splicing: the kernel moves bytes from one descriptor to the other (splice(2), sendfile(2)), and this process never sees them.
//! Only where no tap looks at them and one end gets them; where the kernel declines, the lane goes on by copying.

use std::io::ErrorKind;

use super::Pump;
use super::lane::Side;
use super::node::{Node, NodeId, Party, Route, Silence, Splicing};
use super::rules::Engine;
use crate::batch::Shape;
use crate::flow::Direction;
use crate::sys::splice::{Blocked, Broken, Splice};
use crate::tap::FailedCall;

/// Bytes of one read after which a lane is spliced: as much as one read takes, so that more is likely to follow.
pub(super) const SPLICE_START: usize = 64 << 10;

/// Bytes of one splice below which a lane is copied again: two pages cost less to copy than to move.
const SPLICE_STOP: usize = 8 << 10;

impl Pump<'_> {
    /// Lets the kernel move bytes from `id`; `ready` is the side that was waited for. Returns false where they are to be copied.
    pub(super) fn splice(&mut self, id: NodeId, ready: Side) -> bool {
        let node = &self.nodes[id];
        match node.lane.splicing {
            Splicing::Declined => return false,
            Splicing::Idle if !node.lane.is_bulk => return false,
            Splicing::Idle | Splicing::Active(_) => {}
        }
        if self.ending.is_leaving() || node.failure.is_some() {
            return self.end_splice(id);
        }
        let Some(to) = self.only_recipient(id).filter(|_| node.lane.is_bulk) else {
            return self.stop_splice(id);
        };
        let Some((from, sink)) = self.nodes.slab.get2_mut(id, to) else {
            return false;
        };
        let (source_end, sink_end) = (from.party.end_mut().splice(), sink.party.end_mut().splice());
        let (Some((source_fd, limit)), Some(sink_fd)) = (source_end.source, sink_end.sink) else {
            return self.stop_splice(id);
        };
        let lane = &mut from.lane;
        if matches!(lane.splicing, Splicing::Idle) {
            let splice = Splice::open(source_fd, sink_fd).map(Box::new);
            lane.splicing = splice.map_or(Splicing::Declined, Splicing::Active);
        }
        let Splicing::Active(splice) = &mut lane.splicing else {
            return false;
        };
        let pipes = &mut self.spare.pipes;
        let moved = match splice.pass(source_fd, sink_fd, limit, pipes) {
            Ok(moved) => moved,
            Err(broken) => {
                self.break_splice(id, to, broken);
                return true;
            }
        };
        if moved.taken > 0 {
            lane.is_bulk = moved.taken >= SPLICE_STOP;
            lane.has_given = true;
            from.silence = Silence::new(self.clock.now);
            if let Some(meter) = source_end.meter {
                meter.note(Direction::Incoming, moved.taken, None, self.taps);
            }
        }
        if moved.put > 0 {
            if let Some(meter) = sink_end.meter {
                meter.note(Direction::Outgoing, moved.put, None, self.taps);
            }
            from.silence = Silence::new(self.clock.now);
            sink.silence = Silence::new(self.clock.now);
            self.clock.moved();
        }
        self.schedule.touch(id);
        self.note_blocked(id, to, moved.blocked, ready)
    }

    /// Returns the one end that gets all that comes from `id`, if there is just one and it is free.
    fn only_recipient(&self, id: NodeId) -> Option<NodeId> {
        if self.rules.engine == Engine::Portable || self.taps.wants_bytes() {
            return None;
        }
        let Node { route, partner, .. } = self.nodes[id];
        let to = match (route, self.nodes.links.as_slice()) {
            (Route::Links, &[link]) => link,
            (Route::Partner, [_]) if partner != id => partner,
            // Among many links, only those with a partner of their own have the lane to themselves.
            (Route::Partner, _) if partner != id => Some(partner).filter(|&to| self.is_pair(to))?,
            _ => return None,
        };
        (self.nodes[to].is_open_to_send() && !self.nodes.is_busy(to)).then_some(to)
    }

    /// Returns true if an end is joined to one link alone.
    fn is_pair(&self, id: NodeId) -> bool {
        !matches!(self.nodes[id].party, Party::Shared(_))
    }

    /// Waits for what stopped the kernel; returns false if the lane is to be copied.
    fn note_blocked(
        &mut self,
        id: NodeId,
        to: NodeId,
        blocked: Option<Blocked>,
        ready: Side,
    ) -> bool {
        match blocked {
            None | Some(Blocked::SourceEmpty) => {}
            // The side that was waited for is ready, so it is the other one.
            Some(Blocked::Either) if ready == Side::Sink => {}
            Some(Blocked::Either | Blocked::SinkFull) => self.park(id, to),
            // The end is for `recv` to see.
            Some(Blocked::End) => return false,
            Some(Blocked::Declined) => return self.end_splice(id),
            Some(Blocked::NoPipe) => return self.stop_splice(id),
            Some(Blocked::Broken(error)) => {
                self.nodes[to].party.end_mut().note_error(&error.into());
                return self.end_splice(id);
            }
        }
        true
    }

    /// Stops splicing for good.
    fn end_splice(&mut self, id: NodeId) -> bool {
        let has_delivered = self.stop_splice(id);
        if let Some(node) = self.nodes.get_mut(id) {
            node.lane.splicing = Splicing::Declined;
        }
        has_delivered
    }

    /// Stops splicing, and delivers what is already on its way in the kernel; returns true if there was any.
    fn stop_splice(&mut self, id: NodeId) -> bool {
        let splicing = std::mem::take(&mut self.nodes[id].lane.splicing);
        let Splicing::Active(mut splice) = splicing else {
            return false;
        };
        let mut batch = self.spare_batch();
        let len = splice.reclaim(batch.space(splice.held()));
        if len == 0 {
            self.keep(batch);
            return false;
        }
        batch.push_front(len, Shape::Stream, None);
        self.deliver(id, batch);
        true
    }

    /// Handles a failure of one side.
    fn break_splice(&mut self, id: NodeId, to: NodeId, broken: Broken) {
        match broken {
            // Only writing meets a closed pipe; any other error is the network's.
            Broken::Either(error)
                if error.kind() == ErrorKind::BrokenPipe
                    || self.nodes[to].party.link().is_some() =>
            {
                // The end knows more of its descriptor than the kernel says here.
                let end = self.nodes[to].party.end_mut();
                end.note_error(&error);
                let health = end.health();
                self.break_sink(to, &health.err().unwrap_or(error), FailedCall::Send);
            }
            Broken::Source(error) | Broken::Either(error) => self.break_source(id, &error),
        }
    }
}
