//! The contests, one file for each subject.
//! Shared parts are here: the directory for files, the duration of a run, and the start and end of tools.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::contest::Contest;
use crate::options::Options;
use crate::pattern;
use crate::ports::{self, HOST, State};
use crate::processes::{End, ProcessId, Processes, becomes_readable};
use crate::tools::{Job, Kind, Task, Tool};

mod clients;
mod connections;
mod dump;
mod files;
mod mixed;
mod relay;
mod round_trip;
mod start;
mod stream;
mod udp_in;
mod udp_out;

pub(crate) const GIB: f64 = (1_u64 << 30) as f64;
pub(crate) const MIB: f64 = (1_u64 << 20) as f64;

/// Time limit for events that should happen at once.
pub(crate) const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings and files that all contests share.
#[derive(Clone)]
pub(crate) struct Setup {
    folder: Arc<TempDir>,
    pub(crate) is_quick: bool,
    pub(crate) rounds: usize,
    /// Duration of a run without an end of its own.
    pub(crate) time: Duration,
}

/// All contests, in the order of the table.
pub(crate) fn contests(setup: &Setup) -> Vec<Contest> {
    let themes = [
        stream::contests(setup),
        files::contests(setup),
        mixed::contests(setup),
        round_trip::contests(setup),
        udp_out::contests(setup),
        udp_in::contests(setup),
        connections::contests(setup),
        clients::contests(setup),
        dump::contests(setup),
        relay::contests(setup),
        start::contests(setup),
    ];
    themes.into_iter().flatten().collect()
}

impl Setup {
    /// Creates a directory, in memory if possible.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)?
        } else {
            tempfile::tempdir()?
        };
        Ok(Self {
            folder: Arc::new(folder),
            is_quick: options.is_quick,
            rounds: options.rounds,
            time: Duration::from_millis(if options.is_quick { 200 } else { 700 }),
        })
    }

    /// The path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a file with the first `len` bytes of the pattern.
    pub(crate) fn input(&self, len: u64) -> anyhow::Result<PathBuf> {
        const PIECE: usize = 1 << 20;
        let path = self.path(&format!("{len}"));
        if path.exists() {
            return Ok(path);
        }
        let mut file = File::create(&path)?;
        let mut buffer = vec![0; PIECE];
        for at in (0..len).step_by(PIECE) {
            let piece = usize::try_from(len - at).map_or(PIECE, |left| left.min(PIECE));
            pattern::fill(&mut buffer[..piece], at);
            file.write_all(&buffer[..piece])?;
        }
        Ok(path)
    }

    /// Removes a file to free memory.
    pub(crate) fn discard(path: &Path) {
        // The file may not exist.
        let _ = fs::remove_file(path);
    }
}

/// Creates a task with a free port.
pub(crate) fn task() -> anyhow::Result<Task> {
    let port = ports::free()?;
    Ok(Task {
        port,
        ..Task::default()
    })
}

/// Starts a tool for a job.
pub(crate) fn start(
    processes: &mut Processes,
    (tool, job, task): (&Tool, Job, &Task),
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
) -> anyhow::Result<ProcessId> {
    let line = tool.line(job, task).context("not supported")?;
    processes.start(&line, stdin, stdout)
}

/// Starts a tool for a job, and waits until its socket is ready.
pub(crate) fn start_and_wait(
    processes: &mut Processes,
    job: (&Tool, Job, &Task),
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
    state: State,
) -> anyhow::Result<ProcessId> {
    let process = start(processes, job, stdin, stdout)?;
    ports::wait_for(job.2.port, state, processes, process)?;
    Ok(process)
}

/// Waits for a tool that has finished. Tools of this project must exit by themselves with status 0.
pub(crate) fn finish(
    processes: &mut Processes,
    tool: &Tool,
    process: ProcessId,
) -> anyhow::Result<End> {
    let end = processes.end(process, Duration::from_secs(2))?;
    ensure!(
        end.status.success() || tool.kind != Kind::Ours,
        "{}: {}",
        end.status,
        processes.error_text(process)
    );
    Ok(end)
}

/// Accepts a connection within the time limit.
pub(crate) fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    ensure!(
        becomes_readable(listener.as_fd(), EVENT_TIMEOUT)?,
        "no connection arrived"
    );
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a listening socket; returns it and its port.
pub(crate) fn listen() -> anyhow::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((HOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}
