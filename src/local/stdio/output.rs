//! Standard output: bytes as they came, or text that shows where each chunk ends.
//! Text that is not written yet stays here, so a slow reader gets every chunk once and whole.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::flow::Flow;
use crate::framing::OutputFraming;
use crate::local::prefix::PrefixedLines;
use crate::sys::inherited::{Inherited, Kind};
use crate::sys::wait::{Interest, Wakeup, wait};

/// Standard output.
pub struct Output {
    to: Inherited,
    form: Form,
    /// Text of chunks that are taken, and how much of it is written.
    text: Vec<u8>,
    written: usize,
    /// The last byte that was written.
    last: Option<u8>,
}

/// Form of what is written.
enum Form {
    Framed(OutputFraming),
    Prefixed(PrefixedLines),
}

impl Output {
    /// Writes to `to` in the form of `framing`.
    pub fn new(to: Inherited, framing: OutputFraming) -> Self {
        Self {
            to,
            form: Form::Framed(framing),
            text: Vec::new(),
            written: 0,
            last: None,
        }
    }

    /// Writes whole lines from now on, each behind the addresses that it came over.
    pub(super) fn prefix_lines(&mut self) {
        self.form = Form::Prefixed(PrefixedLines::new(self.is_terminal()));
    }

    /// Implements [`crate::pump::end::End::send`].
    ///
    /// The cursor moves when text is made. Text that cannot be written yet is `WouldBlock`.
    pub(super) fn send(&mut self, batch: &Batch, at: &mut Cursor) -> io::Result<()> {
        loop {
            self.flush()?;
            if batch.is_taken(*at) {
                return Ok(());
            }
            match &mut self.form {
                Form::Framed(OutputFraming::Raw) => {
                    return batch.write_with(at, |slices| {
                        let count = write(&mut self.to, slices)?;
                        self.last = last_of(slices, count);
                        Ok(count)
                    });
                }
                Form::Framed(framing) => framing.encode(batch, at, &mut self.text),
                Form::Prefixed(lines) => lines.encode(batch, at, &mut self.text)?,
            }
        }
    }

    /// Writes the end of the stream of a client.
    pub(super) fn finish(&mut self, flow: &Flow) -> io::Result<()> {
        self.flush()?;
        if let Form::Prefixed(lines) = &mut self.form {
            lines.finish(flow, &mut self.text);
        }
        self.flush()
    }

    /// Writes the text.
    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.text.len() {
            let rest = [IoSlice::new(&self.text[self.written..])];
            let count = write(&mut self.to, &rest)?;
            self.last = last_of(&rest, count);
            self.written += count;
        }
        self.text.clear();
        self.written = 0;
        Ok(())
    }

    /// Returns true unless the last byte that was written is within a line.
    pub(super) fn is_at_line_start(&self) -> bool {
        self.last.is_none_or(|byte| byte == b'\n')
    }

    /// Returns the descriptor to wait for.
    pub(super) fn sink(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }

    /// Returns true if it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.to.kind() == Kind::Terminal
    }

    /// Returns true if it is a pipe, whose reader may close it at any time.
    pub(super) fn is_pipe(&self) -> bool {
        self.to.kind() == Kind::Pipe
    }

    /// Checks that the pipe still has a reader.
    ///
    /// Errors: a failure with [`Exit::OutputClosed`] if not.
    pub(super) fn health(&self) -> io::Result<()> {
        let watched = [(self.to.as_fd(), Interest::default())];
        match wait(&watched, None, Some(Instant::now()))? {
            Wakeup::Ready(_) if self.is_pipe() => Err(reader_closed()),
            _ => Ok(()),
        }
    }

    /// Lets the reader see the end: a pipe is closed, a socket shut down for writing; a terminal or a file stays.
    pub(super) fn close(self) -> io::Result<()> {
        self.to.close_output()
    }

    /// Returns the descriptor that the kernel may splice bytes into.
    pub(super) fn splice_sink(&self) -> Option<BorrowedFd<'_>> {
        let is_plain = matches!(self.form, Form::Framed(OutputFraming::Raw))
            && matches!(self.to.kind(), Kind::Pipe | Kind::Regular | Kind::Null);
        is_plain.then(|| self.to.as_fd())
    }
}

/// Returns the last of the first `count` bytes.
fn last_of(slices: &[IoSlice<'_>], count: usize) -> Option<u8> {
    let bytes = slices.iter().flat_map(|slice| slice.iter());
    bytes.copied().nth(count.checked_sub(1)?)
}

/// Writes some of the bytes.
fn write(to: &mut Inherited, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match to.kind() {
        Kind::Closed => {
            let text = "cannot write to standard output: it was closed when the program started";
            Err(Failure::new(Exit::Failed, text).into())
        }
        kind => match to.write(slices) {
            // A further call would write nothing either.
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) => Err(match (kind, error.kind()) {
                (Kind::Pipe | Kind::Socket, ErrorKind::BrokenPipe)
                | (Kind::Socket, ErrorKind::ConnectionReset) => reader_closed(),
                _ => error,
            }),
            written => written,
        },
    }
}

/// Returns the failure of a closed reader, without a message: the status says it all.
fn reader_closed() -> io::Error {
    Failure::new(Exit::OutputClosed, "").into()
}
