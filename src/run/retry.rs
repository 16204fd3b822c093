//! Retries: attempts until one succeeds, with pauses between them, and a time to give up.
//! The last attempt ends within that time; if that cuts it short, the failure before it says more.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::background::{Deadline, wait_for};
use super::session::Session;
use crate::cli::{RetryOn, RetryOptions};
use crate::exit::{Exit, Failure};
use crate::tap::{Event, Taps};

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Limit for an attempt that has no other: a wait for an answer must not be a wait for one attempt alone.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit for a connection through a proxy that has no other: the kernel limits connect(2), but not the answer of a proxy.
const PROXY_TIMEOUT: Duration = Duration::from_mins(2);

/// State between attempts.
pub(super) struct Retry {
    options: RetryOptions,
    deadline: Option<Deadline>,
    pause: Duration,
    attempts: u64,
    previous: Option<Failure>,
}

impl Session<'_> {
    /// Returns the time that an attempt to connect may take, its look-up included.
    pub(crate) fn attempt_limit(
        &self,
        connect_timeout: Option<Duration>,
        is_bounded: bool,
    ) -> Option<Duration> {
        connect_timeout
            .or(is_bounded.then_some(ATTEMPT_TIMEOUT))
            // An attempt without an answer is silence.
            .or(self.rules.idle_timeout)
            .or(self.proxy.as_ref().map(|_| PROXY_TIMEOUT))
    }

    /// Runs `attempt`, which gets the time to give up, until it succeeds or there is no other attempt.
    pub(crate) fn retry<T>(
        &mut self,
        options: &RetryOptions,
        mut attempt: impl FnMut(&mut Self, Option<Deadline>) -> Result<T>,
    ) -> Result<T> {
        let mut retry = Retry::new(options, self.start);
        loop {
            let error = match attempt(self, retry.deadline) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let next = retry.next(Failure::of(&error), self.rules.deadline, self.taps)?;
            wait_for(None, self.signals, Some(next))?;
        }
    }
}

impl Retry {
    /// Counts the time for attempts from `start`.
    pub(super) fn new(options: &RetryOptions, start: Instant) -> Self {
        Self {
            options: options.clone(),
            deadline: options.retry_for.map(|limit| (start + limit, limit)),
            pause: FIRST_PAUSE,
            attempts: 1,
            previous: None,
        }
    }

    /// Returns the time to give up.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Returns the time for the next attempt after a failed one; `run` is the end of the run.
    ///
    /// Errors: the failure that ends the attempts.
    pub(super) fn next(
        &mut self,
        failure: Failure,
        run: Option<Deadline>,
        taps: &mut Taps,
    ) -> Result<Instant, Failure> {
        let Some(deadline) = self.deadline.filter(|_| self.is_transient(&failure)) else {
            return Err(failure);
        };
        let (until, _) = run.unwrap_or(deadline).min(deadline);
        let left = until.saturating_duration_since(Instant::now());
        if left < 2 * FIRST_PAUSE {
            let is_cut_short = left.is_zero() && failure.exit == Exit::TimedOut;
            let before = self.previous.take().filter(|_| is_cut_short);
            let mut failure = before.unwrap_or(failure);
            let note = format!("\ngave up after attempt {} (--retry-for)", self.attempts);
            failure.message.push_str(&note);
            return Err(failure);
        }
        taps.emit(&Event::Retrying {
            failure: &failure,
            left,
        });
        // The nearer the end, the shorter the pauses: what works in the last moment is not missed.
        let pause = self.pause.min(left / 2).max(FIRST_PAUSE);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        self.attempts += 1;
        self.previous = Some(failure);
        Ok(Instant::now() + pause)
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
