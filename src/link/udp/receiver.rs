//! Receiver: slots that recvmmsg(2) or recvmsg(2) fills, as many datagrams a call as have come, and the count of those dropped.
//! Each datagram, or run that the kernel coalesced, has a slot of its own; a slot that nothing lands in costs nothing.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, recvmsg};

use super::handle::Handle;
use super::message::{CONTROL_SIZE, RecvMeta};
use super::{Owner, Settings};
use crate::batch::Batch;
use crate::pump::rules::Engine;
use crate::sys::sockopt::dropped;
use crate::tap::{Event, KernelDrop, Taps};

/// Number of slots at most, and while datagrams come one by one: an empty second slot shows that no other datagram is there.
const MAX_SLOTS: usize = 64;
const MIN_SLOTS: usize = 2;

/// Bytes that one call should not exceed by much, so that they stay in the processor's cache.
const CACHED_SIZE: usize = 1 << 20;

/// Number of datagrams in one call from which the kernel is asked to coalesce them.
const FLOOD: usize = 32;

/// Size of the largest run that the kernel coalesces: the most that an IPv6 packet can carry (RFC 8200, 3).
const MAX_RUN: usize = 65_527;

/// Least time between two reports of drops while datagrams keep coming.
const DROP_REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Receiving side of a socket.
pub(super) struct Receiver {
    /// One for each slot that the last call filled; `None` if the datagram had no address.
    pub(super) metas: Vec<Option<RecvMeta>>,
    /// Datagrams that were not passed on, not kept whole, and not taken by the kernel.
    pub(super) ignored: u64,
    pub(super) truncated: u64,
    pub(super) drops: Drops,
    /// Bytes of a datagram that are kept.
    pub(super) max_datagram: usize,
    /// Many datagrams a call, or one.
    engine: Engine,
    /// Number of slots of the last call, and of the next.
    offered: usize,
    slots: usize,
    /// The kernel can be asked to coalesce datagrams.
    may_coalesce: bool,
    /// Datagrams have queued since the last burst was over.
    was_crowded: bool,
}

impl Receiver {
    pub(super) fn new(settings: &Settings) -> Self {
        let max_datagram = settings.max_datagram.unwrap_or(65_535).clamp(1, 65_535);
        // A call for many datagrams may take more than the limits let pass.
        let engine = match settings.owner {
            Owner::Run => settings.engine,
            Owner::Others => Engine::Portable,
        };
        Self {
            metas: Vec::new(),
            ignored: 0,
            truncated: 0,
            drops: Drops::default(),
            max_datagram,
            engine,
            offered: 0,
            slots: MIN_SLOTS,
            may_coalesce: engine == Engine::Fast && max_datagram >= MAX_RUN,
            was_crowded: false,
        }
    }

    /// Returns the number of bytes from one slot to the next.
    pub(super) fn slot_size(&self) -> usize {
        self.max_datagram.next_multiple_of(64)
    }

    /// Takes what is queued, into slots from the front of the batch.
    pub(super) fn read(&mut self, handle: &Handle, batch: &mut Batch) -> nix::Result<()> {
        self.metas.clear();
        // There may be very many such sockets that are idle.
        self.metas.shrink_to(self.slots);
        self.offered = self.slots;
        match self.engine {
            Engine::Fast => {
                let space = batch.space(self.slots * self.slot_size());
                match self.read_many(handle, space) {
                    Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => {
                        // A sandbox may forbid the call, and nothing else.
                        (self.engine, self.may_coalesce) = (Engine::Portable, false);
                        return self.read(handle, batch);
                    }
                    read => read?,
                }
            }
            Engine::Portable => self.read_one(handle, batch.space(self.slot_size()))?,
        }
        let is_run = |meta: &RecvMeta| meta.stride.is_some();
        self.was_crowded |= self.metas.len() > 1 || self.metas.iter().flatten().any(is_run);
        Ok(())
    }

    fn read_one(&mut self, handle: &Handle, space: &mut [u8]) -> nix::Result<()> {
        let mut slot = [IoSliceMut::new(&mut space[..self.max_datagram])];
        let mut control = [0; CONTROL_SIZE];
        let (fd, flags) = (handle.socket.as_raw_fd(), MsgFlags::MSG_TRUNC);
        let message = recvmsg::<SockaddrStorage>(fd, &mut slot, Some(&mut control), flags)?;
        self.metas.push(RecvMeta::read(&message));
        Ok(())
    }

    fn read_many(&mut self, handle: &Handle, space: &mut [u8]) -> nix::Result<()> {
        let mut parts = space.chunks_exact_mut(self.slot_size());
        let mut slots: [_; MAX_SLOTS] = std::array::from_fn(|_| {
            let part = parts.next().unwrap_or_default();
            let len = part.len().min(self.max_datagram);
            [IoSliceMut::new(&mut part[..len])]
        });
        // The kernel shortens the lengths in the headers to what it wrote, so each call takes new ones.
        let mut headers = MultiHeaders::preallocate(self.slots, Some(RecvMeta::space()));
        let (fd, flags) = (handle.socket.as_raw_fd(), MsgFlags::MSG_TRUNC);
        let messages = recvmmsg(fd, &mut headers, &mut slots, flags, None)?;
        self.metas
            .extend(messages.map(|message| RecvMeta::read(&message)));
        self.slots = self.slots_for_next();
        Ok(())
    }

    /// Returns more slots after a call that filled all, as far as their bytes fit the cache; otherwise those that were in use.
    fn slots_for_next(&self) -> usize {
        let count = self.metas.len();
        if self.is_drained() {
            return (count + 1).clamp(MIN_SLOTS, self.slots);
        }
        let bytes: usize = self.metas.iter().flatten().map(|meta| meta.len).sum();
        let fitting = CACHED_SIZE / (bytes / count.max(1)).max(1);
        (count * 4).min(fitting).clamp(MIN_SLOTS, MAX_SLOTS)
    }

    /// Returns true if the last call is known to have taken all there was.
    fn is_drained(&self) -> bool {
        self.engine == Engine::Fast && self.metas.len() < self.offered
    }

    /// Returns the number of datagrams that are known to be lost: dropped by the kernel, or truncated.
    pub(super) fn lost(&self) -> u64 {
        self.drops.total + self.truncated
    }

    /// Counts and reports the drops that the last call has shown.
    ///
    /// The kernel is asked at the end of a burst, where no later datagram tells of them, and for the last time before it coalesces
    /// datagrams: it drops those together, and counts one. There is no way back: what is coalesced already would come without its
    /// boundaries.
    pub(super) fn note_drops(&mut self, handle: &Handle, taps: &mut Taps) {
        let mut metas = self.metas.iter().flatten().rev();
        if let Some(count) = metas.find_map(|meta| meta.drops) {
            self.drops.note(count);
        }
        if self.may_coalesce && self.metas.len() >= FLOOD {
            self.drops.check(handle, taps);
            handle.enable_gro();
            self.drops.counts_runs = true;
            self.may_coalesce = false;
        } else if self.is_drained() && std::mem::take(&mut self.was_crowded) {
            self.drops.check(handle, taps);
        } else {
            if self.engine == Engine::Portable {
                // Each datagram may be the last of a burst.
                self.drops.ask(handle);
            }
            self.drops.report(DROP_REPORT_INTERVAL, handle, taps);
        }
    }
}

/// Datagrams that the kernel dropped because the buffer of the socket was full.
///
/// The kernel's count comes with datagrams (`SO_RXQ_OVFL`), as old as they are, and can be asked for (`SO_MEMINFO`).
#[derive(Debug, Default)]
pub(super) struct Drops {
    pub(super) total: u64,
    /// There may have been more than the total.
    pub(super) may_be_more: bool,
    unreported: u64,
    /// Time of the last report.
    reported: Option<Instant>,
    /// The kernel's count, which starts again after 2^32.
    count: u32,
    /// The kernel may count several datagrams as one.
    counts_runs: bool,
}

impl Drops {
    /// Notes the kernel's count, which may be that of an older moment.
    fn note(&mut self, count: u32) {
        let new = count.wrapping_sub(self.count);
        if new > 0 && new < u32::MAX / 2 {
            self.may_be_more |= self.counts_runs;
            self.count = count;
            self.total += u64::from(new);
            self.unreported += u64::from(new);
        }
    }

    /// Notes the kernel's present count.
    fn ask(&mut self, handle: &Handle) {
        if let Ok(count) = dropped(&handle.socket) {
            self.note(count);
        }
    }

    /// Notes the kernel's present count, and reports the drops that are not reported yet.
    pub(super) fn check(&mut self, handle: &Handle, taps: &mut Taps) {
        self.ask(handle);
        self.report(Duration::ZERO, handle, taps);
    }

    fn report(&mut self, interval: Duration, handle: &Handle, taps: &mut Taps) {
        if let Some(datagrams) = self.take_unreported(interval) {
            taps.emit(&Event::Dropped(KernelDrop {
                socket: &handle.identity(),
                datagrams,
                at_least: self.may_be_more,
            }));
        }
    }

    /// Returns the number that is not reported yet, unless the last report is more recent than this.
    fn take_unreported(&mut self, interval: Duration) -> Option<u64> {
        let is_recent = |reported: Instant| reported.elapsed() < interval;
        if self.unreported == 0 || self.reported.is_some_and(is_recent) {
            return None;
        }
        self.reported = Some(Instant::now());
        Some(std::mem::take(&mut self.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_counts_once_also_when_the_count_starts_again() {
        let mut drops = Drops::default();
        for count in [0, 3, 3, 2, 7] {
            drops.note(count);
        }
        assert_eq!(
            (drops.total, drops.take_unreported(Duration::ZERO)),
            (7, Some(7))
        );
        drops.count = u32::MAX;
        drops.note(1);
        assert_eq!(
            (drops.total, drops.take_unreported(Duration::ZERO)),
            (9, Some(2))
        );
        assert_eq!(drops.take_unreported(Duration::ZERO), None);
    }

    #[test]
    fn drops_are_exact_until_datagrams_come_coalesced() {
        let mut drops = Drops::default();
        drops.note(3);
        drops.counts_runs = true;
        drops.note(3);
        assert!(!drops.may_be_more);
        drops.note(4);
        assert!(drops.may_be_more);
    }

    #[test]
    fn drops_in_quick_succession_are_reported_in_sums() {
        let mut drops = Drops::default();
        drops.note(1);
        assert_eq!(drops.take_unreported(DROP_REPORT_INTERVAL), Some(1));
        drops.note(3);
        drops.reported = (drops.reported).and_then(|time| time.checked_add(DROP_REPORT_INTERVAL));
        assert_eq!(drops.take_unreported(DROP_REPORT_INTERVAL), None);
        drops.reported = None;
        assert_eq!(drops.take_unreported(DROP_REPORT_INTERVAL), Some(2));
        assert_eq!(drops.take_unreported(DROP_REPORT_INTERVAL), None);
    }
}
