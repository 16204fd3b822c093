//! Resources that a process uses: memory and processor time.
//! Bounds on them are generous: they only catch leaks and busy loops.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::{BOUND, Running};

/// A time in which anything sent over loopback arrives. If it is too short, a test can miss a fault, but not report one.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// Returns a value of /proc/PID/status, in kilobytes.
pub(crate) fn memory(running: &Running, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let number = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Returns the processor time of a process, in hundredths of a second. The process may be a zombie.
pub(crate) fn ticks(running: &Running) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Waits for a condition that no descriptor reports.
#[track_caller]
pub(crate) fn eventually(mut is_met: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !is_met() {
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Checks that a waiting process uses no processor time.
pub(crate) fn is_calm(running: &Running) {
    let before = ticks(running);
    assert!(!running.has_ended_within(A_WHILE));
    // A tick is a hundredth of a second: a busy loop would use about thirty.
    assert!(ticks(running) - before < 10, "it spins");
}
