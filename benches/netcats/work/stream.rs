//! Bytes from a pipe over TCP to a pipe: what a netcat is most often used for.
//! A producer writes, two of the tools carry, a consumer reads; the time is from the first write to the last read.

use std::io;
use std::process::Stdio;

use super::{GIB, Stage, finish, start, start_and_wait, task};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::crew::{Amount, Look, drain, feed, hire};
use crate::ports::{self, State};
use crate::scene::Scene;
use crate::tools::{Job, Tool};

/// Bytes of a run that is checked: an odd number, so that the end is no border of anything.
const CHECKED: u64 = (64 << 20) + 12_345;

/// What is measured of bulk transfers.
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

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    [
        ("pipe-1m", "1 MiB", 1 << 20),
        ("pipe-64k", "64 KiB", 1 << 16),
    ]
    .map(|(name, size, chunk)| {
        let each = stage.clone();
        Contest {
            name: name.to_owned(),
            title: format!("pipe → TCP → pipe, {size} writes"),
            proof: "count; hash of 64 MiB",
            jobs: &[Job::Send, Job::Receive],
            measures: measures(),
            rounds: stage.rounds,
            run: Box::new(move |tool, pass| carry(&each, tool, tool, chunk, pass)),
        }
    })
    .into()
}

/// Lets two tools carry bytes; returns GiB a second, and CPU seconds a GiB.
pub(super) fn carry(
    stage: &Stage,
    sender: &Tool,
    receiver: &Tool,
    chunk: usize,
    pass: Pass,
) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = task()?;
    let (output, stdout) = io::pipe()?;
    let (stdin, input) = io::pipe()?;
    let receiving = (receiver, Job::Receive, &task);
    let to = start_and_wait(
        &mut scene,
        receiving,
        Stdio::null(),
        stdout,
        State::Listening,
    )?;
    let from = start(&mut scene, (sender, Job::Send, &task), stdin, Stdio::null())?;
    ports::wait_for(task.port, State::Connected, &mut scene, from)?;

    let (amount, look) = match pass {
        Pass::Proof => (Amount::Pattern(CHECKED), Look::Hash),
        Pass::Timed => (Amount::For(stage.time), Look::Count),
    };
    let drained = hire("reading what arrives", move || drain(output, look));
    let fed = hire("writing", move || feed(input, chunk, amount));
    let fed = fed.result(&mut scene)?;
    let drained = drained.result(&mut scene)?;
    let ends = [
        finish(&mut scene, sender, from)?,
        finish(&mut scene, receiver, to)?,
    ];
    drained.check(&fed, look)?;
    let gib = fed.bytes as f64 / GIB;
    let time = drained.last.duration_since(fed.began).as_secs_f64();
    let cpu: f64 = ends.iter().map(|end| end.cpu.as_secs_f64()).sum();
    Ok(vec![gib / time, cpu / gib])
}
