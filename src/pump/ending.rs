//! How directions, links and the whole run come to an end.
//! Each direction ends on its own; a link is closed when both have, and the run is over when no link is left.
//!
//! The way of a link, step by step, from what it reports to its end:
//!
//! | what happens | where |
//! |---|---|
//! | the peer has finished: `recv` says so | [`on_end`](Pump::on_end), then [`finish_incoming`](Pump::finish_incoming) once all is delivered |
//! | the input has ended: nothing more will be sent | [`end_input_for`](Pump::end_input_for) does what `--on-stdin-eof` says, `finish` half-closes |
//! | the peer has finished, the input has not | [`wait_for_input_end`](Pump::wait_for_input_end) does what `--on-peer-eof` says |
//! | both have ended | [`close_once_acknowledged`](Pump::close_once_acknowledged), then [`remove`](Pump::remove) closes it |
//! | it has failed | [`fail`](Pump::fail) notes why, and it is removed when what came before is delivered |

use std::io;

use super::Pump;
use super::end::Link;
use super::node::{Amount, Node, NodeId, Party, Route};
use super::rules::{AfterPeerEnd, GRACE, NOTICE, OnInputEnd, OnPeerEnd};
use super::waiting::{sink_token, source_token};
use crate::exit::Failure;
use crate::flow::{Flow, Identity};
use crate::tap::{Conversation, Event};

impl Pump<'_> {
    /// Handles [`Arrival::End`](super::end::Arrival::End): nothing more will come from this end.
    pub(super) fn on_end(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        node.lane.end(self.now);
        match (node.route, node.party.link()) {
            (_, Some(_)) if node.lane.is_waiting() => {}
            (_, Some(_)) => self.finish_incoming(id),
            (Route::Partner, None) => {
                let link = node.partner;
                self.end_input_for(link);
                self.let_link_linger(id);
            }
            (Route::Links | Route::Others, None) => {
                for link in self.links.clone() {
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
        let ended = self.nodes[id].lane.end(self.now);
        let is_marked = std::mem::replace(&mut ended.is_marked, true);
        match link {
            Identity::Pair(flow) if !is_marked => self.show_stream_end(id, flow),
            _ => self.close_or_wait(id),
        }
    }

    /// Shows a shared end that one stream has ended, by an empty run: it may hold the beginning of a line, or an open file, of it.
    fn show_stream_end(&mut self, id: NodeId, flow: Flow) {
        let to = self.nodes[id].partner;
        let is_shared = |node: &Node| matches!(node.party, Party::Shared(_));
        if !self.nodes.get(to).is_some_and(is_shared) {
            return self.close_or_wait(id);
        }
        let mut batch = self.spare_batch();
        batch.push_stream(0, Some(flow));
        self.deliver_to(&[to], id, batch);
    }

    /// Closes a link whose incoming direction has ended if the outgoing one has as well, or waits for that.
    fn close_or_wait(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let partner = node.partner;
        // What has come may still be answered by an end of its own.
        if node.has_enough && !self.is_own(partner) {
            self.remove(id);
        } else if node.failure.is_some() || self.leaving.is_some() || self.has_ended(partner) {
            self.close_once_acknowledged(id);
        } else {
            self.finish_own(partner);
            self.wait_for_input_end(id);
        }
    }

    /// Tells a link's own local end that its peer has finished.
    fn finish_own(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Party::Own(end) = &mut node.party else {
            return;
        };
        if std::mem::replace(&mut node.is_finished, true) {
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

    /// Lets a link linger whose own local end neither gives nor takes any more.
    pub(super) fn let_link_linger(&mut self, own: NodeId) {
        let Some(node) = self.nodes.get(own) else {
            return;
        };
        if node.lane.ended.is_none() || node.failure.is_none() {
            return;
        }
        let id = node.partner;
        if let Some(Party::Link(link)) = self.nodes.get_mut(id).map(|node| &mut node.party) {
            link.linger();
            self.runnable.push_back(id);
        }
    }

    /// Looks at a link whose peer has finished while the input is still open: says what is waited for, or closes it.
    pub(super) fn wait_for_input_end(&mut self, id: NodeId) {
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
        // A local end of its own has been told that the peer has finished, and takes the time it needs.
        if matches!(input.party, Party::Own(_)) && self.rules.on_peer_end != OnPeerEnd::Quit {
            return;
        }
        let (has_given, socket) = (input.lane.last != Amount::Nothing, link.identity());
        let after = self.rules.after_peer_end(has_given);
        let since = ended.since;
        if !ended.is_told && after != AfterPeerEnd::Leave {
            let due = since.max(self.last_moved) + NOTICE;
            if self.now < due {
                return self.timers.set(id, due);
            }
            let text = after.notice(self.rules.peer_end_advice);
            self.taps.emit(&Event::Waiting {
                socket: &socket,
                text,
            });
            self.nodes[id].lane.end(self.now).is_told = true;
        }
        match after {
            AfterPeerEnd::Leave => self.remove(id),
            AfterPeerEnd::LeaveAfter(limit) if self.now >= since + limit => self.remove(id),
            AfterPeerEnd::LeaveAfter(limit) => self.timers.set(id, since + limit),
            AfterPeerEnd::Stay => {}
        }
    }

    /// Does what the rules say at the end of the input, for one link.
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

    /// Tells a link that nothing more will be sent.
    fn finish(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        if std::mem::replace(&mut node.is_finished, true) {
            return;
        }
        if let Err(error) = node.party.end_mut().finish(self.taps) {
            self.fail(id, &error);
        }
        // From now on it may have a time of its own.
        self.runnable.push_back(id);
    }

    /// Closes a link of which both directions have ended, as soon as its peer has acknowledged everything.
    pub(super) fn close_once_acknowledged(&mut self, id: NodeId) {
        // Otherwise closing says all there is to say.
        if self.rules.on_input_end == OnInputEnd::Finish && self.nodes[id].failure.is_none() {
            self.finish(id);
        }
        if !self.awaits_acknowledgement(id) {
            self.remove(id);
        }
    }

    /// Begins to leave: nothing more is sent, and what has already arrived is written out, within [`GRACE`].
    pub(super) fn leave(&mut self, end: Result<(), Failure>) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some((end, self.now + GRACE));
        self.runnable.extend(&self.listeners);
        for id in self.links.clone() {
            let lane = &self.nodes[id].lane;
            if lane.ended.is_some() && !lane.is_waiting() {
                self.close_once_acknowledged(id);
            } else {
                self.runnable.push_back(id);
            }
        }
    }

    /// Leaves at once, and drops what has arrived: there is nowhere to write it.
    pub(super) fn abandon(&mut self, end: Result<(), Failure>) {
        self.leaving = Some((end, self.now));
        self.close_all();
    }

    pub(super) fn close_all(&mut self) {
        for (_, node) in &mut self.nodes {
            (node.queue, node.lane.under_way) = (None, None);
        }
        for id in std::mem::take(&mut self.listeners) {
            self.remove(id);
        }
        for id in std::mem::take(&mut self.links) {
            self.remove(id);
        }
    }

    /// Takes a node out of the pump. A link reports that it is closed, and takes its own local end with it.
    pub(super) fn remove(&mut self, id: NodeId) {
        self.release_queue(id);
        let Some(mut node) = self.nodes.try_remove(id) else {
            return;
        };
        self.poller.forget(source_token(id));
        self.poller.forget(sink_token(id));
        self.timers.cancel(id);
        if node.lane.is_waiting() {
            self.leave_all_queues(id);
        }
        if let Party::Link(link) = &mut node.party {
            let closed = link.close(self.taps);
            let ended = node.failure.map_or(closed, |failure| Err(*failure));
            // A listener that has done its work knows nothing of how its connections ended, which may be before it closes.
            if ended.is_err() || !self.listeners.contains(&id) {
                self.last_closed = ended;
            }
            self.unlist(id);
            if self.is_own(node.partner) {
                self.remove(node.partner);
            }
        }
    }

    /// Strikes a link off the lists.
    fn unlist(&mut self, id: NodeId) {
        for list in [&mut self.links, &mut self.listeners] {
            if let Some(at) = list.iter().position(|&other| other == id) {
                list.remove(at);
            }
        }
        // One that takes in no more, or counts the time, may have to do with who is there.
        for &listener in &self.listeners {
            let is_timed = self.timers.is_set(listener);
            if is_timed || self.nodes[listener].party.end().source().is_none() {
                self.runnable.push_back(listener);
            }
        }
    }

    fn is_own(&self, id: NodeId) -> bool {
        let node = self.nodes.get(id);
        node.is_some_and(|node| matches!(node.party, Party::Own(_)))
    }

    /// Fails a link of which nothing more is read: its descriptor has hung up.
    pub(super) fn fail_on_hangup(&mut self, id: NodeId) {
        if let Some(link) = self.nodes[id].party.link() {
            let error = link.pending_error();
            self.fail(id, &error.unwrap_or(io::ErrorKind::BrokenPipe.into()));
        }
    }

    /// Notes why a link has failed, and reports it. What had arrived before is still delivered, then the link is removed.
    pub(super) fn fail(&mut self, id: NodeId, error: &io::Error) {
        let node = &mut self.nodes[id];
        let Some(link) = node.party.link() else {
            return;
        };
        if node.failure.is_none() {
            let meaning = link.meaning(error);
            let error = meaning.as_ref().unwrap_or(error);
            let identity = link.identity();
            if let Identity::Pair(flow) = &identity {
                let conn = link.state().conn;
                let name = Conversation { flow, conn };
                self.taps.emit(&Event::Broken { name, error });
            }
            node.failure = Some(Box::new(Failure::io(identity, error)));
            // What comes from its own end is dropped from now on, so that end may take again what it is given.
            let partner = node.partner;
            let partner = self.nodes.get_mut(partner);
            if let Some(queue) = partner.and_then(|own| own.queue.as_mut()) {
                queue.since = self.now;
            }
        }
        self.runnable.push_back(id);
    }
}
