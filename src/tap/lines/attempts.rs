//! The lines about connecting: attempts, what comes of them, and that they go on.
//! Of many attempts only what came of them in the end is told, unless everything is asked for.

use std::io::Write;
use std::time::Duration;

use super::{Detail, Lines};
use crate::exit::{Failure, describe};
use crate::flow::{Address, Flow};

impl<W: Write> Lines<W> {
    /// An attempt that has failed is told once it is clear that another one succeeds: if none does, the error names them all.
    pub(super) fn failed(&mut self, remote: &Address, error: &std::io::Error) {
        let text = format!("{remote}: {}", describe(error));
        if self.detail == Detail::Chunks {
            self.line("failed", text);
        } else {
            self.failed.push(text);
        }
    }

    pub(super) fn connected(&mut self, flow: &Flow) {
        for text in std::mem::take(&mut self.failed) {
            self.line("failed", text);
        }
        self.line("connected", flow);
    }

    /// What comes of asking whether somebody listens.
    pub(super) fn probed(&mut self, outcome: Result<(&Flow, Duration), &Failure>) {
        self.failed.clear();
        match outcome {
            Ok((flow, after)) => {
                let millis = after.as_secs_f64() * 1000.0;
                self.line(
                    "open",
                    format_args!("{flow}  connected after {millis:.2} ms"),
                );
            }
            Err(failure) => {
                let lines = failure.message.lines();
                let reasons: Vec<&str> = lines
                    .map(|line| line.strip_prefix("cannot connect to ").unwrap_or(line))
                    .collect();
                self.line("failed", reasons.join("; "));
            }
        }
    }

    /// That it will be tried again is told once, and every time only to those who want to know everything.
    pub(super) fn retrying(&mut self, failure: &Failure, left: Duration) {
        self.failed.clear();
        if !std::mem::replace(&mut self.is_patient, true) || self.detail == Detail::Chunks {
            let reason = failure.message.lines().next().unwrap_or_default();
            let left = left.as_secs_f64();
            self.line(
                "retrying",
                format_args!("{reason}; for up to {left:.1} s (--retry-for)"),
            );
        }
    }
}
