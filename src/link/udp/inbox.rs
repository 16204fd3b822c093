//! The receiving side of the socket: slots that the kernel fills, as many datagrams a call as have come.
//! Each datagram, or run that the kernel coalesced, lands in a slot of its own; slots that nothing lands in cost nothing.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg};

use super::control::{self, Label};
use super::quota::Quota;
use super::{Owner, Settings, options};
use crate::batch::Batch;
use crate::pump::rules::Engine;

/// The most slots, and how many there are while datagrams come one by one: with the second it is known that no other is there.
const SLOTS: usize = 64;
const FEW_SLOTS: usize = 2;
/// The bytes that one call should not exceed by much, so that they stay in the processor's cache.
const FILL: usize = 1 << 20;
/// So many datagrams found at once are a flood: from then on the kernel is asked to coalesce them.
const FLOOD: usize = 32;
/// The largest run that the kernel coalesces: the most that an IPv6 packet can carry (RFC 8200, 3).
const LONGEST_RUN: usize = 65_527;

/// What has arrived and is not passed on yet.
pub(super) struct Inbox {
    /// What the last call found, one for each slot; `None` if it had no address.
    pub(super) labels: Vec<Option<Label>>,
    /// Whether datagrams had to queue since this was last looked at.
    pub(super) was_crowded: bool,
    /// Whether anything was found since there was last nothing.
    pub(super) has_found: bool,
    /// What is still to be passed on.
    pub(super) quota: Quota,
    /// Bytes a datagram may have.
    pub(super) max_datagram: usize,
    /// Bytes from one slot to the next.
    pub(super) pitch: usize,
    control: Vec<u8>,
    /// Slots of the last call, and of the next.
    offered: usize,
    slots: usize,
    /// Many datagrams a call, or one.
    pub(super) engine: Engine,
    /// Whether the kernel could be asked to coalesce datagrams.
    may_coalesce: bool,
}

impl Inbox {
    pub(super) fn new(settings: &Settings) -> Self {
        let max_datagram = settings.max_datagram.clamp(1, 65_535);
        // Whoever takes many at once may take more than the limits let pass.
        let engine = match settings.owner {
            Owner::Run => settings.engine,
            Owner::Others => Engine::Portable,
        };
        Self {
            labels: Vec::new(),
            has_found: false,
            was_crowded: false,
            quota: Quota::new(settings),
            max_datagram,
            pitch: max_datagram.next_multiple_of(64),
            control: control::room(),
            offered: 0,
            slots: FEW_SLOTS,
            engine,
            may_coalesce: engine == Engine::Fast && max_datagram >= LONGEST_RUN,
        }
    }

    /// Takes what is queued, into slots from the front of the batch.
    pub(super) fn read(&mut self, socket: &socket2::Socket, batch: &mut Batch) -> nix::Result<()> {
        self.labels.clear();
        self.offered = self.slots;
        match self.engine {
            Engine::Fast => self.read_many(socket, batch.space(self.slots * self.pitch))?,
            Engine::Portable => self.read_one(socket, batch.space(self.pitch))?,
        }
        let is_run = |label: &Label| label.stride.is_some();
        self.was_crowded |= self.labels.len() > 1 || self.labels.iter().flatten().any(is_run);
        self.has_found = true;
        Ok(())
    }

    /// Whether the last call is known to have taken all there was.
    pub(super) fn is_drained(&self) -> bool {
        self.engine == Engine::Fast && self.labels.len() < self.offered
    }

    /// Whether the last call has met a flood that should come coalesced.
    pub(super) fn is_flooded(&self) -> bool {
        self.may_coalesce && self.labels.len() >= FLOOD
    }

    /// Asks the kernel to hand over equal datagrams in one piece. There is no way back: what is coalesced already would come without
    /// its borders. Where the kernel cannot, datagrams go on coming one by one.
    pub(super) fn coalesce(&mut self, socket: &socket2::Socket) {
        options::coalesce(socket);
        self.may_coalesce = false;
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
        // The kernel shortens the lengths in the headers to what it wrote, and nobody restores them: take new ones each time.
        let mut headers = MultiHeaders::preallocate(self.slots, Some(control::room()));
        let flags = MsgFlags::MSG_TRUNC;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slots, flags, None)?;
        let labels = messages.map(|message| Label::read(&message));
        self.labels.extend(labels);
        self.slots = self.slots_for_next();
        Ok(())
    }

    /// A queue that fills all slots gets more of them, as far as their bytes fit the cache; otherwise those that were in use.
    fn slots_for_next(&self) -> usize {
        let count = self.labels.len();
        if self.is_drained() {
            return (count + 1).clamp(FEW_SLOTS, self.slots);
        }
        let labels = self.labels.iter().flatten();
        let bytes: usize = labels.map(|label| label.len).sum();
        let fitting = FILL / (bytes / count.max(1)).max(1);
        (count * 4).min(fitting).clamp(FEW_SLOTS, SLOTS)
    }
}
