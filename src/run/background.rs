//! What only the system can end, such as asking a name server: it is done aside, in a thread, while signals and limits are heeded.
//! A thread that is given up is left behind, and ends with the process.

use std::io::{self, PipeReader};
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::retry::Stop;
use crate::exit::{Exit, Failure};
use crate::sys::signals::{Request, Signals};

/// Work that is done aside.
pub(crate) struct Aside<T> {
    /// At its end when the work is done.
    done: PipeReader,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Aside<T> {
    /// Begins to do `work`.
    pub(crate) fn begin(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (done, under_way) = io::pipe()?;
        let thread = thread::Builder::new().spawn(move || {
            let result = work();
            drop(under_way);
            result
        })?;
        Ok(Self { done, thread })
    }

    /// Waits for the result, as long as `patience` says; if that is too short, this is what can be waited for again.
    ///
    /// Errors: a signal ends the run.
    pub(crate) fn wait(
        self,
        patience: Option<Duration>,
        signals: &Signals,
    ) -> Result<Result<T, Self>, Stop> {
        let until = patience.map(|patience| Instant::now() + patience);
        loop {
            if let Some(Request::End(number)) = signals.next() {
                return Err(Stop::Signal(number));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let wake = signals.wake();
            let mut watched = [
                PollFd::new(&wake, PollFlags::IN),
                PollFd::new(&self.done, PollFlags::IN),
            ];
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut watched, left.as_ref()) {
                Ok(0) => return Ok(Err(self)),
                Ok(_) if !watched[1].revents().is_empty() => {
                    let result = self.thread.join();
                    return Ok(Ok(result.unwrap_or_else(|panic| resume_unwind(panic))));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::io("cannot wait for a thread", &error.into()).into());
                }
            }
        }
    }
}

/// Finds addresses. Where a name server is `asked` for a name, that is done aside, within the first of these limits.
pub(crate) fn look_up<T: Send + 'static>(
    asked: Option<String>,
    limits: impl Iterator<Item = (Instant, Duration)>,
    signals: &Signals,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Stop> {
    let Some(name) = asked else {
        return Ok(work()?);
    };
    let aside = Aside::begin(work);
    let aside = aside.map_err(|error| Failure::io("cannot start a thread", &error))?;
    let limit = limits.min();
    let left = limit.map(|(until, _)| until.saturating_duration_since(Instant::now()));
    if let Ok(result) = aside.wait(left, signals)? {
        return Ok(result?);
    }
    let limit = limit.map_or(0.0, |(_, limit)| limit.as_secs_f64());
    let text = format!("cannot resolve host '{name}': timed out after {limit} s");
    Err(Failure::new(Exit::TimedOut, text).into())
}
