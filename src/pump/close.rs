//! Ends of directions, of links and of the run.
//! Each direction ends on its own; a link is closed when both have, and the run is over when no link is left.
//!
//! The path of a link from its first end to close(2):
//!
//! | event | function |
//! |---|---|
//! | the peer has finished: `recv` returns the end | [`on_end`](Pump::on_end), then [`finish_incoming`](Pump::finish_incoming) once all is delivered |
//! | the input has ended: nothing more will be sent | [`end_input_for`](Pump::end_input_for) obeys the rules, `finish` half-closes |
//! | the peer has finished, the input has not | [`wait_for_input_end`](Pump::wait_for_input_end) obeys the rules |
//! | both have ended | [`close_once_acknowledged`](Pump::close_once_acknowledged), then [`remove`](Pump::remove) closes it |
//! | it has failed | [`fail`](Pump::fail) notes why; it is removed when what came before is delivered |

use std::time::{Duration, Instant};

use super::Pump;
use super::end::{Close, Finish, Link, Next};
use super::lane::is_temporary;
use super::node::{Load, NodeId, Outgoing, Party, Route};
use super::rules::{AfterPeerEnd, LEAVE_TIME, OnInputEnd, OnPeerEnd, WAIT_REPORT_TIME};
use crate::exit::{Exit, Failure};
use crate::tap::Event;

/// Time for which a peer may be silent before a drain ends, and time for which a drain may last.
const DRAIN_SILENCE: Duration = Duration::from_secs(1);
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Shortest and longest pause between two looks at what a peer has acknowledged.
const ACK_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// State of a lane since nothing more comes from its end.
pub(super) struct Ended {
    since: Instant,
    /// Whether a shared end has been given the end of this stream.
    is_delivered: bool,
    /// Whether the user knows what is being waited for.
    is_reported: bool,
    /// Bytes that the peer had not acknowledged when that was last asked, and the time since which there have not been fewer.
    unacknowledged: Option<(usize, Instant)>,
}

impl Ended {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            is_delivered: false,
            is_reported: false,
            unacknowledged: None,
        }
    }
}

/// Reading of a link whose bytes nobody takes any more, to give its peer time to finish.
///
/// Closed with bytes that are not read, or that come later, it would be reset (RFC 1122, 4.2.2.13), and what the peer has not read
/// yet would be lost.
pub(super) struct Drain {
    /// Time at which bytes last came.
    last_read: Instant,
    /// Time at which it ends even if bytes still come.
    until: Instant,
}

impl Drain {
    fn new(now: Instant) -> Self {
        Self {
            last_read: now,
            until: now + DRAIN_TIME,
        }
    }

    fn ends_at(&self) -> Instant {
        self.until.min(self.last_read + DRAIN_SILENCE)
    }
}

/// End of the run, as far as it is decided.
pub(super) struct Ending {
    /// The result, and the time until which arrived bytes may still be written out.
    leaving: Option<(Result<(), Failure>, Instant)>,
    /// Result of the last link that was closed.
    last_closed: Result<(), Failure>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self {
            leaving: None,
            last_closed: Ok(()),
        }
    }

    /// Returns true if the run is about to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Returns the time by which the run is over, once that is decided.
    pub(super) fn leaves_by(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|(_, until)| *until)
    }

    /// Returns the result of the run, now that no link is left.
    pub(super) fn result(self) -> Result<(), Failure> {
        let end = self.leaving.map_or(Ok(()), |(end, _)| end);
        let is_orderly = end.as_ref().map_or_else(
            |failure| matches!(failure.exit, Exit::TimedOut | Exit::Signal(_)),
            |()| true,
        );
        let is_lost = matches!(&self.last_closed, Err(failure) if failure.exit == Exit::DataLost);
        // A loss counts as well where a limit or a signal was the way to end.
        if end.is_ok() || is_lost && is_orderly {
            self.last_closed
        } else {
            end
        }
    }
}

impl Pump<'_> {
    /// Handles [`Arrival::End`](super::end::Arrival::End): nothing more will come from this end.
    pub(super) fn on_end(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        node.lane.end(self.clock.now);
        match (node.route, node.party.link()) {
            (_, Some(_)) if node.lane.is_waiting() => {}
            (_, Some(_)) => self.finish_incoming(id),
            (Route::Partner, None) => {
                let link = node.partner;
                self.end_input_for(link);
                self.drain_partner(id);
            }
            (Route::Links | Route::Others, None) => {
                for link in self.nodes.links.clone() {
                    self.end_input_for(link);
                }
            }
        }
    }

    /// Handles [`Arrival::Enough`](super::end::Arrival::Enough): an end wants nothing more. If it is shared, the run is over.
    pub(super) fn on_enough(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        if matches!(node.party, Party::Shared(_)) {
            return self.leave(Ok(()));
        }
        node.has_enough = true;
        self.on_end(id);
    }

    /// Goes on with a link from which nothing more will come, now that all that came is delivered.
    pub(super) fn finish_incoming(&mut self, id: NodeId) {
        let Some(link) = self.nodes[id].party.link().map(Link::identity) else {
            return;
        };
        let ended = self.nodes[id].lane.end(self.clock.now);
        let is_delivered = std::mem::replace(&mut ended.is_delivered, true);
        let to = self.nodes[id].partner;
        let is_shared = (self.nodes.get(to)).is_some_and(|to| matches!(to.party, Party::Shared(_)));
        if is_shared && !is_delivered {
            // A shared end may hold the beginning of a line, or an open file, of this stream.
            self.deliver_to(&[to], id, Load::End(link));
        } else {
            self.close_or_wait(id);
        }
    }

    /// Closes a link whose incoming direction has ended if the outgoing one has as well, or waits for that.
    fn close_or_wait(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let partner = node.partner;
        let is_failed = node.failure.is_some();
        let is_relayed = partner != id && self.nodes.link_mut(partner).is_some();
        let is_alone = is_relayed || self.nodes.is_own(partner);
        if is_relayed && !is_failed {
            self.end_input_for(partner);
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        // What has come may still be answered by a partner of its own.
        if node.has_enough && !is_alone {
            self.remove(id);
        } else if is_failed || self.ending.is_leaving() || self.nodes.has_ended(partner) {
            self.close_once_acknowledged(id);
        } else if !is_relayed {
            if self.nodes.is_own(partner) {
                self.finish(partner);
            }
            self.wait_for_input_end(id);
        }
    }

    /// Looks at a link whose peer has finished while the input is still open: reports what is waited for, or closes it.
    pub(super) fn wait_for_input_end(&mut self, id: NodeId) {
        if self.ending.is_leaving() {
            return;
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let Some(input) = self.nodes.get(node.partner) else {
            return;
        };
        let (Some(link), Some(ended), None) =
            (node.party.link(), &node.lane.ended, &input.lane.ended)
        else {
            return;
        };
        // A partner of its own knows that the peer has finished, and takes the time it needs.
        let is_shared = matches!(input.party, Party::Shared(_));
        if !is_shared && self.rules.on_peer_end != OnPeerEnd::Quit {
            return;
        }
        let after = self.rules.after_peer_end(input.lane.has_given);
        let since = ended.since;
        if !ended.is_reported && after != AfterPeerEnd::Leave {
            let due = since.max(self.clock.last_moved) + WAIT_REPORT_TIME;
            if self.clock.now < due {
                return self.schedule.run_at(id, due);
            }
            let text = self.rules.words.waiting(after);
            let socket = &link.identity();
            self.taps.emit(&Event::Waiting { socket, text });
            self.nodes[id].lane.end(self.clock.now).is_reported = true;
        }
        match after {
            AfterPeerEnd::Leave => self.remove(id),
            AfterPeerEnd::LeaveAfter(limit) if self.clock.now >= since + limit => self.remove(id),
            AfterPeerEnd::LeaveAfter(limit) => self.schedule.run_at(id, since + limit),
            AfterPeerEnd::Stay => {}
        }
    }

    /// Obeys the rules at the end of the input, for one link.
    pub(super) fn end_input_for(&mut self, id: NodeId) {
        let Some(lane) = self.nodes.get(id).map(|node| &node.lane) else {
            return;
        };
        if lane.ended.is_some() && !lane.is_waiting() {
            return self.close_once_acknowledged(id);
        }
        match self.rules.on_input_end {
            OnInputEnd::Keep | OnInputEnd::FinishAfterPeer => {}
            OnInputEnd::Finish => self.finish(id),
            OnInputEnd::Quit => {
                self.finish(id);
                self.leave(Ok(()));
            }
        }
    }

    /// Ends the direction towards an end: nothing more will be sent to it.
    fn finish(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.outgoing != Outgoing::Open {
            return;
        }
        node.outgoing = Outgoing::Finished;
        // It may close the descriptor.
        self.watch.forget_sink(id);
        match node.party.end_mut().finish(Finish::All, self.taps) {
            Ok(Next::Continue) => {}
            Ok(Next::Stop) => self.on_enough(id),
            Err(error) if is_temporary(&error) => node.outgoing = Outgoing::Finishing,
            Err(error) => self.break_sink(id, &error),
        }
        // This may have been all that it waited for, or it has a time of its own now.
        self.schedule.run(id);
    }

    /// Asks an end again that could not finish before.
    pub(super) fn retry_finish(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id)
            && node.outgoing == Outgoing::Finishing
        {
            node.outgoing = Outgoing::Open;
            self.finish(id);
            // Nothing has changed if it could not: the loop waits for what the end waits for.
            self.schedule.touch(id);
        }
    }

    /// Closes a link of which both directions have ended, as soon as its peer has acknowledged everything.
    pub(super) fn close_once_acknowledged(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        // Otherwise close(2) sends the FIN.
        if self.rules.on_input_end == OnInputEnd::Finish
            && node.failure.is_none()
            && node.close == Close::Orderly
        {
            self.finish(id);
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.outgoing != Outgoing::Finishing && !self.awaits_acknowledgement(id) {
            self.remove(id);
        }
    }

    /// Returns true if a link is kept open because what was sent may still be lost: after close(2) no error would be reported.
    fn awaits_acknowledgement(&mut self, id: NodeId) -> bool {
        let is_orderly = matches!(&self.ending.leaving, None | Some((Ok(()), _)));
        let node = &mut self.nodes[id];
        let is_done = node.outgoing == Outgoing::Finished || node.route != Route::Others;
        if !is_orderly || node.failure.is_some() || !is_done {
            return false;
        }
        match node.party.end_mut().health() {
            Ok(0) => return false,
            Ok(left) => self.await_acknowledgement(id, left),
            Err(error) => self.fail(id, &error),
        }
        true
    }

    /// Looks again after a while: no descriptor becomes ready when the last byte is acknowledged.
    fn await_acknowledgement(&mut self, id: NodeId, left: usize) {
        let now = self.clock.now;
        let node = &mut self.nodes[id];
        let ended = node.lane.end(now);
        let since = match ended.unacknowledged {
            Some((before, since)) if before <= left => since,
            _ => {
                ended.unacknowledged = Some((left, now));
                now
            }
        };
        let silence = now - since;
        if let Some(limit) = self.rules.client_timeout
            && silence >= limit
        {
            return self.fail_stalled(id, limit);
        }
        if silence >= WAIT_REPORT_TIME
            && let Some(link) = node.party.link()
            && !std::mem::replace(&mut ended.is_reported, true)
        {
            let text = "the peer has not acknowledged all that was sent: waiting until it does";
            self.taps.emit(&Event::Waiting {
                socket: &link.identity(),
                text: text.to_owned(),
            });
        }
        let [shortest, longest] = ACK_PAUSES;
        let pause = (silence / 8).clamp(shortest, longest);
        self.schedule.run_at(id, now + pause);
    }

    /// Begins to drain a link whose own local end neither gives nor takes any more.
    pub(super) fn drain_partner(&mut self, own: NodeId) {
        let Some(node) = self.nodes.get(own) else {
            return;
        };
        if node.lane.ended.is_none() || node.failure.is_none() {
            return;
        }
        let (link, now) = (node.partner, self.clock.now);
        if link != own
            && let Some(node) = self.nodes.get_mut(link)
        {
            let drain = &mut node.lane.drain;
            drain.get_or_insert_with(|| Box::new(Drain::new(now)));
            self.schedule.run(link);
        }
    }

    /// Goes on with a link that is drained, whose bytes have just been dropped.
    pub(super) fn drain(&mut self, id: NodeId) {
        let now = self.clock.now;
        if let Some(drain) = &mut self.nodes[id].lane.drain {
            drain.last_read = now;
        }
        self.schedule.touch(id);
        self.check_drain(id);
    }

    /// Ends the drain of a link once it has lasted long enough.
    pub(super) fn check_drain(&mut self, id: NodeId) {
        let Some(drain) = &self.nodes[id].lane.drain else {
            return;
        };
        let end = drain.ends_at();
        if self.clock.now < end {
            self.schedule.run_at(id, end);
        } else {
            self.on_enough(id);
        }
    }

    /// Begins to leave: nothing more is sent, and what has already arrived is written out, within [`LEAVE_TIME`].
    pub(super) fn leave(&mut self, end: Result<(), Failure>) {
        if self.ending.is_leaving() {
            return;
        }
        self.ending.leaving = Some((end, self.clock.now + LEAVE_TIME));
        for &listener in &self.nodes.listeners {
            self.schedule.run(listener);
        }
        for id in self.nodes.links.clone() {
            let Some(node) = self.nodes.get(id) else {
                continue;
            };
            if node.lane.ended.is_some() && !node.lane.is_waiting() {
                self.close_once_acknowledged(id);
            } else {
                self.schedule.run(id);
            }
        }
    }

    /// Leaves at once, and drops what has arrived: it cannot be written.
    pub(super) fn abandon(&mut self, end: Result<(), Failure>) {
        self.ending.leaving = Some((end, self.clock.now));
        self.close_all();
    }

    pub(super) fn close_all(&mut self) {
        for (_, node) in &mut self.nodes.slab {
            (node.queue, node.lane.in_flight) = (None, None);
        }
        let listeners = std::mem::take(&mut self.nodes.listeners);
        for id in listeners
            .into_iter()
            .chain(std::mem::take(&mut self.nodes.links))
        {
            self.remove(id);
        }
    }

    /// Takes a node out of the pump. A link reports that it is closed, and takes its own local end with it.
    pub(super) fn remove(&mut self, id: NodeId) {
        self.release_queue(id);
        let Some(mut node) = self.nodes.slab.try_remove(id) else {
            return;
        };
        self.watch.forget(id);
        self.schedule.forget(id);
        if node.lane.is_waiting() {
            self.leave_all_queues(id);
        }
        let Party::Link(link) = &mut node.party else {
            return;
        };
        let closed = link.close(node.close, self.taps);
        let is_failed = node.failure.is_some();
        let ended = node.failure.map_or(closed, |failure| Err(*failure));
        // A listener that has done its work knows nothing of how its connections ended, which may be before it closes.
        if ended.is_err() || !self.nodes.listeners.contains(&id) {
            self.ending.last_closed = ended;
        }
        self.nodes.unlist(id);
        self.wake_listeners();
        if self.nodes.is_own(node.partner) {
            self.remove(node.partner);
        } else if node.partner != id && self.nodes.link_mut(node.partner).is_some() {
            self.end_relay(node.partner, is_failed);
        }
    }

    /// Ends the other link of a pair of which one is closed. After a failure its peer is reset, once it has acknowledged what came
    /// before.
    fn end_relay(&mut self, id: NodeId, is_failed: bool) {
        let node = &mut self.nodes[id];
        node.partner = id;
        if is_failed {
            node.close = Close::Reset;
        }
        if is_failed || node.lane.ended.is_none() {
            node.lane.end(self.clock.now);
            self.close_once_acknowledged(id);
        }
    }

    /// Lets the listeners look again that accept no more, or measure the time without clients.
    fn wake_listeners(&mut self) {
        for &listener in &self.nodes.listeners {
            let recv = self.nodes[listener].readiness().recv;
            if recv.fd().is_none() || recv.until().is_some() {
                self.schedule.run(listener);
            }
        }
    }
}
