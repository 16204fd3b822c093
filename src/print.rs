//! What is printed at once and is the whole run: help, a completion script, the page of an experiment.
//! It is written, or the status says that it is not, as with what is received.

use std::io::{self, ErrorKind, Write};

use crate::exit::{Exit, Failure};
use crate::sys::inherited::Waiting;
use crate::sys::startup::was_closed;

/// Writes a text to standard output.
///
/// Errors: [`Exit::OutputClosed`] where its reader has gone, [`Exit::Failed`] where it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    const ACT: &str = "cannot write to standard output";
    if was_closed(1) {
        let text = format!("{ACT}: it was closed when the program started");
        return Err(Failure::new(Exit::Failed, text));
    }
    let mut stdout = Waiting(io::stdout());
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::OutputClosed, ""))
        }
        Err(error) => Err(Failure::io(ACT, &error)),
    }
}
