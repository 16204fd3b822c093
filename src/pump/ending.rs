//! How links, directions and the whole run come to an end.
//! Each direction ends on its own; a link is closed when both have, and the run is over when no link is left.

use std::io;

use super::end::Link;
use super::lane::{Party, Port, PortId, Route};
use super::rules::{Farewell, GRACE, NOTICE, OnInputEnd, OnPeerEnd};
use super::waiting::{sink_token, source_token};
use super::{Pump, failure_of};
use crate::exit::{Exit, Failure};
use crate::tap::Event;
use crate::tuple::{FourTuple, Identity};

impl Pump<'_> {
    /// An end will give nothing more.
    pub(super) fn end(&mut self, id: PortId) {
        let port = &mut self.ports[id];
        port.lane.ended.get_or_insert(self.now);
        match (port.route, port.party.link()) {
            (_, Some(_)) if port.lane.is_waiting() => {}
            (_, Some(_)) => self.wind_up(id),
            (Route::To(link), None) => {
                self.end_input_for(link);
                self.release_link_of(id);
            }
            (Route::Links | Route::Others(_), None) => {
                for link in self.links.clone() {
                    self.end_input_for(link);
                }
            }
        }
    }

    /// An end wants nothing more: with a shared one everything is over.
    pub(super) fn suffice(&mut self, id: PortId) {
        let port = &mut self.ports[id];
        if matches!(port.party, Party::Shared(_)) {
            return self.leave(Ok(Exit::Done));
        }
        port.has_enough = true;
        self.end(id);
    }

    /// Goes on with a link from which nothing more will come, and all that came is delivered.
    pub(super) fn wind_up(&mut self, id: PortId) {
        let Some(link) = self.ports[id].party.link().map(Link::identity) else {
            return;
        };
        let is_marked = std::mem::replace(&mut self.ports[id].lane.is_marked, true);
        match (link, self.ports[id].route) {
            (Identity::Pair(flow), Route::To(to) | Route::Others(to)) if !is_marked => {
                self.mark_end(id, flow, to);
            }
            _ => self.settle(id),
        }
    }

    /// Shows a shared end, by an empty stretch, that a stream is at its end: what it holds of a begun line or an open file is over.
    fn mark_end(&mut self, id: PortId, flow: FourTuple, to: PortId) {
        let is_shared = |port: &Port| matches!(port.party, Party::Shared(_));
        if !self.ports.get(to).is_some_and(is_shared) {
            return self.settle(id);
        }
        let mut batch = self.spare_batch();
        batch.push_stream(0, Some(flow));
        self.deliver_to(&[to], id, batch);
    }

    /// Closes a link of which both directions have ended, or looks after the other one.
    fn settle(&mut self, id: PortId) {
        let port = &self.ports[id];
        let fed_by = port.fed_by;
        // What has come may still be answered by an end of its own.
        if port.has_enough && !self.is_own(fed_by) {
            self.remove(id);
        } else if port.failure.is_some() || self.leaving.is_some() || self.has_ended(fed_by) {
            self.conclude(id);
        } else {
            self.finish_own(fed_by);
            self.say_farewell(id);
        }
    }

    /// Tells a link's own local end that its peer has finished.
    fn finish_own(&mut self, id: PortId) {
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        let Party::Own(end) = &mut port.party else {
            return;
        };
        if std::mem::replace(&mut port.is_finished, true) {
            return;
        }
        // It may close the descriptor.
        self.poller.forget(sink_token(id));
        if let Err(error) = end.finish(self.taps) {
            self.break_sink(id, &error);
        }
        // This may have been all it waited for.
        self.runnable.push_back(id);
    }

    /// Lets a link go whose own local end neither gives nor takes any more.
    pub(super) fn release_link_of(&mut self, own: PortId) {
        let Some(port) = self.ports.get(own) else {
            return;
        };
        let (Some(_), Some(_), Route::To(id)) = (port.lane.ended, &port.failure, port.route) else {
            return;
        };
        if let Some(Party::Link(link)) = self.ports.get_mut(id).map(|port| &mut port.party) {
            link.release();
            self.runnable.push_back(id);
        }
    }

    /// Looks again at a link whose peer has finished while the input is open: tells what is waited for, or closes it.
    pub(super) fn say_farewell(&mut self, id: PortId) {
        let Some(port) = self.ports.get(id) else {
            return;
        };
        let Some(input) = self.ports.get(port.fed_by) else {
            return;
        };
        let (Some(link), Some(ended), None) =
            (port.party.link(), port.lane.ended, input.lane.ended)
        else {
            return;
        };
        // A local end of its own has been told that the peer has finished, and takes the time it needs.
        if matches!(input.party, Party::Own(_)) && self.rules.on_peer_end != OnPeerEnd::Quit {
            return;
        }
        let (has_given, socket) = (input.lane.last.is_some(), link.identity());
        let farewell = self.rules.after_peer_end(has_given);
        if !port.lane.noticed && farewell != Farewell::Leave {
            let due = ended.max(self.last_moved) + NOTICE;
            if self.now < due {
                return self.set_alarm(id, due);
            }
            let text = farewell.notice();
            self.taps.emit(&Event::Waiting { socket, text });
            self.ports[id].lane.noticed = true;
        }
        match farewell {
            Farewell::Leave => self.remove(id),
            Farewell::LeaveAfter(limit) if self.now >= ended + limit => self.remove(id),
            Farewell::LeaveAfter(limit) => self.set_alarm(id, ended + limit),
            Farewell::Stay => {}
        }
    }

    /// Does what the rules say for the end of the input, for one link.
    pub(super) fn end_input_for(&mut self, id: PortId) {
        let Some(lane) = self.ports.get(id).map(|port| &port.lane) else {
            return;
        };
        if lane.ended.is_some() && !lane.is_waiting() {
            return self.conclude(id);
        }
        match self.rules.on_input_end {
            OnInputEnd::Keep | OnInputEnd::FinishAfterPeer => {}
            OnInputEnd::Finish => self.finish(id),
            OnInputEnd::Quit => {
                self.finish(id);
                self.leave(Ok(Exit::Done));
            }
        }
    }

    /// Tells a link that nothing more will be sent.
    fn finish(&mut self, id: PortId) {
        let port = &mut self.ports[id];
        if std::mem::replace(&mut port.is_finished, true) {
            return;
        }
        if let Err(error) = port.party.end_mut().finish(self.taps) {
            self.fail(id, &error);
        }
        // From now on it may have a time of its own.
        self.runnable.push_back(id);
    }

    /// Closes a link of which both directions have ended.
    pub(super) fn conclude(&mut self, id: PortId) {
        // Otherwise closing says all there is to say.
        if self.rules.on_input_end == OnInputEnd::Finish && self.ports[id].failure.is_none() {
            self.finish(id);
        }
        if !self.awaits_receipt(id) {
            self.remove(id);
        }
    }

    /// Begins to leave: nothing more is sent, and what has already arrived is written out within the grace.
    pub(super) fn leave(&mut self, end: Result<Exit, Failure>) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some((end, self.now + GRACE));
        self.runnable.extend(&self.listeners);
        for id in self.links.clone() {
            let lane = &self.ports[id].lane;
            if lane.ended.is_some() && !lane.is_waiting() {
                self.conclude(id);
            } else {
                self.runnable.push_back(id);
            }
        }
    }

    /// Leaves at once: there is no way to write out anything.
    pub(super) fn abandon(&mut self, end: Result<Exit, Failure>) {
        self.leaving = Some((end, self.now));
        self.close_all();
    }

    pub(super) fn close_all(&mut self) {
        for (_, port) in &mut self.ports {
            (port.queue, port.lane.under_way) = (None, None);
        }
        for id in std::mem::take(&mut self.listeners) {
            self.remove(id);
        }
        for id in std::mem::take(&mut self.links) {
            self.remove(id);
        }
    }

    /// Takes an end out of the pump; a link is let report and close, and takes its own local end with it.
    pub(super) fn remove(&mut self, id: PortId) {
        self.let_go(id);
        let Some(mut port) = self.ports.try_remove(id) else {
            return;
        };
        self.poller.forget(source_token(id));
        self.poller.forget(sink_token(id));
        if let Some(time) = port.alarm {
            self.timers.remove(&(time, id));
        }
        if port.lane.is_waiting() {
            self.leave_all_lines(id);
        }
        if let Party::Link(link) = &mut port.party {
            let closed = link.close(self.taps);
            let ended = port.failure.map_or(closed, |failure| Err(*failure));
            // A listener that has done its work knows nothing of how its connections ended, which may be before it closes.
            if ended.is_err() || !self.listeners.contains(&id) {
                self.verdict = ended;
            }
            self.part_from(id);
            if self.is_own(port.fed_by) {
                self.remove(port.fed_by);
            }
        }
    }

    /// Strikes a link off the lists.
    fn part_from(&mut self, id: PortId) {
        for list in [&mut self.links, &mut self.listeners] {
            if let Some(at) = list.iter().position(|&other| other == id) {
                list.remove(at);
            }
        }
        // One that takes in no more, or counts the time, may have to do with who is there.
        for &listener in &self.listeners {
            let port = &self.ports[listener];
            if port.alarm.is_some() || port.party.end().source().is_none() {
                self.runnable.push_back(listener);
            }
        }
    }

    fn is_own(&self, id: PortId) -> bool {
        let port = self.ports.get(id);
        port.is_some_and(|port| matches!(port.party, Party::Own(_)))
    }

    /// Notes that a link has failed of which nothing more is read.
    pub(super) fn break_silently(&mut self, id: PortId) {
        if let Some(link) = self.ports[id].party.link() {
            let error = link.fault();
            self.fail(id, &error.unwrap_or(io::ErrorKind::BrokenPipe.into()));
        }
    }

    /// Notes that a link has failed. What had arrived before is still delivered, then it is removed.
    pub(super) fn fail(&mut self, id: PortId, error: &io::Error) {
        let port = &mut self.ports[id];
        let Some(link) = port.party.link() else {
            return;
        };
        if port.failure.is_none() {
            let meaning = link.meaning(error);
            let error = meaning.as_ref().unwrap_or(error);
            let identity = link.identity();
            if let Identity::Pair(flow) = identity {
                let conn = link.state().conn;
                self.taps.emit(&Event::Broken { flow, conn, error });
            }
            port.failure = Some(Box::new(failure_of(error, identity)));
        }
        self.runnable.push_back(id);
    }
}
