//! A child process as the local end of one link: it reads what the peer sends, and its standard output goes to the peer.
//! Each direction has its own end here as well: a closed pipe is for a process what a FIN is for a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::Caller;
use super::supervisor::{ChildPipes, ChildSlot, Supervisor};
use crate::batch::{Batch, Cursor, Shape};
use crate::framing::{CrLf, LineEnds};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Spliceable, Wait};
use crate::tap::Taps;

/// Bytes that are read at once: the size of a pipe.
pub(super) const PIPE_READ_SIZE: usize = 64 << 10;

/// A child process, which may have to wait until there is room for it.
pub struct Child {
    slot: ChildSlot,
    caller: Caller,
    shape: Shape,
    /// Converter of the line ends in its output.
    crlf: Option<CrLf>,
    /// The peer sends nothing more.
    peer_has_finished: bool,
    /// Its pipes once it has started. Its standard input is open until the peer has finished.
    pipes: Option<ChildPipes>,
    /// Descriptor of [`Supervisor::room`], if it had to wait: a duplicate, as epoll(7) holds each descriptor once. It stays open
    /// because the epoll set may still hold it.
    room: Option<OwnedFd>,
}

impl Child {
    /// Starts a child for `caller`, as soon as there is room for it. Its output has the boundaries of `shape`.
    pub fn new(
        supervisor: &Supervisor,
        caller: Caller,
        shape: Shape,
        ends: LineEnds,
    ) -> io::Result<Self> {
        let mut child = Self {
            slot: supervisor.queue(),
            caller,
            shape,
            crlf: ends.converter(),
            peer_has_finished: false,
            pipes: None,
            room: None,
        };
        child.start_if_due()?;
        if child.slot.is_queued() {
            child.room = Some(supervisor.room().try_clone_to_owned()?);
        }
        Ok(child)
    }

    fn start_if_due(&mut self) -> io::Result<()> {
        if self.slot.is_due() {
            let mut pipes = self.slot.start(self.caller.clone(), None)?;
            pipes.input.take_if(|_| self.peer_has_finished);
            self.pipes = Some(pipes);
        }
        Ok(())
    }
}

impl End for Child {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        self.start_if_due()?;
        let Some(pipes) = &mut self.pipes else {
            let is_waiting = self.slot.is_queued();
            return Ok(if is_waiting {
                Arrival::Nothing
            } else {
                Arrival::End
            });
        };
        // Whole datagrams, so that only the last one before a pause is short.
        let size = match self.shape {
            Shape::Stream => PIPE_READ_SIZE,
            Shape::Datagrams(size) => (PIPE_READ_SIZE / size).max(1) * size,
        };
        batch.reserve(size)?;
        let mut len = pipes.output.read(&mut batch.space(size)[..size])?;
        if len == 0 {
            self.slot.stdout_closed();
            return Ok(Arrival::End);
        }
        if let Some(crlf) = &mut self.crlf {
            let text = crlf.convert(&batch.space(len)[..len]);
            len = text.len();
            batch.space(len)[..len].copy_from_slice(&text);
        }
        batch.push_front(len, self.shape, None);
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        if self.slot.is_queued() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let input = self.pipes.as_mut().and_then(|pipes| pipes.input.as_mut());
        let input = input.ok_or(ErrorKind::BrokenPipe)?;
        batch.write_with(at, |slices| input.write_vectored(slices))?;
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.peer_has_finished = true;
        if let Some(pipes) = &mut self.pipes {
            pipes.input = None;
        }
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let room = self.room.as_ref().filter(|_| self.slot.is_queued());
        let (recv, send) = match (&self.pipes, room) {
            (Some(pipes), _) => {
                let input = pipes.input.as_ref().map(AsFd::as_fd);
                let send = input.map_or(Wait::Now, Wait::writable);
                (Wait::readable(pipes.output.as_fd()), send)
            }
            (None, Some(room)) => (Wait::readable(room.as_fd()), Wait::Never),
            (None, None) => (Wait::Now, Wait::Now),
        };
        let watch = matches!(send, Wait::For { .. });
        Readiness { recv, send, watch }
    }

    fn splice(&mut self) -> Spliceable<'_> {
        let Some(pipes) = &self.pipes else {
            return Spliceable::default();
        };
        let is_stream = self.shape == Shape::Stream && self.crlf.is_none();
        Spliceable {
            source: is_stream.then_some((pipes.output.as_fd(), usize::MAX)),
            sink: pipes.input.as_ref().map(AsFd::as_fd),
            meter: None,
        }
    }
}
