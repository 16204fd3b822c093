//! The contests, by theme.
//! What they share is here: the place for files, how long a run lasts, and how tools are started and brought to an end.

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
use crate::scene::{Actor, End, Scene, becomes_readable};
use crate::tools::{Job, Kind, Task, Tool};

mod clients;
mod connections;
mod dump;
mod files;
mod mixed;
mod round_trip;
mod start;
mod stream;
mod udp_in;
mod udp_out;

pub(crate) const GIB: f64 = (1_u64 << 30) as f64;
pub(crate) const MIB: f64 = (1_u64 << 20) as f64;

/// How long to wait for something that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// What all contests use.
#[derive(Clone)]
pub(crate) struct Stage {
    folder: Arc<TempDir>,
    pub(crate) is_quick: bool,
    pub(crate) rounds: usize,
    /// How long a run goes on that could go on for ever.
    pub(crate) time: Duration,
}

/// All contests, in the order of the table.
pub(crate) fn contests(stage: &Stage) -> Vec<Contest> {
    let themes = [
        stream::contests(stage),
        files::contests(stage),
        mixed::contests(stage),
        round_trip::contests(stage),
        udp_out::contests(stage),
        udp_in::contests(stage),
        connections::contests(stage),
        clients::contests(stage),
        dump::contests(stage),
        start::contests(stage),
    ];
    themes.into_iter().flatten().collect()
}

impl Stage {
    /// Prepares a folder, in memory where that is possible.
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

    /// The name of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with the first `len` bytes of the pattern.
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

    /// Makes room again.
    pub(crate) fn discard(path: &Path) {
        // What is not there needs no removing.
        let _ = fs::remove_file(path);
    }
}

/// A task on a port that is free.
pub(crate) fn task() -> anyhow::Result<Task> {
    let port = ports::free()?;
    Ok(Task {
        port,
        ..Task::default()
    })
}

/// Starts a tool on a job.
pub(crate) fn start(
    scene: &mut Scene,
    (tool, job, task): (&Tool, Job, &Task),
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
) -> anyhow::Result<Actor> {
    let line = tool.line(job, task).context("not offered")?;
    scene.start(&line, stdin, stdout)
}

/// Starts a tool on a job, and waits until its socket is ready.
pub(crate) fn start_and_wait(
    scene: &mut Scene,
    job: (&Tool, Job, &Task),
    stdin: impl Into<Stdio>,
    stdout: impl Into<Stdio>,
    state: State,
) -> anyhow::Result<Actor> {
    let actor = start(scene, job, stdin, stdout)?;
    ports::wait_for(job.2.port, state, scene, actor)?;
    Ok(actor)
}

/// Waits for a tool that has nothing left to do. One of ours has to end by itself, and well.
pub(crate) fn finish(scene: &mut Scene, tool: &Tool, actor: Actor) -> anyhow::Result<End> {
    let end = scene.end(actor, Duration::from_secs(2))?;
    ensure!(
        end.status.success() || tool.kind != Kind::Ours,
        "{}: {}",
        end.status,
        scene.complaint(actor)
    );
    Ok(end)
}

/// Takes a connection that should come soon.
pub(crate) fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    ensure!(
        becomes_readable(listener.as_fd(), SOON)?,
        "no connection came"
    );
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A listening socket of our own, and its port.
pub(crate) fn listen() -> anyhow::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((HOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}
