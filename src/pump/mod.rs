//! The pump: one thread and one loop that moves bytes between ends, whatever they are.
//! It knows neither transports nor options: links bring identities, rules bring choices, taps see what happens.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::batch::Batch;
use crate::exit::{Exit, Failure};
use crate::sys::poller::{Interest, Mechanism, Poller, Ready};
use crate::sys::signals::{Request, Signals};
use crate::tap::{Event, Taps};
use crate::tuple::Identity;

pub mod end;
mod lane;
pub mod rules;
#[cfg(test)]
mod tests;
mod transfer;

use end::{End, Link};
use lane::{Party, Port, PortId};
use rules::{Engine, Farewell, GRACE, NOTICE, OnInputEnd, Rules};

/// The poller's name for the signals; ports follow, two names each.
const SIGNALS: usize = 0;

/// Moves bytes between a local end and links until the session is over.
pub struct Pump<'a> {
    ports: Slab<Port>,
    /// The port of the local end.
    local: PortId,
    /// The ports of links, in order of arrival.
    links: Vec<PortId>,
    poller: Poller,
    signals: &'a Signals,
    taps: &'a mut Taps,
    rules: Rules,
    /// Ports whose interest may have changed.
    touched: Vec<PortId>,
    /// Lanes that can go on now.
    runnable: VecDeque<PortId>,
    /// Ports to look at when time has come.
    timers: BTreeSet<(Instant, PortId)>,
    /// Batches that nobody uses: as many as lanes were ever stuck at once, not as many as there are lanes.
    spare: Vec<Batch>,
    now: Instant,
    last_moved: Instant,
    /// How the run ends, once that is decided, and until when arrived bytes may still be written out.
    leaving: Option<(Result<Exit, Failure>, Instant)>,
    /// What the last link said of itself.
    verdict: Result<(), Failure>,
}

impl<'a> Pump<'a> {
    /// A pump with its local end and no link yet.
    pub fn new(
        local: Box<dyn End>,
        rules: Rules,
        signals: &'a Signals,
        taps: &'a mut Taps,
    ) -> io::Result<Self> {
        let mut poller = Poller::new(match rules.engine {
            Engine::Fast => Mechanism::Epoll,
            Engine::Portable => Mechanism::Poll,
        })?;
        let reading = Interest {
            read: true,
            ..Interest::default()
        };
        poller.set(SIGNALS, signals.wake(), reading)?;
        let mut ports = Slab::new();
        let local = ports.insert(Port::new(Party::Local(local)));
        let now = Instant::now();
        Ok(Self {
            ports,
            local,
            links: Vec::new(),
            poller,
            signals,
            taps,
            rules,
            touched: Vec::new(),
            runnable: VecDeque::new(),
            timers: BTreeSet::new(),
            spare: Vec::new(),
            now,
            last_moved: now,
            leaving: None,
            verdict: Ok(()),
        })
    }

    /// Adds a link: what comes from it goes to the local end, and what comes from the local end goes to it.
    pub fn join(&mut self, link: Box<dyn Link>) {
        let id = self.ports.insert(Port::new(Party::Link(link)));
        self.links.push(id);
        self.runnable.push_back(id);
        self.runnable.push_back(self.local);
        if self.ports[self.local].lane.ended.is_some() {
            self.end_input_for(id);
        }
    }

    /// Runs until the session is over, and says how it ended.
    pub fn run(mut self) -> Result<Exit, Failure> {
        let mut ready = Vec::new();
        while !self.links.is_empty() {
            // As many turns as there are now: what becomes runnable meanwhile waits for a look at the descriptors.
            for _ in 0..self.runnable.len() {
                let Some(id) = self.runnable.pop_front() else {
                    break;
                };
                self.touched.push(id);
                self.turn(id);
            }
            self.sync_touched()?;
            if !self.links.is_empty() {
                self.wait(&mut ready)?;
                self.check_limits();
            }
        }
        match self.leaving {
            None | Some((Ok(Exit::Done), _)) => self.verdict.map(|()| Exit::Done),
            Some((end, _)) => end,
        }
    }

    /// Waits for descriptors, signals and times, and makes runnable what they concern.
    fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<(), Failure> {
        let timeout = self.timeout();
        let waited = self.poller.wait(timeout, ready);
        waited.map_err(|error| Failure::io("cannot wait for descriptors", &error))?;
        self.now = Instant::now();
        for &ready in ready.iter() {
            match ready.token.checked_sub(source_token(0)) {
                None => self.obey_signals(),
                Some(token) => self.wake(token / 2, ready),
            }
        }
        while let Some(&(time, id)) = self.timers.first() {
            if time > self.now {
                break;
            }
            self.timers.pop_first();
            self.say_farewell(id);
            self.runnable.push_back(id);
        }
        Ok(())
    }

    /// How long nothing needs to be done, `None` for ever.
    fn timeout(&self) -> Option<Duration> {
        if !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let idle = self.rules.idle_timeout.map(|limit| self.last_moved + limit);
        let total = self.rules.deadline.map(|(deadline, _)| deadline);
        let grace = self.leaving.as_ref().map(|(_, deadline)| *deadline);
        let timer = self.timers.first().map(|&(time, _)| time);
        let next = [idle, total, grace, timer].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Makes runnable the lanes that wait for this port.
    fn wake(&mut self, id: PortId, ready: Ready) {
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        if ready.readable && port.may_give() {
            self.runnable.push_back(id);
        }
        if ready.writable {
            self.runnable.extend(port.blocked.drain(..));
            self.touched.push(id);
        }
        // Only what has gone from the sink is lost: a source whose other side has gone is read to its end.
        if ready.hangup
            && ready.token == sink_token(id)
            && let Some(failure) = port.party.end().sink_lost()
        {
            self.abandon(Err(failure));
        }
    }

    fn obey_signals(&mut self) {
        match self.signals.next() {
            Some(Request::End(number)) if self.leaving.is_some() => {
                self.abandon(Ok(Exit::Signal(number)));
            }
            Some(Request::End(number)) => self.leave(Ok(Exit::Signal(number))),
            Some(Request::Show) => {
                let links = self
                    .links
                    .iter()
                    .filter_map(|&id| self.ports[id].party.link());
                let states: Vec<_> = links.flat_map(Link::states).collect();
                self.taps.emit(&Event::Sockets(&states));
            }
            None => {}
        }
    }

    /// Ends the run where a time limit has passed.
    fn check_limits(&mut self) {
        if let Some((_, until)) = &self.leaving {
            if self.now >= *until {
                self.close_all();
            }
            return;
        }
        if let Some((deadline, limit)) = self.rules.deadline
            && self.now >= deadline
        {
            let text = format!("timed out after {} (--timeout)", seconds(limit));
            self.leave(Err(Failure::new(Exit::TimedOut, text)));
        } else if let Some(limit) = self.rules.idle_timeout
            && self.now >= self.last_moved + limit
        {
            let text = format!(
                "nothing was sent or received for {} (--idle-timeout)",
                seconds(limit)
            );
            self.leave(Err(Failure::new(Exit::TimedOut, text)));
        }
    }

    /// Makes the poller wait for what the ports need now.
    fn sync_touched(&mut self) -> Result<(), Failure> {
        // Whether the local end is asked for anything depends on all links.
        self.touched.push(self.local);
        while let Some(id) = self.touched.pop() {
            let synced = self.sync(id);
            synced.map_err(|error| Failure::io("cannot wait for a descriptor", &error))?;
        }
        Ok(())
    }

    fn sync(&mut self, id: PortId) -> io::Result<()> {
        let wanted = id != self.local || self.is_input_wanted();
        let Some(port) = self.ports.get(id) else {
            return Ok(());
        };
        let interest = port.interest(wanted);
        let (source, sink) = (port.party.end().source(), port.party.end().sink());
        let shared = source.map(|fd| fd.as_raw_fd()) == sink.map(|fd| fd.as_raw_fd());
        let read = Interest {
            write: false,
            hangup: false,
            ..interest
        };
        match (source, sink) {
            // One descriptor, as a socket has, is registered once for both ways.
            (Some(fd), _) if shared => self.poller.set(source_token(id), fd, interest),
            _ => {
                if let Some(fd) = source {
                    self.poller.set(source_token(id), fd, read)?;
                }
                if let Some(fd) = sink {
                    let write = Interest {
                        read: false,
                        ..interest
                    };
                    self.poller.set(sink_token(id), fd, write)?;
                }
                Ok(())
            }
        }
    }

    /// Whether anybody would get what the local end gives.
    fn is_input_wanted(&self) -> bool {
        self.leaving.is_none()
            && self
                .links
                .iter()
                .any(|&id| self.ports[id].is_open_to_send())
    }

    /// Looks again at a link whose peer has finished while the input is open: tells what is waited for, or closes it.
    fn say_farewell(&mut self, id: PortId) {
        let input = &self.ports[self.local].lane;
        let (has_given, input_ended) = (input.has_given, input.ended.is_some());
        let Some(port) = self.ports.get_mut(id) else {
            return;
        };
        let ended = port.lane.ended.filter(|_| id != self.local && !input_ended);
        let Some(ended) = ended else { return };
        let since = ended.max(self.last_moved);
        let farewell = self.rules.after_peer_end(has_given);
        if !port.lane.noticed && farewell != Farewell::Leave {
            if self.now < since + NOTICE {
                self.timers.insert((since + NOTICE, id));
                return;
            }
            port.lane.noticed = true;
            self.taps.emit(&Event::Waiting {
                text: farewell.notice(),
            });
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
    fn end_input_for(&mut self, id: PortId) {
        if self.ports[id].lane.ended.is_some() {
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
    fn conclude(&mut self, id: PortId) {
        // Otherwise closing says all there is to say.
        if self.rules.on_input_end == OnInputEnd::Finish && self.ports[id].failure.is_none() {
            self.finish(id);
        }
        self.remove(id);
    }

    /// Begins to leave: nothing more is sent, and what has already arrived is written out within the grace.
    fn leave(&mut self, end: Result<Exit, Failure>) {
        self.leaving = Some((end, self.now + GRACE));
        self.runnable.extend(&self.links);
    }

    /// Leaves at once: there is no way to write out anything.
    fn abandon(&mut self, end: Result<Exit, Failure>) {
        self.leaving = Some((end, self.now));
        self.close_all();
    }

    fn close_all(&mut self) {
        for id in self.links.clone() {
            self.remove(id);
        }
    }

    /// Takes a link out of the pump, and lets it report and close.
    fn remove(&mut self, id: PortId) {
        let Some(mut port) = self.ports.try_remove(id) else {
            return;
        };
        let Party::Link(link) = &mut port.party else {
            return;
        };
        for (token, fd) in [
            (source_token(id), link.source()),
            (sink_token(id), link.sink()),
        ] {
            if let Some(fd) = fd {
                self.poller.forget(token, fd);
            }
        }
        let closed = link.close(self.taps);
        self.links.retain(|&other| other != id);
        self.runnable.extend(port.blocked.drain(..));
        // Its number may be given to the next link: nobody's bytes may be on their way to it.
        let local = &mut self.ports[self.local];
        local
            .lane
            .recipients
            .retain(|&(recipient, _)| recipient != id);
        if local.occupied == Some(id) {
            local.occupied = None;
            self.runnable.extend(local.blocked.drain(..));
        }
        self.spare.extend(port.lane.batch);
        self.verdict = port.failure.map_or(closed, Err);
    }

    /// Notes that a link has failed. What had arrived before is still delivered, then it is removed.
    fn fail(&mut self, id: PortId, error: &io::Error) {
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

/// The poller's name for the descriptor a port is read from.
fn source_token(id: PortId) -> usize {
    SIGNALS + 1 + 2 * id
}

/// The poller's name for the descriptor a port is written to.
fn sink_token(id: PortId) -> usize {
    source_token(id) + 1
}

/// The failure that an error of an end brings with it, or one that names `act`.
fn failure_of(error: &io::Error, act: impl std::fmt::Display) -> Failure {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Failure>())
    {
        Some(failure) => failure.clone(),
        None => Failure::io(act, error),
    }
}

/// A limit as a person reads it, such as `1.5 s`.
fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}
