//! Receiving: from the datagrams that one system call has found to the runs of a batch.
//! A datagram is passed on, or it is counted and reported why not: who sent it, how long it is, how many came before it decide.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::addresses::{Pair, means};
use super::control::Label;
use super::{Accepts, Patience, Refusal, Socket};
use crate::batch::{Batch, Run, Shape};
use crate::flow::Direction;
use crate::pump::end::Arrival;
use crate::pump::rules::Engine;
use crate::sys::sockopt::dropped;
use crate::tap::{Data, Event, Taps};

/// How many errors without an entry in the error queue are taken for leftovers of errors already read.
const STRAY_ERRORS: usize = 16;

/// How long reading what has arrived in time may take, where there is always more of what nobody wants.
const OVERTIME: Duration = Duration::from_millis(100);

/// Why nothing more is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// All that was asked for has come, or nothing came for long enough.
    Enough,
    /// The peer has sent its end (`--eof-datagram`).
    PeerFinished,
}

impl From<Over> for Arrival {
    fn from(over: Over) -> Self {
        match over {
            Over::Enough => Self::Enough,
            Over::PeerFinished => Self::End,
        }
    }
}

impl Socket {
    /// Implements [`crate::pump::end::End::recv`].
    pub(super) fn receive(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if let Some(over) = self.over {
            return Ok(over.into());
        }
        if !self.read(batch, taps)? {
            return Ok(self.wait(taps));
        }
        self.make_runs(batch, taps);
        self.watch_drops(taps);
        if batch.is_empty() && self.is_overtime() {
            self.over = Some(Over::Enough);
        }
        Ok(match (batch.is_empty(), self.over) {
            (false, _) => Arrival::Data,
            (true, Some(over)) => over.into(),
            // Others may be flooding the socket: let the pump see to its other ends before asking again.
            (true, None) => Arrival::Nothing,
        })
    }

    /// Reads what is in the receive buffer; false if nothing is.
    fn read(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<bool> {
        let mut strays = 0;
        loop {
            match self.inbox.read(&self.inner, batch) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(_) if self.drain_errors(taps) => {}
                Err(error) => {
                    strays += 1;
                    if strays > STRAY_ERRORS {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// Whether nothing more can be expected: all is sent, and the last that came back was an error.
    pub(super) fn is_refused(&self) -> bool {
        let last = self.unreachable.as_ref();
        self.has_spoken()
            && self.settings.refusal == Refusal::Ends
            && last.is_some_and(|last| last.sent == self.totals.sent.chunks)
    }

    /// Returns the time at which it has something to do although nothing comes.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.silent_until().into_iter().chain(self.eof.due()).min()
    }

    /// Until when it waits for more, where that has a limit.
    fn silent_until(&self) -> Option<Instant> {
        match self.settings.after_finish {
            Patience::Quiet(time) if self.has_spoken() => self.heard.checked_add(time),
            _ => None,
        }
    }

    /// Whether what had arrived in time must have been read by now, however much arrives from others.
    fn is_overtime(&self) -> bool {
        let last = self
            .silent_until()
            .and_then(|until| until.checked_add(OVERTIME));
        last.is_some_and(|last| last <= Instant::now())
    }

    /// What to do where nothing is in the receive buffer.
    fn wait(&mut self, taps: &mut Taps) -> Arrival {
        if !std::mem::take(&mut self.inbox.has_found) {
            // There was a reason to ask, and it was no datagram.
            self.drain_errors(taps);
        }
        self.check_drops(taps);
        let until = self.silent_until();
        if self.is_refused() || until.is_some_and(|until| until <= Instant::now()) {
            self.over = Some(Over::Enough);
        }
        if let Some(over) = self.over {
            return over.into();
        }
        self.repeat_eof_datagram(taps);
        Arrival::Nothing
    }

    /// Looks after drops: at the end of a burst there may be some that no datagram has told of, and before datagrams come coalesced
    /// is the last time that they are counted one by one.
    fn watch_drops(&mut self, taps: &mut Taps) {
        let mut labels = self.inbox.labels.iter().flatten().rev();
        if let Some(count) = labels.find_map(|label| label.drops) {
            self.totals.drops.note(count);
        }
        if self.inbox.engine == Engine::Portable
            && let Ok(count) = dropped(&self.inner)
        {
            // Whether this datagram was the last of a burst is not known.
            self.totals.drops.note(count);
        }
        let is_burst_over = self.inbox.is_drained() && std::mem::take(&mut self.inbox.was_crowded);
        if self.inbox.is_flooded() {
            self.check_drops(taps);
            self.inbox.coalesce(&self.inner);
            self.totals.drops.count_packets();
        } else if is_burst_over {
            self.check_drops(taps);
        } else {
            let news = self.totals.drops.take_due();
            self.report_drops(news, taps);
        }
    }

    /// Makes runs of what was read, as far as it is to be passed on.
    fn make_runs(&mut self, batch: &mut Batch, taps: &mut Taps) {
        let labels = std::mem::take(&mut self.inbox.labels);
        for (slot, label) in labels.iter().enumerate() {
            if let Some(label) = label.filter(|_| self.over.is_none()) {
                self.make_run(slot * self.inbox.pitch, &label, batch, taps);
            }
        }
        self.inbox.labels = labels;
    }

    fn make_run(&mut self, start: usize, label: &Label, batch: &mut Batch, taps: &mut Taps) {
        let flow = Pair::new(self.name.with_ip(label.local), label.sender);
        let kept = label.len.min(self.inbox.max_datagram);
        let stride = label.stride.unwrap_or(kept).max(1);
        let shape = Shape::Datagrams(stride);
        if !self.settings.access.admits(flow.remote.ip()) {
            return self.reject(flow, shape.count(kept), taps);
        }
        if !self.accepts(flow) {
            return self.ignore(flow, label.len, stride, taps);
        }
        let count = self.inbox.quota.admits(kept, stride);
        // Datagrams that are too many or too much are the end: what comes after them must not overtake them.
        if count < shape.count(kept) {
            self.over = Some(Over::Enough);
            self.inbox.quota.refuse();
        }
        if count == 0 {
            return;
        }
        if kept < label.len {
            self.totals.truncated += 1;
            let (from, to) = (label.len, kept);
            taps.emit(&Event::Truncated {
                flow: &flow.flow(),
                bytes: to,
                size: from,
            });
        }
        let run = Run {
            start,
            len: kept.min(count * stride),
            shape,
            flow: Some(flow.flow()),
        };
        self.deliver(flow, run, batch, taps);
    }

    /// Counts and reports a run, and puts it into the batch unless it is the end of the sender (`--eof-datagram`).
    fn deliver(&mut self, flow: Pair, run: Run, batch: &mut Batch, taps: &mut Taps) {
        let (len, datagrams) = (run.len, run.count());
        self.totals.received.add(len, datagrams);
        if let Some(forgotten) = self.peers.count_received(flow, len, datagrams) {
            taps.emit(&Event::Forgotten(&forgotten.flow()));
        }
        self.unreachable = None;
        taps.emit(&Event::Data(Data {
            direction: Direction::Incoming,
            flow: &flow.flow(),
            conn: None,
            len,
            shape: run.shape,
            bytes: Some(batch.bytes(&run)),
        }));
        if len == 0 && self.settings.eof_datagram {
            self.over = Some(Over::PeerFinished);
        } else {
            batch.push(run);
            self.inbox.quota.take(len, datagrams);
            if self.inbox.quota.is_used_up() {
                self.over = Some(Over::Enough);
            }
            self.heard = Instant::now();
        }
    }

    fn accepts(&self, flow: Pair) -> bool {
        match self.settings.accepts {
            Accepts::Anyone => true,
            Accepts::Only(target) => means(target, flow.remote),
            Accepts::First => self
                .peers
                .first()
                .is_none_or(|first| first.remote == flow.remote),
        }
    }

    fn reject(&mut self, flow: Pair, datagrams: usize, taps: &mut Taps) {
        self.totals.ignored += datagrams as u64;
        taps.emit(&Event::Rejected {
            flow: &flow.flow(),
            datagrams: Some(datagrams),
        });
    }

    fn ignore(&mut self, flow: Pair, mut len: usize, stride: usize, taps: &mut Taps) {
        loop {
            let one = len.min(stride);
            self.totals.ignored += 1;
            taps.emit(&Event::Ignored {
                flow: &flow.flow(),
                bytes: one,
            });
            len -= one;
            if len == 0 {
                return;
            }
        }
    }
}
