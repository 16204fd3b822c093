//! The children of a run: how many there may be, how each ends, and that none is left behind.
//! Each leads a process group of its own. Once its conversation is over it is given time, then SIGHUP, then SIGKILL.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Instant;

use signal_hook::consts::SIGCHLD;
use signal_hook::low_level;
use slab::Slab;

use super::process::Process;
use super::{Caller, Program};
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe_status};
use crate::pump::end::{Arrival, End};
use crate::sys::inherited::hide_descriptors;
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{Event, Taps};

/// All children of a run. Clones are the same supervisor.
///
/// In the pump it is an end that is joined to nothing: it sees to children that have ended, or should have.
#[derive(Clone)]
pub struct Supervisor(Rc<Inner>);

struct Inner {
    /// Readable when a child has ended, or has been given a time to end.
    wake: UnixStream,
    bell: UnixStream,
    /// Readable while there is room for another child.
    room: PipeReader,
    token: PipeWriter,
    limit: usize,
    processes: RefCell<Slab<Process>>,
    /// Those who wait for room, by their numbers, and the next number.
    queue: RefCell<BTreeSet<u64>>,
    next: Cell<u64>,
    failure: Cell<Option<Failure>>,
}

/// A child that has just been started. Our ends of its pipes never block.
pub struct Started {
    /// Its standard input, unless it was given another.
    pub input: Option<ChildStdin>,
    /// Its standard output.
    pub output: ChildStdout,
    /// To be kept for as long as it is talked with.
    pub guard: ChildGuard,
}

/// A place in the queue for room: first come, first served.
pub struct QueueTicket {
    supervisor: Supervisor,
    number: u64,
}

/// The conversation of a child: it is over when this is dropped, and the child should end then.
pub struct ChildGuard {
    supervisor: Supervisor,
    key: usize,
}

/// How a run lets go of its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// They may finish first.
    Graceful,
    /// They are told to end at once.
    Immediate,
}

impl Supervisor {
    /// Room for so many children at once. From now on only descriptors 0, 1 and 2 are passed on to programs.
    pub fn new(limit: usize) -> io::Result<Self> {
        hide_descriptors();
        let (wake, bell) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        bell.set_nonblocking(true)?;
        low_level::pipe::register(SIGCHLD, bell.try_clone()?)?;
        let (room, mut token) = io::pipe()?;
        token.write_all(b"r")?;
        let inner = Inner {
            wake,
            bell,
            room,
            token,
            limit: limit.max(1),
            processes: RefCell::default(),
            queue: RefCell::default(),
            next: Cell::default(),
            failure: Cell::default(),
        };
        Ok(Self(Rc::new(inner)))
    }

    /// Whether another child may be started.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.processes.borrow().len() < self.0.limit
    }

    /// Lines up for room.
    #[must_use]
    pub fn queue(&self) -> QueueTicket {
        let number = self.0.next.replace(self.0.next.get() + 1);
        self.0.queue.borrow_mut().insert(number);
        let supervisor = self.clone();
        QueueTicket { supervisor, number }
    }

    /// Readable while there is room.
    #[must_use]
    pub fn room(&self) -> BorrowedFd<'_> {
        self.0.room.as_fd()
    }

    /// Starts `program` for `caller`, with this standard input, or else a pipe.
    pub fn start(
        &self,
        program: &Rc<Program>,
        caller: Caller,
        input: Option<File>,
    ) -> io::Result<Started> {
        let mut child = program
            .command(&caller)
            .stdin(input.map_or_else(Stdio::piped, Stdio::from))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_start(program, &error))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let process = Process::new(child, Rc::clone(program), caller);
        let key = self.0.processes.borrow_mut().insert(process);
        if !self.has_room() {
            // The token is there: there was room before.
            (&self.0.room).read_exact(&mut [0])?;
        }
        let supervisor = self.clone();
        let guard = ChildGuard { supervisor, key };
        let output = output.ok_or(ErrorKind::BrokenPipe)?;
        if let Some(input) = &input {
            rustix::io::ioctl_fionbio(input, true)?;
        }
        rustix::io::ioctl_fionbio(&output, true)?;
        Ok(Started {
            input,
            output,
            guard,
        })
    }

    /// How the children have ended that nobody had to end: the first that failed.
    pub fn verdict(&self) -> Result<(), Failure> {
        self.0.failure.take().map_or(Ok(()), Err)
    }

    /// Waits until no child is left. Another signal to end, meanwhile, ends them faster.
    pub fn settle(&self, haste: Shutdown, signals: &Signals, taps: &mut Taps) -> io::Result<()> {
        let now = Instant::now();
        for (_, process) in &mut *self.0.processes.borrow_mut() {
            process.expire(now);
        }
        if haste == Shutdown::Immediate {
            self.kill_now();
        }
        loop {
            self.reap(taps);
            if self.0.processes.borrow().is_empty() {
                return Ok(());
            }
            // Killed, and still there: the kernel holds it, in a call that cannot be interrupted.
            let Some(next) = self.next_signal().or(self.give_up_time()) else {
                return Ok(());
            };
            let watched = [(self.0.wake.as_fd(), Interest::READ)];
            let wakeup = wait(&watched, Some(signals), Some(next))?;
            if let Wakeup::Signal(Request::End(_)) = wakeup {
                self.kill_now();
            }
        }
    }

    /// Makes every signal that is due later due now.
    fn kill_now(&self) {
        let now = Instant::now();
        for (_, process) in &mut *self.0.processes.borrow_mut() {
            process.kill_now(now);
        }
    }

    /// Reaps the children that have ended, and sends the signals that are due.
    fn reap(&self, taps: &mut Taps) {
        let mut bytes = [0; 256];
        while matches!((&self.0.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let now = Instant::now();
        let mut processes = self.0.processes.borrow_mut();
        let had_room = processes.len() < self.0.limit;
        processes.retain(|_, process| {
            let status = process.reap(now);
            if let Some(status) = status {
                self.note_end(process, status, taps);
            }
            status.is_none()
        });
        if !had_room && processes.len() < self.0.limit {
            // The pipe is empty, so it has room for a byte.
            let _ = (&self.0.token).write(b"r");
        }
    }

    /// When the next signal is due.
    fn next_signal(&self) -> Option<Instant> {
        let processes = self.0.processes.borrow();
        let due = processes
            .iter()
            .filter_map(|(_, process)| process.next_signal());
        due.min()
    }

    /// Until when it is worth waiting for those that were killed.
    fn give_up_time(&self) -> Option<Instant> {
        let processes = self.0.processes.borrow();
        let killed = processes
            .iter()
            .filter_map(|(_, process)| process.give_up_time());
        killed.max().filter(|&time| time > Instant::now())
    }

    fn note_end(&self, process: &Process, status: ExitStatus, taps: &mut Taps) {
        let program = process.program.name();
        let Caller { flow, conn } = &process.caller;
        taps.emit(&Event::Exited {
            flow,
            conn: *conn,
            pid: process.pid(),
            program: &program,
            status,
        });
        if !status.success() && !process.was_killed() {
            let text = format!("'{program}' ended with {}", describe_status(status));
            let first = self.0.failure.take();
            let failure = first.unwrap_or(Failure::new(Exit::Failed, text));
            self.0.failure.set(Some(failure));
        }
    }

    /// Changes the state of a child, and has the pump look at it.
    fn change(&self, key: usize, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.0.processes.borrow_mut().get_mut(key) {
            change(process);
        }
        // Full: it rings already.
        let _ = (&self.0.bell).write(b"c");
    }
}

impl QueueTicket {
    /// Whether there is room, and nobody has waited for it longer.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let first = self.supervisor.0.queue.borrow().first().copied();
        self.supervisor.has_room() && first == Some(self.number)
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        self.supervisor.0.queue.borrow_mut().remove(&self.number);
    }
}

impl ChildGuard {
    /// Notes that the child has closed its output: from now on it may take its time, and may be gone at any time.
    pub fn stdout_closed(self) {
        self.supervisor.change(self.key, Process::stdout_closed);
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        self.supervisor
            .change(self.key, |process| process.detach(Instant::now()));
    }
}

impl End for Supervisor {
    fn recv(&mut self, _batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.reap(taps);
        Ok(Arrival::Nothing(self.next_signal()))
    }

    fn send(&mut self, _batch: &Batch, _at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.wake.as_fd())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn cannot_start(program: &Program, error: &io::Error) -> io::Error {
    let act = format!("cannot start '{}'", program.name());
    Failure::io(act, error).into()
}
