//! The program: read the command line, run it, print the error if there is one, exit with the status that says how it ended.
//! Everything else is in the library.

use std::process::ExitCode;
use std::time::Instant;

use tuplecat::cli::Cli;
use tuplecat::exit::{Exit, Failure};
use tuplecat::modes;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too; a reader that is gone is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let exit = modes::run(&cli.command, start).unwrap_or_else(|error| report(&error));
    ExitCode::from(exit.status())
}

/// Prints an error, one line for each of its lines, and gives the status it stands for.
fn report(error: &anyhow::Error) -> Exit {
    use std::io::Write;
    let mut lines = String::new();
    for line in format!("{error:#}").lines() {
        lines.extend(["tuplecat: ", line, "\n"]);
    }
    // Where standard error is closed the status still says how it ended.
    let _ = std::io::stderr().write_all(lines.as_bytes());
    error
        .downcast_ref::<Failure>()
        .map_or(Exit::Failed, |failure| failure.exit)
}
