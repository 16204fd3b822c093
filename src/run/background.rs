//! Work that only the system can end, such as asking a name server: a thread does it, while signals and limits are heeded.
//! A thread that takes too long is left behind, and ends with the process.

use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::exit::{Exit, Failure};
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};

/// Work in a thread of its own.
pub(crate) struct Background<T> {
    /// At its end when the work is done.
    done: PipeReader,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts `work`.
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io("cannot start a thread", &error);
        let (done, under_way) = io::pipe().map_err(failed)?;
        let work = move || {
            let result = work();
            drop(under_way);
            result
        };
        let thread = thread::Builder::new().spawn(work).map_err(failed)?;
        Ok(Self { done, thread })
    }

    /// Waits for the result until a point in time; after that, returns the work itself.
    pub(crate) fn wait(
        self,
        until: Option<Instant>,
        signals: &Signals,
    ) -> Result<Result<T, Self>, Failure> {
        if !wait_for(Some(self.done.as_fd()), signals, until)? {
            return Ok(Err(self));
        }
        let result = self.thread.join();
        Ok(Ok(result.unwrap_or_else(|panic| resume_unwind(panic))))
    }
}

/// Waits until a descriptor is readable (true) or a time has come (false).
///
/// Errors: a signal ends the run.
pub(crate) fn wait_for(
    readable: Option<BorrowedFd<'_>>,
    signals: &Signals,
    until: Option<Instant>,
) -> Result<bool, Failure> {
    let watched = readable.map(|fd| (fd, Interest::READ));
    loop {
        match wait(watched.as_slice(), Some(signals), until) {
            Ok(Wakeup::Ready(_)) => return Ok(true),
            Ok(Wakeup::TimedOut) => return Ok(false),
            Ok(Wakeup::Signal(Request::End(number))) => return Err(Failure::signal(number)),
            // There is no socket yet.
            Ok(Wakeup::Signal(Request::Show)) => {}
            Err(error) => return Err(Failure::io("cannot wait", &error)),
        }
    }
}

/// Resolves names. If a name server may be `asked` for one, a thread does it, within the first of these limits.
pub(crate) fn look_up<T: Send + 'static>(
    asked: Option<String>,
    limits: impl Iterator<Item = (Instant, Duration)>,
    signals: &Signals,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let Some(name) = asked else {
        return work();
    };
    let limit = limits.min();
    let found = Background::start(work)?.wait(limit.map(|(until, _)| until), signals)?;
    found.unwrap_or_else(|_| {
        let limit = limit.map_or(0.0, |(_, limit)| limit.as_secs_f64());
        let text = format!("cannot resolve host '{name}': timed out after {limit} s");
        Err(Failure::new(Exit::TimedOut, text))
    })
}
