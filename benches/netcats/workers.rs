//! The threads at both ends of a run: producers write to the tools, consumers read from them.
//! No thread outlives its run: when its processes have ended, every pipe and socket reaches its end.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::pattern::{self, Hash};
use crate::processes::Processes;

/// Bytes that the consumer requests in one read.
const READ_SIZE: usize = 1 << 20;

/// A thread and its pending result.
pub(crate) struct Worker<T> {
    task: &'static str,
    result: Receiver<anyhow::Result<T>>,
}

/// Starts a thread; `task` names it in errors.
pub(crate) fn spawn<T: Send + 'static>(
    task: &'static str,
    job: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Worker<T> {
    let (sender, result) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // The receiver may be gone.
        let _ = sender.send(job());
    });
    Worker { task, result }
}

impl<T> Worker<T> {
    /// Waits for the result; at the deadline all processes are killed, which ends the thread too.
    pub(crate) fn result(self, processes: &mut Processes) -> anyhow::Result<T> {
        let Ok(result) = self.result.recv_timeout(processes.left()) else {
            processes.clear();
            return Err(anyhow!("{} took too long", self.task));
        };
        result.with_context(|| self.task)
    }
}

/// Amount of data to write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// Repeat one buffer for that time.
    For(Duration),
    /// This many bytes of the pattern.
    Pattern(u64),
}

/// Result of a producer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fed {
    pub(crate) bytes: u64,
    pub(crate) began: Instant,
}

/// Writes `chunk` bytes a call, then closes.
pub(crate) fn feed(mut sink: impl Write, chunk: usize, amount: Amount) -> anyhow::Result<Fed> {
    let mut buffer = pattern::bytes(chunk);
    let began = Instant::now();
    let mut bytes = 0;
    loop {
        let len = match amount {
            Amount::For(time) if began.elapsed() >= time => break,
            Amount::For(_) => chunk,
            Amount::Pattern(total) if bytes >= total => break,
            Amount::Pattern(total) => {
                pattern::fill(&mut buffer, bytes);
                usize::try_from(total - bytes).map_or(chunk, |left| left.min(chunk))
            }
        };
        sink.write_all(&buffer[..len])?;
        bytes += len as u64;
    }
    Ok(Fed { bytes, began })
}

/// Verification of received data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The length only.
    Count,
    /// Every byte.
    Hash,
}

/// Result of a consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) bytes: u64,
    pub(crate) hash: Hash,
    /// Time of the last read with data.
    pub(crate) last: Instant,
}

impl Drained {
    /// Verifies the length, and with `Check::Hash` that the bytes are the pattern.
    pub(crate) fn check(&self, fed: &Fed, check: Check) -> anyhow::Result<()> {
        let (sent, came) = (fed.bytes, self.bytes);
        ensure!(sent == came, "{sent} bytes in, {came} bytes out");
        if check == Check::Hash {
            ensure!(self.hash == pattern::hash(sent), "other bytes came out");
        }
        Ok(())
    }
}

/// Reads until the end of `source`.
pub(crate) fn drain(mut source: impl Read, check: Check) -> anyhow::Result<Drained> {
    let mut buffer = vec![0; READ_SIZE];
    let mut drained = Drained {
        bytes: 0,
        hash: Hash::default(),
        last: Instant::now(),
    };
    loop {
        let len = source.read(&mut buffer)?;
        if len == 0 {
            return Ok(drained);
        }
        drained.last = Instant::now();
        drained.bytes += len as u64;
        if check == Check::Hash {
            drained.hash.add(&buffer[..len]);
        }
    }
}
