//! A regular file over TCP, to a file and to nowhere.
//! The time is from the connection, when the sender may begin, to the receiver's end.

use std::fs::File;
use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;

use super::{GIB, Stage, finish, start, start_and_wait, stream, task};
use crate::contest::{Contest, Pass};
use crate::crew::{Look, drain};
use crate::pattern;
use crate::ports::{self, State};
use crate::scene::Scene;
use crate::tools::{Job, Tool};

/// Where the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File,
    Nowhere,
}

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let contest = |name: &str, title: &str, proof, target| {
        let each = stage.clone();
        Contest {
            name: name.to_owned(),
            title: title.to_owned(),
            proof,
            jobs: &[Job::Send, Job::Receive],
            measures: stream::measures(),
            rounds: stage.rounds,
            run: Box::new(move |tool, pass| transfer(&each, tool, target, pass)),
        }
    };
    vec![
        contest("file", "file → TCP → file", "count; hash", Target::File),
        contest(
            "file-null",
            "file → TCP → /dev/null",
            "exit status",
            Target::Nowhere,
        ),
    ]
}

fn transfer(stage: &Stage, tool: &Tool, target: Target, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let len: u64 = if stage.is_quick { 128 << 20 } else { 512 << 20 };
    let source = File::open(stage.input(len)?)?;
    let copy = stage.path("copy");
    let output = match target {
        Target::File => File::create(&copy)?,
        Target::Nowhere => File::options().write(true).open("/dev/null")?,
    };
    let mut scene = Scene::new();
    let task = task()?;
    let receiving = (tool, Job::Receive, &task);
    let to = start_and_wait(
        &mut scene,
        receiving,
        Stdio::null(),
        output,
        State::Listening,
    )?;
    let from = start(&mut scene, (tool, Job::Send, &task), source, Stdio::null())?;
    ports::wait_for(task.port, State::Connected, &mut scene, from)?;
    let began = Instant::now();
    let patience = scene.left();
    let received = scene.end(to, patience)?;
    let sent = finish(&mut scene, tool, from)?;
    finish(&mut scene, tool, to)?;
    if target == Target::File {
        let count = copy.metadata()?.len();
        ensure!(count == len, "{len} bytes in, {count} bytes out");
        if pass == Pass::Proof {
            let drained = drain(File::open(&copy)?, Look::Hash)?;
            ensure!(drained.hash == pattern::hash(len), "other bytes came out");
        }
        Stage::discard(&copy);
    }
    let gib = len as f64 / GIB;
    let cpu = sent.cpu.as_secs_f64() + received.cpu.as_secs_f64();
    let time = received.at.duration_since(began).as_secs_f64();
    Ok(vec![gib / time, cpu / gib])
}
