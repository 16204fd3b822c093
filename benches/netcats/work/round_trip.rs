//! The time of a message and its answer, through the pipes of a tool that is connected to an echo server.
//! All of it runs on one CPU, so that the figures show the work on the path and not the decisions of the scheduler.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use anyhow::ensure;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{Setup, accept, finish, listen, start};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::pattern;
use crate::processes::Processes;
use crate::tools::{Job, Task, Tool};
use crate::workers::spawn;

/// Number of messages before the measurement.
const WARM_UP: usize = 100;

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let measure = |what| Measure {
        what,
        unit: "µs",
        better: Better::Less,
    };
    let count = if setup.is_quick { 1000 } else { 5000 };
    [
        ("round-trip-1", 1),
        ("round-trip-64", 64),
        ("round-trip-1k", 1024),
    ]
    .map(|(name, size)| Contest {
        name: name.to_owned(),
        title: format!("round trip of {size} B"),
        proof: "every answer",
        jobs: &[Job::Talk],
        measures: vec![measure("p50"), measure("p99")],
        rounds: setup.rounds,
        run: Box::new(move |tool, pass| talk(tool, size, count, pass)),
    })
    .into()
}

fn talk(tool: &Tool, size: usize, count: usize, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let (listener, port) = listen()?;
    let task = Task {
        port,
        ..Task::default()
    };
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let pin = Pin::to_one_cpu()?;
    let process = start(&mut processes, (tool, Job::Talk, &task), stdin, stdout)?;
    let echoed = spawn("answering", move || echo(&listener));
    let times = spawn("asking", move || {
        let mut times = vec![0.0; count];
        exchange((input, output), size, &mut times)?;
        Ok(times)
    });
    drop(pin);
    let mut times = times.result(&mut processes)?;
    finish(&mut processes, tool, process)?;
    let echoed = echoed.result(&mut processes)?;
    ensure!(
        pass == Pass::Timed || echoed == ((count + WARM_UP) * size) as u64,
        "{echoed} bytes reached the echo server"
    );
    times.sort_by(f64::total_cmp);
    Ok(vec![times[count / 2], times[count * 99 / 100]])
}

/// Sends messages, each after the answer to the previous one, and records the microseconds of each.
fn exchange(
    (mut input, mut output): (PipeWriter, PipeReader),
    size: usize,
    times: &mut [f64],
) -> anyhow::Result<()> {
    let (mut question, mut answer) = (vec![0; size], vec![0; size]);
    let mut waste = [0.0; WARM_UP];
    for (place, time) in (0_u64..).zip(waste.iter_mut().chain(times)) {
        pattern::fill(&mut question, place * 8);
        let began = Instant::now();
        input.write_all(&question)?;
        output.read_exact(&mut answer)?;
        *time = began.elapsed().as_secs_f64() * 1e6;
        ensure!(question == answer, "a wrong answer");
    }
    drop(input);
    ensure!(output.read(&mut answer)? == 0, "one answer too many");
    Ok(())
}

/// Echoes all data of one client; returns the number of bytes.
fn echo(listener: &TcpListener) -> anyhow::Result<u64> {
    let mut stream = accept(listener)?;
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..len])?;
        total += len as u64;
    }
}

/// A guard: while it exists, this thread and the processes that it starts run on one CPU.
struct Pin {
    before: CpuSet,
}

impl Pin {
    fn to_one_cpu() -> anyhow::Result<Self> {
        let before = sched_getaffinity(None)?;
        let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| before.is_set(cpu));
        let mut one = CpuSet::new();
        one.set(last.unwrap_or(0));
        sched_setaffinity(None, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // This set was valid before.
        let _ = sched_setaffinity(None, &self.before);
    }
}
