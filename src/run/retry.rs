//! Retries: attempts until one succeeds, with pauses between them, and a time to give up.
//! The last attempt ends within that time; if that cuts it short, the failure before it says more.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::background::{Deadline, wait_for};
use super::session::Session;
use crate::cli::{RetryOn, RetryOptions};
use crate::exit::{Exit, Failure};
use crate::tap::Event;

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Limit for an attempt that has no other: a wait for an answer must not be a wait for one attempt alone.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// State between the attempts of one run.
struct Retry<'a> {
    options: &'a RetryOptions,
    deadline: Option<Deadline>,
    pause: Duration,
    attempts: u64,
    previous: Option<Failure>,
}

impl Session<'_> {
    /// Runs `attempt`, which gets the time to give up, until it succeeds or there is no other attempt.
    pub(crate) fn retry<T>(
        &mut self,
        options: &RetryOptions,
        mut attempt: impl FnMut(&mut Self, Option<Deadline>) -> Result<T>,
    ) -> Result<T> {
        let mut retry = Retry {
            options,
            deadline: options.retry_for.map(|limit| (self.start + limit, limit)),
            pause: FIRST_PAUSE,
            attempts: 1,
            previous: None,
        };
        loop {
            match attempt(self, retry.deadline) {
                Ok(result) => return Ok(result),
                Err(error) => retry.wait(Failure::of(&error), self)?,
            }
        }
    }
}

impl Retry<'_> {
    /// Waits after a failed attempt until it is time for the next one.
    ///
    /// Errors: the failure that ends the run, if there is no next one.
    fn wait(&mut self, failure: Failure, session: &mut Session<'_>) -> Result<(), Failure> {
        let Some(deadline) = self.deadline.filter(|_| self.is_transient(&failure)) else {
            return Err(failure);
        };
        let (until, _) = session.rules.deadline.unwrap_or(deadline).min(deadline);
        let left = until.saturating_duration_since(Instant::now());
        if left < 2 * FIRST_PAUSE {
            let is_cut_short = left.is_zero() && failure.exit == Exit::TimedOut;
            let before = self.previous.take().filter(|_| is_cut_short);
            let mut failure = before.unwrap_or(failure);
            let note = format!("\ngave up after attempt {} (--retry-for)", self.attempts);
            failure.message.push_str(&note);
            return Err(failure);
        }
        session.taps.emit(&Event::Retrying {
            failure: &failure,
            left,
        });
        // The nearer the end, the shorter the pauses: what works in the last moment is not missed.
        let pause = self.pause.min(left / 2).max(FIRST_PAUSE);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.attempts += 1;
        self.previous = Some(failure);
        wait_for(None, session.signals, Some(Instant::now() + pause)).map(drop)
    }

    /// Returns true for a failure of a kind that may pass.
    fn is_transient(&self, failure: &Failure) -> bool {
        let kind = match failure.exit {
            Exit::Refused => RetryOn::Refused,
            Exit::TimedOut => RetryOn::Timeout,
            Exit::Unresolved => RetryOn::Resolve,
            _ => return false,
        };
        self.options.retry_on.contains(&kind)
    }
}
