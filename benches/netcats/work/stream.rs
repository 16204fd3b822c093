//! Bytes from a pipe over TCP to a pipe: the most common use of a netcat.
//! A producer writes, two tools transfer, a consumer reads; the time counts from the first write to the last read.

use std::io;
use std::process::Stdio;

use super::{GIB, Setup, finish, start, start_and_wait, task};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::ports::{self, State};
use crate::processes::Processes;
use crate::tools::{Job, Tool};
use crate::workers::{Amount, Check, drain, feed, spawn};

/// Bytes of a verified run: an odd number, which no buffer size divides.
const CHECKED: u64 = (64 << 20) + 12_345;

/// The measures of bulk transfers.
pub(super) fn measures() -> Vec<Measure> {
    let speed = Measure {
        what: "",
        unit: "GiB/s",
        better: Better::More,
    };
    let cost = Measure {
        what: "CPU of both",
        unit: "s/GiB",
        better: Better::Less,
    };
    vec![speed, cost]
}

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    [
        ("pipe-1m", "1 MiB", 1 << 20),
        ("pipe-64k", "64 KiB", 1 << 16),
    ]
    .map(|(name, size, chunk)| {
        let each = setup.clone();
        Contest {
            name: name.to_owned(),
            title: format!("pipe → TCP → pipe, {size} writes"),
            proof: "count; hash of 64 MiB",
            jobs: &[Job::Send, Job::Receive],
            measures: measures(),
            rounds: setup.rounds,
            run: Box::new(move |tool, pass| transfer(&each, tool, tool, chunk, pass)),
        }
    })
    .into()
}

/// Transfers bytes between two tools; returns GiB per second, and CPU seconds per GiB.
pub(super) fn transfer(
    setup: &Setup,
    sender: &Tool,
    receiver: &Tool,
    chunk: usize,
    pass: Pass,
) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = task()?;
    let (output, stdout) = io::pipe()?;
    let (stdin, input) = io::pipe()?;
    let receiving = (receiver, Job::Receive, &task);
    let to = start_and_wait(
        &mut processes,
        receiving,
        Stdio::null(),
        stdout,
        State::Listening,
    )?;
    let from = start(
        &mut processes,
        (sender, Job::Send, &task),
        stdin,
        Stdio::null(),
    )?;
    ports::wait_for(task.port, State::Connected, &mut processes, from)?;

    let (amount, check) = match pass {
        Pass::Proof => (Amount::Pattern(CHECKED), Check::Hash),
        Pass::Timed => (Amount::For(setup.time), Check::Count),
    };
    let drained = spawn("reading what arrives", move || drain(output, check));
    let fed = spawn("writing", move || feed(input, chunk, amount));
    let fed = fed.result(&mut processes)?;
    let drained = drained.result(&mut processes)?;
    let ends = [
        finish(&mut processes, sender, from)?,
        finish(&mut processes, receiver, to)?,
    ];
    drained.check(&fed, check)?;
    let gib = fed.bytes as f64 / GIB;
    let time = drained.last.duration_since(fed.began).as_secs_f64();
    let cpu: f64 = ends.iter().map(|end| end.cpu.as_secs_f64()).sum();
    Ok(vec![gib / time, cpu / gib])
}
