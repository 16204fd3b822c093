//! Bytes through a relay that stands between a client and a server: the speed, and the CPU time of the relay alone.
//! The client and the server are this program, so every tool has the same ends.

use std::fs;
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use super::{GIB, Setup, accept, listen, start_and_wait};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::ports::{self, HOST, State};
use crate::processes::Processes;
use crate::tools::{Job, Task, Tool};
use crate::workers::{Amount, Check, drain, feed, spawn};

/// Bytes of a verified run: an odd number, which no buffer size divides.
const CHECKED: u64 = (16 << 20) + 4321;

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let each = setup.clone();
    vec![Contest {
        name: "relay".to_owned(),
        title: "TCP → relay → TCP".to_owned(),
        proof: "count; hash of 16 MiB",
        jobs: &[Job::Relay],
        measures: vec![
            Measure {
                what: "",
                unit: "GiB/s",
                better: Better::More,
            },
            Measure {
                what: "CPU of the relay",
                unit: "s/GiB",
                better: Better::Less,
            },
        ],
        rounds: setup.rounds,
        run: Box::new(move |tool, pass| relay(&each, tool, pass)),
    }]
}

/// Returns the configuration of a tool that reads one.
fn configuration(tool: &Tool, port: u16, target: u16) -> String {
    match tool.name {
        "haproxy" => format!(
            "global\n nbthread 1\nlisten relay\n mode tcp\n timeout connect 5s\n timeout client 1m\n \
             timeout server 1m\n bind {HOST}:{port}\n server target {HOST}:{target}\n \
             option splice-auto\n option splice-request\n option splice-response\n"
        ),
        _ => format!("{HOST} {port} {HOST} {target}\n"),
    }
}

fn relay(setup: &Setup, tool: &Tool, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let (listener, target) = listen()?;
    let task = Task {
        port: ports::free()?,
        target,
        file: setup.path("relay.conf"),
        ..Task::default()
    };
    fs::write(&task.file, configuration(tool, task.port, target))?;
    let job = (tool, Job::Relay, &task);
    let (input, output) = (Stdio::null(), Stdio::null());
    let process = start_and_wait(&mut processes, job, input, output, State::Listening)?;
    let (amount, check) = match pass {
        Pass::Proof => (Amount::Pattern(CHECKED), Check::Hash),
        Pass::Timed => (Amount::For(setup.time), Check::Count),
    };
    let drained = spawn("reading what arrives", move || {
        drain(accept(&listener)?, check)
    });
    let stream = TcpStream::connect((HOST, task.port))?;
    let fed = spawn("sending", move || {
        let fed = feed(&stream, 1 << 16, amount)?;
        stream.shutdown(Shutdown::Write)?;
        drain(&stream, Check::Count)?;
        Ok(fed)
    });
    let fed = fed.result(&mut processes)?;
    let drained = drained.result(&mut processes)?;
    let end = processes.end(process, Duration::from_millis(100))?;
    drained.check(&fed, check)?;
    let gib = fed.bytes as f64 / GIB;
    let time = drained.last.duration_since(fed.began).as_secs_f64();
    Ok(vec![gib / time, end.cpu.as_secs_f64() / gib])
}
