//! Supervisor of the child processes of a run: it limits their number, reaps them, and leaves none behind.
//! Each child leads its own process group. After its conversation it has some time, then it gets SIGHUP, then SIGKILL.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpid,
};
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level;

use super::{Caller, Program};
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe_status};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::sys::inherited::hide_descriptors;
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{ChildEnd, Event, Taps};

/// Time between the end of a conversation and SIGHUP.
const HANGUP_DELAY: Duration = Duration::from_secs(1);

/// Time between SIGHUP and SIGKILL, and between SIGKILL and giving up.
const KILL_DELAY: Duration = Duration::from_secs(2);

/// Supervisor of all children of a run. Clones share their state.
///
/// In the pump it is an end without bytes: it reaps children and sends signals that are due.
#[derive(Clone)]
pub struct Supervisor(Rc<Inner>);

struct Inner {
    program: Program,
    /// Most children at once.
    limit: usize,
    /// Readable when a child has exited (SIGCHLD) or changed its stage.
    wake: UnixStream,
    bell: UnixStream,
    /// Readable while there is room for another child (eventfd(2)).
    room: OwnedFd,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Children that have not been reaped, and slots that wait for room, by numbers that are never used again.
    processes: BTreeMap<u64, Process>,
    queue: BTreeSet<u64>,
    next_number: u64,
    /// Time of the next signal to a child.
    next_signal: Option<Instant>,
    /// First failure of a child that was not killed.
    failure: Option<Failure>,
}

/// The pipes of a running child. Their ends on this side never block.
pub struct ChildPipes {
    /// Its standard input, unless it was given another.
    pub input: Option<ChildStdin>,
    /// Its standard output.
    pub output: ChildStdout,
}

/// A place for a child: in the queue for room until it starts, then its conversation.
///
/// Dropping it asks the child to exit.
pub struct ChildSlot {
    supervisor: Supervisor,
    number: u64,
}

/// Manner in which the children end after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They may finish first.
    Graceful,
    /// They get SIGHUP at once.
    Immediate,
}

impl Supervisor {
    /// Creates a supervisor of at most `limit` children that run `program`.
    ///
    /// From now on, programs inherit descriptors 0, 1 and 2 only.
    pub fn new(program: Program, limit: usize) -> io::Result<Self> {
        hide_descriptors();
        let (wake, bell) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        low_level::pipe::register(SIGCHLD, bell.try_clone()?)?;
        Ok(Self(Rc::new(Inner {
            program,
            limit: limit.max(1),
            wake,
            bell,
            room: eventfd(1, EventfdFlags::CLOEXEC)?,
            state: RefCell::default(),
        })))
    }

    /// Returns true if another child may be started.
    pub fn has_room(&self) -> bool {
        self.0.state.borrow().processes.len() < self.0.limit
    }

    /// Queues for room: first come, first served.
    pub fn queue(&self) -> ChildSlot {
        let state = &mut *self.0.state.borrow_mut();
        let number = state.next_number;
        state.next_number += 1;
        state.queue.insert(number);
        let supervisor = self.clone();
        ChildSlot { supervisor, number }
    }

    /// Descriptor that is readable while there is room.
    pub fn room(&self) -> BorrowedFd<'_> {
        self.0.room.as_fd()
    }

    /// Returns the failure of the first child that failed, except those that were killed.
    pub fn verdict(&self) -> Result<(), Failure> {
        let failure = self.0.state.borrow_mut().failure.take();
        failure.map_or(Ok(()), Err)
    }

    /// Ends all children and waits until none is left. A further signal to end makes it faster.
    pub fn end_all(&self, how: Shutdown, signals: &Signals, taps: &mut Taps) -> io::Result<()> {
        let now = Instant::now();
        for process in self.0.state.borrow_mut().processes.values_mut() {
            if matches!(process.stage, Stage::Attached | Stage::StdoutClosed) {
                process.stage = Stage::Due(Signal::HUP, now + HANGUP_DELAY);
            }
        }
        if how == Shutdown::Immediate {
            self.kill_now();
        }
        // A child may stay after SIGKILL: the kernel holds it in a call that cannot be interrupted.
        while let Some(next) = self.reap(taps) {
            let watched = [(self.0.wake.as_fd(), Interest::READ)];
            let wakeup = wait(&watched, Some(signals), Some(next))?;
            if let Wakeup::Signal(Request::End(_)) = wakeup {
                self.kill_now();
            }
        }
        Ok(())
    }

    /// Makes every signal that is due later due now.
    fn kill_now(&self) {
        for process in self.0.state.borrow_mut().processes.values_mut() {
            if let Stage::Due(_, time) = &mut process.stage {
                *time = Instant::now();
            }
        }
    }

    /// Reaps the children that have exited, and sends the signals that are due. Returns the time to do so again, if there is one.
    fn reap(&self, taps: &mut Taps) -> Option<Instant> {
        let mut bytes = [0; 256];
        while matches!((&self.0.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let now = Instant::now();
        let had_room = self.has_room();
        let state = &mut *self.0.state.borrow_mut();
        let program = self.0.program.name();
        state.processes.retain(|_, process| {
            let Some(status) = process.reap(now) else {
                return true;
            };
            taps.emit(&Event::Exited(ChildEnd {
                name: process.caller.conversation(),
                pid: process.child.id(),
                program: &program,
                status,
            }));
            if !status.success() && !process.was_hung_up() && state.failure.is_none() {
                let text = format!("'{program}' ended with {}", describe_status(status));
                state.failure = Some(Failure::new(Exit::Failed, text));
            }
            false
        });
        if std::process::id() == 1 {
            reap_orphans(state);
        }
        if !had_room && state.processes.len() < self.0.limit {
            // The counter is 0, so it has room for 1.
            let _ = rustix::io::write(&self.0.room, &1_u64.to_ne_bytes());
        }
        let processes = state.processes.values();
        let times = processes.filter_map(|process| match process.stage {
            Stage::Due(_, time) => Some(time),
            Stage::Killed(give_up) => Some(give_up).filter(|&time| time > now),
            Stage::Attached | Stage::StdoutClosed => None,
        });
        state.next_signal = times.min();
        state.next_signal
    }
}

/// Reaps what process 1 of a container inherits: processes whose own parent has exited (`pid_namespaces(7)`).
fn reap_orphans(state: &State) {
    let listed = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let numbers = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
    for pid in numbers.filter_map(Pid::from_raw) {
        let mut processes = state.processes.values();
        if !processes.any(|process| process.child.id() == pid.as_raw_nonzero().get().unsigned_abs())
        {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

impl ChildSlot {
    /// Returns true before the child starts.
    pub fn is_queued(&self) -> bool {
        let state = self.supervisor.0.state.borrow();
        state.queue.contains(&self.number)
    }

    /// Returns true if there is room, and no older slot in the queue.
    pub fn is_due(&self) -> bool {
        let first = self.supervisor.0.state.borrow().queue.first().copied();
        self.supervisor.has_room() && first == Some(self.number)
    }

    /// Starts the child for `caller` while there is room. Its standard input is `input`, or else a pipe.
    pub fn start(&self, caller: Caller, input: Option<File>) -> io::Result<ChildPipes> {
        let (program, state) = (&self.supervisor.0.program, &self.supervisor.0.state);
        state.borrow_mut().queue.remove(&self.number);
        let mut command = program.command(&caller);
        command
            .stdin(input.map_or_else(Stdio::piped, Stdio::from))
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let act = format!("cannot start '{}'", program.name());
            Failure::io(act, &error)
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Process {
            child,
            caller,
            stage: Stage::Attached,
        };
        state.borrow_mut().processes.insert(self.number, process);
        if !self.supervisor.has_room() {
            rustix::io::read(self.supervisor.room(), &mut [0; 8])?;
        }
        let output = output.ok_or(ErrorKind::BrokenPipe)?;
        if let Some(input) = &input {
            rustix::io::ioctl_fionbio(input, true)?;
        }
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(ChildPipes { input, output })
    }

    /// Notes that the child has closed its standard output. From now on it may take its time to exit.
    pub fn stdout_closed(&self) {
        self.detach(Stage::StdoutClosed);
    }

    fn detach(&self, stage: Stage) {
        let inner = &self.supervisor.0;
        if let Some(process) = inner.state.borrow_mut().processes.get_mut(&self.number)
            && process.stage == Stage::Attached
        {
            process.stage = stage;
            // A full socket wakes the pump as well.
            let _ = (&inner.bell).write(b"c");
        }
    }
}

impl Drop for ChildSlot {
    fn drop(&mut self) {
        let state = &self.supervisor.0.state;
        state.borrow_mut().queue.remove(&self.number);
        self.detach(Stage::Due(Signal::HUP, Instant::now() + HANGUP_DELAY));
    }
}

/// A child that has not been reaped.
struct Process {
    child: Child,
    caller: Caller,
    stage: Stage,
}

/// Stage in the life of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its conversation goes on.
    Attached,
    /// It has closed its standard output, and exits in its own time.
    StdoutClosed,
    /// Its process group gets this signal at this time.
    Due(Signal, Instant),
    /// It was killed, and is given up at this time.
    Killed(Instant),
}

impl Process {
    /// Reaps the child if it has exited, or sends the signal that is due.
    fn reap(&mut self, now: Instant) -> Option<ExitStatus> {
        // Its number stays that of its group until it is reaped, and others in the group may go on talking.
        if self.stage == Stage::Attached {
            return None;
        }
        let pid = Pid::from_child(&self.child);
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_exited = !matches!(waitid(WaitId::Pid(pid), peek), Ok(None));
        if let Stage::Due(signal, time) = self.stage
            && (has_exited || time <= now)
        {
            // The group may be empty.
            let _ = kill_process_group(pid, signal);
            if !has_exited {
                self.stage = match signal {
                    Signal::HUP => Stage::Due(Signal::KILL, now + KILL_DELAY),
                    _ => Stage::Killed(now + KILL_DELAY),
                };
            }
        }
        // Nothing else reaps it, so its status is there.
        has_exited.then(|| self.child.wait().unwrap_or_default())
    }

    /// Returns true if it got SIGHUP.
    fn was_hung_up(&self) -> bool {
        matches!(self.stage, Stage::Due(Signal::KILL, _) | Stage::Killed(_))
    }
}

impl End for Supervisor {
    fn recv(&mut self, _batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.reap(taps);
        Ok(Arrival::Nothing)
    }

    fn send(&mut self, _batch: &Batch, _at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        Err(ErrorKind::NotConnected.into())
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let next_signal = self.0.state.borrow().next_signal;
        Readiness {
            recv: Wait::readable(self.0.wake.as_fd()).or_until(next_signal),
            send: Wait::Never,
            watch: false,
        }
    }
}
