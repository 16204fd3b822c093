//! A transfer that is dumped in hexadecimal on its way, to a file in memory and to nowhere.
//! The first shows what a user gets; the second, how fast the dump itself can be made.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;

use super::{MIB, Stage, finish, start_and_wait};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::crew::{Amount, Look, drain, feed, hire};
use crate::ports::{self, HOST, State};
use crate::scene::Scene;
use crate::tools::{Job, Task, Tool};

const CHECKED: u64 = (1 << 20) + 123;

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let file = stage.path("dump");
    let nowhere = PathBuf::from("/dev/null");
    [
        ("dump-file", "a file", file),
        ("dump-null", "/dev/null", nowhere),
    ]
    .map(|(name, title, path)| {
        let each = stage.clone();
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
            rounds: stage.rounds.min(3),
            run: Box::new(move |tool, pass| dump(&each, tool, &path, pass)),
        }
    })
    .into()
}

fn dump(stage: &Stage, tool: &Tool, path: &Path, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = Task {
        port: ports::free()?,
        file: path.to_path_buf(),
        ..Task::default()
    };
    let (output, stdout) = io::pipe()?;
    let job = (tool, Job::Dump, &task);
    let actor = start_and_wait(&mut scene, job, Stdio::null(), stdout, State::Listening)?;
    let (amount, look) = match pass {
        Pass::Proof => (Amount::Pattern(CHECKED), Look::Hash),
        Pass::Timed => (Amount::For(stage.time), Look::Count),
    };
    let drained = hire("reading what arrives", move || drain(output, look));
    let stream = TcpStream::connect((HOST, task.port))?;
    let fed = hire("sending", move || {
        let fed = feed(&stream, 1 << 16, amount)?;
        (&stream).flush()?;
        stream.shutdown(Shutdown::Write)?;
        drain(&stream, Look::Count)?;
        Ok(fed)
    });
    let fed = fed.result(&mut scene)?;
    let drained = drained.result(&mut scene)?;
    finish(&mut scene, tool, actor)?;
    drained.check(&fed, look)?;
    if path.metadata()?.is_file() {
        let len = path.metadata()?.len();
        Stage::discard(path);
        ensure!(len > 2 * fed.bytes, "a dump of only {len} bytes");
    }
    let time = drained.last.duration_since(fed.began).as_secs_f64();
    Ok(vec![fed.bytes as f64 / MIB / time])
}
