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

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Pump;
use super::end::{Close, Finish, Link, Next};
use super::lane::is_temporary;
use super::node::{Load, NodeId, Outgoing, Party, Route};
use super::rules::{
    AfterPeerEnd, LEAVE_TIME, MUTE_TIME, OnInputEnd, OnPeerEnd, SILENT_TIME, WAIT_REPORT_TIME,
};
use crate::exit::{Exit, Failure};
use crate::tap::{Event, FailedCall};

/// State of a lane since nothing more comes from its end.
pub(super) struct Ended {
    since: Instant,
    /// True once a shared end has been given the end of this stream.
    is_delivered: bool,
    /// True once the user knows what is being waited for.
    pub(super) is_reported: bool,
    /// True once the peer has ended it, so that nothing is left to be read.
    pub(super) is_last: bool,
    /// Bytes that the peer had not acknowledged when that was last asked, and the time since which there have not been fewer.
    pub(super) unacknowledged: Option<(usize, Instant)>,
}

impl Ended {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            is_delivered: false,
            is_reported: false,
            is_last: false,
            unacknowledged: None,
        }
    }
}

/// End of the run, as far as it is decided.
pub(super) struct Ending {
    /// The result, and the time until which arrived bytes may still be read, unless that is over.
    leaving: Option<(Result<(), Failure>, Option<Instant>)>,
    /// Bytes that had arrived over a link when it was decided, and are not read yet.
    unread: BTreeMap<NodeId, usize>,
    /// Time at which the run begins to leave, since the end of the input.
    pub(super) quits_at: Option<Instant>,
    /// Result of the last link that was closed.
    last_closed: Result<(), Failure>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self {
            leaving: None,
            unread: BTreeMap::new(),
            quits_at: None,
            last_closed: Ok(()),
        }
    }

    /// Returns true if the run is about to end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Returns true unless the run is about to end by a failure, a limit or a signal.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(&self.leaving, None | Some((Ok(()), _)))
    }

    /// Returns the time by which the run is over, once that is decided.
    pub(super) fn leaves_by(&self) -> Option<Instant> {
        self.leaving.as_ref().and_then(|(_, until)| *until)
    }

    /// Counts bytes that are read over a link; returns true if they are the last that had arrived in time.
    pub(super) fn has_read_all(&mut self, id: NodeId, len: usize) -> bool {
        let Some(left) = self.unread.get_mut(&id) else {
            return false;
        };
        *left = left.saturating_sub(len);
        *left == 0 && self.unread.remove(&id).is_some()
    }

    /// Drops the failure by a limit: what was waited for had come before it.
    fn meet(&mut self) {
        if let Some((end, _)) = &mut self.leaving
            && matches!(end, Err(failure) if failure.exit == Exit::TimedOut)
        {
            *end = Ok(());
        }
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

    /// Handles the same where the peer has ended the stream.
    pub(super) fn on_last(&mut self, id: NodeId) {
        let lane = &mut self.nodes[id].lane;
        lane.drain = None;
        lane.end(self.clock.now).is_last = true;
        self.on_end(id);
    }

    /// Handles [`Arrival::Enough`](super::end::Arrival::Enough): an end wants nothing more. If it is shared, the run is over.
    pub(super) fn on_enough(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        if matches!(node.party, Party::Shared(_)) {
            self.ending.meet();
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
        // What broke the link may have come after its end.
        let is_last = !is_failed || node.lane.ended.as_ref().is_some_and(|ended| ended.is_last);
        let is_relayed = self.nodes.is_relayed(id);
        let is_alone = is_relayed || self.nodes.is_own(partner);
        if is_relayed && is_last && !self.ending.is_leaving() {
            self.end_input_for(partner);
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        // What has come may still be answered by a partner of its own.
        let has_enough = node.has_enough && !is_alone;
        let is_over = is_failed || has_enough || self.ending.is_leaving();
        if is_over || self.nodes.has_ended(partner) {
            self.close_once_acknowledged(id);
        } else if !is_relayed {
            if self.nodes.is_own(partner) {
                self.finish(partner);
            } else {
                self.finish_shared(partner);
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
        let (Some(link), Some(ended), None, false) = (
            node.party.link(),
            &node.lane.ended,
            &input.lane.ended,
            node.has_enough,
        ) else {
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
            OnInputEnd::FinishWhenSilent => self.finish_when_silent(id),
            OnInputEnd::Finish => self.finish(id),
            OnInputEnd::Quit(after) => {
                self.finish(id);
                self.leave_after(after);
            }
        }
    }

    /// Ends the direction towards a link that gets no input once its peer is silent, where the rules say so.
    pub(super) fn finish_when_silent(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let is_due = self.rules.on_input_end == OnInputEnd::FinishWhenSilent
            && node.party.link().is_some()
            && node.outgoing == Outgoing::Open
            && self.nodes.has_ended(node.partner);
        if !is_due {
            return;
        }
        let input = self.nodes.get(node.partner);
        let since = input.and_then(|input| input.lane.ended.as_ref().map(|ended| ended.since));
        let last = node.silence.since();
        let end = match since {
            // Nothing is sent, so what has moved has come.
            _ if node.lane.has_given => last + SILENT_TIME,
            Some(since) => since.max(last) + MUTE_TIME,
            None => self.clock.now,
        };
        if self.clock.now < end {
            self.schedule.run_at(id, end);
        } else {
            self.finish(id);
        }
    }

    /// Ends a shared end once nothing more can come: every link has ended, and no other can come.
    fn finish_shared(&mut self, local: NodeId) {
        let has_ended = |&id: &NodeId| {
            let lane = &self.nodes[id].lane;
            lane.ended.is_some() && !lane.is_waiting()
        };
        if self.nodes.listeners.is_empty() && self.nodes.links.iter().all(has_ended) {
            self.finish(local);
        }
    }

    /// Ends the direction towards an end: nothing more will be sent to it.
    pub(super) fn finish(&mut self, id: NodeId) {
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
            Err(error) => self.break_sink(id, &error, FailedCall::Shutdown),
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

    /// Begins to leave: nothing more is sent, and what has already arrived is written out. A limit or a signal gives [`LEAVE_TIME`]
    /// for that.
    pub(super) fn leave(&mut self, end: Result<(), Failure>) {
        if self.ending.is_leaving() {
            return;
        }
        let gives_up = matches!(&end, Err(failure) if failure.exit == Exit::TimedOut);
        let is_orderly = end.is_ok();
        self.ending.quits_at = None;
        self.ending.leaving = Some((end, Some(self.clock.now + LEAVE_TIME)));
        for &listener in &self.nodes.listeners {
            self.schedule.run(listener);
        }
        for id in self.nodes.links.clone() {
            if gives_up || !is_orderly && self.is_cut(id) {
                self.reset_in_the_middle(id);
            }
            let Some(node) = self.nodes.get(id) else {
                continue;
            };
            if node.lane.ended.is_some() && !node.lane.is_waiting() {
                self.close_once_acknowledged(id);
                continue;
            }
            if is_orderly && let Some(unread) = node.party.link().and_then(unread) {
                self.ending.unread.insert(id, unread);
            }
            self.schedule.run(id);
        }
    }

    /// Begins to leave once this time has passed.
    fn leave_after(&mut self, time: Duration) {
        if time.is_zero() {
            self.leave(Ok(()));
        } else if !self.ending.is_leaving() {
            let now = self.clock.now;
            self.ending.quits_at.get_or_insert(now + time);
        }
    }

    /// Leaves at once, although peers have not acknowledged all that was sent to them.
    pub(super) fn give_up(&mut self, failure: Failure) {
        for id in self.nodes.links.clone() {
            self.reset_in_the_middle(id);
        }
        self.abandon(Err(failure));
    }

    /// Leaves at once, and drops what has arrived: it cannot be written.
    pub(super) fn abandon(&mut self, end: Result<(), Failure>) {
        self.ending.leaving = Some((end, None));
        self.close_all();
    }

    /// Ends the time for reading what has arrived. After an orderly end all that is read is written, and what was sent is
    /// acknowledged, however long that takes.
    pub(super) fn stop_leaving(&mut self) {
        let Some((Ok(()), until)) = &mut self.ending.leaving else {
            return self.close_all();
        };
        *until = None;
        for id in self.nodes.links.clone() {
            self.release_queue(id);
            if self.nodes.get(id).is_some() && !self.ending.unread.contains_key(&id) {
                self.on_end(id);
            }
        }
        for id in self.nodes.listeners.clone() {
            self.remove(id);
        }
    }

    fn close_all(&mut self) {
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
        self.ending.unread.remove(&id);
        if node.lane.is_waiting() {
            self.leave_all_queues(id);
        }
        let Party::Link(link) = &mut node.party else {
            return;
        };
        let closed = link.close(node.close, self.taps);
        let is_failed = node.failure.is_some();
        let ended = node.failure.map_or(closed, |failure| Err(*failure));
        // A listener that has done its work knows nothing of how its connections ended, which may be before it closes. A link that is
        // reset for the sake of another has not failed itself.
        let knows_less = self.nodes.listeners.contains(&id) || node.close == Close::Reset;
        let before = &self.ending.last_closed;
        let is_lost = matches!(before, Err(failure) if failure.exit == Exit::DataLost);
        if ended.is_err() || !(knows_less || is_lost) {
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

/// Returns the bytes that have arrived over a stream and are not read, if there are any.
fn unread(link: &dyn Link) -> Option<usize> {
    let is_stream = link.identity().transport().has_connections();
    let unread = link.states().first()?.unread?;
    (is_stream && unread > 0).then_some(unread)
}
