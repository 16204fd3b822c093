//! Input in lines: lines that arrive in pieces, and errors that name a line and a column.
//! A line is held until it ends, so a line without an end is refused.

use memchr::memchr;

use crate::exit::{Exit, Failure};

/// Most bytes in a line.
const MAX_LINE_SIZE: usize = 16 << 20;

/// An error in a text, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct TextError {
    /// The line, counted from 1.
    pub line: u64,
    /// The byte in that line, counted from 1.
    pub column: usize,
    /// One clause.
    pub text: String,
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Self {
        unreadable(&error.to_string())
    }
}

/// Returns the failure of an input that cannot be read; `text` is the reason.
pub(super) fn unreadable(text: &str) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read the input: {text}"))
}

/// An error in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The byte in the line, counted from 0.
    pub(super) place: usize,
    /// One clause.
    pub(super) text: String,
}

impl Flaw {
    pub(super) fn new(place: usize, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { place, text }
    }

    /// Adds the number of the line, counted from 1.
    pub(super) fn at(self, line: u64) -> TextError {
        TextError {
            line,
            column: self.place + 1,
            text: self.text,
        }
    }
}

/// Collector of the line that has begun.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    count: u64,
}

impl Lines {
    /// Moves bytes of `text` into the line, up to its line feed; returns their number, and true if the line has ended.
    ///
    /// Errors: the line is too long.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<(usize, bool), Failure> {
        let end = memchr(b'\n', text);
        let piece = &text[..end.unwrap_or(text.len())];
        if self.line.len() + piece.len() > MAX_LINE_SIZE {
            let size = MAX_LINE_SIZE >> 20;
            let text = format!("a line has more than {size} MiB");
            return Err(Flaw::new(MAX_LINE_SIZE, text).at(self.count + 1).into());
        }
        self.line.extend_from_slice(piece);
        Ok((end.map_or(text.len(), |end| end + 1), end.is_some()))
    }

    /// Returns the line and its number, counted from 1, and begins the next one.
    pub(super) fn end(&mut self) -> (u64, Vec<u8>) {
        self.count += 1;
        (self.count, std::mem::take(&mut self.line))
    }

    /// Returns true if the line has no byte yet.
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Returns true if the line has nothing but white space yet.
    pub(super) fn is_blank(&self) -> bool {
        self.line.trim_ascii().is_empty()
    }
}
