//! Waiting in line: lanes whose end takes no more for now stand in its queue, and the first goes on when it is writable.
//! A wake-up costs what it moves: lanes behind the first are not touched, however many there are.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Pump;
use super::lane::{PortId, Queue, Side};
use super::waiting::seconds;
use crate::batch::Cursor;

impl Pump<'_> {
    /// Whether a batch waits at an end, so that all others have to wait as well.
    pub(super) fn is_busy(&self, to: PortId) -> bool {
        let first = self.first_in_line(to);
        first.is_some_and(|(from, _)| self.ports[from].lane.under_way.is_some())
    }

    fn first_in_line(&self, to: PortId) -> Option<(PortId, Cursor)> {
        let queue = self.ports.get(to)?.queue.as_ref()?;
        queue.lanes.front().copied()
    }

    /// The line at an end, for somebody who is about to join it.
    pub(super) fn line(&mut self, to: PortId) -> &mut VecDeque<(PortId, Cursor)> {
        self.touched.push(to);
        let since = self.now;
        let port = &self.ports[to];
        if let Some(limit) = self.rules.client_timeout
            && port.queue.is_none()
            && port.party.link().is_some()
        {
            self.set_alarm(to, since + limit);
        }
        let lanes = VecDeque::new();
        let queue = self.ports[to]
            .queue
            .get_or_insert_with(|| Box::new(Queue { lanes, since }));
        &mut queue.lanes
    }

    /// Takes the first out of a line.
    fn leave_line(&mut self, to: PortId) {
        self.touched.push(to);
        let now = self.now;
        self.ports[to].queue.take_if(|queue| {
            queue.since = now;
            queue.lanes.pop_front();
            queue.lanes.is_empty()
        });
    }

    /// Lets a lane that has no batch wait until it is its turn at `to`.
    pub(super) fn park(&mut self, id: PortId, to: PortId) {
        self.ports[id].lane.waits_for = Side::Sink;
        self.touched.push(id);
        self.line(to).push_back((id, Cursor::default()));
    }

    /// Lets those who wait for an end go on, one after the other, until it takes no more.
    pub(super) fn serve(&mut self, to: PortId) {
        let queue = self.ports.get(to).and_then(|port| port.queue.as_ref());
        for _ in 0..queue.map_or(0, |queue| queue.lanes.len()) {
            let Some((from, at)) = self.first_in_line(to) else {
                return;
            };
            self.resume(from, to, at);
            if self
                .first_in_line(to)
                .is_some_and(|(first, _)| first == from)
            {
                return;
            }
        }
    }

    /// Lets the first in the line at `to` go on.
    fn resume(&mut self, from: PortId, to: PortId, mut at: Cursor) {
        let Some(mut under_way) = self.ports[from].lane.under_way.take() else {
            self.leave_line(to);
            self.ports[from].lane.waits_for = Side::Source;
            self.touched.push(from);
            return self.go_on(from, Side::Sink);
        };
        let before = at;
        let is_done = self.hand_over(to, &under_way.batch, &mut at);
        if is_done || at != before {
            self.last_moved = self.now;
        }
        let (Some(port), now) = (self.ports.get_mut(to), self.now) else {
            return;
        };
        if is_done {
            self.leave_line(to);
            under_way.awaited -= 1;
        } else if let Some(queue) = &mut port.queue
            && at != before
        {
            queue.since = now;
            queue.lanes[0].1 = at;
        }
        if under_way.awaited == 0 {
            self.complete(from, under_way.batch);
        } else if let Some(port) = self.ports.get_mut(from) {
            port.lane.under_way = Some(under_way);
        }
    }

    /// Lets those who wait for an end go on without it.
    pub(super) fn let_go(&mut self, id: PortId) {
        let port = self.ports.get_mut(id);
        if let Some(queue) = port.and_then(|port| port.queue.take()) {
            self.touched.push(id);
            for (lane, _) in queue.lanes {
                self.release(lane);
            }
        }
    }

    /// One end less has to get the batch of a lane, or to take what it fetches.
    pub(super) fn release(&mut self, id: PortId) {
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        port.lane.waits_for = Side::Source;
        let done = port.lane.under_way.take_if(|under_way| {
            under_way.awaited -= 1;
            under_way.awaited == 0
        });
        if port.lane.under_way.is_none() {
            self.runnable.push_back(id);
        }
        if let Some(under_way) = done {
            self.keep(under_way.batch);
        }
    }

    /// Takes a lane out of all lines: its number may be given to another, and nobody's bytes may be on their way from it.
    pub(super) fn leave_all_lines(&mut self, id: PortId) {
        for (to, port) in &mut self.ports {
            let is_empty = port.queue.as_mut().is_some_and(|queue| {
                queue.lanes.retain(|&(lane, _)| lane != id);
                queue.lanes.is_empty()
            });
            if is_empty {
                port.queue = None;
                self.touched.push(to);
            }
        }
    }

    /// Gives up a link that has taken nothing of what waits for it for too long.
    pub(super) fn evict(&mut self, id: PortId) {
        let (Some(port), Some(limit)) = (self.ports.get(id), self.rules.client_timeout) else {
            return;
        };
        let (Some(queue), Some(_)) = (&port.queue, port.party.link()) else {
            return;
        };
        let due = queue.since + limit;
        if self.now < due {
            return self.set_alarm(id, due);
        }
        self.give_up_on(id, limit);
        // It may go on talking for ever, but nobody listens any more.
        self.end(id);
    }

    /// Notes that a link has taken nothing for so long.
    pub(super) fn give_up_on(&mut self, id: PortId, limit: Duration) {
        let text = format!("took nothing for {} (--client-timeout)", seconds(limit));
        self.fail(id, &io::Error::new(ErrorKind::TimedOut, text));
    }
}
