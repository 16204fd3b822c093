//! Receiving: from the socket's queue into the runs of a batch, as many datagrams a system call as have come.
//! Each lands in a slot of its own, a run that the kernel coalesced stays whole, and what is not passed on is counted and reported.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg};

use super::control::{self, Label};
use super::{Accepts, Patience, Refusal, Settings, Socket, options};
use crate::batch::{Batch, Run, Shape};
use crate::pump::end::Arrival;
use crate::pump::rules::Engine;
use crate::sys::udp::dropped;
use crate::tap::{Event, Taps};
use crate::tuple::{Direction, FourTuple, Transport};

/// The most datagrams, or coalesced runs, that one call takes.
const SLOTS: usize = 64;
/// The bytes that one call should not exceed by much, so that they stay in the processor's cache.
const FILL: usize = 1 << 20;
/// The largest run that the kernel coalesces: the most that an IPv6 packet can carry (RFC 8200, 3).
const LONGEST_RUN: usize = 65_527;
/// How many errors without an entry in the error queue are taken for leftovers of errors already read.
const STRAY_ERRORS: usize = 16;

/// The receiving side of a socket.
pub(super) struct Inbox {
    /// What was read by the last call, one for each slot; `None` if it had no address.
    labels: Vec<Option<Label>>,
    control: Vec<u8>,
    /// Bytes a datagram may have.
    max_datagram: usize,
    /// Bytes from one slot to the next.
    pitch: usize,
    /// Slots for the next call, from 1 to `most`.
    slots: usize,
    most: usize,
    /// Datagrams and bytes still to be passed on.
    datagrams_left: Option<u64>,
    bytes_left: Option<u64>,
    over: Option<Over>,
    /// When something was last passed on.
    heard: Instant,
}

impl Inbox {
    pub(super) fn new(socket: &socket2::Socket, settings: &Settings) -> Self {
        let max_datagram = settings.max_datagram.clamp(1, 65_535);
        if settings.engine == Engine::Fast && max_datagram >= LONGEST_RUN {
            // Where the kernel cannot, datagrams come one by one, and nothing else changes.
            options::coalesce(socket);
        }
        Self {
            labels: Vec::new(),
            control: control::room(),
            max_datagram,
            pitch: max_datagram.next_multiple_of(64),
            slots: 1,
            most: match settings.engine {
                Engine::Fast => SLOTS,
                Engine::Portable => 1,
            },
            datagrams_left: settings.wanted,
            bytes_left: settings.max_bytes,
            over: (settings.wanted == Some(0) || settings.max_bytes == Some(0))
                .then_some(Over::Enough),
            heard: Instant::now(),
        }
    }

    /// Whether fewer datagrams came than were asked for.
    pub(super) fn missing(&self) -> Option<u64> {
        self.datagrams_left.filter(|&left| left > 0)
    }

    /// Whether nothing more is passed on.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Lets the time of silence begin now.
    pub(super) fn restart_silence(&mut self) {
        self.heard = Instant::now();
    }

    /// Takes what is queued, into slots from the front of the batch.
    fn read(&mut self, socket: &socket2::Socket, batch: &mut Batch) -> nix::Result<()> {
        self.labels.clear();
        let space = batch.space(self.slots * self.pitch);
        if self.most == 1 {
            self.read_one(socket, space)
        } else {
            self.read_many(socket, space)
        }
    }

    fn read_one(&mut self, socket: &socket2::Socket, space: &mut [u8]) -> nix::Result<()> {
        let mut slot = [IoSliceMut::new(&mut space[..self.max_datagram])];
        let control = Some(self.control.as_mut_slice());
        let fd = socket.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slot, control, MsgFlags::MSG_TRUNC)?;
        self.labels.push(Label::read(&message));
        Ok(())
    }

    fn read_many(&mut self, socket: &socket2::Socket, space: &mut [u8]) -> nix::Result<()> {
        let mut parts = space.chunks_exact_mut(self.pitch);
        let mut slots: [_; SLOTS] = std::array::from_fn(|_| {
            let part = parts.next().unwrap_or_default();
            let len = part.len().min(self.max_datagram);
            [IoSliceMut::new(&mut part[..len])]
        });
        // The kernel shrinks the lengths in the headers to what it wrote, and they are not set again: take new ones each time.
        let mut headers = MultiHeaders::preallocate(self.slots, Some(control::room()));
        let flags = MsgFlags::MSG_TRUNC;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slots, flags, None)?;
        self.labels
            .extend(messages.map(|message| Label::read(&message)));
        self.expect_as_many();
        Ok(())
    }

    /// A lone datagram needs one slot, and should not pay for more; a full queue fills as many as fit the cache.
    fn expect_as_many(&mut self) {
        let count = self.labels.len();
        let bytes: usize = self.labels.iter().flatten().map(|label| label.len).sum();
        self.slots = if count == self.slots {
            let fitting = FILL / (bytes / count).max(1);
            (count * 4).min(fitting).clamp(1, self.most)
        } else {
            count.next_power_of_two().min(self.slots)
        };
    }

    /// How many datagrams of a run may be passed on.
    fn admitted(&self, len: usize, stride: usize) -> usize {
        let count = len.div_ceil(stride).max(1);
        let fits = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        let count = count.min(self.datagrams_left.map_or(usize::MAX, fits));
        match self.bytes_left.map(fits) {
            Some(left) if len.min(count * stride) > left => left / stride,
            _ => count,
        }
    }

    /// Takes a run off what is still to be passed on.
    fn pass(&mut self, len: usize, count: usize) {
        let take =
            |left: Option<u64>, taken: usize| left.map(|left| left.saturating_sub(taken as u64));
        self.datagrams_left = take(self.datagrams_left, count);
        self.bytes_left = take(self.bytes_left, len);
        if self.datagrams_left == Some(0) || self.bytes_left == Some(0) {
            self.over = Some(Over::Enough);
        }
        self.restart_silence();
    }
}

/// Why nothing more is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// All that was asked for has come, or nothing came for long enough.
    Enough,
    /// The peer says that this was all.
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
        let mut strays = 0;
        loop {
            if self.is_refused() {
                return Ok(Arrival::Enough);
            }
            if let Some(over) = self.inbox.over {
                return Ok(over.into());
            }
            match self.inbox.read(&self.inner, batch) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(self.wait(taps)),
                Err(error) if !self.drain_errors(taps) => {
                    strays += 1;
                    if strays > STRAY_ERRORS {
                        return Err(error.into());
                    }
                }
                Err(_) => {}
            }
        }
        self.sort(batch, taps);
        Ok(match (batch.is_empty(), self.inbox.over) {
            (false, _) => Arrival::Data,
            (true, Some(over)) => over.into(),
            // Others may be flooding the socket: let the pump see to its other ends before asking again.
            (true, None) => Arrival::Nothing(Some(Instant::now())),
        })
    }

    /// Whether there is nobody to wait for: all is sent, and the last that came back was an error.
    pub(super) fn is_refused(&self) -> bool {
        let heard_last = self
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.sent == self.totals.sent.chunks);
        self.finished && heard_last && self.settings.refusal == Refusal::Ends
    }

    /// Nothing is queued: how long that may stay so.
    fn wait(&mut self, taps: &mut Taps) -> Arrival {
        if let Ok(total) = dropped(&self.inner) {
            self.note_drops(total, taps);
        }
        let until = match self.settings.after_finish {
            Patience::No => self.inbox.heard,
            Patience::Quiet(time) => self.inbox.heard + time,
            Patience::Forever => return Arrival::Nothing(None),
        };
        match self.finished {
            false => Arrival::Nothing(None),
            true if Instant::now() < until => Arrival::Nothing(Some(until)),
            true => {
                self.inbox.over = Some(Over::Enough);
                Arrival::Enough
            }
        }
    }

    /// Makes runs of what was read, as far as it is to be passed on.
    fn sort(&mut self, batch: &mut Batch, taps: &mut Taps) {
        let labels = std::mem::take(&mut self.inbox.labels);
        for (slot, label) in labels.iter().enumerate() {
            if let Some(label) = label.filter(|_| self.inbox.over.is_none()) {
                self.pass_on(slot * self.inbox.pitch, &label, batch, taps);
            }
        }
        self.inbox.labels = labels;
    }

    fn pass_on(&mut self, start: usize, label: &Label, batch: &mut Batch, taps: &mut Taps) {
        let flow = FourTuple::new(Transport::Udp, self.name.with_ip(label.local), label.sender);
        if let Some(drops) = label.drops {
            self.note_drops(drops, taps);
        }
        let kept = label.len.min(self.inbox.max_datagram);
        let stride = label.stride.unwrap_or(kept).max(1);
        if !self.settings.access.admits(flow.remote.ip()) {
            return self.reject(flow, kept.div_ceil(stride).max(1), taps);
        }
        if !self.accepts(flow) {
            return self.ignore(flow, label.len, stride, taps);
        }
        let count = self.inbox.admitted(kept, stride);
        // Datagrams that are too many or too much are the end: what comes after them must not overtake them.
        if count < kept.div_ceil(stride).max(1) {
            self.inbox.over = Some(Over::Enough);
        }
        if count == 0 {
            return;
        }
        if kept < label.len {
            self.totals.truncated += 1;
            let (from, to) = (label.len, kept);
            taps.emit(&Event::Truncated { flow, from, to });
        }
        let run = Run {
            start,
            len: kept.min(count * stride),
            shape: Shape::Datagrams(stride),
            flow: Some(flow),
        };
        self.hear(flow, run, batch, taps);
    }

    /// Counts and shows a run, and puts it into the batch unless it is the sender's way to say that this was all.
    fn hear(&mut self, flow: FourTuple, run: Run, batch: &mut Batch, taps: &mut Taps) {
        let (len, datagrams) = (run.len, run.count());
        let Shape::Datagrams(stride) = run.shape else {
            return;
        };
        self.totals.received.add(len, datagrams);
        if let Some(forgotten) = self.peers.hear(flow, len, datagrams) {
            taps.emit(&Event::Forgotten { flow: forgotten });
        }
        self.verdict = None;
        taps.emit(&Event::Data {
            direction: Direction::Incoming,
            flow,
            conn: None,
            len,
            datagrams,
            stride,
            bytes: Some(batch.bytes(&run)),
        });
        if len == 0 && self.settings.eof_datagram {
            self.inbox.over = Some(Over::PeerFinished);
        } else {
            batch.push(run);
            self.inbox.pass(len, datagrams);
        }
    }

    fn accepts(&self, flow: FourTuple) -> bool {
        match self.settings.accepts {
            Accepts::Anyone => true,
            Accepts::Only(target) => flow.remote == target,
            Accepts::First => self
                .peers
                .first()
                .is_none_or(|first| first.remote == flow.remote),
        }
    }

    fn reject(&mut self, flow: FourTuple, datagrams: usize, taps: &mut Taps) {
        self.totals.ignored += datagrams as u64;
        taps.emit(&Event::Rejected { flow, datagrams });
    }

    fn ignore(&mut self, flow: FourTuple, mut len: usize, stride: usize, taps: &mut Taps) {
        loop {
            let one = len.min(stride);
            self.totals.ignored += 1;
            taps.emit(&Event::Ignored { flow, len: one });
            len -= one;
            if len == 0 {
                return;
            }
        }
    }
}
