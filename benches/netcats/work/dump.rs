//! A transfer with a hex dump, to a file in memory and to /dev/null.
//! The first is the speed for a user, the second that of the formatter.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;

use super::{MIB, Setup, finish, start_and_wait};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::ports::{self, HOST, State};
use crate::processes::Processes;
use crate::tools::{Job, Task, Tool};
use crate::workers::{Amount, Check, drain, feed, spawn};

const CHECKED: u64 = (1 << 20) + 123;

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let file = setup.path("dump");
    let nowhere = PathBuf::from("/dev/null");
    [
        ("dump-file", "a file", file),
        ("dump-null", "/dev/null", nowhere),
    ]
    .map(|(name, title, path)| {
        let each = setup.clone();
        Contest {
            name: name.to_owned(),
            title: format!("TCP → pipe with a hex dump to {title}"),
            proof: "count; hash of 1 MiB; length of the dump",
            jobs: &[Job::Dump],
            measures: vec![Measure {
                what: "",
                unit: "MiB/s",
                better: Better::More,
            }],
            rounds: setup.rounds.min(3),
            run: Box::new(move |tool, pass| dump(&each, tool, &path, pass)),
        }
    })
    .into()
}

fn dump(setup: &Setup, tool: &Tool, path: &Path, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = Task {
        port: ports::free()?,
        file: path.to_path_buf(),
        ..Task::default()
    };
    let (output, stdout) = io::pipe()?;
    let job = (tool, Job::Dump, &task);
    let process = start_and_wait(&mut processes, job, Stdio::null(), stdout, State::Listening)?;
    let (amount, check) = match pass {
        Pass::Proof => (Amount::Pattern(CHECKED), Check::Hash),
        Pass::Timed => (Amount::For(setup.time), Check::Count),
    };
    let drained = spawn("reading what arrives", move || drain(output, check));
    let stream = TcpStream::connect((HOST, task.port))?;
    let fed = spawn("sending", move || {
        let fed = feed(&stream, 1 << 16, amount)?;
        (&stream).flush()?;
        stream.shutdown(Shutdown::Write)?;
        drain(&stream, Check::Count)?;
        Ok(fed)
    });
    let fed = fed.result(&mut processes)?;
    let drained = drained.result(&mut processes)?;
    finish(&mut processes, tool, process)?;
    drained.check(&fed, check)?;
    if path.metadata()?.is_file() {
        let len = path.metadata()?.len();
        Setup::discard(path);
        ensure!(len > 2 * fed.bytes, "a dump of only {len} bytes");
    }
    let time = drained.last.duration_since(fed.began).as_secs_f64();
    Ok(vec![fed.bytes as f64 / MIB / time])
}
