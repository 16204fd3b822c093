//! The processes of one run: they are started, waited for up to a deadline, and killed with it.
//! Only processes that were started here are killed, and their descendants.

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

/// Time limit of a run.
const LONGEST_RUN: Duration = Duration::from_secs(30);

/// All processes of one run; those that still run at its end are killed.
pub(crate) struct Processes {
    list: Vec<Process>,
    deadline: Instant,
}

/// The index of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessId(usize);

struct Process {
    name: String,
    child: Child,
    handle: OwnedFd,
    stderr: Option<PipeReader>,
    end: Option<End>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// CPU time of the process and of the children that it has waited for.
    pub(crate) cpu: Duration,
    pub(crate) at: Instant,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            deadline: Instant::now() + LONGEST_RUN,
        }
    }

    /// Remaining time of this run.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Starts a process.
    pub(crate) fn start(
        &mut self,
        line: &Line,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
    ) -> anyhow::Result<ProcessId> {
        let mut command = Command::new(&line.program);
        command.args(&line.words).stdin(stdin).stdout(stdout);
        let stderr = if let Some(path) = &line.stderr {
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
        self.list.push(Process {
            name,
            child,
            handle,
            stderr,
            end: None,
        });
        Ok(ProcessId(self.list.len() - 1))
    }

    /// The PID of a process.
    pub(crate) fn pid(&self, id: ProcessId) -> u32 {
        self.list[id.0].child.id()
    }

    /// Waits for a process to end, for at most `limit`.
    pub(crate) fn wait(&mut self, id: ProcessId, limit: Duration) -> anyhow::Result<Option<End>> {
        let limit = limit.min(self.left());
        let process = &mut self.list[id.0];
        if process.end.is_none() && becomes_readable(process.handle.as_fd(), limit)? {
            process.reap()?;
        }
        Ok(process.end)
    }

    /// Waits for a process to end for at most `timeout`, then sends SIGTERM, then SIGKILL.
    pub(crate) fn end(&mut self, id: ProcessId, timeout: Duration) -> anyhow::Result<End> {
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            if let Some(signal) = signal {
                self.signal(id, signal);
            }
            let limit = if signal.is_none() {
                timeout
            } else {
                Duration::from_secs(1)
            };
            if let Some(end) = self.wait(id, limit)? {
                return Ok(end);
            }
        }
        bail!("{} cannot be ended", self.list[id.0].name)
    }

    /// Sends a signal to a process, unless it has ended.
    pub(crate) fn signal(&mut self, id: ProcessId, signal: Signal) {
        let process = &self.list[id.0];
        if process.end.is_none() {
            // It may have ended by now.
            let _ = pidfd_send_signal(&process.handle, signal);
        }
    }

    /// Reads the standard error of a process, for an error message.
    pub(crate) fn error_text(&mut self, id: ProcessId) -> String {
        let mut text = [0; 300];
        let process = &mut self.list[id.0];
        let count = match &mut process.stderr {
            Some(pipe) if becomes_readable(pipe.as_fd(), Duration::ZERO).unwrap_or(false) => {
                pipe.read(&mut text).unwrap_or(0)
            }
            _ => 0,
        };
        let text = String::from_utf8_lossy(&text[..count]);
        format!("{}: {}", process.name, text.trim())
    }

    /// Kills all processes that still run.
    pub(crate) fn clear(&mut self) {
        for process in &mut self.list {
            if process.end.is_none() {
                // Neither can fail: the process is a child that was not waited for yet.
                let _ = process.child.kill();
                let _ = process.reap();
            }
        }
        end_adopted();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Process {
    /// Waits for a process that has ended or is about to end.
    fn reap(&mut self) -> anyhow::Result<()> {
        let at = Instant::now();
        let before = cpu_of(UsageWho::RUSAGE_CHILDREN)?;
        let status = self.child.wait()?;
        let cpu = cpu_of(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(before);
        self.end = Some(End { status, cpu, at });
        Ok(())
    }
}

/// CPU time used by this process, or by the children that it has waited for.
pub(crate) fn cpu_of(who: UsageWho) -> anyhow::Result<Duration> {
    let usage = getrusage(who)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(
        micros.iter().sum::<i64>().unsigned_abs(),
    ))
}

/// Waits until `fd` is readable or at its end, for at most `limit`.
pub(crate) fn becomes_readable(fd: BorrowedFd<'_>, limit: Duration) -> anyhow::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&Timespec::try_from(limit)?))? > 0)
}

fn pid_of(child: &Child) -> anyhow::Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("a child without a PID")
}

/// Lists the children of a process (`proc(5)`).
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

/// Kills the processes that a tool has left behind; this process, as subreaper, is their parent now.
fn end_adopted() {
    for pid in children_of("self").into_iter().filter_map(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    }
}
