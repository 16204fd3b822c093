//! A regular file over TCP, to a file and to /dev/null.
//! The time counts from the connection, when the sender may begin, to the exit of the receiver.

use std::fs::File;
use std::process::Stdio;
use std::time::Instant;

use anyhow::ensure;

use super::{GIB, Setup, finish, start, start_and_wait, stream, task};
use crate::contest::{Contest, Pass};
use crate::pattern;
use crate::ports::{self, State};
use crate::processes::Processes;
use crate::tools::{Job, Tool};
use crate::workers::{Check, drain};

/// The destination of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File,
    Nowhere,
}

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let contest = |name: &str, title: &str, proof, target| {
        let each = setup.clone();
        Contest {
            name: name.to_owned(),
            title: title.to_owned(),
            proof,
            jobs: &[Job::Send, Job::Receive],
            measures: stream::measures(),
            rounds: setup.rounds,
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

fn transfer(setup: &Setup, tool: &Tool, target: Target, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let len: u64 = if setup.is_quick { 128 << 20 } else { 512 << 20 };
    let source = File::open(setup.input(len)?)?;
    let copy = setup.path("copy");
    let output = match target {
        Target::File => File::create(&copy)?,
        Target::Nowhere => File::options().write(true).open("/dev/null")?,
    };
    let mut processes = Processes::new();
    let task = task()?;
    let receiving = (tool, Job::Receive, &task);
    let to = start_and_wait(
        &mut processes,
        receiving,
        Stdio::null(),
        output,
        State::Listening,
    )?;
    let from = start(
        &mut processes,
        (tool, Job::Send, &task),
        source,
        Stdio::null(),
    )?;
    ports::wait_for(task.port, State::Connected, &mut processes, from)?;
    let began = Instant::now();
    let timeout = processes.left();
    let received = processes.end(to, timeout)?;
    let sent = finish(&mut processes, tool, from)?;
    finish(&mut processes, tool, to)?;
    if target == Target::File {
        let count = copy.metadata()?.len();
        ensure!(count == len, "{len} bytes in, {count} bytes out");
        if pass == Pass::Proof {
            let drained = drain(File::open(&copy)?, Check::Hash)?;
            ensure!(drained.hash == pattern::hash(len), "other bytes came out");
        }
        Setup::discard(&copy);
    }
    let gib = len as f64 / GIB;
    let cpu = sent.cpu.as_secs_f64() + received.cpu.as_secs_f64();
    let time = received.at.duration_since(began).as_secs_f64();
    Ok(vec![gib / time, cpu / gib])
}
