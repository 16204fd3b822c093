//! The options that try again: a service that is being started is not there yet.
//! Waiting is bounded by the user, and only what may pass by itself is waited out.

use std::time::Duration;

use clap::ValueEnum;

use super::values;

/// Whether to try again, and for how long.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Trying again")]
pub struct RetryOptions {
    /// Try again for TIME until it works, from 10 ms to 1 s apart
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub retry_for: Option<Duration>,
    /// What to try again after, separated by commas
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        value_delimiter = ',',
        default_value = "refused,timeout,resolve",
        requires = "retry_for"
    )]
    pub retry_on: Vec<RetryOn>,
}

/// A failure that may pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetryOn {
    /// Nobody listens there (status 5)
    Refused,
    /// Nobody answers (status 6)
    Timeout,
    /// The name does not resolve (status 3)
    Resolve,
}

/// Fits `--retry-for` to datagrams: what is sent again must still be there, and standard input can be read once.
pub(super) fn of_words(option: clap::Arg) -> clap::Arg {
    option
        .help("Send again for TIME until nothing fails, from 10 ms to 1 s apart; with --send only")
        .requires("said")
        .conflicts_with("stdin")
}
