//! One child on its way out: end of input first, then time to finish, then SIGHUP, then SIGKILL.
//! Signals go to its process group, whose number is its own for as long as it is not reaped.

use std::process::{Child, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{Caller, Program};

/// How long a child may go on by itself once its conversation is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long it may go on after SIGHUP; and after SIGKILL, until it is given up.
const GRACE: Duration = Duration::from_secs(2);

/// A child that has not been reaped.
pub(super) struct Process {
    child: Child,
    pub(super) program: Rc<Program>,
    pub(super) caller: Caller,
    stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its conversation goes on.
    Attached,
    /// It has closed its output, and ends in its own time.
    StdoutClosed,
    /// Its group gets this signal at this time.
    Due(Signal, Instant),
    /// It was killed at this time.
    Killed(Instant),
}

impl Process {
    /// A child that was started for `caller`.
    pub(super) fn new(child: Child, program: Rc<Program>, caller: Caller) -> Self {
        Self {
            child,
            program,
            caller,
            stage: Stage::Attached,
        }
    }

    /// Its process number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output has ended: from now on it may take its time.
    pub(super) fn stdout_closed(&mut self) {
        if self.stage == Stage::Attached {
            self.stage = Stage::StdoutClosed;
        }
    }

    /// Its conversation is over: it should end, unless it had closed its output before.
    pub(super) fn detach(&mut self, now: Instant) {
        if self.stage == Stage::Attached {
            self.stage = Stage::Due(Signal::HUP, now + PATIENCE);
        }
    }

    /// The run is over: it should end in any case.
    pub(super) fn expire(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Attached | Stage::StdoutClosed) {
            self.stage = Stage::Due(Signal::HUP, now + PATIENCE);
        }
    }

    /// Makes a signal that is due later due now.
    pub(super) fn kill_now(&mut self, now: Instant) {
        if let Stage::Due(_, time) = &mut self.stage {
            *time = now;
        }
    }

    /// Reaps it if it has ended, or sends the signal that is due.
    pub(super) fn reap(&mut self, now: Instant) -> Option<ExitStatus> {
        // While it talks it is not reaped, so that its number stays that of its group: others in there may go on talking.
        if self.stage == Stage::Attached {
            return None;
        }
        let pid = Pid::from_child(&self.child);
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_ended = !matches!(waitid(WaitId::Pid(pid), peek), Ok(None));
        if let Stage::Due(signal, time) = self.stage
            && (has_ended || time <= now)
        {
            // Whoever is left of the group is told; it may be that nobody is.
            let _ = kill_process_group(pid, signal);
            if !has_ended {
                self.stage = match signal {
                    Signal::HUP => Stage::Due(Signal::KILL, now + GRACE),
                    _ => Stage::Killed(now),
                };
            }
        }
        // The error would be that somebody else has reaped it, which nobody does.
        has_ended.then(|| self.child.wait().unwrap_or_default())
    }

    /// Whether it was told to end.
    pub(super) fn was_killed(&self) -> bool {
        matches!(self.stage, Stage::Due(Signal::KILL, _) | Stage::Killed(_))
    }

    /// When the next signal is due.
    pub(super) fn next_signal(&self) -> Option<Instant> {
        match self.stage {
            Stage::Due(_, time) => Some(time),
            _ => None,
        }
    }

    /// Until when it is worth waiting for, if it was killed.
    pub(super) fn give_up_time(&self) -> Option<Instant> {
        match self.stage {
            Stage::Killed(time) => Some(time + GRACE),
            _ => None,
        }
    }
}
