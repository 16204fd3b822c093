//! Waiting, and what ends it: descriptors that are ready, times that have come, signals, limits of the run.
//! The events to wait for are computed from the state of each node that was touched; nothing is remembered beside it.

use std::io;
use std::time::{Duration, Instant};

use super::end::{Link, Wait, Way};
use super::node::NodeId;
use super::rules::Seconds;
use super::{Plan, Pump};
use crate::exit::{Exit, Failure};
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Poller, Ready, Wakeup, wait};
use crate::tap::Event;

/// Token of the signals, and that of an observer whose output had no room; nodes follow, with two tokens each.
const SIGNALS: usize = 0;
const OBSERVER: usize = 1;

/// Descriptors and signals that the loop waits for.
pub(super) struct Watch<'a> {
    poller: Poller,
    signals: &'a Signals,
    ready: Vec<Ready>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(signals: &'a Signals) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.set(SIGNALS, signals.wake(), Interest::READ)?;
        let ready = Vec::new();
        Ok(Self {
            poller,
            signals,
            ready,
        })
    }

    /// Forgets the descriptor that a node is written to, which is about to be closed.
    pub(super) fn forget_sink(&mut self, id: NodeId) {
        self.poller.forget(sink_token(id));
    }

    /// Forgets the descriptors of a node.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.poller.forget(source_token(id));
        self.poller.forget(sink_token(id));
    }
}

/// Time as the loop sees it.
pub(super) struct Clock {
    /// Time at which the loop last stopped waiting.
    pub(super) now: Instant,
    /// Time at which bytes last moved.
    pub(super) last_moved: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            last_moved: now,
        }
    }

    /// Notes that bytes have moved.
    pub(super) fn moved(&mut self) {
        self.last_moved = self.now;
    }
}

impl Pump<'_> {
    /// Waits for descriptors, signals and times, and lets what they concern go on.
    pub(super) fn wait(&mut self) -> Result<(), Failure> {
        let timeout = self.timeout();
        let is_full = self.taps.is_full();
        if (timeout != Some(Duration::ZERO) || is_full)
            && let Err(failure) = self.taps.flush()
            && failure.exit == Exit::OutputClosed
            && !self.ending.is_leaving()
        {
            // What cannot be recorded stops nothing and counts at the end. But a record in the place of the output has a reader,
            // and when that goes, the run is over.
            self.leave(Err(failure));
            return Ok(());
        }
        if self.taps.is_full() {
            return self.wait_for_record();
        }
        let poller = &mut self.watch.poller;
        match self.taps.backlog() {
            Some(backlog) => poller
                .set(OBSERVER, backlog.fd, Interest::WRITE)
                .map_err(|error| cannot_wait(&error))?,
            None => poller.forget(OBSERVER),
        }
        let mut ready = std::mem::take(&mut self.watch.ready);
        let waited = self.watch.poller.wait(timeout, &mut ready);
        waited.map_err(|error| cannot_wait(&error))?;
        self.clock.now = Instant::now();
        for &ready in &ready {
            match ready.token.checked_sub(source_token(0)) {
                None if ready.token == SIGNALS => {
                    let request = self.watch.signals.next();
                    self.obey(request);
                }
                None => {}
                Some(token) => self.wake(token / 2, ready),
            }
        }
        self.watch.ready = ready;
        while let Some(id) = self.schedule.next_due(self.clock.now) {
            self.wait_for_input_end(id);
            self.finish_when_silent(id);
            self.check_client_timeout(id);
            self.check_idle(id);
            self.schedule.run(id);
        }
        Ok(())
    }

    /// Waits until a record has room again. Nothing goes on meanwhile but signals and the limits of the run.
    fn wait_for_record(&mut self) -> Result<(), Failure> {
        self.watch.poller.forget(OBSERVER);
        let Some(backlog) = self.taps.backlog() else {
            return Ok(());
        };
        let watched = [(backlog.fd, Interest::WRITE)];
        let woken = wait(&watched, Some(self.watch.signals), self.next_limit());
        if let Wakeup::Signal(request) = woken.map_err(|error| cannot_wait(&error))? {
            self.obey(Some(request));
        }
        self.clock.now = Instant::now();
        Ok(())
    }

    /// Returns the next time at which a limit of the run may have passed.
    fn next_limit(&self) -> Option<Instant> {
        let deadline = self.rules.deadline.map(|(deadline, _)| deadline);
        let times = self.ending.leaves_by().into_iter().chain(deadline);
        times.chain(self.ending.quits_at).min()
    }

    /// Returns the time for which nothing needs to be done, `None` for ever.
    fn timeout(&self) -> Option<Duration> {
        if self.schedule.len() > 0 {
            return Some(Duration::ZERO);
        }
        let limit = self.next_limit();
        let next = limit.into_iter().chain(self.schedule.first_time()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Lets the lanes go on that wait for this node.
    fn wake(&mut self, id: NodeId, ready: Ready) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let readiness = node.readiness();
        let is_shared = readiness.is_shared();
        // The token names the direction, unless both wait for one descriptor.
        let is_for_send = ready.token == sink_token(id);
        // What was waited for may have come already: the end then waits for nothing.
        let is_met = |wait: &Wait<'_>| match wait.fd() {
            Some((_, Way::Readable)) => ready.readable,
            Some((_, Way::Writable)) => ready.writable,
            None => wait.is_now(),
        };
        if (is_shared || !is_for_send) && is_met(&readiness.recv) && node.may_give() {
            self.schedule.run(id);
        }
        let may_send = is_shared || is_for_send;
        if ready.hangup && may_send && readiness.watch && node.failure.is_none() {
            return self.break_hung_up(id);
        }
        if may_send && is_met(&readiness.send) {
            if self.nodes[id].outgoing == super::node::Outgoing::Finishing {
                self.schedule.run(id);
            }
            self.serve(id);
        }
    }

    fn obey(&mut self, request: Option<Request>) {
        match request {
            Some(Request::End(number)) if self.ending.is_leaving() => {
                self.abandon(Err(Failure::signal(number)));
            }
            Some(Request::End(number)) => self.leave(Err(Failure::signal(number))),
            Some(Request::Show) => {
                let ids = self.nodes.listeners.iter().chain(&self.nodes.links);
                let links = ids.filter_map(|&id| self.nodes[id].party.link());
                let states: Vec<_> = links.flat_map(Link::states).collect();
                self.taps.emit(&Event::Sockets(&states));
            }
            None => {}
        }
    }

    /// Ends the run where a time limit has passed.
    pub(super) fn check_limits(&mut self) {
        let (now, words) = (self.clock.now, self.rules.words);
        if let Some(until) = self.ending.leaves_by() {
            // Once the run is over, it goes on while there is something to do, and waits for nothing.
            let is_over = self
                .rules
                .deadline
                .is_some_and(|(deadline, _)| now >= deadline);
            let is_held_up = self.schedule.len() == 0 || self.taps.is_full();
            if now >= until || is_over && is_held_up {
                self.stop_leaving();
            }
        } else if let Some((deadline, limit)) = self.rules.deadline
            && now >= deadline
        {
            let text = format!("timed out after {} ({})", Seconds(limit), words.deadline);
            let failure = Failure::new(Exit::TimedOut, text);
            if self.ending.is_leaving() {
                // Some bytes were sent and are not acknowledged yet.
                self.give_up(failure);
            } else {
                self.leave(Err(failure));
            }
        } else if self.ending.quits_at.is_some_and(|time| now >= time) {
            self.leave(Ok(()));
        }
    }

    /// Makes the poller wait for what the nodes need now.
    pub(super) fn sync_touched(&mut self) -> Result<(), Failure> {
        // A shared end is read only while there are links to send to.
        if let Plan::Shared(local) | Plan::Broker(local) = self.plan {
            self.schedule.touch(local);
        }
        while let Some(id) = self.schedule.next_touched() {
            let synced = self.sync(id);
            let Err(error) = synced else { continue };
            let failure = Failure::io("cannot wait for a descriptor", &error);
            // Among many, it costs the one that the system has no room for (epoll_ctl(2), ENOSPC).
            if self.nodes.listeners.is_empty() || !self.nodes.links.contains(&id) {
                return Err(failure);
            }
            self.fail(id, &failure.into(), None);
        }
        Ok(())
    }

    fn sync(&mut self, id: NodeId) -> io::Result<()> {
        let Some(node) = self.nodes.get(id) else {
            return Ok(());
        };
        let is_read = node.may_give() && self.has_audience(id);
        let is_written = node.wants_to_send();
        let (readiness, is_wanted) = (node.readiness(), [is_read, is_written]);
        for wait in readiness.wanted(is_wanted) {
            if wait.is_now() {
                self.schedule.run(id);
            }
            if let Some(time) = wait.until() {
                self.schedule.run_at(id, time);
            }
        }
        let watches = readiness.watch && node.failure.is_none();
        let tokens = [source_token(id), sink_token(id)];
        readiness.register(&mut self.watch.poller, tokens, is_wanted, watches)
    }
}

fn cannot_wait(error: &io::Error) -> Failure {
    Failure::io("cannot wait for descriptors", error)
}

/// Token of the descriptor that a node is read from, or of both where they are the same.
fn source_token(id: NodeId) -> usize {
    OBSERVER + 1 + 2 * id
}

/// Token of the descriptor that a node is written to.
fn sink_token(id: NodeId) -> usize {
    source_token(id) + 1
}
