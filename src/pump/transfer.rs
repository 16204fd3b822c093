//! One turn of a lane: read a batch from its source, and write it to every end that it is for; or let the kernel splice it.
//! Each turn is short and never blocks; whatever stops it is kept as state, and the loop waits for exactly that.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::Pump;
use super::end::Arrival;
use super::node::{Amount, Node, NodeId, Party, Route, Side, UnderWay};
use crate::batch::{Batch, Cursor};
use crate::exit::Failure;

/// How many connections one turn accepts before it is somebody else's turn.
const LINKS: usize = 64;

/// How many unused batches are kept.
const SPARE: usize = 64;

impl Pump<'_> {
    /// Lets the lane that begins at `id` go on, if it waits for nothing but its source.
    pub(super) fn turn(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.failure.is_some() {
            self.release_queue(id);
        }
        if !self.nodes[id].lane.is_waiting() {
            self.move_batch(id, Side::Source);
        }
        // Where nothing tells when it takes more, it may be now.
        if self.nodes.get(id).is_some_and(Node::takes_unasked) {
            self.serve(id);
        }
    }

    /// Moves one batch from its source to where the lane leads; `ready` is the side that was waited for.
    pub(super) fn move_batch(&mut self, id: NodeId, ready: Side) {
        if self.nodes[id].lane.ended.is_some() {
            return self.finish_incoming(id);
        }
        if !self.has_audience(id) {
            return;
        }
        let Node { route, partner, .. } = self.nodes[id];
        if route != Route::Links && self.is_busy(partner) {
            // Nothing is read that could only lie about: memory does not grow with the number of lanes that wait.
            return self.park(id, partner);
        }
        if self.bypass(id, ready) {
            return;
        }
        if let Some(batch) = self.fetch(id) {
            self.last_moved = self.now;
            self.nodes[id].lane.last = Amount::of(batch.len());
            self.deliver(id, batch);
        }
    }

    /// Reads a batch from an end. `None`: there is none now, and what to do about that is done.
    fn fetch(&mut self, id: NodeId) -> Option<Batch> {
        let mut batch = self.spare_batch();
        for _ in 0..LINKS {
            let end = self.nodes[id].party.end_mut();
            match end.recv(&mut batch, self.taps) {
                Ok(Arrival::Data) => return Some(batch),
                Ok(Arrival::Link(link)) => {
                    self.join(link);
                    continue;
                }
                Ok(Arrival::Nothing(time)) => self.wait_for_source(id, time),
                Ok(Arrival::End) => self.on_end(id),
                Ok(Arrival::Enough) => self.on_enough(id),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait_for_source(id, None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.runnable.push_back(id),
                Err(error) => self.break_source(id, &error),
            }
            self.keep(batch);
            return None;
        }
        self.keep(batch);
        self.runnable.push_back(id);
        None
    }

    /// An empty batch.
    pub(super) fn spare_batch(&mut self) -> Batch {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        batch
    }

    /// Keeps a batch, for its memory.
    pub(super) fn keep(&mut self, batch: Batch) {
        if self.spare.len() < SPARE {
            self.spare.push(batch);
        }
    }

    /// Offers a batch to every end that the route of its lane names.
    pub(super) fn deliver(&mut self, id: NodeId, batch: Batch) {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        let Node { route, partner, .. } = self.nodes[id];
        match route {
            Route::Partner => recipients.push(partner),
            Route::Links => self.choose_links(&mut recipients),
            Route::Others => {
                recipients.push(partner);
                recipients.extend(self.open_links().filter(|&link| link != id));
            }
        }
        self.deliver_to(&recipients, id, batch);
        self.recipients = recipients;
    }

    /// Offers a batch to `recipients`. Those that do not take all of it now get the rest when they can.
    pub(super) fn deliver_to(&mut self, recipients: &[NodeId], id: NodeId, batch: Batch) {
        let offers = recipients.iter();
        let awaited = offers.filter(|&&to| !self.offer(id, to, &batch)).count();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if awaited == 0 {
            return self.complete(id, batch);
        }
        node.lane.under_way = Some(Box::new(UnderWay { batch, awaited }));
        self.touched.push(id);
    }

    /// Offers a batch to one end; returns whether that end is done with it.
    fn offer(&mut self, from: NodeId, to: NodeId, batch: &Batch) -> bool {
        let mut at = Cursor::default();
        if self.is_busy(to) {
            self.queue_at(to).push_back((from, at));
            return false;
        }
        let is_done = self.hand_over(to, batch, &mut at);
        if !is_done {
            self.queue_at(to).push_front((from, at));
        }
        is_done
    }

    /// Sends what is left of a batch to one end; returns whether that end is done with it.
    pub(super) fn hand_over(&mut self, to: NodeId, batch: &Batch, at: &mut Cursor) -> bool {
        let Some(node) = self.nodes.get_mut(to) else {
            return true;
        };
        if node.failure.is_some() {
            return true;
        }
        let before = *at;
        let result = node.party.end_mut().send(batch, at, self.taps);
        // What it has got may be what it answers to, and only then take more.
        if *at != before && node.gives_unasked() {
            self.runnable.push_back(to);
        }
        match result {
            Ok(()) if batch.is_taken(*at) => {
                if node.party.end().is_done() {
                    self.on_enough(to);
                }
                true
            }
            Err(error)
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                self.break_sink(to, &error);
                true
            }
            _ => false,
        }
    }

    /// Goes on with a lane whose batch has been taken by everybody.
    pub(super) fn complete(&mut self, id: NodeId, batch: Batch) {
        self.keep(batch);
        self.touched.push(id);
        // What failed at the other end may have ended everything.
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.lane.ended.is_some() {
            self.finish_incoming(id);
        } else if node.gives_unasked() {
            self.runnable.push_back(id);
        }
    }

    /// Waits for an end that has nothing now, until `time` at the latest.
    fn wait_for_source(&mut self, id: NodeId, time: Option<Instant>) {
        let node = &mut self.nodes[id];
        let is_link = node.party.link().is_some();
        if is_link && (self.leaving.is_some() || node.failure.is_some()) {
            return self.on_end(id);
        }
        if let Some(time) = time {
            self.timers.set(id, time);
        }
    }

    /// Handles a failure to read from an end.
    pub(super) fn break_source(&mut self, id: NodeId, error: &io::Error) {
        match &self.nodes[id].party {
            Party::Shared(_) => self.abandon(Err(Failure::io("cannot read standard input", error))),
            Party::Own(_) => {
                self.fail(self.nodes[id].partner, error);
                self.on_end(id);
            }
            Party::Link(link) if self.listeners.contains(&id) => {
                let failure = Failure::io(link.identity(), error);
                self.remove(id);
                self.leave(Err(failure));
            }
            Party::Link(_) => {
                self.fail(id, error);
                self.on_end(id);
            }
        }
    }

    /// Handles a failure to write to an end. What had arrived from it before is still delivered.
    pub(super) fn break_sink(&mut self, id: NodeId, error: &io::Error) {
        let node = &mut self.nodes[id];
        match &node.party {
            Party::Shared(end) => {
                let lost = end
                    .sink_lost()
                    .filter(|_| error.kind() == ErrorKind::BrokenPipe);
                let failure = || Failure::io("cannot write to standard output", error);
                self.abandon(Err(lost.unwrap_or_else(failure)));
            }
            // It may have more to say although it listens no more.
            Party::Own(_) => {
                node.failure = Some(Box::new(Failure::io("cannot write to it", error)));
                self.runnable.push_back(id);
                self.let_link_linger(id);
            }
            Party::Link(_) => self.fail(id, error),
        }
    }
}
