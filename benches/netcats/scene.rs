//! The processes of one run: started, waited for within a bound, and ended with it.
//! Only what was started here is ever ended, and whatever that has started in turn.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

use crate::tools::Line;

/// The longest that any run may take.
const LONGEST_RUN: Duration = Duration::from_secs(30);

/// All processes of one run; what is still there at its end is ended.
pub(crate) struct Scene {
    processes: Vec<Process>,
    deadline: Instant,
}

/// A process of a scene, by its place in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor(usize);

struct Process {
    name: String,
    child: Child,
    handle: OwnedFd,
    complaints: Option<PipeReader>,
    end: Option<End>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// CPU time of it and of the children it has waited for.
    pub(crate) cpu: Duration,
    pub(crate) at: Instant,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            processes: Vec::new(),
            deadline: Instant::now() + LONGEST_RUN,
        }
    }

    /// How much time is left for this run.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Starts a process.
    pub(crate) fn start(
        &mut self,
        line: &Line,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
    ) -> anyhow::Result<Actor> {
        let mut command = Command::new(&line.program);
        command.args(&line.words).stdin(stdin).stdout(stdout);
        let complaints = if let Some(path) = &line.stderr {
            command.stderr(File::create(path)?);
            None
        } else {
            let (reader, writer) = std::io::pipe()?;
            command.stderr(writer);
            Some(reader)
        };
        let name = line.program.display().to_string();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let handle = pidfd_open(pid_of(&child)?, PidfdFlags::empty())?;
        self.processes.push(Process {
            name,
            child,
            handle,
            complaints,
            end: None,
        });
        Ok(Actor(self.processes.len() - 1))
    }

    /// The number of a process.
    pub(crate) fn pid(&self, actor: Actor) -> u32 {
        self.processes[actor.0].child.id()
    }

    /// How a process ended, if it does within `limit`.
    pub(crate) fn wait(&mut self, actor: Actor, limit: Duration) -> anyhow::Result<Option<End>> {
        let limit = limit.min(self.left());
        let process = &mut self.processes[actor.0];
        if process.end.is_none() && becomes_readable(process.handle.as_fd(), limit)? {
            process.reap()?;
        }
        Ok(process.end)
    }

    /// How a process ended, which should do so by itself soon: if not, it is made to.
    pub(crate) fn end(&mut self, actor: Actor, patience: Duration) -> anyhow::Result<End> {
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            if let Some(signal) = signal {
                self.signal(actor, signal);
            }
            let limit = if signal.is_none() {
                patience
            } else {
                Duration::from_secs(1)
            };
            if let Some(end) = self.wait(actor, limit)? {
                return Ok(end);
            }
        }
        bail!("{} cannot be ended", self.processes[actor.0].name)
    }

    /// Sends a signal to a process, unless it has ended.
    pub(crate) fn signal(&mut self, actor: Actor, signal: Signal) {
        let process = &self.processes[actor.0];
        if process.end.is_none() {
            // It may end just now.
            let _ = pidfd_send_signal(&process.handle, signal);
        }
    }

    /// What a process says of itself, for an error message.
    pub(crate) fn complaint(&mut self, actor: Actor) -> String {
        let mut text = [0; 300];
        let process = &mut self.processes[actor.0];
        let count = match &mut process.complaints {
            Some(pipe) if becomes_readable(pipe.as_fd(), Duration::ZERO).unwrap_or(false) => {
                pipe.read(&mut text).unwrap_or(0)
            }
            _ => 0,
        };
        let text = String::from_utf8_lossy(&text[..count]);
        format!("{}: {}", process.name, text.trim())
    }

    /// Ends whatever is still there.
    pub(crate) fn clear(&mut self) {
        for process in &mut self.processes {
            if process.end.is_none() {
                // The process is ours and not yet waited for: there is nothing else that these could fail by.
                let _ = process.child.kill();
                let _ = process.reap();
            }
        }
        end_adopted();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Process {
    /// Waits for a process that has ended or is about to.
    fn reap(&mut self) -> anyhow::Result<()> {
        let at = Instant::now();
        let before = cpu_of(UsageWho::RUSAGE_CHILDREN)?;
        let status = self.child.wait()?;
        let cpu = cpu_of(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(before);
        self.end = Some(End { status, cpu, at });
        Ok(())
    }
}

/// CPU time used so far, by this process or by the children it has waited for.
pub(crate) fn cpu_of(who: UsageWho) -> anyhow::Result<Duration> {
    let usage = getrusage(who)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(
        micros.iter().sum::<i64>().unsigned_abs(),
    ))
}

/// Waits until there is something to read, or the end, for `limit` at the most.
pub(crate) fn becomes_readable(fd: BorrowedFd<'_>, limit: Duration) -> anyhow::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::try_from(limit)?))? > 0)
}

fn pid_of(child: &Child) -> anyhow::Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("a child without a number")
}

/// The children of a process, as the kernel lists them.
pub(crate) fn children_of(pid: &str) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let lists = tasks.into_iter().flatten().flatten();
    let lists = lists.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Ends the processes that a tool has left behind: they have become ours.
fn end_adopted() {
    for pid in children_of("self").into_iter().filter_map(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
}
