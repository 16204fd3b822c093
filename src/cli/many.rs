//! The options of a listener that serves many clients at once.
//! Who gets what is said here once and for all: standard input to some or all, each client's bytes marked, filed, or handed on.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::dialogue::DIALOGUE;
use super::numbers;
use super::values;

/// How many clients are served, and how they share standard input and output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Many clients")]
pub struct ManyOptions {
    /// Serve clients until ended by a signal or a limit, any number at once
    #[arg(short, long, conflicts_with_all = DIALOGUE)]
    pub keep_open: bool,
    /// Serve at most N clients at once; others wait until one leaves [default: as many as descriptors allow]
    #[arg(long, value_name = "N", requires = "keep_open", value_parser = numbers::whole::<u64>(1, u64::MAX))]
    pub max_clients: Option<u64>,
    /// Which clients get standard input
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value = "all",
        requires = "keep_open",
        conflicts_with_all = ["echo", "program", "responder", "recv_only"]
    )]
    pub stdin_to: StdinTo,
    /// Drop a client that takes nothing of what is sent to it for TIME
    ///
    /// Until then it holds back what is meant for it: standard input where it gets that, its own echo, what a broker hands on.
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::duration, requires = "keep_open")]
    pub client_timeout: Duration,
    /// Write whole lines, each with the 4-tuple it came over in front
    #[arg(long, requires = "keep_open", conflicts_with_all = ["out_dir", "echo", "program", "responder", "send_only"])]
    pub prefix: bool,
    /// Write what each client sends to a file of its own in DIR
    ///
    /// The file is named by the 4-tuple. One that exists is never overwritten.
    #[arg(
        long,
        value_name = "DIR",
        requires = "keep_open",
        conflicts_with_all = ["echo", "program", "responder", "send_only"]
    )]
    pub out_dir: Option<PathBuf>,
    /// Hand on what one client sends to all others, and show it here
    #[arg(long, requires = "keep_open", conflicts_with_all = ["echo", "program", "responder"])]
    pub broker: bool,
}

/// Which clients get what is read from standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StdinTo {
    /// Every client that is there
    #[default]
    All,
    /// The one that came first of those that are there
    First,
    /// The one that came last
    Last,
    /// None: standard input is not read
    None,
}
