//! One turn of a lane: fetch a batch, deliver it to everybody, or let the kernel do both unseen.
//! Each turn is short and never blocks; whatever stops it is written down as state, and the loop waits for exactly that.

use std::io::{self, ErrorKind};

use super::end::{Arrival, Link};
use super::lane::{Party, Port, PortId, Route};
use super::{Pump, failure_of};
use crate::batch::{Batch, Cursor};
use crate::tuple::{FourTuple, Identity};

impl Pump<'_> {
    /// Lets the lane that begins at `id` go on as far as one batch.
    pub(super) fn turn(&mut self, id: PortId) {
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        let waited_for = std::mem::take(&mut port.lane.waits_for);
        if port.lane.batch.is_none() && !self.pass(id, waited_for) {
            self.fetch(id);
        }
        self.deliver(id);
    }

    /// Asks an end for bytes.
    fn fetch(&mut self, id: PortId) {
        if !self.may_fetch(id) {
            return;
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        let end = self.ports[id].party.end_mut();
        match end.recv(&mut batch, self.taps) {
            Ok(Arrival::Data) => return self.load(id, batch),
            Ok(Arrival::Link(link)) => {
                self.join(link);
                self.runnable.push_back(id);
            }
            Ok(Arrival::Nothing(time)) => self.rest(id, time),
            Ok(Arrival::End) => self.end(id),
            Ok(Arrival::Enough) => self.remove(id),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.rest(id, None),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.runnable.push_back(id),
            Err(error) => self.break_source(id, &error),
        }
        self.spare.push(batch);
    }

    /// Whether there is any use in asking an end for bytes.
    pub(super) fn may_fetch(&self, id: PortId) -> bool {
        self.ports[id].may_give() && self.has_audience(id)
    }

    /// Puts a batch into the lane that begins at `id`, addressed to whom it concerns.
    pub(super) fn load(&mut self, id: PortId, batch: Batch) {
        let mut recipients = std::mem::take(&mut self.ports[id].lane.recipients);
        recipients.clear();
        let to = |id| (id, Cursor::default());
        match self.ports[id].route {
            Route::To(one) => recipients.push(to(one)),
            Route::Links => recipients.extend(self.chosen_links().map(to)),
            Route::Others(local) => {
                recipients.push(to(local));
                let others = self.chosen_links().filter(|&link| link != id);
                recipients.extend(others.map(to));
            }
        }
        let lane = &mut self.ports[id].lane;
        lane.recipients = recipients;
        lane.batch = Some(batch);
        lane.has_given = true;
        self.last_moved = self.now;
    }

    /// An end has nothing for now, at the latest until `time`.
    fn rest(&mut self, id: PortId, time: Option<std::time::Instant>) {
        let port = &mut self.ports[id];
        let is_link = port.party.link().is_some();
        if is_link && (self.leaving.is_some() || port.failure.is_some()) {
            return self.end(id);
        }
        // The time set before stays until it comes or is replaced: being asked too early does no harm.
        if let Some(old) = std::mem::replace(&mut port.lane.wake, time) {
            self.timers.remove(&(old, id));
        }
        self.timers.extend(time.map(|time| (time, id)));
    }

    /// An end will give nothing more.
    fn end(&mut self, id: PortId) {
        let port = &mut self.ports[id];
        port.lane.ended = Some(self.now);
        match port.party.link().map(Link::identity) {
            Some(Identity::Pair(flow)) => self.mark_end(id, flow),
            Some(Identity::Socket(..)) => self.settle(id),
            None => {
                let fed = |&link: &PortId| self.ports[link].fed_by == id;
                let links: Vec<PortId> = self.links.iter().copied().filter(fed).collect();
                for link in links {
                    self.end_input_for(link);
                }
            }
        }
    }

    /// Shows a shared end, by an empty stretch, that a stream is at its end: what it holds of a begun line or an open file is over.
    fn mark_end(&mut self, id: PortId, flow: FourTuple) {
        let (Route::To(to) | Route::Others(to)) = self.ports[id].route else {
            return self.settle(id);
        };
        let is_shared = |port: &Port| matches!(port.party, Party::Shared(_));
        if !self.ports.get(to).is_some_and(is_shared) {
            return self.settle(id);
        }
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        batch.push_stream(0, Some(flow));
        let lane = &mut self.ports[id].lane;
        lane.batch = Some(batch);
        lane.recipients = vec![(to, Cursor::default())];
    }

    /// Goes on with a link from which nothing more will come, and all that came is delivered.
    fn settle(&mut self, id: PortId) {
        let (fed_by, failed) = (self.ports[id].fed_by, self.ports[id].failure.is_some());
        if failed || self.leaving.is_some() || self.has_ended(fed_by) {
            self.conclude(id);
        } else {
            self.finish_own(fed_by);
            self.say_farewell(id);
        }
    }

    /// Tells a link's own local end that its peer has finished.
    fn finish_own(&mut self, id: PortId) {
        if let Some(port) = self.ports.get_mut(id)
            && let Party::Own(end) = &mut port.party
            && let Err(error) = end.finish(self.taps)
        {
            self.break_sink(id, &error);
        }
    }

    /// Reading from an end has failed.
    pub(super) fn break_source(&mut self, id: PortId, error: &io::Error) {
        match &self.ports[id].party {
            Party::Shared(_) => self.abandon(Err(failure_of(error, "cannot read standard input"))),
            Party::Own(_) => self.end(id),
            Party::Link(_) => {
                self.fail(id, error);
                self.end(id);
            }
        }
    }

    /// Gives the batch of a lane to everybody who has not got it yet.
    fn deliver(&mut self, id: PortId) {
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        let Some(batch) = port.lane.batch.take() else {
            return;
        };
        let mut recipients = std::mem::take(&mut port.lane.recipients);
        let mut has_moved = false;
        recipients.retain_mut(|(to, at)| {
            let before = *at;
            let is_done = self.hand_over(id, *to, &batch, at);
            has_moved |= is_done || *at != before;
            !is_done
        });
        if has_moved {
            self.last_moved = self.now;
        }
        let is_done = recipients.is_empty();
        if let Some(port) = self.ports.get_mut(id) {
            port.lane.recipients = recipients;
            if !is_done {
                port.lane.batch = Some(batch);
                self.stuck.insert(id);
                self.note_stall(id, has_moved);
                return;
            }
            self.stuck.remove(&id);
            port.lane.stalled = None;
            if port.lane.ended.is_some() && port.party.link().is_some() {
                self.spare.push(batch);
                return self.settle(id);
            }
            // Where there is nothing to wait for, it is asked again.
            let end = port.party.end();
            if end.source().is_none() || end.is_pending() {
                self.runnable.push_back(id);
            }
        }
        self.spare.push(batch);
    }

    /// Notes since when somebody has taken nothing of a batch.
    fn note_stall(&mut self, id: PortId, has_moved: bool) {
        let stalled = &mut self.ports[id].lane.stalled;
        if let Some(limit) = self.rules.client_timeout
            && (has_moved || stalled.is_none())
        {
            *stalled = Some(self.now);
            self.timers.insert((self.now + limit, id));
        }
    }

    /// Sends what is left of a batch to one end; returns whether that end is done with it.
    fn hand_over(&mut self, from: PortId, to: PortId, batch: &Batch, at: &mut Cursor) -> bool {
        let Some(port) = self.ports.get_mut(to) else {
            return true;
        };
        if port.failure.is_some() {
            return true;
        }
        if port.occupied.is_some_and(|lane| lane != from) {
            port.blocked.push(from);
            return false;
        }
        let result = port.party.end_mut().send(batch, at, self.taps);
        match result {
            Ok(()) if batch.is_taken(*at) => {
                if port.occupied.take().is_some() {
                    self.runnable.extend(port.blocked.drain(..));
                }
                // What it has got may be what it answers to.
                if port.party.end().source().is_none() {
                    self.runnable.push_back(to);
                }
                return true;
            }
            Err(error)
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                self.break_sink(to, &error);
                return true;
            }
            _ => {}
        }
        if *at != Cursor::default() {
            port.occupied = Some(from);
        }
        port.blocked.push(from);
        self.touched.push(to);
        false
    }

    /// Writing to an end has failed.
    pub(super) fn break_sink(&mut self, id: PortId, error: &io::Error) {
        let port = &mut self.ports[id];
        match &port.party {
            Party::Shared(end) => {
                let lost = end
                    .sink_lost()
                    .filter(|_| error.kind() == ErrorKind::BrokenPipe);
                let failure = || failure_of(error, "cannot write to standard output");
                self.abandon(Err(lost.unwrap_or_else(failure)));
            }
            // It may have more to say although it listens no more.
            Party::Own(_) => port.failure = Some(failure_of(error, "cannot write to it")),
            Party::Link(_) if port.lane.ended.is_some() => {
                self.fail(id, error);
                self.remove(id);
            }
            Party::Link(_) => self.fail(id, error),
        }
    }
}
