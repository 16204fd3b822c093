//! What the system counts for a process: its memory, and the processor time it has used.
//! Both only tell of a fault where they are far too much: bounds are generous.

use std::fs;
use std::time::Duration;

use super::Running;

/// How often something may be slow before that is a fault of the program.
const ATTEMPTS: usize = 5;

/// Long enough for anything on its way to arrive.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// A line of /proc/PID/status, in kilobytes.
pub(crate) fn memory(running: &Running, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// The processor time a process has used, in hundredths of a second; also of one that has ended and is not waited for.
pub(crate) fn ticks(running: &Running) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A process that waits for a slow side does not spin.
pub(crate) fn is_calm(running: &Running) {
    let before = ticks(running);
    assert!(!running.has_ended_within(A_WHILE));
    // A tick is a hundredth of a second: spinning would use about thirty.
    assert!(ticks(running) - before < 10, "it spins");
}

/// Checks that one of several attempts takes less than this time: a busy machine may make any one of them slow.
#[track_caller]
pub(crate) fn takes_less_than(limit: Duration, attempt: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    for time in std::iter::repeat_with(attempt).take(ATTEMPTS) {
        if time < limit {
            return;
        }
        times.push(time);
    }
    panic!("took {times:?}, never less than {limit:?}");
}
