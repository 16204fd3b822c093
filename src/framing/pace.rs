//! The pace of the output: a rate, a delay between frames, or both.
//! It keeps one due time, which moves on by the cost of each frame. So late wake-ups do not add up.

use std::time::{Duration, Instant};

use super::frames::{Boundaries, Budget};

/// Delay that is made up for; what is beyond it is lost time.
const MAX_LAG: Duration = Duration::from_millis(500);

/// Shortest wait. Frames that become due meanwhile go together.
const MIN_WAIT: Duration = Duration::from_micros(250);

/// Late frames go in bursts that do not flood the receiver: this many bytes, or those of this time if they are more.
const BURST_SIZE: u64 = 64 << 10;
const BURST_TIME: Duration = Duration::from_millis(4);

/// Chunks of a stream in a second, so that one chunk delays others by a hundredth of a second at most.
const CHUNKS_PER_SECOND: u64 = 100;

/// Most bytes in a chunk of a stream.
const MAX_CHUNK_SIZE: u64 = 64 << 10;

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(1_000_000_000);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Pace of the output.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Bytes per second.
    rate: Option<u64>,
    /// Time from one frame to the next.
    delay: Duration,
    /// Time of the next frame; `None` before the first.
    due: Option<Instant>,
    /// Time before which late frames wait as well: they go at twice the pace, not all at once.
    catch_up: Option<Instant>,
}

impl Pace {
    /// Creates a pace of `rate` bytes a second with frames at least `delay` apart; `None` without any limit.
    pub fn new(rate: Option<u64>, delay: Option<Duration>) -> Option<Self> {
        let is_limited = rate.is_some() || delay.is_some();
        is_limited.then_some(Self {
            rate,
            delay: delay.unwrap_or_default(),
            due: None,
            catch_up: None,
        })
    }

    /// Returns the bytes of a stream that go together.
    pub fn chunk_size(&self) -> usize {
        let rate = self.rate.unwrap_or(u64::MAX);
        let size = (rate / CHUNKS_PER_SECOND).clamp(1, MAX_CHUNK_SIZE);
        usize::try_from(size).unwrap_or(usize::MAX)
    }

    /// Returns the time to wait for, if nothing may go now.
    pub fn wait(&self, now: Instant) -> Option<Instant> {
        match self.due {
            Some(due) if due > now => Some(due.max(now + MIN_WAIT)),
            _ => self.catch_up.filter(|&time| time > now + MIN_WAIT),
        }
    }

    /// Returns what may go now, if there is nothing to wait for.
    pub fn budget(&self, now: Instant, boundaries: Boundaries) -> Budget {
        let late = now.saturating_duration_since(self.due.unwrap_or(now));
        let bytes = self.rate.map_or(u64::MAX, |rate| {
            let burst = bytes_in(rate, BURST_TIME).max(BURST_SIZE);
            let least = match boundaries {
                // An empty frame would use up a budget of nothing.
                Boundaries::Kept { .. } => 1,
                Boundaries::Dropped => self.chunk_size() as u64,
            };
            bytes_in(rate, late).min(burst).max(least)
        });
        let frames = match self.delay.as_nanos() {
            0 => u64::MAX,
            delay => {
                let fitting = late.min(2 * MIN_WAIT).as_nanos() / delay;
                u64::try_from(fitting).map_or(u64::MAX, |more| more + 1)
            }
        };
        Budget { frames, bytes }
    }

    /// Accounts for frames and bytes that have gone.
    pub fn spend(&mut self, now: Instant, frames: u64, bytes: usize) {
        let due = self.due.unwrap_or(now);
        let due = now.checked_sub(MAX_LAG).map_or(due, |limit| due.max(limit));
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        let delay = self.delay.saturating_mul(frames);
        let cost = delay.max(self.time_for(bytes as u64));
        let after = |time: Instant, cost| time.checked_add(cost).unwrap_or(now + FOREVER);
        self.due = Some(after(due, cost));
        self.catch_up = Some(after(now, cost / 2));
    }

    /// Notes that there is nothing to send. The time until there is counts as lost, not as late.
    pub fn stall(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.max(now));
    }

    fn time_for(&self, bytes: u64) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            let nanos = u128::from(bytes) * NANOS_PER_SECOND;
            let nanos = nanos.div_ceil(u128::from(rate.max(1)));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        })
    }
}

/// Returns the bytes that go in a time.
fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / NANOS_PER_SECOND;
    u64::try_from(bytes).unwrap_or(u64::MAX)
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

    /// Returns the time that `count` frames of `len` bytes take if every wake-up is late by `late`.
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
        assert!(pace.wait(now).unwrap() >= now + MIN_WAIT);
    }

    #[test]
    fn late_frames_go_in_bursts() {
        let mut pace = pace(Some(1_000_000), None);
        let start = Instant::now();
        pace.spend(start, 1, 1000);
        let late = start + 301 * MILLI;
        assert_eq!(pace.wait(late), None);
        assert_eq!(pace.budget(late, KEPT).bytes, BURST_SIZE);
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
        assert_eq!(pace(Some(1), None).chunk_size(), 1);
        assert_eq!(pace(Some(100_000), None).chunk_size(), 1000);
        assert_eq!(pace(Some(1 << 40), None).chunk_size(), 65_536);
        assert_eq!(pace(None, Some(MILLI)).chunk_size(), 65_536);
        assert!(Pace::new(None, None).is_none());
    }
}
