//! Trying again: the pauses between attempts, and when to give up.
//! The last attempt ends within the time that the user gives; where that cuts it short, the failure before it tells more.

use std::time::{Duration, Instant};

use super::background::wait_for;
use super::session::Session;
use crate::cli::{RetryOn, RetryOptions};
use crate::exit::{Exit, Failure};
use crate::tap::Event;

/// The first pause, and the longest; each is twice the one before.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// How long an attempt may take that has no limit of its own: what waits for an answer must not wait for one attempt alone.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(5);

/// The plan for attempts, made anew for each run.
pub(crate) struct Retry<'a> {
    options: &'a RetryOptions,
    /// When to give up, and the limit that says so.
    until: Option<(Instant, Duration)>,
    pause: Duration,
    attempts: u64,
    previous: Option<Failure>,
}

impl<'a> Retry<'a> {
    pub(crate) fn new(options: &'a RetryOptions, start: Instant) -> Self {
        Self {
            options,
            until: options.retry_for.map(|limit| (start + limit, limit)),
            pause: FIRST,
            attempts: 1,
            previous: None,
        }
    }

    /// When attempts have to be over, and the limit that says so.
    pub(crate) fn until(&self) -> Option<(Instant, Duration)> {
        self.until
    }

    /// Waits after a failed attempt until it is time for the next one.
    ///
    /// Errors: what ends the run, if there is no next one.
    pub(crate) fn wait(
        &mut self,
        failure: Failure,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let Some((until, _)) = self.until.filter(|_| self.may_pass(&failure)) else {
            return Err(failure);
        };
        let deadline = session.rules.deadline.map(|(deadline, _)| deadline);
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        let left = until.saturating_duration_since(Instant::now());
        if left < 2 * FIRST {
            let is_cut_short = left.is_zero() && failure.exit == Exit::TimedOut;
            let telling = self.previous.take().filter(|_| is_cut_short);
            return Err(self.give_up(telling.unwrap_or(failure)));
        }
        session.taps.emit(&Event::Retrying {
            failure: &failure,
            left,
        });
        // The nearer the end, the shorter the pauses: what works in the last moment is not missed.
        let pause = self.pause.min(left / 2).max(FIRST);
        self.pause = (self.pause * 2).min(LONGEST);
        self.attempts += 1;
        self.previous = Some(failure);
        wait_for(None, &session.signals, Some(Instant::now() + pause)).map(drop)
    }

    /// Whether the failure is of a kind that is waited out.
    fn may_pass(&self, failure: &Failure) -> bool {
        let kind = match failure.exit {
            Exit::Refused => RetryOn::Refused,
            Exit::TimedOut => RetryOn::Timeout,
            Exit::Unresolved => RetryOn::Resolve,
            _ => return false,
        };
        self.options.retry_on.contains(&kind)
    }

    fn give_up(&self, mut failure: Failure) -> Failure {
        let note = format!("\ngave up after attempt {} (--retry-for)", self.attempts);
        failure.message.push_str(&note);
        failure
    }
}
