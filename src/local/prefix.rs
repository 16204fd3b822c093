//! Whole lines on standard output, each with the 4-tuple it came over in front.
//! A line is written when it is complete, so lines of many clients never mix, however they arrive; and on a terminal it is only
//! shown, so that nobody can write over the mark of another.

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use super::stdio::Stdio;
use crate::batch::{Batch, Cursor};
use crate::escape;
use crate::flow::{Flow, Identity};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness};
use crate::tap::Taps;

/// How long a line may get before it is written in pieces, in bytes: a client that never ends its line does not fill the memory.
const LONGEST: usize = 64 << 10;

/// Standard input and output, with lines marked.
pub struct PrefixedLines {
    stdio: Stdio,
    write_line: fn(&mut Vec<u8>, &str, &[u8]),
    /// Begun lines.
    begun: HashMap<Flow, Vec<u8>>,
    /// Marked lines, and how far they are written.
    marked: (Batch, Cursor),
}

impl PrefixedLines {
    /// Marks what is written to `stdio`.
    #[must_use]
    pub fn new(stdio: Stdio) -> Self {
        Self {
            write_line: if stdio.is_seen() {
                show_line
            } else {
                write_line
            },
            stdio,
            begun: HashMap::new(),
            marked: (Batch::default(), Cursor::default()),
        }
    }

    /// Writes what is marked; `WouldBlock` if not all of it could be.
    fn flush(&mut self, taps: &mut Taps) -> io::Result<()> {
        let (batch, at) = &mut self.marked;
        if !batch.is_taken(*at) {
            self.stdio.send(batch, at, taps)?;
        }
        if batch.is_taken(*at) {
            Ok(())
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    /// Marks the lines of a flow, and keeps the beginning of a line until the rest of it comes.
    fn mark(&mut self, flow: &Flow, bytes: &[u8]) {
        let mark = format!("{flow}: ");
        let mut text = Vec::new();
        let mut begun = self.begun.remove(flow).unwrap_or_default();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") || begun.len() >= LONGEST {
                (self.write_line)(&mut text, &mark, &begun);
                begun.clear();
            }
        }
        if !begun.is_empty() {
            self.begun.insert(flow.clone(), begun);
        }
        self.put(&text);
    }

    /// Makes `text` the next to be written.
    fn put(&mut self, text: &[u8]) {
        let (batch, at) = &mut self.marked;
        batch.clear();
        batch.space(text.len())[..text.len()].copy_from_slice(text);
        batch.push_stream(text.len(), None);
        *at = Cursor::default();
    }
}

fn write_line(text: &mut Vec<u8>, mark: &str, line: &[u8]) {
    text.extend_from_slice(mark.as_bytes());
    text.extend_from_slice(line);
    end_line(text);
}

fn show_line(text: &mut Vec<u8>, mark: &str, line: &[u8]) {
    text.extend_from_slice(mark.as_bytes());
    escape::append_line(text, line);
    end_line(text);
}

fn end_line(text: &mut Vec<u8>) {
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
}

/// Where a run stands whose lines are marked, and perhaps not all written yet.
const MARKED: usize = 1;

impl End for PrefixedLines {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.stdio.recv(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        while let Some(run) = batch.runs().get(at.run) {
            // Lines of somebody else may still be on their way: they are written whole, whatever became of whom they are of.
            self.flush(taps)?;
            if at.offset < MARKED {
                let flow = run.flow.as_ref().ok_or_else(unknown)?;
                self.mark(flow, batch.bytes(run));
                at.offset = MARKED;
            } else {
                *at = Cursor {
                    run: at.run + 1,
                    offset: 0,
                };
            }
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, what: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        self.flush(taps)?;
        // A line that has no end ends here.
        if let Finish::Stream(Identity::Pair(flow)) = what
            && let Some(line) = self.begun.remove(flow)
        {
            let mut text = Vec::new();
            (self.write_line)(&mut text, &format!("{flow}: "), &line);
            self.put(&text);
            self.flush(taps)?;
        }
        self.stdio.finish(what, taps)
    }

    fn readiness(&self) -> Readiness<'_> {
        self.stdio.readiness()
    }

    fn health(&mut self) -> io::Result<usize> {
        self.stdio.health()
    }
}

fn unknown() -> io::Error {
    io::Error::other("bytes of nobody cannot be marked")
}
