//! The fixed cost of a tool: its start-up time, and its size on disk.
//! Scripts start a netcat for every message; start-up is then most of the run.

use std::io::{self, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{EVENT_TIMEOUT, Setup, listen, start};
use crate::contest::{Better, Contest, Measure};
use crate::processes::{Processes, becomes_readable};
use crate::tools::{Job, Task, Tool};
use crate::workers::{Check, drain, spawn};

const MESSAGE: [u8; 16] = *b"a short message\n";

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let measure = |what, unit| Measure {
        what,
        unit,
        better: Better::Less,
    };
    let count = if setup.is_quick { 20 } else { 50 };
    vec![
        Contest {
            name: "start".to_owned(),
            title: "start, connect, send 16 B, exit".to_owned(),
            proof: "count",
            jobs: &[Job::Send],
            measures: vec![measure("p50", "ms"), measure("CPU", "ms")],
            rounds: setup.rounds,
            run: Box::new(move |tool, _| starts(tool, count)),
        },
        Contest {
            name: "size".to_owned(),
            title: "size of the program (libraries not counted)".to_owned(),
            proof: "",
            jobs: &[Job::Exist],
            measures: vec![measure("", "KiB")],
            rounds: 1,
            run: Box::new(|tool, _| Ok(vec![tool.program()?.metadata()?.len() as f64 / 1024.0])),
        },
    ]
}

fn starts(tool: &Tool, count: usize) -> anyhow::Result<Vec<f64>> {
    let (listener, port) = listen()?;
    let task = Task {
        port,
        ..Task::default()
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let received = spawn("receiving", move || {
        let mut total = 0;
        while !stop.load(Ordering::Relaxed) {
            if becomes_readable(
                std::os::fd::AsFd::as_fd(&listener),
                Duration::from_millis(20),
            )? {
                total += drain(listener.accept()?.0, Check::Count)?.bytes;
            }
        }
        Ok(total)
    });
    let mut times = Vec::new();
    let mut cpu = 0.0;
    for _ in 0..count {
        let mut processes = Processes::new();
        let (stdin, mut input) = io::pipe()?;
        input.write_all(&MESSAGE)?;
        drop(input);
        let began = Instant::now();
        let process = start(
            &mut processes,
            (tool, Job::Send, &task),
            stdin,
            Stdio::null(),
        )?;
        let end = processes
            .wait(process, EVENT_TIMEOUT)?
            .context("it did not end")?;
        ensure!(end.status.success(), "{}", end.status);
        times.push(end.at.duration_since(began).as_secs_f64() * 1e3);
        cpu += end.cpu.as_secs_f64() * 1e3;
    }
    is_over.store(true, Ordering::Relaxed);
    let received = received.result(&mut Processes::new())?;
    let sent = (count * MESSAGE.len()) as u64;
    ensure!(received == sent, "{sent} bytes in, {received} bytes out");
    times.sort_by(f64::total_cmp);
    Ok(vec![times[count / 2], cpu / count as f64])
}
