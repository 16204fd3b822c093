//! The program: it reads the command line, runs it, prints the error if there is one, and exits with the status.
//! Everything else is in the library.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anstream::{AutoStream, ColorChoice};
use tuplecat::cli::Cli;
use tuplecat::escape::Escaped;
use tuplecat::exit::{Exit, Failure, print, print_error};
use tuplecat::modes;
use tuplecat::sys::return_free_memory;

fn main() -> ExitCode {
    let start = Instant::now();
    return_free_memory();
    let exit = match Cli::read(std::env::args_os()) {
        Ok(cli) => status(modes::run(&cli.command, start)),
        Err(error) => explain(&error),
    };
    ExitCode::from(exit.status())
}

/// Prints an error of the command line, or the requested help or version.
fn explain(error: &clap::Error) -> Exit {
    let text = error.render();
    if error.use_stderr() {
        let text = text.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        print_error(&format!("tuplecat: {}", shown("", text)));
        return Exit::Usage;
    }
    let is_plain = AutoStream::choice(&std::io::stdout()) == ColorChoice::Never;
    let text = if is_plain {
        text.to_string()
    } else {
        text.ansi().to_string()
    };
    status(print(&text))
}

/// Prints a failure, one line for each of its lines, and returns the status of the run.
fn status(ended: Result<(), Failure>) -> Exit {
    let Err(failure) = ended else {
        return Exit::Done;
    };
    let lines = shown("tuplecat: ", &failure.message);
    print_error(&lines);
    failure.exit
}

/// Returns the lines of `text`, escaped for a terminal, each after `prefix`.
fn shown(prefix: &str, text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        // Writing to memory does not fail.
        let _ = writeln!(lines, "{prefix}{}", Escaped(line));
    }
    lines
}
