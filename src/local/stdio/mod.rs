//! Standard input and output as the local end.
//! What is read becomes batches as the link needs them; what arrives is written as it came, in one call where possible.

use std::io;
use std::os::fd::BorrowedFd;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::end::{Arrival, End, Unseen};
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
        arrival
    }

    fn is_pending(&self) -> bool {
        self.input.as_ref().is_some_and(Input::is_pending)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        if let Some(output) = &mut self.output {
            if output.is_terminal() {
                self.console.remove_bar();
            }
            return output.send(batch, at);
        }
        batch.advance(at, usize::MAX);
        Ok(())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().and_then(Input::source)
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(Output::sink)
    }

    fn sink_lost(&self) -> Option<Failure> {
        self.output.as_ref().and_then(Output::sink_lost)
    }

    fn unseen_source(&self) -> Option<Unseen> {
        self.input.as_ref().and_then(Input::unseen)
    }

    fn has_unseen_sink(&self, stride: Option<usize>) -> bool {
        stride.is_none() && self.output.as_ref().is_some_and(Output::may_be_unseen)
    }
}
