//! A child process as the local end of one link: it reads what the peer sends, and its standard output goes to the peer.
//! Each direction has its own end here as well: a closed pipe is for a process what a FIN is for a connection.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStdin, ChildStdout};

use super::Caller;
use super::supervisor::{ChildGuard, ChildPipes, QueueTicket, Supervisor};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Spliceable, Wait};
use crate::tap::Taps;

/// Bytes that are read at once: the size of a pipe.
pub(super) const PIPE_READ_SIZE: usize = 64 << 10;

/// Runs that are written in one call: less than `IOV_MAX` (writev(2)).
const PIPE_SLICES: usize = 16;

/// A child process, which may have to wait until there is room for it.
pub struct Child {
    supervisor: Supervisor,
    caller: Caller,
    shape: Shape,
    /// The peer sends nothing more.
    peer_has_finished: bool,
    state: State,
    /// Descriptor of [`Supervisor::room`], if it had to wait: a duplicate, as epoll(7) holds each descriptor once. It stays open
    /// because the epoll set may still hold it.
    room: Option<OwnedFd>,
}

enum State {
    /// It waits for room.
    Waiting(QueueTicket),
    Attached {
        /// Open until the peer has finished.
        input: Option<ChildStdin>,
        output: ChildStdout,
        /// Held until the child closes its output.
        guard: Option<ChildGuard>,
    },
    /// It could not be started.
    Failed,
}

impl Child {
    /// Starts a child for `caller`, as soon as there is room for it. Its output has the boundaries of `shape`.
    pub fn new(supervisor: &Supervisor, caller: Caller, shape: Shape) -> io::Result<Self> {
        let ticket = supervisor.queue();
        let is_due = ticket.is_due();
        let mut child = Self {
            supervisor: supervisor.clone(),
            caller,
            shape,
            peer_has_finished: false,
            state: State::Waiting(ticket),
            room: None,
        };
        if is_due {
            child.start()?;
        } else {
            child.room = Some(supervisor.room().try_clone_to_owned()?);
        }
        Ok(child)
    }

    fn start(&mut self) -> io::Result<()> {
        self.state = State::Failed;
        let ChildPipes {
            input,
            output,
            guard,
        } = self.supervisor.start(self.caller.clone(), None)?;
        let input = input.filter(|_| !self.peer_has_finished);
        self.state = State::Attached {
            input,
            output,
            guard: Some(guard),
        };
        Ok(())
    }

    /// Returns the bytes to read at once: whole datagrams, so that only the last one before a pause is short.
    fn read_size(&self) -> usize {
        match self.shape {
            Shape::Stream => PIPE_READ_SIZE,
            Shape::Datagrams(size) => (PIPE_READ_SIZE / size).max(1) * size,
        }
    }
}

impl End for Child {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        match &self.state {
            State::Waiting(ticket) if ticket.is_due() => self.start()?,
            State::Waiting(_) => return Ok(Arrival::Nothing),
            State::Attached { .. } | State::Failed => {}
        }
        let (read_size, shape) = (self.read_size(), self.shape);
        let State::Attached { output, guard, .. } = &mut self.state else {
            return Ok(Arrival::End);
        };
        let len = output.read(&mut batch.space(read_size)[..read_size])?;
        if len == 0 {
            if let Some(guard) = guard.take() {
                guard.stdout_closed();
            }
            return Ok(Arrival::End);
        }
        batch.push(Run {
            start: 0,
            len,
            shape,
            flow: None,
        });
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        let input = match &mut self.state {
            State::Attached { input, .. } => input.as_mut(),
            State::Waiting(_) => return Err(ErrorKind::WouldBlock.into()),
            State::Failed => None,
        };
        let mut slices = [IoSlice::new(&[]); PIPE_SLICES];
        let count = batch.rest(*at, &mut slices);
        let input = input.ok_or(ErrorKind::BrokenPipe)?;
        // Empty datagrams add nothing to a stream.
        let is_empty = slices[..count].iter().all(|slice| slice.is_empty());
        let len = if is_empty {
            0
        } else {
            input.write_vectored(&slices[..count])?
        };
        batch.advance(at, len);
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.peer_has_finished = true;
        if let State::Attached { input, .. } = &mut self.state {
            *input = None;
        }
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let (recv, send) = match &self.state {
            State::Waiting(_) => {
                let room = self.room.as_ref().map(AsFd::as_fd);
                (room.map_or(Wait::Now, Wait::readable), Wait::Never)
            }
            State::Attached { input, output, .. } => {
                let input = input.as_ref().map(AsFd::as_fd);
                let send = input.map_or(Wait::Now, Wait::writable);
                (Wait::readable(output.as_fd()), send)
            }
            State::Failed => (Wait::Now, Wait::Now),
        };
        let watch = matches!(send, Wait::For { .. });
        Readiness { recv, send, watch }
    }

    fn splice(&mut self) -> Spliceable<'_> {
        let State::Attached { input, output, .. } = &self.state else {
            return Spliceable::default();
        };
        let source = (self.shape == Shape::Stream).then_some((output.as_fd(), usize::MAX));
        Spliceable {
            source,
            sink: input.as_ref().map(AsFd::as_fd),
            meter: None,
        }
    }
}
