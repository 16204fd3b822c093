//! Failures: what an error of an end means for its lanes, for its link and for the run.
//! What had arrived before is still delivered; only a local end for all links that cannot go on ends the run at once.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::Pump;
use super::end::Close;
use super::node::{NodeId, Outgoing, Party, Silence};
use super::rules::{OnIdle, Seconds};
use crate::exit::{Exit, Failure, describe};
use crate::flow::Identity;
use crate::tap::{Conversation, Event, FailedCall};

/// Pause before a link that seems idle is looked at again, while what has arrived for it is read.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

impl Pump<'_> {
    /// Handles a failure to read from an end.
    pub(super) fn break_source(&mut self, id: NodeId, error: &io::Error) {
        match &self.nodes[id].party {
            Party::Shared(_) => self.abandon(Err(Failure::io("cannot read the input", error))),
            Party::Own(_) => {
                self.fail(self.nodes[id].partner, error, None);
                self.on_end(id);
            }
            Party::Link(link) if self.nodes.listeners.contains(&id) => {
                let failure = Failure::io(link.identity(), error);
                self.remove(id);
                self.leave(Err(failure));
            }
            Party::Link(_) => {
                self.fail(id, error, Some(FailedCall::Recv));
                self.on_end(id);
            }
        }
    }

    /// Handles a failure to write to an end. What had arrived from it before is still delivered.
    pub(super) fn break_sink(&mut self, id: NodeId, error: &io::Error, call: FailedCall) {
        let node = &mut self.nodes[id];
        match &node.party {
            Party::Shared(_) => self.abandon(Err(Failure::io("cannot write the output", error))),
            // It may have more to say although it reads no more.
            Party::Own(_) => {
                node.failure = Some(Box::new(Failure::io("cannot write to it", error)));
                self.schedule.run(id);
                self.drain_partner(id);
            }
            Party::Link(_) => self.fail(id, error, Some(call)),
        }
    }

    /// Breaks an end whose descriptor has hung up while nothing was being sent.
    pub(super) fn break_hung_up(&mut self, id: NodeId) {
        let health = self.nodes[id].party.end_mut().health();
        let error = health.err().unwrap_or(ErrorKind::BrokenPipe.into());
        self.break_sink(id, &error, FailedCall::PendingError);
    }

    /// Notes why a link has failed, and reports it. What had arrived before is still delivered, then the link is removed.
    pub(super) fn fail(&mut self, id: NodeId, error: &io::Error, call: Option<FailedCall>) {
        let now = self.clock.now;
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(link) = node.party.link() else {
            return;
        };
        if node.failure.is_none() {
            let (identity, cause) = (link.identity(), cause_of(error));
            // Other errors are this program's own.
            let call = call.filter(|_| error.raw_os_error().is_some());
            let call = call.map(|call| (call, error));
            let error = cause.as_ref().unwrap_or(error);
            if let Identity::Pair(flow) = &identity {
                let conn = link.conn();
                let name = Conversation { flow, conn };
                self.taps.emit(&Event::Broken { name, error, call });
            }
            node.failure = Some(Box::new(Failure::io(identity, error)));
            // What comes from its own end is dropped from now on, so that end may take again what it is given.
            let partner = node.partner;
            let own = self.nodes.get_mut(partner);
            if own.as_ref().is_some_and(|own| own.only_answers) {
                self.release_queue(partner);
                self.nodes[id].lane.end(now);
            } else if let Some(queue) = own.and_then(|own| own.queue.as_mut()) {
                queue.silence = Silence::new(now);
            }
            self.schedule.touch(partner);
        }
        self.schedule.run(id);
    }

    /// Fails a link that has acknowledged nothing of what waits for it for as long as the limit allows.
    pub(super) fn check_client_timeout(&mut self, id: NodeId) {
        let (Some(node), Some(limit)) = (self.nodes.get_mut(id), self.rules.client_timeout) else {
            return;
        };
        let (Some(queue), Party::Link(link)) = (&mut node.queue, &mut node.party) else {
            return;
        };
        let unacknowledged = || link.health().unwrap_or(0);
        let next = queue.silence.check(self.clock.now, limit, unacknowledged);
        if let Some(time) = next {
            return self.schedule.run_at(id, time);
        }
        self.fail_stalled(id, limit);
        // It may go on sending for ever, but nothing is read for it any more.
        self.on_end(id);
    }

    /// Ends a link over which nothing has moved for as long as the limit allows, or the run, if there can be no other link.
    pub(super) fn check_idle(&mut self, id: NodeId) {
        let Some(limit) = self.rules.idle_timeout else {
            return;
        };
        if self.nodes.listeners.contains(&id) {
            return;
        }
        let Some(node) = self.nodes.get(id).filter(|node| node.failure.is_none()) else {
            return;
        };
        if node.party.link().is_none() {
            return;
        }
        if self.rules.idle_from_first && !node.lane.has_given {
            return self.schedule.run_at(id, self.clock.now + limit / 2);
        }
        // What has come over one link of a relayed pair may still move over the other.
        let both = [id, node.partner];
        let next = both.map(|id| self.check_silence(id, limit));
        if let Some(time) = next.into_iter().flatten().max() {
            return self.schedule.run_at(id, time);
        }
        let is_runnable = self.schedule.is_runnable(id);
        let silence = &mut self.nodes[id].silence;
        if !silence.has_looked(self.clock.now, is_runnable) {
            return self.schedule.run_at(id, self.clock.now + LOOK_PAUSE);
        }
        if self.rules.on_idle == OnIdle::Done && !self.ending.is_leaving() {
            return self.on_enough(id);
        }
        let (limit, option) = (Seconds(limit), self.rules.words.idle_timeout);
        let text = format!("nothing was sent or received for {limit} ({option})");
        if self.ending.is_leaving() {
            // It waits for an acknowledgement.
            self.give_up(Failure::new(Exit::TimedOut, text));
        } else if self.nodes.listeners.is_empty() {
            self.leave(Err(Failure::new(Exit::TimedOut, text)));
        } else {
            self.reset_in_the_middle(id);
            self.fail(id, &io::Error::new(ErrorKind::TimedOut, text), None);
            self.on_end(id);
        }
    }

    /// Returns the time to look again at a link, or `None` if nothing has moved over it for `limit`.
    fn check_silence(&mut self, id: NodeId, limit: Duration) -> Option<Instant> {
        let node = self.nodes.get_mut(id)?;
        let Party::Link(link) = &mut node.party else {
            return None;
        };
        let unacknowledged = || link.health().unwrap_or(0);
        node.silence.check(self.clock.now, limit, unacknowledged)
    }

    /// Returns true for a link of a relayed pair that has not been closed in both directions: it is not for this program to end that.
    pub(super) fn is_cut(&self, id: NodeId) -> bool {
        self.nodes.is_relayed(id)
            && self.nodes.get(id).is_some_and(|node| {
                node.outgoing != Outgoing::Finished || node.lane.ended.is_none()
            })
    }

    /// Lets a link that is given up be reset, if its peer has not got all that was meant for it.
    pub(super) fn reset_in_the_middle(&mut self, id: NodeId) {
        let is_cut = self.is_cut(id);
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if is_cut || node.queue.is_some() || node.party.end_mut().health().unwrap_or(0) > 0 {
            node.close = Close::Reset;
        }
    }

    /// Fails a link that has taken nothing for so long; its peer learns that it has not got all.
    pub(super) fn fail_stalled(&mut self, id: NodeId, limit: Duration) {
        let mut text = format!("acknowledged nothing for {}", Seconds(limit));
        if self.rules.client_timeout.is_some() {
            text = format!("{text} ({})", self.rules.words.client_timeout);
        }
        self.nodes[id].close = Close::Reset;
        self.fail(id, &io::Error::new(ErrorKind::TimedOut, text), None);
    }
}

/// Returns the cause of an error of a link, where the error has another name.
///
/// A reset that comes after the peer's FIN is reported as a broken pipe (write(2)). No report of the network ends a connection
/// (RFC 1122, 4.2.3.9): it has timed out, and the last report is the reason.
fn cause_of(error: &io::Error) -> Option<io::Error> {
    match error.kind() {
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            let text = format!("connection timed out: {}", describe(error));
            Some(io::Error::new(ErrorKind::TimedOut, text))
        }
        ErrorKind::BrokenPipe => Some(io::Error::from_raw_os_error(libc::ECONNRESET)),
        _ => None,
    }
}
