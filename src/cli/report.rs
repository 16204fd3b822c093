//! What a run tells: lines for people, events for programs, and the line that says that the socket is ready.
//! None of it ever goes to standard output, which has the payload and nothing else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgAction;

use super::numbers;

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `-`: the standard descriptor that the option names.
    Standard,
    /// A file, which is made or overwritten.
    File(PathBuf),
}

impl From<OsString> for Place {
    fn from(word: OsString) -> Self {
        if word == "-" {
            Self::Standard
        } else {
            Self::File(word.into())
        }
    }
}

/// What is reported, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reports")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct ReportOptions {
    /// Report errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Report every chunk of data, not only the events
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to colour the reports
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Write the socket's address to FILE once it is ready
    ///
    /// One line, such as 'tcp 127.0.0.1:43121', as soon as others can reach the socket. The file appears whole, so a
    /// script may wait for it to exist. With port 0 this tells the port that the kernel chose.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Write the same line to the open file descriptor N
    #[arg(long, value_name = "N", value_parser = numbers::whole::<i32>(0, numbers::MAX_INT))]
    pub ready_fd: Option<i32>,
    /// Write every event to FILE as a line of JSON; '-' is standard error
    ///
    /// tuplecat-events(5) describes the events and their fields.
    #[arg(long, value_name = "FILE")]
    pub events: Option<Place>,
    /// Put the bytes themselves into the events, in hexadecimal
    #[arg(long, requires = "events")]
    pub events_payload: bool,
    /// Report at the end how much moved, and how fast
    #[arg(long)]
    pub stats: bool,
    /// Show on a terminal how far the transfer has come
    #[arg(long)]
    pub progress: bool,
    /// Tell each call of the sockets API as it is made, and what it did
    #[arg(long)]
    pub explain: bool,
}
