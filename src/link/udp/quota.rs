//! How much is still to be received: `--count` and `--replies` in datagrams, `--max-bytes` in bytes.
//! Both limits are exact, and datagrams are never cut: one that would be too many or too much is the end.

use super::Settings;

/// What is left of the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    datagrams: Option<u64>,
    bytes: Option<u64>,
}

impl Quota {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            datagrams: settings.wanted,
            bytes: settings.max_bytes,
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_used_up(self) -> bool {
        self.datagrams == Some(0) || self.bytes == Some(0)
    }

    /// How many datagrams did not come, of those asked for. None where as many bytes as were asked for have come.
    pub(super) fn missing(self) -> Option<u64> {
        self.datagrams
            .filter(|&left| left > 0 && self.bytes != Some(0))
    }

    /// How many datagrams are within the limits, of a run that is `len` bytes long and cut every `stride` bytes.
    pub(super) fn admits(self, len: usize, stride: usize) -> usize {
        let within = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        let count = len.div_ceil(stride).max(1);
        let count = count.min(self.datagrams.map_or(usize::MAX, within));
        match self.bytes.map(within) {
            Some(left) if len.min(count * stride) > left => left / stride,
            _ => count,
        }
    }

    /// One has come that does not fit: there is no room any more.
    pub(super) fn refuse(&mut self) {
        self.bytes = self.bytes.map(|_| 0);
    }

    /// Takes `count` datagrams of `len` bytes together off what is left.
    pub(super) fn take(&mut self, len: usize, count: usize) {
        let less = |left: u64, taken: usize| left.saturating_sub(taken as u64);
        self.datagrams = self.datagrams.map(|left| less(left, count));
        self.bytes = self.bytes.map(|left| less(left, len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(datagrams: Option<u64>, bytes: Option<u64>, len: usize, stride: usize) -> usize {
        Quota { datagrams, bytes }.admits(len, stride)
    }

    #[test]
    fn without_limits_everything_is_admitted() {
        assert_eq!(admitted(None, None, 0, 1), 1);
        assert_eq!(admitted(None, None, 550, 100), 6);
    }

    #[test]
    fn only_whole_datagrams_are_admitted() {
        assert_eq!(admitted(Some(2), None, 550, 100), 2);
        assert_eq!(admitted(None, Some(549), 550, 100), 5);
        assert_eq!(admitted(None, Some(550), 550, 100), 6);
        assert_eq!(admitted(None, Some(99), 550, 100), 0);
        assert_eq!(admitted(Some(9), Some(200), 550, 100), 2);
    }

    #[test]
    fn what_is_taken_is_no_longer_left() {
        let mut quota = Quota {
            datagrams: Some(6),
            bytes: Some(550),
        };
        quota.take(500, 5);
        assert_eq!((quota.missing(), quota.is_used_up()), (Some(1), false));
        quota.take(50, 1);
        assert_eq!((quota.missing(), quota.is_used_up()), (None, true));
    }
}
