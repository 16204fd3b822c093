//! Lanes: a chunk is read from its source and written to every end that it is for, or the kernel splices it.
//! Each turn is short and never blocks; whatever stops it is kept as state, and the loop waits for exactly that.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Pump;
use super::end::{Arrival, Finish, Next};
use super::node::{InFlight, Load, Node, NodeId, Queue, Route, Silence};
use super::rules::InputTo;
use super::splice::SPLICE_START;
use crate::batch::{Batch, Cursor};
use crate::tap::FailedCall;

/// Connections that one turn accepts at most, before other nodes have their turn.
const ACCEPTS_A_TURN: usize = 64;

/// Unused batches that are kept for their memory.
const SPARE_BATCHES: usize = 64;

/// Time after which an end that takes nothing is not expected to take more, where no time is given.
pub(super) const STALL_TIME: Duration = Duration::from_secs(30);

/// One of the two sides of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The end it begins at.
    Source,
    /// The end it leads to.
    Sink,
}

impl Pump<'_> {
    /// Lets a node go on with whatever it can do now.
    pub(super) fn turn(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.failure.is_some() {
            self.release_queue(id);
        }
        self.retry_finish(id);
        if self
            .nodes
            .get(id)
            .is_some_and(|node| !node.lane.is_waiting())
        {
            self.move_load(id, Side::Source);
        }
        let node = self.nodes.get(id);
        if node.is_some_and(|node| node.queue.is_some() && node.readiness().send.is_now()) {
            self.serve(id);
        }
    }

    /// Moves one batch from its source to where the lane leads; `ready` is the side that was waited for.
    pub(super) fn move_load(&mut self, id: NodeId, ready: Side) {
        let lane = &self.nodes[id].lane;
        if lane.ended.is_some() {
            if lane.drain.is_some() {
                self.fetch(id);
            }
            if self.nodes.get(id).is_some() {
                self.finish_incoming(id);
            }
            return;
        }
        if !self.has_audience(id) {
            return;
        }
        let Node { route, partner, .. } = self.nodes[id];
        if route != Route::Links && self.nodes.is_busy(partner) {
            // A batch that is read now would only wait: memory does not grow with the number of lanes that wait.
            return self.park(id, partner);
        }
        if self.splice(id, ready) {
            return;
        }
        if let Some(batch) = self.fetch(id) {
            self.clock.moved();
            let node = &mut self.nodes[id];
            node.silence = Silence::new(self.clock.now);
            let lane = &mut node.lane;
            lane.has_given = true;
            let len = batch.len();
            lane.is_bulk = len >= SPLICE_START;
            self.deliver(id, batch);
            if self.ending.has_read_all(id, len) && self.nodes.get(id).is_some() {
                self.on_end(id);
            }
        }
    }

    /// Returns true if what comes from a node would be sent to some end. Links are always read: they report ends and errors.
    pub(super) fn has_audience(&self, id: NodeId) -> bool {
        let node = &self.nodes[id];
        match node.route {
            _ if node.party.link().is_some() => true,
            // An end that no bytes go through.
            Route::Partner if node.partner == id => true,
            _ if self.ending.is_leaving() => false,
            Route::Partner => {
                let partner = self.nodes.get(node.partner);
                // Output for a link that has failed is dropped: unread, it would keep its own end from taking what came before.
                let is_dropped = |link: &Node| link.failure.is_some() && self.takes(node);
                partner.is_some_and(|link| link.is_open_to_send() || is_dropped(link))
            }
            Route::Links | Route::Others => self.nodes.open_links().next().is_some(),
        }
    }

    /// Reads a batch from an end. `None`: there is none now, and what follows from that is done.
    fn fetch(&mut self, id: NodeId) -> Option<Batch> {
        let mut batch = self.spare_batch();
        for _ in 0..ACCEPTS_A_TURN {
            let end = self.nodes[id].party.end_mut();
            match end.recv(&mut batch, self.taps) {
                Ok(Arrival::Data) if self.nodes[id].lane.drain.is_some() => self.drain(id),
                Ok(Arrival::Data) => return Some(batch),
                Ok(Arrival::Link(link)) => {
                    self.join(link);
                    continue;
                }
                Ok(Arrival::Established(link)) => self.replace(id, link),
                Ok(Arrival::Nothing) => self.on_nothing(id),
                Ok(Arrival::End) => self.on_last(id),
                Ok(Arrival::Enough) => self.on_enough(id),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.on_nothing(id),
                Err(error) if error.kind() == ErrorKind::Interrupted => self.schedule.run(id),
                Err(error) => self.break_source(id, &error),
            }
            self.keep(batch);
            return None;
        }
        self.keep(batch);
        self.schedule.run(id);
        None
    }

    /// Returns an empty batch.
    pub(super) fn spare_batch(&mut self) -> Batch {
        let mut batch = self.spare.batches.pop().unwrap_or_default();
        batch.clear();
        batch
    }

    /// Keeps a batch for its memory.
    pub(super) fn keep(&mut self, batch: Batch) {
        if self.spare.batches.len() < SPARE_BATCHES {
            self.spare.batches.push(batch);
        }
    }

    /// Offers a batch to every end that the route of its lane names.
    pub(super) fn deliver(&mut self, id: NodeId, batch: Batch) {
        let mut recipients = std::mem::take(&mut self.spare.recipients);
        recipients.clear();
        let Node { route, partner, .. } = self.nodes[id];
        match route {
            Route::Partner => recipients.push(partner),
            Route::Links => self.choose_links(&mut recipients),
            Route::Others => {
                recipients.push(partner);
                recipients.extend(self.nodes.open_links().filter(|&link| link != id));
            }
        }
        self.deliver_to(&recipients, id, Load::Batch(batch));
        self.spare.recipients = recipients;
    }

    /// Adds the links that get what comes from an end that feeds all of them.
    fn choose_links(&self, chosen: &mut Vec<NodeId>) {
        let mut open = self.nodes.open_links();
        match self.rules.input_to {
            InputTo::First => chosen.extend(open.next()),
            InputTo::Last => chosen.extend(open.next_back()),
            InputTo::All => chosen.extend(open),
        }
    }

    /// Offers a load to `recipients`. Those that do not take all of it now get the rest when they can.
    pub(super) fn deliver_to(&mut self, recipients: &[NodeId], id: NodeId, load: Load) {
        let offers = recipients.iter();
        let awaited = offers.filter(|&&to| !self.offer(id, to, &load)).count();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if awaited == 0 {
            return self.complete(id, load);
        }
        node.lane.in_flight = Some(Box::new(InFlight { load, awaited }));
        self.schedule.touch(id);
    }

    /// Offers a load to one end; returns true if that end is done with it.
    fn offer(&mut self, from: NodeId, to: NodeId, load: &Load) -> bool {
        let mut at = Cursor::default();
        if self.nodes.is_busy(to) {
            self.queue_at(to).push_back((from, at));
            return false;
        }
        let is_done = self.hand_over(to, load, &mut at);
        if !is_done {
            self.queue_at(to).push_front((from, at));
        }
        is_done
    }

    /// Sends what is left of a load to one end; returns true if that end is done with it.
    fn hand_over(&mut self, to: NodeId, load: &Load, at: &mut Cursor) -> bool {
        let Some(node) = self.nodes.get_mut(to) else {
            return true;
        };
        if node.failure.is_some() {
            return true;
        }
        let (before, end) = (*at, node.party.end_mut());
        let (result, is_taken) = match load {
            Load::Batch(batch) => (end.send(batch, at, self.taps), batch.is_taken(*at)),
            Load::End(link) => (end.finish(Finish::Stream(link), self.taps), true),
        };
        if *at != before {
            node.silence = Silence::new(self.clock.now);
        }
        // What it has got may be what it answers to.
        self.schedule.touch(to);
        match result {
            Ok(Next::Stop) if is_taken => {
                self.on_enough(to);
                true
            }
            Ok(_) => is_taken,
            Err(error) if is_temporary(&error) => false,
            Err(error) => {
                let call = match load {
                    Load::Batch(_) => FailedCall::Send,
                    Load::End(_) => FailedCall::Shutdown,
                };
                self.break_sink(to, &error, call);
                true
            }
        }
    }

    /// Goes on with a lane whose load has been taken by all.
    fn complete(&mut self, id: NodeId, load: Load) {
        if let Load::Batch(batch) = load {
            self.keep(batch);
        }
        self.schedule.touch(id);
        // A failure at the other end may have ended everything.
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.lane.ended.is_some() {
            self.finish_incoming(id);
        } else if node.failure.is_some() || self.ending.is_leaving() {
            // It is over as soon as there is nothing more to read.
            self.schedule.run(id);
        }
    }

    /// Handles that an end has nothing now.
    fn on_nothing(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let is_link = node.party.link().is_some();
        if is_link && (self.ending.is_leaving() || node.failure.is_some()) {
            self.on_end(id);
        } else {
            self.check_drain(id);
        }
    }

    /// Returns the queue of an end, for a lane that is about to join it.
    fn queue_at(&mut self, to: NodeId) -> &mut VecDeque<(NodeId, Cursor)> {
        self.schedule.touch(to);
        let since = self.clock.now;
        let node = &mut self.nodes[to];
        if let Some(limit) = self.rules.client_timeout
            && node.queue.is_none()
            && node.party.link().is_some()
        {
            self.schedule.run_at(to, since + limit / 2);
        }
        let queue = node.queue.get_or_insert_with(|| {
            let (lanes, silence) = (VecDeque::new(), Silence::new(since));
            Box::new(Queue { lanes, silence })
        });
        &mut queue.lanes
    }

    /// Takes the first lane out of a queue.
    fn leave_queue(&mut self, to: NodeId) {
        self.schedule.touch(to);
        let now = self.clock.now;
        self.nodes[to].queue.take_if(|queue| {
            queue.silence = Silence::new(now);
            queue.lanes.pop_front();
            queue.lanes.is_empty()
        });
    }

    /// Puts a lane without a load into the queue of `to`.
    pub(super) fn park(&mut self, id: NodeId, to: NodeId) {
        self.nodes[id].lane.waits_for_sink = true;
        self.schedule.touch(id);
        self.queue_at(to).push_back((id, Cursor::default()));
    }

    /// Lets the lanes in the queue of an end go on, one after the other, until it takes no more.
    pub(super) fn serve(&mut self, to: NodeId) {
        let queue = self.nodes.get(to).and_then(|node| node.queue.as_ref());
        for _ in 0..queue.map_or(0, |queue| queue.lanes.len()) {
            let Some((from, at)) = self.nodes.first_in_queue(to) else {
                return;
            };
            self.resume(from, to, at);
            let first = self.nodes.first_in_queue(to);
            if first.is_some_and(|(first, _)| first == from) {
                return;
            }
        }
    }

    /// Lets `from`, the first lane in the queue of `to`, go on.
    fn resume(&mut self, from: NodeId, to: NodeId, mut at: Cursor) {
        let Some(mut in_flight) = self.nodes[from].lane.in_flight.take() else {
            self.leave_queue(to);
            self.nodes[from].lane.waits_for_sink = false;
            self.schedule.touch(from);
            return self.move_load(from, Side::Sink);
        };
        let before = at;
        let is_done = self.hand_over(to, &in_flight.load, &mut at);
        if is_done || at != before {
            self.clock.moved();
            if let Some(node) = self.nodes.get_mut(from) {
                // Nothing is read from it meanwhile, but what was read from it goes on.
                node.silence = Silence::new(self.clock.now);
            }
        }
        let (Some(node), now) = (self.nodes.get_mut(to), self.clock.now) else {
            return;
        };
        if is_done {
            self.leave_queue(to);
            in_flight.awaited -= 1;
        } else if let Some(queue) = &mut node.queue
            && at != before
        {
            queue.silence = Silence::new(now);
            queue.lanes[0].1 = at;
        }
        if in_flight.awaited == 0 {
            self.complete(from, in_flight.load);
        } else if let Some(node) = self.nodes.get_mut(from) {
            node.lane.in_flight = Some(in_flight);
        }
    }

    /// Lets the lanes in the queue of an end go on without it: it takes nothing any more.
    pub(super) fn release_queue(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(id);
        if let Some(queue) = node.and_then(|node| node.queue.take()) {
            self.schedule.touch(id);
            for (lane, _) in queue.lanes {
                self.release_lane(lane);
            }
        }
    }

    /// Takes a lane out of the queue it stood in: one end less has to take its load, or what it will read.
    fn release_lane(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.lane.waits_for_sink = false;
        let done = node.lane.in_flight.take_if(|in_flight| {
            in_flight.awaited -= 1;
            in_flight.awaited == 0
        });
        if node.lane.in_flight.is_none() {
            self.schedule.run(id);
        }
        if let Some(Load::Batch(batch)) = done.map(|done| done.load) {
            self.keep(batch);
        }
    }

    /// Takes a lane out of all queues: it is about to be removed, and its number may be given to another.
    pub(super) fn leave_all_queues(&mut self, id: NodeId) {
        for (to, node) in &mut self.nodes.slab {
            let is_empty = node.queue.as_mut().is_some_and(|queue| {
                queue.lanes.retain(|&(lane, _)| lane != id);
                queue.lanes.is_empty()
            });
            if is_empty {
                node.queue = None;
                self.schedule.touch(to);
            }
        }
    }

    /// Returns true if an end takes what waits for it, as far as that is known.
    fn takes(&self, node: &Node) -> bool {
        let limit = self.rules.client_timeout.unwrap_or(STALL_TIME);
        let queue = node.queue.as_ref();
        queue.is_none_or(|queue| self.clock.now < queue.silence.since() + limit)
    }
}

/// Returns true if the same call may succeed later.
pub fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
