//! Standard input and output as the local end.
//! What is read becomes batches as the link needs them; what arrives is written as it came, in one call where possible.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::pump::end::{Arrival, End};
use crate::sys::inherited::{Inherited, Kind};
use crate::tap::Taps;

/// Bytes asked for in one read.
const STRETCH: usize = 256 << 10;

/// Runs written in one call: fewer than any system's `IOV_MAX`.
const SLICES: usize = 64;

/// Standard input and output, each of which may be left out.
pub struct Stdio {
    input: Option<Inherited>,
    output: Option<Inherited>,
    shape: Shape,
}

impl Stdio {
    /// Joins what is given; without input there is nothing to send, without output what arrives is counted and dropped. `shape`
    /// says how input is cut.
    #[must_use]
    pub fn new(input: Option<Inherited>, output: Option<Inherited>, shape: Shape) -> Self {
        Self {
            input,
            output,
            shape,
        }
    }

    /// How many bytes one read may give: whole datagrams, so that only the last one before a pause is short.
    fn stretch(&self) -> usize {
        match self.shape {
            Shape::Stream => STRETCH,
            Shape::Datagrams(size) => (DATAGRAMS / size).max(1) * size,
        }
    }
}

/// Bytes read at once for datagrams: about what one call can send.
const DATAGRAMS: usize = 64 << 10;

impl End for Stdio {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        let stretch = self.stretch();
        let Some(input) = &mut self.input else {
            return Ok(Arrival::End);
        };
        let len = match input.read(&mut batch.space(stretch)[..stretch]) {
            // A terminal that has hung up.
            Err(error)
                if error.raw_os_error() == Some(libc::EIO) && input.kind() == Kind::Terminal =>
            {
                0
            }
            other => other?,
        };
        if len == 0 {
            return Ok(Arrival::End);
        }
        batch.push(Run {
            start: 0,
            len,
            shape: self.shape,
            flow: None,
        });
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = batch.rest(*at, &mut slices);
        let len = slices[..count].iter().map(|slice| slice.len()).sum();
        let written = match &mut self.output {
            Some(output) if len > 0 && output.kind() == Kind::Closed => return Err(closed()),
            Some(output) if len > 0 => output.write(&slices[..count])?,
            _ => len,
        };
        if written == 0 && len > 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        batch.advance(at, written);
        Ok(())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    fn sink_lost(&self) -> Option<Failure> {
        let pipe = self
            .output
            .as_ref()
            .filter(|output| output.kind() == Kind::Pipe);
        pipe.map(|_| Failure::new(Exit::OutputClosed, ""))
    }

    fn unseen_source(&self) -> Option<usize> {
        let kind = self.input.as_ref().map(Inherited::kind);
        let is_fit =
            self.shape == Shape::Stream && matches!(kind, Some(Kind::Pipe | Kind::Regular));
        is_fit.then_some(usize::MAX)
    }

    fn has_unseen_sink(&self) -> bool {
        let kind = self.output.as_ref().map(Inherited::kind);
        matches!(kind, Some(Kind::Pipe | Kind::Regular | Kind::Null))
    }
}

fn closed() -> io::Error {
    let text = "cannot write to standard output: it was closed when the program started";
    io::Error::other(Failure::new(Exit::Failed, text))
}
