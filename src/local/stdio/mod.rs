//! Standard input and output as the local end.
//! Input becomes batches as the links need them; what arrives is written as it came, in one call if possible.

use std::io::{self, ErrorKind};

use super::out_dir::{OpenDir, OutDir};
use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::Identity;
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Spliceable, Wait};
use crate::tap::{Console, Taps};

mod decoded;
pub mod input;
pub mod output;

use input::Input;
use output::Output;

/// Local end of standard input and of a destination for what arrives.
pub struct Stdio {
    input: Option<Input>,
    destination: Destination,
    /// Progress bar on the same terminal.
    console: Console,
}

/// Destination of what arrives.
enum Destination {
    /// It is counted and dropped.
    Nowhere,
    /// Standard output.
    Output(Output),
    /// A file for each client.
    Files(OutDir),
}

impl Stdio {
    /// Joins an input and an output. Without an input there is nothing to send; without an output, what arrives is dropped.
    pub fn new(input: Option<Input>, output: Option<Output>) -> Self {
        Self {
            input,
            destination: output.map_or(Destination::Nowhere, Destination::Output),
            console: Console::default(),
        }
    }

    /// Shares a terminal with the console.
    pub fn beside(self, console: Console) -> Self {
        Self { console, ..self }
    }

    /// Writes whole lines, each behind the addresses that it came over.
    pub fn with_prefix(mut self) -> Self {
        if let Destination::Output(output) = &mut self.destination {
            output.prefix_lines();
        }
        self
    }

    /// Writes a file in `dir` for each client, in place of standard output.
    pub fn with_files(self, dir: OpenDir) -> Self {
        let destination = Destination::Files(OutDir::new(dir));
        Self {
            destination,
            ..self
        }
    }

    fn output(&self) -> Option<&Output> {
        match &self.destination {
            Destination::Output(output) => Some(output),
            Destination::Nowhere | Destination::Files(_) => None,
        }
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
        match &mut self.destination {
            Destination::Nowhere => batch.advance(at, usize::MAX),
            Destination::Output(output) => {
                if output.is_terminal() {
                    self.console.remove_bar();
                }
                let sent = output.send(batch, at);
                if output.is_terminal() {
                    self.console.note_output(output.is_at_line_start());
                }
                sent.map_err(|error| named("cannot write to standard output", error))?;
            }
            Destination::Files(files) => files.send(batch, at)?,
        }
        Ok(Next::Continue)
    }

    /// Ends the line or the file of a stream; at the end of all, lets the reader of standard output see the end.
    fn finish(&mut self, what: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        let finished = match (what, &mut self.destination) {
            (Finish::Stream(Identity::Pair(flow)), Destination::Output(output)) => {
                output.finish(flow)
            }
            (Finish::Stream(Identity::Pair(flow)), Destination::Files(files)) => {
                files.close(flow);
                Ok(())
            }
            (Finish::All, destination @ Destination::Output(_)) => {
                match std::mem::replace(destination, Destination::Nowhere) {
                    Destination::Output(output) => output.close(),
                    Destination::Nowhere | Destination::Files(_) => Ok(()),
                }
            }
            _ => Ok(()),
        };
        finished.map_err(|error| named("cannot write to standard output", error))?;
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let output = self.output();
        Readiness {
            recv: self.input.as_ref().map_or(Wait::Now, Input::wait),
            send: output.map_or(Wait::Now, |output| Wait::writable(output.sink())),
            watch: output.is_some_and(Output::is_pipe),
        }
    }

    fn health(&mut self) -> io::Result<usize> {
        self.output().map_or(Ok(()), Output::health)?;
        Ok(0)
    }

    fn splice(&mut self) -> Spliceable<'_> {
        Spliceable {
            source: self.input.as_ref().and_then(Input::splice_source),
            sink: self.output().and_then(Output::splice_sink),
            meter: None,
        }
    }
}

/// Adds the act to an error, unless it only asks to be called again.
fn named(act: &str, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => error,
        _ => Failure::local(act, &error).into(),
    }
}
