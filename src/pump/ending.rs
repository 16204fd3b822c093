//! How links, directions and the whole run come to an end.
//! Each direction ends on its own; a link is closed when both have, and the run is over when no link is left.

use std::io;

use super::lane::{Party, PortId};
use super::rules::{Farewell, GRACE, NOTICE, OnInputEnd};
use super::waiting::{seconds, sink_token, source_token};
use super::{Pump, failure_of};
use crate::exit::{Exit, Failure};
use crate::tap::Event;
use crate::tuple::Identity;

impl Pump<'_> {
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
        let (has_given, socket) = (input.lane.has_given, link.identity());
        let since = ended.max(self.last_moved);
        let farewell = self.rules.after_peer_end(has_given);
        if !port.lane.noticed && farewell != Farewell::Leave {
            if self.now < since + NOTICE {
                self.timers.insert((since + NOTICE, id));
                return;
            }
            let text = farewell.notice();
            self.taps.emit(&Event::Waiting { socket, text });
            self.ports[id].lane.noticed = true;
        }
        match farewell {
            Farewell::Leave => self.remove(id),
            Farewell::LeaveAfter(limit) if self.now >= since + limit => self.remove(id),
            Farewell::LeaveAfter(limit) => {
                self.timers.insert((since + limit, id));
            }
            Farewell::Stay => {}
        }
    }

    /// Does what the rules say for the end of the input, for one link.
    pub(super) fn end_input_for(&mut self, id: PortId) {
        let lane = &self.ports[id].lane;
        if lane.ended.is_some() && lane.batch.is_none() {
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
        self.remove(id);
    }

    /// Begins to leave: nothing more is sent, and what has already arrived is written out within the grace.
    pub(super) fn leave(&mut self, end: Result<Exit, Failure>) {
        self.leaving = Some((end, self.now + GRACE));
        self.runnable.extend(&self.listeners);
        for id in self.links.clone() {
            let lane = &self.ports[id].lane;
            if lane.ended.is_some() && lane.batch.is_none() {
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
        for id in [self.listeners.clone(), self.links.clone()].concat() {
            self.remove(id);
        }
    }

    /// Takes an end out of the pump; a link is let report and close, and takes its own local end with it.
    pub(super) fn remove(&mut self, id: PortId) {
        let Some(mut port) = self.ports.try_remove(id) else {
            return;
        };
        self.poller.forget(source_token(id));
        self.poller.forget(sink_token(id));
        // Its number may be given to another: nobody's bytes may be on their way to it.
        self.stuck.remove(&id);
        for &lane in &self.stuck {
            let recipients = &mut self.ports[lane].lane.recipients;
            recipients.retain(|&(recipient, _)| recipient != id);
            self.runnable.push_back(lane);
        }
        for (to, _) in port.lane.recipients {
            if let Some(end) = self
                .ports
                .get_mut(to)
                .filter(|end| end.occupied == Some(id))
            {
                end.occupied = None;
                self.runnable.extend(end.blocked.drain(..));
            }
        }
        self.runnable.extend(port.blocked.drain(..));
        self.spare.extend(port.lane.batch);
        if let Party::Link(link) = &mut port.party {
            let closed = link.close(self.taps);
            self.verdict = port.failure.map_or(closed, Err);
            self.links.retain(|&other| other != id);
            self.listeners.retain(|&other| other != id);
            // There may be room for another one.
            self.runnable.extend(&self.listeners);
            if self
                .ports
                .get(port.fed_by)
                .is_some_and(|end| matches!(end.party, Party::Own(_)))
            {
                self.remove(port.fed_by);
            }
        }
    }

    /// Gives up the links that have taken nothing of a batch for too long.
    pub(super) fn evict(&mut self, id: PortId) {
        let Some(limit) = self.rules.client_timeout else {
            return;
        };
        let Some(lane) = self.ports.get(id).map(|port| &port.lane) else {
            return;
        };
        if lane.stalled.is_none_or(|since| self.now < since + limit) {
            return;
        }
        for (to, _) in lane.recipients.clone() {
            let Some(link) = self.ports.get(to).and_then(|port| port.party.link()) else {
                continue;
            };
            let name = link.identity();
            let text = format!(
                "{name}: took nothing for {} (--client-timeout)",
                seconds(limit)
            );
            self.fail(to, &io::Error::other(Failure::new(Exit::TimedOut, text)));
            // What has come from it and is not yet delivered elsewhere still is.
            if self.ports[to].lane.batch.is_none() || to == id {
                self.remove(to);
            }
        }
    }

    /// Notes that a link has failed. What had arrived before is still delivered, then it is removed.
    pub(super) fn fail(&mut self, id: PortId, error: &io::Error) {
        let port = &mut self.ports[id];
        let Some(link) = port.party.link() else {
            return;
        };
        if port.failure.is_none() {
            let identity = link.identity();
            if let Identity::Pair(flow) = identity {
                let conn = link.state().conn;
                self.taps.emit(&Event::Broken { flow, conn, error });
            }
            port.failure = Some(failure_of(error, identity));
        }
        self.runnable.push_back(id);
    }
}
