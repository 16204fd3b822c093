//! Datagrams that a tool receives: as many as possible of a flood, and the highest rate without loss.
//! Only datagrams that the tool writes to standard output count.

use std::io::{self, PipeReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Setup, start_and_wait, task};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::datagrams::Sender;
use crate::pattern::{self, Hash};
use crate::ports::State;
use crate::processes::Processes;
use crate::tools::{Job, Tool};
use crate::workers::{Worker, spawn};

/// Number of datagrams of a verified run, and their rate per second: slow enough for every tool.
const CHECKED: usize = 200;
const CHECKED_RATE: f64 = 2000.0;

/// Maximum number of datagrams that a paced sender sends at once.
const BURST: usize = 64;

/// Share of datagrams that may be lost at a rate that counts as lossless.
const TOLERANCE: f64 = 0.001;

/// Precision of the search for the highest rate.
const PRECISION: f64 = 1.1;

/// Time limit for datagrams in flight, and the interval without data that ends the wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const IDLE_INTERVAL: Duration = Duration::from_millis(40);

/// The way in which datagrams are sent to a tool.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    /// As many as possible, segmented by the kernel.
    Flood(Duration),
    /// A fixed rate per second, each datagram on its own.
    Paced { rate: f64, time: Duration },
}

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let quick = setup.is_quick;
    let contest = |name: &str, size: usize, title: &str, rounds, run| Contest {
        name: format!("{name}-{size}"),
        title: format!("UDP in, {size} B, {title}"),
        proof: "sizes; hash of 200",
        jobs: &[Job::ReceiveDatagrams],
        measures: vec![Measure {
            what: "",
            unit: "1000/s",
            better: Better::More,
        }],
        rounds,
        run,
    };
    let time = setup.time;
    let sizes = [64, 1200, 8192];
    let floods = sizes.map(|size| {
        let run = move |tool: &Tool, pass| flood(tool, size, time, pass);
        contest("udp-in", size, "flood", setup.rounds, Box::new(run))
    });
    let losslesses = sizes.map(|size| {
        let run = move |tool: &Tool, pass| lossless(tool, size, quick, pass);
        let rounds = setup.rounds.min(3);
        contest(
            "udp-lossless",
            size,
            "highest rate with at most 0.1 % lost",
            rounds,
            Box::new(run),
        )
    });
    floods.into_iter().chain(losslesses).collect()
}

fn flood(tool: &Tool, size: usize, time: Duration, pass: Pass) -> anyhow::Result<Vec<f64>> {
    if pass == Pass::Proof {
        return verify(tool, size);
    }
    let arrived = receive(tool, size, Flow::Flood(time))?;
    Ok(vec![
        arrived.received as f64 / arrived.time.as_secs_f64() / 1e3,
    ])
}

/// Searches for the highest rate at which at most `TOLERANCE` is lost.
fn lossless(tool: &Tool, size: usize, is_quick: bool, pass: Pass) -> anyhow::Result<Vec<f64>> {
    if pass == Pass::Proof {
        return verify(tool, size);
    }
    let time = Duration::from_millis(if is_quick { 100 } else { 250 });
    let (mut good, mut bad, mut best) = (0.0, f64::INFINITY, 0.0_f64);
    let mut rate = 30_000.0;
    while bad / good > PRECISION && rate > 500.0 {
        let arrived = receive(tool, size, Flow::Paced { rate, time })?;
        let real = arrived.sent as f64 / arrived.time.as_secs_f64();
        let lost = 1.0 - arrived.received as f64 / arrived.sent as f64;
        if lost <= TOLERANCE {
            best = best.max(real);
            if real < rate * 0.9 {
                // The sender cannot send faster.
                break;
            }
            good = rate;
        } else {
            bad = rate;
        }
        rate = match (good > 0.0, bad.is_finite()) {
            (true, true) => (good * bad).sqrt(),
            (true, false) => good * 2.0,
            (false, _) => bad / 4.0,
        };
    }
    Ok(vec![best / 1e3])
}

fn verify(tool: &Tool, size: usize) -> anyhow::Result<Vec<f64>> {
    let time = Duration::from_secs_f64(CHECKED as f64 / CHECKED_RATE);
    let arrived = receive(
        tool,
        size,
        Flow::Paced {
            rate: CHECKED_RATE,
            time,
        },
    )?;
    let (sent, received) = (arrived.sent, arrived.received);
    ensure!(sent == received, "{sent} datagrams in, {received} out");
    ensure!(
        arrived.hash == pattern::hash(sent * size as u64),
        "other bytes came out"
    );
    Ok(Vec::new())
}

/// Datagrams sent and received in a run.
struct Arrived {
    sent: u64,
    received: u64,
    hash: Hash,
    /// Time that the sender took.
    time: Duration,
}

fn receive(tool: &Tool, size: usize, flow: Flow) -> anyhow::Result<Arrived> {
    let mut processes = Processes::new();
    let task = task()?;
    let (output, stdout) = io::pipe()?;
    let job = (tool, Job::ReceiveDatagrams, &task);
    let process = start_and_wait(&mut processes, job, Stdio::null(), stdout, State::Bound)?;
    let total = Arc::new(AtomicU64::new(0));
    let hash = count(output, Arc::clone(&total), flow);
    let sender = Sender::connect(task.port, size)?;
    let sent = spawn("sending", move || match flow {
        Flow::Flood(time) => flood_with(&sender, size, time),
        Flow::Paced { rate, time } => pace(&sender, size, rate, time),
    });
    let (sent, time) = sent.result(&mut processes)?;
    drain(&total);
    processes.end(process, Duration::ZERO)?;
    let hash = hash.result(&mut processes)?;
    let bytes = total.load(Ordering::Relaxed);
    // A tool that is killed during a write leaves a part of a datagram.
    let received = bytes / size as u64;
    ensure!(received <= sent, "{sent} datagrams in, {received} out");
    Ok(Arrived {
        sent,
        received,
        hash,
        time,
    })
}

/// Counts the output of a tool in `total`.
fn count(mut output: PipeReader, total: Arc<AtomicU64>, flow: Flow) -> Worker<Hash> {
    spawn("reading what arrives", move || {
        let mut buffer = vec![0; 1 << 20];
        let mut hash = Hash::default();
        loop {
            let len = output.read(&mut buffer)?;
            if len == 0 {
                return Ok(hash);
            }
            total.fetch_add(len as u64, Ordering::Relaxed);
            if matches!(flow, Flow::Paced { rate, .. } if rate <= CHECKED_RATE) {
                hash.add(&buffer[..len]);
            }
        }
    })
}

/// Waits until the output stops.
fn drain(total: &AtomicU64) {
    let until = Instant::now() + DRAIN_TIMEOUT;
    let mut before = u64::MAX;
    while Instant::now() < until {
        let now = total.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        thread::sleep(IDLE_INTERVAL);
    }
}

fn flood_with(sender: &Sender, size: usize, time: Duration) -> anyhow::Result<(u64, Duration)> {
    sender.enable_gso()?;
    let piece = pattern::bytes(sender.piece());
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < time {
        sender.send_piece(&piece)?;
        sent += (piece.len() / size) as u64;
    }
    Ok((sent, began.elapsed()))
}

/// Sends the datagrams that are due in a busy loop, because sleeping would send them in bursts.
fn pace(
    sender: &Sender,
    size: usize,
    rate: f64,
    time: Duration,
) -> anyhow::Result<(u64, Duration)> {
    let wanted = (rate * time.as_secs_f64()).round();
    let mut bytes = pattern::bytes(size * BURST);
    let began = Instant::now();
    let mut sent = 0_u64;
    while (sent as f64) < wanted && began.elapsed() < time * 2 {
        let due = (rate * began.elapsed().as_secs_f64()).min(wanted) - sent as f64;
        let due = (0..=BURST).rev().find(|&count| count as f64 <= due);
        let Some(count) = due.filter(|&count| count > 0) else {
            std::hint::spin_loop();
            continue;
        };
        if rate <= CHECKED_RATE {
            pattern::fill(&mut bytes[..count * size], sent * size as u64);
        }
        sender.send_each(&bytes[..count * size])?;
        sent += count as u64;
    }
    Ok((sent, began.elapsed()))
}
