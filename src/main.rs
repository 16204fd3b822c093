//! The program: read the command line, run it, print the error if there is one, exit with the status that says how it ended.
//! Everything else is in the library.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use tuplecat::cli::Cli;
use tuplecat::exit::{Exit, Failure};
use tuplecat::modes;
use tuplecat::plain::Plain;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return decline(&error),
    };
    let exit = modes::run(&cli.command, start).unwrap_or_else(|failure| report(&failure));
    ExitCode::from(exit.status())
}

/// Prints what is wrong with a command line, or the help or version that was asked for.
fn decline(error: &clap::Error) -> ExitCode {
    let text = error.render();
    // Where nobody reads it, the status still says it.
    let _ = if error.use_stderr() {
        let text = text.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        write!(std::io::stderr(), "tuplecat: {}", shown("", text))
    } else {
        write!(anstream::stdout(), "{}", text.ansi())
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Prints a failure, one line for each of its lines, and gives the status it stands for.
fn report(failure: &Failure) -> Exit {
    let lines = shown("tuplecat: ", &failure.message);
    // Where standard error is closed the status still says how it ended.
    let _ = std::io::stderr().write_all(lines.as_bytes());
    failure.exit
}

/// Lines for a terminal, each with `prefix` in front.
fn shown(prefix: &str, text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        // Writing to memory does not fail.
        let _ = writeln!(lines, "{prefix}{}", Plain(line));
    }
    lines
}
