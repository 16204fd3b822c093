//! Waiting, and what ends it: descriptors that are ready, times that have come, signals, limits of the run.
//! What to wait for is computed from the state of each node that was touched; nothing is remembered beside it.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::end::Link;
use super::node::NodeId;
use super::{Plan, Pump};
use crate::exit::{Exit, Failure};
use crate::sys::signals::Request;
use crate::sys::wait::{Interest, Ready};
use crate::tap::Event;

/// The poller's token for the signals; nodes follow, with two tokens each.
pub(super) const SIGNALS: usize = 0;

/// How long what has arrived is looked at before silence is taken for silence.
const LOOK: Duration = Duration::from_millis(100);

impl Pump<'_> {
    /// Waits for descriptors, signals and times, and makes runnable what they concern.
    pub(super) fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<(), Failure> {
        let timeout = self.timeout();
        if timeout != Some(Duration::ZERO) && self.record().is_break() {
            return Ok(());
        }
        let waited = self.poller.wait(timeout, ready);
        waited.map_err(|error| Failure::io("cannot wait for descriptors", &error))?;
        self.now = Instant::now();
        for &ready in ready.iter() {
            match ready.token.checked_sub(source_token(0)) {
                None => self.obey_signals(),
                Some(token) => self.wake(token / 2, ready),
            }
        }
        while let Some(id) = self.timers.pop(self.now) {
            self.wait_for_input_end(id);
            self.check_client_timeout(id);
            self.runnable.push_back(id);
        }
        Ok(())
    }

    /// Lets the observers write. What cannot be recorded stops nothing, and is not forgotten: it counts when the run is over; but a
    /// record in the place of the output has a reader whose going is the end.
    fn record(&mut self) -> ControlFlow<()> {
        match self.taps.flush() {
            Err(failure) if failure.exit == Exit::OutputClosed && self.leaving.is_none() => {
                self.leave(Err(failure));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    /// How long nothing needs to be done, `None` for ever.
    fn timeout(&self) -> Option<Duration> {
        if !self.runnable.is_empty() {
            return Some(Duration::ZERO);
        }
        let limit = if let Some((_, until)) = self.leaving {
            // The limits have had their say: as times to wait for they would lie in the past.
            Some(until)
        } else {
            let idle = self.rules.idle_timeout.map(|limit| self.last_moved + limit);
            let total = self.rules.deadline.map(|(deadline, _)| deadline);
            idle.into_iter().chain(total).min()
        };
        let next = limit.into_iter().chain(self.timers.first()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Makes runnable the lanes that wait for this node.
    fn wake(&mut self, id: NodeId, ready: Ready) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if ready.readable && node.may_give() {
            self.runnable.push_back(id);
        }
        if ready.hangup && node.is_half_over() {
            return self.fail_on_hangup(id);
        }
        // Only what has gone from the sink is lost: a source whose other side has gone is read to its end.
        if ready.hangup && ready.token == sink_token(id) && node.party.end().sink_lost().is_some() {
            self.break_sink(id, &io::ErrorKind::BrokenPipe.into());
        } else if ready.writable {
            self.serve(id);
        }
    }

    fn obey_signals(&mut self) {
        match self.signals.next() {
            Some(Request::End(number)) if self.leaving.is_some() => {
                self.abandon(Err(Failure::signal(number)));
            }
            Some(Request::End(number)) => self.leave(Err(Failure::signal(number))),
            Some(Request::Show) => {
                let nodes = self.listeners.iter().chain(&self.links);
                let links = nodes.filter_map(|&id| self.nodes[id].party.link());
                let states: Vec<_> = links.flat_map(Link::states).collect();
                self.taps.emit(&Event::Sockets(&states));
            }
            None => {}
        }
    }

    /// Ends the run where a time limit has passed.
    pub(super) fn check_limits(&mut self) {
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
            && self.has_looked()
        {
            let text = format!(
                "nothing was sent or received for {} (--idle-timeout)",
                seconds(limit)
            );
            self.leave(Err(Failure::new(Exit::TimedOut, text)));
        }
    }

    /// Whether it is known that nothing moves: after a time in which this process did not run, what has arrived meanwhile is looked
    /// at first, if not for long, for it may be nothing but what is left out.
    fn has_looked(&mut self) -> bool {
        let overdue = self.overdue.filter(|&(moved, _)| moved == self.last_moved);
        let (_, seen) = *self
            .overdue
            .insert(overdue.unwrap_or((self.last_moved, self.now)));
        self.runnable.is_empty() || self.now >= seen + LOOK
    }

    /// Makes the poller wait for what the nodes need now.
    pub(super) fn sync_touched(&mut self) -> Result<(), Failure> {
        // Whether a shared end is asked for anything depends on all links.
        if let Plan::Shared(local) | Plan::Broker(local) = self.plan {
            self.touched.push(local);
        }
        self.touched.dedup();
        while let Some(id) = self.touched.pop() {
            let synced = self.sync(id);
            let Err(error) = synced else { continue };
            let failure = Failure::io("cannot wait for a descriptor", &error);
            // Among many, it costs the one that the system has no room for (epoll_ctl(2), ENOSPC).
            if self.listeners.is_empty() || !self.links.contains(&id) {
                return Err(failure);
            }
            self.fail(id, &failure.into());
        }
        Ok(())
    }

    fn sync(&mut self, id: NodeId) -> io::Result<()> {
        let Some(node) = self.nodes.get(id) else {
            return Ok(());
        };
        let interest = node.interest(self.has_audience(id));
        let (source, sink) = (node.party.end().source(), node.party.end().sink());
        let shared = source.map(|fd| fd.as_raw_fd()) == sink.map(|fd| fd.as_raw_fd());
        let write = if shared { interest.write } else { false };
        let read = Interest {
            write,
            hangup: shared && interest.hangup,
            ..interest
        };
        let write = Interest {
            read: false,
            ..interest
        };
        // One descriptor, as a socket has, is registered once for both ways.
        let sink = sink.filter(|_| !shared);
        let ways = [
            (source_token(id), source, read),
            (sink_token(id), sink, write),
        ];
        for (token, fd, interest) in ways {
            match fd {
                Some(fd) => self.poller.set(token, fd, interest)?,
                None => self.poller.forget(token),
            }
        }
        Ok(())
    }
}

/// The poller's token for the descriptor a node is read from.
pub(super) fn source_token(id: NodeId) -> usize {
    SIGNALS + 1 + 2 * id
}

/// The poller's token for the descriptor a node is written to.
pub(super) fn sink_token(id: NodeId) -> usize {
    source_token(id) + 1
}

/// A limit as a person reads it, such as `1.5 s`.
pub(super) fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}
