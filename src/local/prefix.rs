//! Whole lines on standard output, each with the 4-tuple it came over in front.
//! A line is written when it is complete, so lines of many clients never mix, however they arrive.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::io;
use std::os::fd::BorrowedFd;

use super::stdio::Stdio;
use crate::batch::{Batch, Cursor, Run};
use crate::exit::Failure;
use crate::pump::end::{Arrival, End};
use crate::tap::Taps;
use crate::tuple::FourTuple;

/// How long a line may get before it is written in pieces, in bytes: a client that never ends its line does not fill the memory.
const LONGEST: usize = 64 << 10;

/// Standard input and output, with lines marked.
pub struct Prefixed {
    stdio: Stdio,
    /// Begun lines.
    begun: HashMap<FourTuple, Vec<u8>>,
    /// Marked lines on their way, the flow they are of, and how far they are written.
    pending: Option<(FourTuple, Batch, Cursor)>,
    /// Flows whose bytes, still offered, were written while it was another's turn.
    written: HashSet<FourTuple>,
}

impl Prefixed {
    /// Marks what is written to `stdio`.
    #[must_use]
    pub fn new(stdio: Stdio) -> Self {
        Self {
            stdio,
            begun: HashMap::new(),
            pending: None,
            written: HashSet::new(),
        }
    }

    /// Writes what is pending; `WouldBlock` if not all of it could be.
    fn flush(&mut self, taps: &mut Taps) -> io::Result<()> {
        while let Some((flow, batch, at)) = &mut self.pending {
            if batch.is_taken(*at) {
                self.written.insert(*flow);
                self.pending = None;
            } else {
                self.stdio.send(batch, at, taps)?;
            }
        }
        Ok(())
    }

    /// Turns bytes of a flow into marked lines; no bytes are the end of the flow, and of a line that it has begun.
    fn mark(&mut self, flow: FourTuple, bytes: &[u8]) {
        let mut text = Vec::new();
        let begun = self.begun.entry(flow).or_default();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            begun.extend_from_slice(line);
            if line.ends_with(b"\n") || begun.len() >= LONGEST {
                write_line(&mut text, &flow, begun);
                begun.clear();
            }
        }
        if bytes.is_empty() {
            if !begun.is_empty() {
                write_line(&mut text, &flow, begun);
            }
            self.begun.remove(&flow);
        }
        let mut batch = Batch::default();
        batch.space(text.len())[..text.len()].copy_from_slice(&text);
        batch.push_stream(text.len(), Some(flow));
        self.pending = Some((flow, batch, Cursor::default()));
    }
}

fn write_line(text: &mut Vec<u8>, mark: &impl Display, line: &[u8]) {
    text.extend_from_slice(format!("{mark}: ").as_bytes());
    text.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        text.push(b'\n');
    }
}

impl End for Prefixed {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.stdio.recv(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        while let Some(&run) = batch.runs().get(at.run) {
            self.flush(taps)?;
            let Run {
                flow: Some(flow), ..
            } = run
            else {
                return Err(io::Error::other("bytes of nobody cannot be marked"));
            };
            if self.written.remove(&flow) {
                *at = Cursor {
                    run: at.run + 1,
                    offset: 0,
                };
            } else {
                self.mark(flow, batch.bytes(&run));
            }
        }
        Ok(())
    }

    fn finish(&mut self, taps: &mut Taps) -> io::Result<()> {
        self.stdio.finish(taps)
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.stdio.source()
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.stdio.sink()
    }

    fn sink_lost(&self) -> Option<Failure> {
        self.stdio.sink_lost()
    }
}
