//! Datagrams that a tool sends: from a file in equal blocks, and message by message.
//! What counts is what arrives at a receiver that is faster than all of them, in datagrams of the right size.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{Stage, start, task};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::crew::{Worker, hire};
use crate::datagrams::{Inlet, send_all};
use crate::pattern::{self, Hash};
use crate::scene::{Actor, Scene};
use crate::tools::{Job, Task, Tool};

/// Datagrams of a run that is checked: few enough for any queue.
const CHECKED: usize = 60;

/// How long it must be quiet for a run to be over.
const QUIET: Duration = Duration::from_millis(50);

/// Messages that are written with one call.
const HANDFUL: usize = 64;

/// Where the datagrams come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    File,
    Messages,
}

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let sources = [
        (Source::File, "udp-out", "from a file in equal blocks"),
        (Source::Messages, "udp-message", "message by message"),
    ];
    let contest = |(source, name, how): (Source, &str, &str), size: usize| {
        let each = stage.clone();
        let jobs: &[Job] = match source {
            Source::File => &[Job::SendBlocks],
            Source::Messages => &[Job::SendMessages],
        };
        Contest {
            name: format!("{name}-{size}"),
            title: format!("UDP out, {size} B, {how}"),
            proof: "sizes; hash of 60",
            jobs,
            measures: vec![Measure {
                what: "",
                unit: "1000/s",
                better: Better::More,
            }],
            rounds: stage.rounds,
            run: Box::new(move |tool, pass| send(&each, tool, source, size, pass)),
        }
    };
    let sizes = [64, 1200, 8192];
    let of = |source| sizes.map(|size| contest(source, size));
    sources.into_iter().flat_map(of).collect()
}

fn send(
    stage: &Stage,
    tool: &Tool,
    source: Source,
    size: usize,
    pass: Pass,
) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = Task { size, ..task()? };
    let is_over = Arc::new(AtomicBool::new(false));
    let tally = count(task.port, size, pass, Arc::clone(&is_over))?;
    match source {
        Source::File => from_file(stage, &mut scene, tool, &task, pass)?,
        Source::Messages => from_messages(stage, &mut scene, tool, &task, pass)?,
    }
    is_over.store(true, Ordering::Relaxed);
    let tally = tally.result(&mut scene)?;
    ensure!(tally.datagrams > 0, "nothing arrived");
    if tally.odd > 1 {
        bail!(
            "datagrams of {} bytes instead",
            tally.bytes / tally.datagrams
        );
    }
    if pass == Pass::Proof {
        let bytes = (CHECKED * size) as u64;
        ensure!(
            tally.bytes == bytes,
            "{bytes} bytes in, {} out",
            tally.bytes
        );
        ensure!(tally.hash == pattern::hash(bytes), "other bytes came out");
    }
    let time = tally.last.duration_since(tally.first).as_secs_f64();
    Ok(vec![tally.datagrams as f64 / time / 1e3])
}

fn from_file(
    stage: &Stage,
    scene: &mut Scene,
    tool: &Tool,
    task: &Task,
    pass: Pass,
) -> anyhow::Result<()> {
    let len = match pass {
        Pass::Proof => (CHECKED * task.size) as u64,
        Pass::Timed if stage.is_quick => 128 << 20,
        Pass::Timed => 512 << 20,
    };
    let input = File::open(stage.input(len)?)?;
    let actor = start(scene, (tool, Job::SendBlocks, task), input, Stdio::null())?;
    stop(scene, actor, stage.time, pass)
}

fn from_messages(
    stage: &Stage,
    scene: &mut Scene,
    tool: &Tool,
    task: &Task,
    pass: Pass,
) -> anyhow::Result<()> {
    // Each read of such a socket gives one message.
    let (stdin, input) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let actor = start(scene, (tool, Job::SendMessages, task), stdin, Stdio::null())?;
    let (time, size) = (stage.time, task.size);
    let written = hire("writing messages", move || match pass {
        Pass::Proof => write(&input, size, CHECKED),
        Pass::Timed => {
            let began = Instant::now();
            while began.elapsed() < time {
                write(&input, size, HANDFUL)?;
            }
            Ok(())
        }
    });
    written.result(scene)?;
    stop(scene, actor, Duration::ZERO, pass)
}

/// Writes `count` messages.
fn write(input: &OwnedFd, size: usize, count: usize) -> anyhow::Result<()> {
    let bytes = pattern::bytes(size * count);
    let slices: Vec<_> = bytes.chunks(size).map(|one| [IoSlice::new(one)]).collect();
    Ok(send_all(input, &slices)?)
}

/// Ends a tool that has had its time. Many do not know when they have sent everything: those have a little longer.
fn stop(scene: &mut Scene, actor: Actor, time: Duration, pass: Pass) -> anyhow::Result<()> {
    let patience = match pass {
        Pass::Proof => Duration::from_millis(300),
        Pass::Timed => time,
    };
    scene.wait(actor, patience)?;
    scene.end(actor, Duration::ZERO)?;
    Ok(())
}

/// What arrived.
struct Tally {
    datagrams: u64,
    bytes: u64,
    /// Those of another size than they should have.
    odd: u64,
    hash: Hash,
    first: Instant,
    last: Instant,
}

/// Counts what arrives on a port until it is quiet after the end.
fn count(
    port: u16,
    size: usize,
    pass: Pass,
    is_over: Arc<AtomicBool>,
) -> io::Result<Worker<Tally>> {
    let mut inlet = Inlet::bind(port, Some(QUIET))?;
    let now = Instant::now();
    let mut tally = Tally {
        datagrams: 0,
        bytes: 0,
        odd: 0,
        hash: Hash::default(),
        first: now,
        last: now,
    };
    Ok(hire("counting datagrams", move || {
        loop {
            let pieces = inlet.read()?;
            if pieces.is_empty() {
                if is_over.load(Ordering::Relaxed) {
                    return Ok(tally);
                }
                continue;
            }
            tally.last = Instant::now();
            if tally.datagrams == 0 {
                tally.first = tally.last;
            }
            for piece in pieces {
                tally.datagrams += piece.count() as u64;
                tally.bytes += piece.bytes.len() as u64;
                let is_whole = piece.stride == size && piece.bytes.len().is_multiple_of(size);
                tally.odd += u64::from(!is_whole);
                if pass == Pass::Proof {
                    tally.hash.add(piece.bytes);
                }
            }
        }
    }))
}
