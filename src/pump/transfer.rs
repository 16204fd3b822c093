//! One turn of a lane: fetch a batch and offer it to everybody whom it concerns, or let the kernel do both unseen.
//! Each turn is short and never blocks; whatever stops it is written down as state, and the loop waits for exactly that.

use std::io::{self, ErrorKind};
use std::time::Instant;

use super::end::Arrival;
use super::lane::{Party, Port, PortId, Route, Side, UnderWay};
use super::{Pump, failure_of};
use crate::batch::{Batch, Cursor};

/// How many links one turn takes in before others have theirs.
const LINKS: usize = 64;

/// How many unused batches are kept.
const SPARE: usize = 64;

impl Pump<'_> {
    /// Lets the lane that begins at `id` go on, if it waits for nothing but its source.
    pub(super) fn turn(&mut self, id: PortId) {
        let Some(port) = self.ports.get(id) else {
            return;
        };
        if port.failure.is_some() {
            self.let_go(id);
        }
        if !self.ports[id].lane.is_waiting() {
            self.go_on(id, Side::Source);
        }
        // Where nothing tells when it takes more, it may be now.
        if self.ports.get(id).is_some_and(Port::takes_unasked) {
            self.serve(id);
        }
    }

    /// Moves what one batch holds; `ready` is the side that was waited for.
    pub(super) fn go_on(&mut self, id: PortId, ready: Side) {
        if self.ports[id].lane.ended.is_some() {
            return self.wind_up(id);
        }
        if !self.has_audience(id) {
            return;
        }
        if let Route::To(to) | Route::Others(to) = self.ports[id].route
            && self.is_busy(to)
        {
            // Nothing is fetched that could only lie about: memory does not grow with the number of lanes that wait.
            return self.park(id, to);
        }
        if self.pass(id, ready) {
            return;
        }
        if let Some(batch) = self.fetch(id) {
            self.last_moved = self.now;
            self.ports[id].lane.last = Some(batch.len());
            self.deliver(id, batch);
        }
    }

    /// Asks an end for bytes.
    fn fetch(&mut self, id: PortId) -> Option<Batch> {
        let mut batch = self.spare_batch();
        for _ in 0..LINKS {
            let end = self.ports[id].party.end_mut();
            match end.recv(&mut batch, self.taps) {
                Ok(Arrival::Data) => return Some(batch),
                Ok(Arrival::Link(link)) => {
                    self.join(link);
                    continue;
                }
                Ok(Arrival::Nothing(time)) => self.rest(id, time),
                Ok(Arrival::End) => self.end(id),
                Ok(Arrival::Enough) => self.suffice(id),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.rest(id, None),
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

    /// Keeps a batch for the next one who needs it.
    pub(super) fn keep(&mut self, batch: Batch) {
        if self.spare.len() < SPARE {
            self.spare.push(batch);
        }
    }

    /// Offers a batch to everybody whom it concerns.
    pub(super) fn deliver(&mut self, id: PortId, batch: Batch) {
        let mut recipients = std::mem::take(&mut self.recipients);
        recipients.clear();
        match self.ports[id].route {
            Route::To(one) => recipients.push(one),
            Route::Links => self.choose_links(&mut recipients),
            Route::Others(local) => {
                recipients.push(local);
                recipients.extend(self.open_links().filter(|&link| link != id));
            }
        }
        self.deliver_to(&recipients, id, batch);
        self.recipients = recipients;
    }

    /// Offers a batch to `recipients`. Those that do not take all of it now get the rest when they can.
    pub(super) fn deliver_to(&mut self, recipients: &[PortId], id: PortId, batch: Batch) {
        let offers = recipients.iter();
        let awaited = offers.filter(|&&to| !self.offer(id, to, &batch)).count();
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        if awaited == 0 {
            return self.complete(id, batch);
        }
        port.lane.under_way = Some(Box::new(UnderWay { batch, awaited }));
        self.touched.push(id);
    }

    /// Offers a batch to one end; returns whether that end is done with it.
    fn offer(&mut self, from: PortId, to: PortId, batch: &Batch) -> bool {
        let mut at = Cursor::default();
        if self.is_busy(to) {
            self.line(to).push_back((from, at));
            return false;
        }
        let is_done = self.hand_over(to, batch, &mut at);
        if !is_done {
            self.line(to).push_front((from, at));
        }
        is_done
    }

    /// Sends what is left of a batch to one end; returns whether that end is done with it.
    pub(super) fn hand_over(&mut self, to: PortId, batch: &Batch, at: &mut Cursor) -> bool {
        let Some(port) = self.ports.get_mut(to) else {
            return true;
        };
        if port.failure.is_some() {
            return true;
        }
        let before = *at;
        let result = port.party.end_mut().send(batch, at, self.taps);
        // What it has got may be what it answers to, and only then take more.
        if *at != before && port.gives_unasked() {
            self.runnable.push_back(to);
        }
        match result {
            Ok(()) if batch.is_taken(*at) => {
                if port.party.end().is_done() {
                    self.suffice(to);
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

    /// Everybody has got the batch of a lane.
    pub(super) fn complete(&mut self, id: PortId, batch: Batch) {
        self.keep(batch);
        self.touched.push(id);
        // What failed at the other end may have ended everything.
        let Some(port) = self.ports.get(id) else {
            return;
        };
        if port.lane.ended.is_some() {
            self.wind_up(id);
        } else if port.gives_unasked() {
            self.runnable.push_back(id);
        }
    }

    /// An end has nothing for now, at the latest until `time`.
    fn rest(&mut self, id: PortId, time: Option<Instant>) {
        let port = &mut self.ports[id];
        let is_link = port.party.link().is_some();
        if is_link && (self.leaving.is_some() || port.failure.is_some()) {
            return self.end(id);
        }
        if let Some(time) = time {
            self.set_alarm(id, time);
        }
    }

    /// Reading from an end has failed.
    pub(super) fn break_source(&mut self, id: PortId, error: &io::Error) {
        match &self.ports[id].party {
            Party::Shared(_) => self.abandon(Err(failure_of(error, "cannot read standard input"))),
            Party::Own(_) => {
                if let Route::To(link) = self.ports[id].route {
                    self.fail(link, error);
                }
                self.end(id);
            }
            Party::Link(link) if self.listeners.contains(&id) => {
                let failure = failure_of(error, link.identity());
                self.remove(id);
                self.leave(Err(failure));
            }
            Party::Link(_) => {
                self.fail(id, error);
                self.end(id);
            }
        }
    }

    /// Writing to an end has failed. What had arrived from it before is still delivered.
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
            Party::Own(_) => {
                port.failure = Some(Box::new(failure_of(error, "cannot write to it")));
                self.runnable.push_back(id);
                self.release_link_of(id);
            }
            Party::Link(_) => self.fail(id, error),
        }
    }
}
