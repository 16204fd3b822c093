//! One turn of a lane: fetch a batch, deliver it to everybody, or let the kernel do both unseen.
//! Each turn is short and never blocks; whatever stops it is written down as state, and the loop waits for exactly that.

use std::io::{self, ErrorKind};

use super::end::Arrival;
use super::lane::{Bypass, Party, PortId, Side};
use super::rules::Engine;
use super::{Pump, failure_of};
use crate::batch::{Batch, Cursor};
use crate::sys::conduit::{Broken, Conduit, Halt};

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
    fn may_fetch(&self, id: PortId) -> bool {
        self.ports[id].may_give() && (id != self.local || self.is_input_wanted())
    }

    /// Puts a batch into the lane that begins at `id`, addressed to whom it concerns.
    fn load(&mut self, id: PortId, batch: Batch) {
        let mut recipients = std::mem::take(&mut self.ports[id].lane.recipients);
        recipients.clear();
        if id == self.local {
            let links = self
                .links
                .iter()
                .filter(|&&link| self.ports[link].is_open_to_send());
            recipients.extend(links.map(|&link| (link, Cursor::default())));
        } else {
            recipients.push((self.local, Cursor::default()));
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
            return self.remove(id);
        }
        // The time set before stays until it comes or is replaced: being asked too early does no harm.
        if let Some(old) = std::mem::replace(&mut port.lane.wake, time) {
            self.timers.remove(&(old, id));
        }
        self.timers.extend(time.map(|time| (time, id)));
    }

    /// An end will give nothing more.
    fn end(&mut self, id: PortId) {
        self.ports[id].lane.ended = Some(self.now);
        if id == self.local {
            for link in self.links.clone() {
                self.end_input_for(link);
            }
        } else if self.ports[self.local].lane.ended.is_some() || self.ports[id].failure.is_some() {
            self.conclude(id);
        } else {
            self.say_farewell(id);
        }
    }

    /// Reading from an end has failed.
    fn break_source(&mut self, id: PortId, error: &io::Error) {
        self.fail(id, error);
        match &self.ports[id].party {
            Party::Local(_) => self.abandon(Err(failure_of(error, "cannot read standard input"))),
            Party::Link(_) => self.remove(id),
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
        recipients.retain_mut(|(to, at)| !self.hand_over(id, *to, &batch, at));
        self.last_moved = self.now;
        let is_done = recipients.is_empty();
        if let Some(port) = self.ports.get_mut(id) {
            port.lane.recipients = recipients;
            if !is_done {
                port.lane.batch = Some(batch);
                return;
            }
            // Where there is nothing to wait for, it is asked again.
            let end = port.party.end();
            if end.source().is_none() || end.is_pending() {
                self.runnable.push_back(id);
            }
        }
        self.spare.push(batch);
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
    fn break_sink(&mut self, id: PortId, error: &io::Error) {
        let port = &self.ports[id];
        match &port.party {
            Party::Local(end) => {
                let lost = end
                    .sink_lost()
                    .filter(|_| error.kind() == ErrorKind::BrokenPipe);
                let failure = || failure_of(error, "cannot write to standard output");
                self.abandon(Err(lost.unwrap_or_else(failure)));
            }
            Party::Link(_) if port.lane.ended.is_some() => {
                self.fail(id, error);
                self.remove(id);
            }
            Party::Link(_) => self.fail(id, error),
        }
    }

    /// Lets the kernel move bytes from `id` unseen. Returns false where there is something to look at, or to copy.
    fn pass(&mut self, id: PortId, waited_for: Side) -> bool {
        if self.leaving.is_some() || self.ports[id].failure.is_some() {
            self.copy_from_now_on(id);
        }
        let Some(to) = self.only_recipient(id) else {
            return false;
        };
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
            from.lane.bypass = conduit.map_or(Bypass::Closed, Bypass::Open);
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
            from.lane.has_given = true;
            source_end.took_unseen(passed.taken, self.taps);
        }
        if source_end.is_pending() {
            self.runnable.push_back(id);
        }
        if passed.put > 0 {
            sink_end.put_unseen(passed.put, self.taps);
            self.last_moved = self.now;
        }
        self.halt(id, to, passed.halt, waited_for)
    }

    /// The end that gets all that comes from `id` unseen, if there is just one and it is free.
    fn only_recipient(&self, id: PortId) -> Option<PortId> {
        if self.rules.engine == Engine::Portable || self.taps.wants_bytes() || !self.may_fetch(id) {
            return None;
        }
        let to = match (id == self.local, self.links.as_slice()) {
            (false, _) => self.local,
            (true, &[link]) => link,
            (true, _) => return None,
        };
        let port = &self.ports[to];
        (port.is_open_to_send() && port.occupied.is_none_or(|lane| lane == id)).then_some(to)
    }

    /// Notes what stopped the kernel; returns false if the lane has to be looked at, or copied from now on.
    fn halt(&mut self, id: PortId, to: PortId, halt: Option<Halt>, waited_for: Side) -> bool {
        let side = match halt {
            None | Some(Halt::SourceEmpty) => Side::Source,
            // What was waited for is ready, or this turn would not be: so it is the other side.
            Some(Halt::Either) if waited_for == Side::Sink => Side::Source,
            Some(Halt::Either | Halt::SinkFull) => Side::Sink,
            // The end is for the link to see.
            Some(Halt::End) => return false,
            Some(Halt::Declined) => {
                self.copy_from_now_on(id);
                return false;
            }
        };
        self.ports[id].lane.waits_for = side;
        if side == Side::Sink {
            self.ports[to].blocked.push(id);
            self.touched.push(to);
        }
        true
    }

    /// Gives up moving unseen, and takes back what is already on the way.
    fn copy_from_now_on(&mut self, id: PortId) {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.clear();
        let lane = &mut self.ports[id].lane;
        if let Bypass::Open(conduit) = &mut lane.bypass {
            let len = conduit.reclaim(&mut batch);
            if len > 0 {
                batch.push_stream(len, None);
            }
        }
        lane.bypass = Bypass::Closed;
        if batch.is_empty() {
            self.spare.push(batch);
        } else {
            self.load(id, batch);
        }
    }

    /// Moving unseen has failed on one side.
    fn break_pass(&mut self, id: PortId, to: PortId, broken: Broken) {
        match broken {
            Broken::Sink(error) => self.break_sink(to, &error),
            // Only writing meets a closed pipe; anything else is the network's.
            Broken::Either(error) if error.kind() == ErrorKind::BrokenPipe || id == self.local => {
                self.break_sink(to, &error);
            }
            Broken::Source(error) | Broken::Either(error) => self.break_source(id, &error),
        }
    }
}
