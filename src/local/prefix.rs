//! Whole lines on standard output, each behind the addresses that it came over (`--prefix`).
//! A line is written when it is complete, so lines of many clients never mix. On a terminal it is escaped, so that no client can
//! write over the prefix of another.

use std::collections::HashMap;
use std::io;

use crate::batch::{Batch, Cursor, check_memory};
use crate::escape;
use crate::flow::Flow;

/// Bytes after which a line is written in pieces, so that an endless line does not fill the memory.
const LINE_PIECE_SIZE: usize = 64 << 10;

/// Bytes of a line that are kept even if there is little memory.
const LINE_KEPT_SIZE: usize = 4 << 10;

/// Encoder that puts the addresses in front of each line.
pub(super) struct PrefixedLines {
    /// Escape what a terminal would obey.
    is_escaped: bool,
    /// Beginning of a line of each client.
    begun: HashMap<Flow, Vec<u8>>,
}

impl PrefixedLines {
    pub(super) fn new(is_escaped: bool) -> Self {
        let begun = HashMap::new();
        Self { is_escaped, begun }
    }

    /// Appends the complete lines of the run at `at` to `text`, and moves `at` past it. The beginning of a line stays here.
    pub(super) fn encode(
        &mut self,
        batch: &Batch,
        at: &mut Cursor,
        text: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some((run, bytes)) = batch.next_chunk(at) else {
            return Ok(());
        };
        let unknown = || io::Error::other("internal error: data without an address");
        let flow = run.flow.as_ref().ok_or_else(unknown)?;
        let mut line = self.begun.remove(flow).unwrap_or_default();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.len() >= LINE_PIECE_SIZE {
                self.append_line(flow, &line, text);
                line.clear();
            }
        }
        if line.len() > LINE_KEPT_SIZE && check_memory(line.len()).is_err() {
            self.append_line(flow, &line, text);
        } else if !line.is_empty() {
            self.begun.insert(flow.clone(), line);
        }
        Ok(())
    }

    /// Appends the last line of a client, which has no end.
    pub(super) fn finish(&mut self, flow: &Flow, text: &mut Vec<u8>) {
        if let Some(line) = self.begun.remove(flow) {
            self.append_line(flow, &line, text);
        }
    }

    fn append_line(&self, flow: &Flow, line: &[u8], text: &mut Vec<u8>) {
        text.extend_from_slice(format!("{flow}: ").as_bytes());
        if self.is_escaped {
            escape::append_line(text, line);
        } else {
            text.extend_from_slice(line);
        }
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
}
