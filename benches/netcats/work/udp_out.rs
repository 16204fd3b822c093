//! Datagrams that a tool sends: from a file in equal blocks, and message by message.
//! Only datagrams of the right size count, at a receiver that is faster than all tools.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{Setup, start, task};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::datagrams::{Receiver, send_all};
use crate::pattern::{self, Hash};
use crate::processes::{ProcessId, Processes};
use crate::tools::{Job, Task, Tool};
use crate::workers::{Worker, spawn};

/// Number of datagrams of a verified run: few enough for any receive buffer.
const CHECKED: usize = 60;

/// Interval without datagrams that ends a run.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);

/// Number of messages that one call writes.
const MESSAGES_PER_WRITE: usize = 64;

/// The source of the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    File,
    Messages,
}

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let sources = [
        (Source::File, "udp-out", "from a file in equal blocks"),
        (Source::Messages, "udp-message", "message by message"),
    ];
    let contest = |(source, name, how): (Source, &str, &str), size: usize| {
        let each = setup.clone();
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
            rounds: setup.rounds,
            run: Box::new(move |tool, pass| send(&each, tool, source, size, pass)),
        }
    };
    let sizes = [64, 1200, 8192];
    let of = |source| sizes.map(|size| contest(source, size));
    sources.into_iter().flat_map(of).collect()
}

fn send(
    setup: &Setup,
    tool: &Tool,
    source: Source,
    size: usize,
    pass: Pass,
) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = Task { size, ..task()? };
    let is_over = Arc::new(AtomicBool::new(false));
    let tally = count(task.port, size, pass, Arc::clone(&is_over))?;
    match source {
        Source::File => from_file(setup, &mut processes, tool, &task, pass)?,
        Source::Messages => from_messages(setup, &mut processes, tool, &task, pass)?,
    }
    is_over.store(true, Ordering::Relaxed);
    let tally = tally.result(&mut processes)?;
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
    setup: &Setup,
    processes: &mut Processes,
    tool: &Tool,
    task: &Task,
    pass: Pass,
) -> anyhow::Result<()> {
    let len = match pass {
        Pass::Proof => (CHECKED * task.size) as u64,
        Pass::Timed if setup.is_quick => 128 << 20,
        Pass::Timed => 512 << 20,
    };
    let input = File::open(setup.input(len)?)?;
    let process = start(
        processes,
        (tool, Job::SendBlocks, task),
        input,
        Stdio::null(),
    )?;
    stop(processes, process, setup.time, pass)
}

fn from_messages(
    setup: &Setup,
    processes: &mut Processes,
    tool: &Tool,
    task: &Task,
    pass: Pass,
) -> anyhow::Result<()> {
    // Each read of such a socket returns one message.
    let (stdin, input) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let process = start(
        processes,
        (tool, Job::SendMessages, task),
        stdin,
        Stdio::null(),
    )?;
    let (time, size) = (setup.time, task.size);
    let written = spawn("writing messages", move || match pass {
        Pass::Proof => write(&input, size, CHECKED),
        Pass::Timed => {
            let began = Instant::now();
            while began.elapsed() < time {
                write(&input, size, MESSAGES_PER_WRITE)?;
            }
            Ok(())
        }
    });
    written.result(processes)?;
    stop(processes, process, Duration::ZERO, pass)
}

/// Writes `count` messages.
fn write(input: &OwnedFd, size: usize, count: usize) -> anyhow::Result<()> {
    let bytes = pattern::bytes(size * count);
    let slices: Vec<_> = bytes.chunks(size).map(|one| [IoSlice::new(one)]).collect();
    Ok(send_all(input, &slices)?)
}

/// Ends a tool after its time. Many tools do not exit when they have sent everything.
fn stop(
    processes: &mut Processes,
    process: ProcessId,
    time: Duration,
    pass: Pass,
) -> anyhow::Result<()> {
    let timeout = match pass {
        Pass::Proof => Duration::from_millis(300),
        Pass::Timed => time,
    };
    processes.wait(process, timeout)?;
    processes.end(process, Duration::ZERO)?;
    Ok(())
}

/// Datagrams that arrived.
struct Tally {
    datagrams: u64,
    bytes: u64,
    /// Number of pieces with datagrams of another size.
    odd: u64,
    hash: Hash,
    first: Instant,
    last: Instant,
}

/// Counts the datagrams on a port until they stop after the end of the run.
fn count(
    port: u16,
    size: usize,
    pass: Pass,
    is_over: Arc<AtomicBool>,
) -> io::Result<Worker<Tally>> {
    let mut receiver = Receiver::bind(port, Some(IDLE_INTERVAL))?;
    let now = Instant::now();
    let mut tally = Tally {
        datagrams: 0,
        bytes: 0,
        odd: 0,
        hash: Hash::default(),
        first: now,
        last: now,
    };
    Ok(spawn("counting datagrams", move || {
        loop {
            let pieces = receiver.read()?;
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
