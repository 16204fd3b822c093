//! A child process as the local end of one link: what the peer sends is its standard input, its standard output goes to the peer.
//! The two directions end on their own here as well: a closed pipe is to a process what a FIN is to a connection.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStdin, ChildStdout};

use super::Caller;
use super::supervisor::{ChildGuard, ChildPipes, QueueTicket, Supervisor};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::pump::end::{Arrival, End, Unseen};
use crate::tap::Taps;

/// Bytes asked for in one read: what a pipe holds.
const STRETCH: usize = 64 << 10;

/// Runs written in one call: fewer than any system's `IOV_MAX`.
const SLICES: usize = 16;

/// A child, or the wish for one while there are as many as there may be.
pub struct Child {
    supervisor: Supervisor,
    caller: Caller,
    shape: Shape,
    /// Whether the peer has nothing more to say.
    peer_has_finished: bool,
    state: State,
    /// Tells that there is room, where it had to wait. A descriptor of its own, because a set of descriptors to wait on holds
    /// each only once; and it stays open, because that set may still hold it.
    room: Option<OwnedFd>,
}

enum State {
    /// It is not started yet: it waits for room.
    Waiting(QueueTicket),
    Attached {
        /// Until the peer has finished.
        input: Option<ChildStdin>,
        output: ChildStdout,
        /// Until it has closed its output.
        guard: Option<ChildGuard>,
    },
    /// It could not be started.
    Failed,
}

impl Child {
    /// Starts a child for `caller`, as soon as there is room for it. `shape` says how its output is cut.
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

    /// How many bytes one read may give: whole datagrams, so that only the last one before a pause is short.
    fn stretch(&self) -> usize {
        match self.shape {
            Shape::Stream => STRETCH,
            Shape::Datagrams(size) => (STRETCH / size).max(1) * size,
        }
    }
}

impl End for Child {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        match &self.state {
            State::Waiting(ticket) if ticket.is_due() => self.start()?,
            State::Waiting(_) => return Ok(Arrival::Nothing(None)),
            State::Attached { .. } | State::Failed => {}
        }
        let (stretch, shape) = (self.stretch(), self.shape);
        let State::Attached { output, guard, .. } = &mut self.state else {
            return Ok(Arrival::End);
        };
        let len = output.read(&mut batch.space(stretch)[..stretch])?;
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

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        let input = match &mut self.state {
            State::Attached { input, .. } => input.as_mut(),
            State::Waiting(_) => return Err(ErrorKind::WouldBlock.into()),
            State::Failed => None,
        };
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.rest(*at, &mut slices);
        let input = input.ok_or(ErrorKind::BrokenPipe)?;
        // Empty datagrams are nothing in a stream.
        let is_empty = slices[..count].iter().all(|slice| slice.is_empty());
        let len = if is_empty {
            0
        } else {
            input.write_vectored(&slices[..count])?
        };
        batch.advance(at, len);
        Ok(())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        self.peer_has_finished = true;
        if let State::Attached { input, .. } = &mut self.state {
            *input = None;
        }
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Waiting(_) => self.room.as_ref().map(AsFd::as_fd),
            State::Attached { output, .. } => Some(output.as_fd()),
            State::Failed => None,
        }
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Attached { input, .. } => input.as_ref().map(AsFd::as_fd),
            State::Waiting(_) | State::Failed => None,
        }
    }

    fn sink_lost(&self) -> Option<Failure> {
        self.sink().map(|_| Failure::new(Exit::Failed, ""))
    }

    fn unseen_source(&self) -> Option<Unseen> {
        let is_talking = matches!(self.state, State::Attached { .. });
        (is_talking && self.shape == Shape::Stream).then_some(Unseen::stream(usize::MAX))
    }

    fn has_unseen_sink(&self, stride: Option<usize>) -> bool {
        stride.is_none() && self.sink().is_some()
    }
}
