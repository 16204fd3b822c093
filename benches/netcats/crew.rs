//! The threads at the outer ends of a run: they feed tools, and take what comes out of them.
//! None can outlast its run: when the processes of the scene are ended, every pipe and socket here ends as well.

use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use crate::pattern::{self, Hash};
use crate::scene::Scene;

/// Bytes that the consumer asks for in one read.
const GULP: usize = 1 << 20;

/// A thread, and what it will have found out.
pub(crate) struct Worker<T> {
    task: &'static str,
    result: Receiver<anyhow::Result<T>>,
}

/// Starts a thread for a task.
pub(crate) fn hire<T: Send + 'static>(
    task: &'static str,
    job: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Worker<T> {
    let (sender, result) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody may be waiting for it any more.
        let _ = sender.send(job());
    });
    Worker { task, result }
}

impl<T> Worker<T> {
    /// What it found out; where it does not end in time, the scene is ended, and it with it.
    pub(crate) fn result(self, scene: &mut Scene) -> anyhow::Result<T> {
        let Ok(result) = self.result.recv_timeout(scene.left()) else {
            scene.clear();
            return Err(anyhow!("{} took too long", self.task));
        };
        result.with_context(|| self.task)
    }
}

/// How much to feed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// As much as is taken in that time, always the same bytes.
    For(Duration),
    /// So many bytes of the pattern.
    Pattern(u64),
}

/// What was fed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fed {
    pub(crate) bytes: u64,
    pub(crate) began: Instant,
}

/// Writes `chunk` bytes at a time, then closes.
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

/// How closely to look at what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Only its length.
    Count,
    /// Every byte.
    Hash,
}

/// What has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    pub(crate) bytes: u64,
    pub(crate) hash: Hash,
    /// When the last of it came.
    pub(crate) last: Instant,
}

impl Drained {
    /// Makes sure that all that was fed has come, and, where every byte was looked at, that it is the pattern.
    pub(crate) fn check(&self, fed: &Fed, look: Look) -> anyhow::Result<()> {
        let (sent, came) = (fed.bytes, self.bytes);
        ensure!(sent == came, "{sent} bytes in, {came} bytes out");
        if look == Look::Hash {
            ensure!(self.hash == pattern::hash(sent), "other bytes came out");
        }
        Ok(())
    }
}

/// Reads to the end.
pub(crate) fn drain(mut source: impl Read, look: Look) -> anyhow::Result<Drained> {
    let mut buffer = vec![0; GULP];
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
        if look == Look::Hash {
            drained.hash.add(&buffer[..len]);
        }
    }
}
