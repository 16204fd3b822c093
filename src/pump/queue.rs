//! Queues: lanes that lead to an end which takes no more for now wait in its queue, and the first goes on when it is writable.
//! A wake-up costs what it moves: lanes behind the first are not touched, however many there are.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Pump;
use super::node::{Node, NodeId, Party, Queue, Side};
use super::waiting::seconds;
use crate::batch::Cursor;

/// How long an end that takes nothing may still be about to, where no time is given (`--client-timeout`).
const PATIENCE: Duration = Duration::from_secs(30);

impl Pump<'_> {
    /// Whether a batch waits at the head of a queue, so that all others have to wait behind it.
    pub(super) fn is_busy(&self, to: NodeId) -> bool {
        let first = self.first_in_queue(to);
        first.is_some_and(|(from, _)| self.nodes[from].lane.under_way.is_some())
    }

    fn first_in_queue(&self, to: NodeId) -> Option<(NodeId, Cursor)> {
        let queue = self.nodes.get(to)?.queue.as_ref()?;
        queue.lanes.front().copied()
    }

    /// The queue of an end, for a lane that is about to join it.
    pub(super) fn queue_at(&mut self, to: NodeId) -> &mut VecDeque<(NodeId, Cursor)> {
        self.touched.push(to);
        let since = self.now;
        let node = &self.nodes[to];
        if let Some(limit) = self.rules.client_timeout
            && node.queue.is_none()
            && node.party.link().is_some()
        {
            self.timers.set(to, since + limit);
        }
        let lanes = VecDeque::new();
        let queue = self.nodes[to]
            .queue
            .get_or_insert_with(|| Box::new(Queue { lanes, since }));
        &mut queue.lanes
    }

    /// Takes the first lane out of a queue.
    fn leave_queue(&mut self, to: NodeId) {
        self.touched.push(to);
        let now = self.now;
        self.nodes[to].queue.take_if(|queue| {
            queue.since = now;
            queue.lanes.pop_front();
            queue.lanes.is_empty()
        });
    }

    /// Puts a lane without a batch into the queue of `to`.
    pub(super) fn park(&mut self, id: NodeId, to: NodeId) {
        self.nodes[id].lane.waits_for = Side::Sink;
        self.touched.push(id);
        self.queue_at(to).push_back((id, Cursor::default()));
    }

    /// Lets the lanes in the queue of an end go on, one after the other, until it takes no more.
    pub(super) fn serve(&mut self, to: NodeId) {
        let queue = self.nodes.get(to).and_then(|node| node.queue.as_ref());
        for _ in 0..queue.map_or(0, |queue| queue.lanes.len()) {
            let Some((from, at)) = self.first_in_queue(to) else {
                return;
            };
            self.resume(from, to, at);
            if self
                .first_in_queue(to)
                .is_some_and(|(first, _)| first == from)
            {
                return;
            }
        }
    }

    /// Lets `from`, the first lane in the queue of `to`, go on.
    fn resume(&mut self, from: NodeId, to: NodeId, mut at: Cursor) {
        let Some(mut under_way) = self.nodes[from].lane.under_way.take() else {
            self.leave_queue(to);
            self.nodes[from].lane.waits_for = Side::Source;
            self.touched.push(from);
            return self.move_batch(from, Side::Sink);
        };
        let before = at;
        let is_done = self.hand_over(to, &under_way.batch, &mut at);
        if is_done || at != before {
            self.last_moved = self.now;
        }
        let (Some(node), now) = (self.nodes.get_mut(to), self.now) else {
            return;
        };
        if is_done {
            self.leave_queue(to);
            under_way.awaited -= 1;
        } else if let Some(queue) = &mut node.queue
            && at != before
        {
            queue.since = now;
            queue.lanes[0].1 = at;
        }
        if under_way.awaited == 0 {
            self.complete(from, under_way.batch);
        } else if let Some(node) = self.nodes.get_mut(from) {
            node.lane.under_way = Some(under_way);
        }
    }

    /// Lets the lanes in the queue of an end go on without it: it takes nothing any more.
    pub(super) fn release_queue(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(id);
        if let Some(queue) = node.and_then(|node| node.queue.take()) {
            self.touched.push(id);
            for (lane, _) in queue.lanes {
                self.release_lane(lane);
            }
        }
    }

    /// Takes a lane out of the queue it stood in: there is one end less to take its batch, or what it will read.
    pub(super) fn release_lane(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.lane.waits_for = Side::Source;
        let done = node.lane.under_way.take_if(|under_way| {
            under_way.awaited -= 1;
            under_way.awaited == 0
        });
        if node.lane.under_way.is_none() {
            self.runnable.push_back(id);
        }
        if let Some(under_way) = done {
            self.keep(under_way.batch);
        }
    }

    /// Takes a lane out of all queues: it is about to be removed, and its number may be given to another.
    pub(super) fn leave_all_queues(&mut self, id: NodeId) {
        for (to, node) in &mut self.nodes {
            let is_empty = node.queue.as_mut().is_some_and(|queue| {
                queue.lanes.retain(|&(lane, _)| lane != id);
                queue.lanes.is_empty()
            });
            if is_empty {
                node.queue = None;
                self.touched.push(to);
            }
        }
    }

    /// Whether an end takes what waits for it, as far as that is known.
    pub(super) fn takes(&self, node: &Node) -> bool {
        let patience = self.rules.client_timeout.unwrap_or(PATIENCE);
        let queue = node.queue.as_ref();
        queue.is_none_or(|queue| self.now < queue.since + patience)
    }

    /// Gives up a link that has taken nothing of what waits for it for longer than `--client-timeout`.
    pub(super) fn check_client_timeout(&mut self, id: NodeId) {
        let (Some(node), Some(limit)) = (self.nodes.get(id), self.rules.client_timeout) else {
            return;
        };
        let (Some(queue), Some(_)) = (&node.queue, node.party.link()) else {
            return;
        };
        let due = queue.since + limit;
        if self.now < due {
            return self.timers.set(id, due);
        }
        self.fail_stalled(id, limit);
        // It may go on talking for ever, but nobody listens any more.
        self.on_end(id);
    }

    /// Fails a link that has taken nothing for so long.
    pub(super) fn fail_stalled(&mut self, id: NodeId, limit: Duration) {
        let text = format!("took nothing for {} (--client-timeout)", seconds(limit));
        if let Some(Party::Link(link)) = self.nodes.get_mut(id).map(|node| &mut node.party) {
            link.abort();
        }
        self.fail(id, &io::Error::new(ErrorKind::TimedOut, text));
    }
}
