//! Datagrams that the kernel dropped because the socket's buffer was full.
//! The count comes with datagrams (`SO_RXQ_OVFL`), as old as they are, and can be asked for (`SO_MEMINFO`); a flood of drops is told in sums.

use std::time::{Duration, Instant};

/// While datagrams keep coming, drops are told so often at the most.
const INTERVAL: Duration = Duration::from_millis(100);

/// The drops of a socket.
#[derive(Debug, Default)]
pub(super) struct Drops {
    total: u64,
    untold: u64,
    /// The kernel's count, which starts again after 2^32.
    count: u32,
    told: Option<Instant>,
    /// Whether what the kernel counts may be several datagrams at once.
    counts_packets: bool,
    may_be_more: bool,
}

impl Drops {
    /// How many there were.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether there may have been more.
    pub(super) fn may_be_more(&self) -> bool {
        self.may_be_more
    }

    /// From now on a drop may be of datagrams that are coalesced, which the kernel counts as one.
    pub(super) fn count_packets(&mut self) {
        self.counts_packets = true;
    }

    /// Takes note of the kernel's count, which may be that of an older moment.
    pub(super) fn note(&mut self, count: u32) {
        let new = count.wrapping_sub(self.count);
        if new > 0 && new < u32::MAX / 2 {
            self.may_be_more |= self.counts_packets;
            self.count = count;
            self.total += u64::from(new);
            self.untold += u64::from(new);
        }
    }

    /// How many are to be told now, while more may come.
    pub(super) fn take_due(&mut self) -> Option<u64> {
        let is_early = |told: Instant| told.elapsed() < INTERVAL;
        match self.untold {
            0 => None,
            _ if self.told.is_some_and(is_early) => None,
            _ => self.take_untold(),
        }
    }

    /// How many are not told yet.
    pub(super) fn take_untold(&mut self) -> Option<u64> {
        let count = std::mem::take(&mut self.untold);
        (count > 0).then(|| {
            self.told = Some(Instant::now());
            count
        })
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
        assert_eq!((drops.total(), drops.take_untold()), (7, Some(7)));
        drops.count = u32::MAX;
        drops.note(1);
        assert_eq!((drops.total(), drops.take_untold()), (9, Some(2)));
        assert_eq!(drops.take_untold(), None);
    }

    #[test]
    fn drops_are_exact_until_datagrams_come_coalesced() {
        let mut drops = Drops::default();
        drops.note(3);
        drops.count_packets();
        drops.note(3);
        assert!(!drops.may_be_more());
        drops.note(4);
        assert!(drops.may_be_more());
    }

    #[test]
    fn a_flood_is_told_in_sums() {
        let mut drops = Drops::default();
        drops.note(1);
        assert_eq!(drops.take_due(), Some(1));
        drops.note(3);
        drops.told = drops.told.and_then(|told| told.checked_add(INTERVAL));
        assert_eq!(drops.take_due(), None);
        drops.told = None;
        assert_eq!(drops.take_due(), Some(2));
        assert_eq!(drops.take_due(), None);
    }
}
