//! What the local end gets: bytes as they came, or a text that shows where each chunk ends.
//! Text that is made and not yet written is kept here, so a slow reader sees every chunk whole and once.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::framing::OutputFraming;
use crate::sys::inherited::{Inherited, Kind};
use crate::sys::wait::{Interest, Wakeup, wait};

/// Runs written in one call: fewer than any system's `IOV_MAX`.
const SLICES: usize = 64;

/// Standard output.
pub struct Output {
    to: Inherited,
    framing: OutputFraming,
    /// The text of chunks that are taken, and how much of it is written.
    text: Vec<u8>,
    written: usize,
}

impl Output {
    /// Writes to `to` in the form of `framing`.
    #[must_use]
    pub fn new(to: Inherited, framing: OutputFraming) -> Self {
        Self {
            to,
            framing,
            text: Vec::new(),
            written: 0,
        }
    }

    /// Implements [`crate::pump::end::End::send`].
    pub(super) fn send(&mut self, batch: &Batch, at: &mut Cursor) -> io::Result<()> {
        match self.framing {
            OutputFraming::Raw => self.send_raw(batch, at),
            _ => self.send_text(batch, at),
        }
    }

    fn send_raw(&mut self, batch: &Batch, at: &mut Cursor) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.rest(*at, &mut slices);
        let len: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        let written = match len {
            0 => 0,
            _ => write(&mut self.to, &slices[..count])?,
        };
        batch.advance(at, written);
        Ok(())
    }

    /// The cursor moves when the text is made: where writing has to wait, the error says that there is more of it.
    fn send_text(&mut self, batch: &Batch, at: &mut Cursor) -> io::Result<()> {
        loop {
            while self.written < self.text.len() {
                let rest = [IoSlice::new(&self.text[self.written..])];
                self.written += write(&mut self.to, &rest)?;
            }
            self.text.clear();
            self.written = 0;
            if batch.is_taken(*at) {
                return Ok(());
            }
            self.framing.encode(batch, at, &mut self.text);
        }
    }

    /// The descriptor to wait for.
    pub(super) fn sink(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.to.kind() == Kind::Terminal
    }

    /// Returns true if it is a pipe, whose reader may close it at any time.
    pub(super) fn is_pipe(&self) -> bool {
        self.to.kind() == Kind::Pipe
    }

    /// Looks whether the pipe still has a reader.
    ///
    /// Errors: a failure with [`Exit::OutputClosed`] if not.
    pub(super) fn health(&self) -> io::Result<()> {
        let watched = [(self.to.as_fd(), Interest::default())];
        match wait(&watched, None, Some(Instant::now()))? {
            Wakeup::Ready(_) if self.is_pipe() => Err(reader_closed()),
            _ => Ok(()),
        }
    }

    /// Returns the descriptor that the kernel may splice bytes into.
    pub(super) fn splice_sink(&self) -> Option<BorrowedFd<'_>> {
        let is_plain = self.framing == OutputFraming::Raw
            && matches!(self.to.kind(), Kind::Pipe | Kind::Regular | Kind::Null);
        is_plain.then(|| self.to.as_fd())
    }
}

/// Writes some of what there is.
fn write(to: &mut Inherited, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match to.kind() {
        Kind::Closed => Err(closed()),
        kind => match to.write(slices) {
            // It would be asked for ever.
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) if kind == Kind::Pipe && error.kind() == ErrorKind::BrokenPipe => {
                Err(reader_closed())
            }
            other => other,
        },
    }
}

/// The reader of the pipe has closed it: the status says it all.
fn reader_closed() -> io::Error {
    Failure::new(Exit::OutputClosed, "").into()
}

fn closed() -> io::Error {
    let text = "cannot write to standard output: it was closed when the program started";
    Failure::new(Exit::Failed, text).into()
}
