//! Standard input and output as the local end.
//! What is read becomes batches as the link needs them; what arrives is written as it came, in one call where possible.

use std::io::{self, ErrorKind};

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Spliceable, Wait};
use crate::tap::{Console, Taps};

mod decoded;
pub mod input;
pub mod output;

use input::Input;
use output::Output;

/// Standard input and output, each of which may be left out.
pub struct Stdio {
    input: Option<Input>,
    output: Option<Output>,
    /// What else is shown on a terminal.
    console: Console,
}

impl Stdio {
    /// Joins what is given; without input there is nothing to send, without output what arrives is counted and dropped.
    #[must_use]
    pub fn new(input: Option<Input>, output: Option<Output>) -> Self {
        Self {
            input,
            output,
            console: Console::default(),
        }
    }

    /// Shares a terminal with the console.
    #[must_use]
    pub fn beside(self, console: Console) -> Self {
        Self { console, ..self }
    }

    /// Whether a person sees what is written.
    pub(in crate::local) fn is_seen(&self) -> bool {
        self.output.as_ref().is_some_and(Output::is_terminal)
    }
}

impl End for Stdio {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        let Some(input) = &mut self.input else {
            return Ok(Arrival::End);
        };
        let arrival = input.recv(batch);
        if input.is_terminal() && matches!(arrival, Ok(Arrival::Data)) {
            self.console.remove_bar();
        }
        arrival.map_err(|error| named("cannot read standard input", error))
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        if let Some(output) = &mut self.output {
            if output.is_terminal() {
                self.console.remove_bar();
            }
            let sent = output.send(batch, at);
            sent.map_err(|error| named("cannot write to standard output", error))?;
        } else {
            batch.advance(at, usize::MAX);
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let output = self.output.as_ref();
        Readiness {
            recv: self.input.as_ref().map_or(Wait::Now, Input::wait),
            send: output.map_or(Wait::Now, |output| Wait::writable(output.sink())),
            watch: output.is_some_and(Output::is_pipe),
        }
    }

    fn health(&mut self) -> io::Result<usize> {
        self.output.as_ref().map_or(Ok(()), Output::health)?;
        Ok(0)
    }

    fn splice(&mut self) -> Spliceable<'_> {
        Spliceable {
            source: self.input.as_ref().and_then(Input::splice_source),
            sink: self.output.as_ref().and_then(Output::splice_sink),
            meter: None,
        }
    }
}

/// Adds the act to an error, unless it only asks to be called again.
fn named(act: &str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => error,
        _ => Failure::io(act, &error).into(),
    }
}
