//! The machine: its description, and the CPU time that other processes use on it.
//! A figure is valid only for its machine, and only if other processes were idle.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::UsageWho;

use crate::processes::cpu_of;

/// Describes kernel, processor and congestion control in one line.
pub(crate) fn description() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(": ").nth(1));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let control = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    format!(
        "Linux {}, {cores} CPUs ({}), TCP congestion control {}",
        kernel.trim(),
        model.unwrap_or("unknown"),
        control.unwrap_or_default().trim()
    )
}

/// Meter of the CPU time that other processes use during a measurement.
pub(crate) struct Watch {
    began: Instant,
    all: Duration,
    own: Duration,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            all: busy(),
            own: own(),
        }
    }

    /// Share of one CPU that other processes have used since the start.
    pub(crate) fn disturbance(&self) -> f64 {
        let all = busy().saturating_sub(self.all).as_secs_f64();
        let own = own().saturating_sub(self.own).as_secs_f64();
        ((all - own) / self.began.elapsed().as_secs_f64()).max(0.0)
    }
}

/// CPU time of this process and of the children that it has waited for.
fn own() -> Duration {
    let of = |who| cpu_of(who).unwrap_or_default();
    of(UsageWho::RUSAGE_SELF) + of(UsageWho::RUSAGE_CHILDREN)
}

/// CPU time of all processes, with the time stolen by a hypervisor (`proc_stat(5)`: idle and iowait are the 4th and 5th numbers).
fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let words = text.split_whitespace().skip(1).take(8);
    let ticks: u64 = words
        .enumerate()
        .filter(|(place, _)| !matches!(place, 3 | 4))
        .filter_map(|(_, word)| word.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}
