//! When the next frame may go: a rate, a delay, or both.
//! There is one moment at which it is due; it moves on by what each frame costs, so that late wake-ups do not add up.

use std::time::{Duration, Instant};

use super::frames::{Boundaries, Budget};

/// What is late by more than this is not made up for.
const HASTE: Duration = Duration::from_millis(500);

/// Waits are at least so long; what becomes due meanwhile goes together.
const TICK: Duration = Duration::from_micros(250);

/// What is late goes in portions, so that it does not flood the receiver: these bytes, or what goes in this time if that is more.
const PORTION: u64 = 64 << 10;
const PORTION_TIME: Duration = Duration::from_millis(4);

/// How long a piece of a stream may keep others waiting: a hundredth of a second's worth.
const PIECES_PER_SECOND: u64 = 100;

/// The most bytes in a piece of a stream.
const LARGEST_PIECE: u64 = 64 << 10;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1_000_000_000);

const NANOS: u128 = 1_000_000_000;

/// The pace of what is sent.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes in a second.
    rate: Option<u64>,
    /// From one frame to the next.
    delay: Duration,
    /// When the next frame may go; none has gone yet where there is no such time.
    due: Option<Instant>,
    /// Before that time also what is late has to wait: it goes at twice the pace, not at once.
    rested: Option<Instant>,
}

impl Pace {
    /// A pace of `rate` bytes a second, with frames at least `delay` apart; `None` if there is no limit at all.
    #[must_use]
    pub fn new(rate: Option<u64>, delay: Option<Duration>) -> Option<Self> {
        let is_limited = rate.is_some() || delay.is_some();
        is_limited.then_some(Self {
            rate,
            delay: delay.unwrap_or_default(),
            due: None,
            rested: None,
        })
    }

    /// The bytes of a stream that go together.
    #[must_use]
    pub fn piece(&self) -> u64 {
        let rate = self.rate.unwrap_or(u64::MAX);
        (rate / PIECES_PER_SECOND).clamp(1, LARGEST_PIECE)
    }

    /// When to ask again, where it is too early now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        match self.due {
            Some(due) if due > now => Some(due.max(now + TICK)),
            _ => self.rested.filter(|&rested| rested > now + TICK),
        }
    }

    /// What may go now, if it is not too early.
    #[must_use]
    pub fn budget(&self, now: Instant, boundaries: Boundaries) -> Budget {
        let late = now.saturating_duration_since(self.due.unwrap_or(now));
        let bytes = self.rate.map_or(u64::MAX, |rate| {
            let portion = worth(rate, PORTION_TIME).max(PORTION);
            let least = match boundaries {
                // A budget of nothing would be used up by an empty frame.
                Boundaries::Kept { .. } => 1,
                Boundaries::Dropped => self.piece(),
            };
            worth(rate, late).min(portion).max(least)
        });
        let frames = match self.delay.as_nanos() {
            0 => u64::MAX,
            delay => {
                let fitting = late.min(2 * TICK).as_nanos() / delay;
                u64::try_from(fitting).map_or(u64::MAX, |more| more + 1)
            }
        };
        Budget { frames, bytes }
    }

    /// So many frames and bytes have gone.
    pub fn spend(&mut self, now: Instant, frames: u64, bytes: usize) {
        let due = self.due.unwrap_or(now);
        let due = now.checked_sub(HASTE).map_or(due, |limit| due.max(limit));
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        let delay = self.delay.saturating_mul(frames);
        let cost = delay.max(self.time_for(bytes as u64));
        // A time that does not fit is as good as never.
        let after = |time: Instant, cost| time.checked_add(cost).unwrap_or(now + NEVER);
        self.due = Some(after(due, cost));
        self.rested = Some(after(now, cost / 2));
    }

    /// There is nothing to send: the time that passes until there is gives no right to haste.
    pub fn stall(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.max(now));
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            let nanos = u128::from(bytes) * NANOS;
            let nanos = nanos.div_ceil(u128::from(rate.max(1)));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }
}

/// How many bytes go in a time.
fn worth(rate: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / NANOS).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const KEPT: Boundaries = Boundaries::Kept { limit: 65_507 };
    const MILLI: Duration = Duration::from_millis(1);

    fn pace(rate: Option<u64>, delay: Option<Duration>) -> Pace {
        Pace::new(rate, delay).unwrap()
    }

    /// How long `count` frames of `len` bytes take where every wake-up is late by `late`.
    fn time_of(pace: &mut Pace, count: u64, len: usize, late: Duration) -> Duration {
        let start = Instant::now();
        let (mut now, mut left) = (start, count);
        loop {
            if let Some(due) = pace.wait(now) {
                now = due + late;
            }
            let budget = pace.budget(now, KEPT);
            let fitting = budget.bytes.div_ceil(len as u64).min(budget.frames).max(1);
            let gone = fitting.min(left);
            pace.spend(now, gone, len * usize::try_from(gone).unwrap());
            left -= gone;
            if left == 0 {
                return now - start;
            }
        }
    }

    #[test]
    fn a_rate_is_exact_over_time() {
        for late in [Duration::ZERO, MILLI, 20 * MILLI] {
            let mut pace = pace(Some(1_000_000), None);
            let time = time_of(&mut pace, 10_000, 1000, late);
            let exact = 10_000 * MILLI;
            let off = time.abs_diff(exact);
            assert!(off <= 25 * MILLI + late, "{time:?} with {late:?}");
        }
    }

    #[test]
    fn a_delay_is_exact_over_time() {
        for late in [Duration::ZERO, 3 * MILLI] {
            let mut pace = pace(None, Some(10 * MILLI));
            let time = time_of(&mut pace, 101, 1000, late);
            assert!(time.abs_diff(1000 * MILLI) <= late, "{time:?}");
        }
    }

    #[test]
    fn waiting_is_never_busy() {
        let mut pace = pace(Some(1 << 30), None);
        let now = Instant::now();
        pace.spend(now, 1, 1);
        assert!(pace.wait(now).unwrap() >= now + TICK);
    }

    #[test]
    fn what_is_late_goes_in_portions() {
        let mut pace = pace(Some(1_000_000), None);
        let start = Instant::now();
        pace.spend(start, 1, 1000);
        let late = start + 301 * MILLI;
        assert_eq!(pace.wait(late), None);
        assert_eq!(pace.budget(late, KEPT).bytes, PORTION);
        pace.spend(late, 65, 65_000);
        assert_eq!(pace.wait(late), Some(late + Duration::from_micros(32_500)));
    }

    #[test]
    fn neither_a_stall_nor_a_long_sleep_is_made_up_for() {
        let mut pace = pace(Some(1000), None);
        let start = Instant::now();
        pace.spend(start, 1, 1000);
        let later = start + 60_000 * MILLI;
        pace.stall(later);
        assert_eq!(pace.budget(later, KEPT).bytes, 1);
        pace.spend(later, 1, 1000);
        let much_later = later + 60_000 * MILLI;
        pace.spend(much_later, 1, 1);
        assert!(pace.budget(much_later, KEPT).bytes <= 500);
    }

    #[test]
    fn a_stream_goes_in_pieces() {
        assert_eq!(pace(Some(1), None).piece(), 1);
        assert_eq!(pace(Some(100_000), None).piece(), 1000);
        assert_eq!(pace(Some(1 << 40), None).piece(), LARGEST_PIECE);
        assert_eq!(pace(None, Some(MILLI)).piece(), LARGEST_PIECE);
        assert!(Pace::new(None, None).is_none());
    }
}
