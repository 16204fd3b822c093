//! An echo server in four ways, with a hundred clients each; the first of them says nothing.
//! The figures are those of the kernel (proc(5)), read while all clients are connected.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::thread::gettid;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{SILENCE, Scene, Server, WAIT_LIMIT, until};
use crate::cli::Experiment;
use crate::pump::Wiring;

/// Clients of each server.
const SERVED: usize = 100;

/// Clients that do not wait before they send.
const OTHERS: usize = SERVED - 1;

/// Bytes that each of them sends.
const PING: &[u8] = b"ping";

/// Server, run until all clients have left.
type Serve = fn(&Scene, &Socket) -> Result<()>;

/// The designs of a server, with the clients that are answered while the first is silent, the processes and the threads.
const DESIGNS: [(&str, Serve, [usize; 3]); 4] = [
    ("one client after another", serve_in_turn, [0, 1, 1]),
    (
        "a process a client",
        serve_by_processes,
        [OTHERS, 1 + SERVED, 1 + SERVED],
    ),
    (
        "a thread a client",
        serve_by_threads,
        [OTHERS, 1, 1 + SERVED],
    ),
    ("one loop for all", serve_by_loop, [OTHERS, 1, 1]),
];

/// Serves the clients of each design.
pub(super) fn servers(scene: &Scene) -> Step {
    let title = format!("An echo server in four ways, {SERVED} clients, the first one silent");
    let mut step = Step::new(Experiment::Servers, title);
    for (title, serve, expected) in DESIGNS {
        match visit(scene, serve, expected) {
            Ok((found, [memory, switches])) => {
                let [answered, processes, threads] = found;
                let figures = format!(
                    "processes {processes}, threads {threads}, memory +{memory} KiB, switches {switches}"
                );
                let text =
                    format!("{title}: {answered} of {OTHERS} others are answered; {figures}");
                step.tcp(found == expected, text);
            }
            // A system may have no /proc, and no program to start.
            Err(error) => {
                let kind = error.downcast_ref().map(io::Error::kind);
                let text = format!("{title}: not tried: {error}");
                step.tcp(kind == Some(ErrorKind::NotFound), text);
            }
        }
    }
    step
}

fn serve_in_turn(_: &Scene, listener: &Socket) -> Result<()> {
    for _ in 0..SERVED {
        // A client may leave before it reads its answer.
        let _ = echo(&listener.accept()?.0);
    }
    Ok(())
}

fn serve_by_processes(_: &Scene, listener: &Socket) -> Result<()> {
    let mut children = Vec::new();
    for _ in 0..SERVED {
        let (client, _) = listener.accept()?;
        let mut cat = Command::new("cat");
        cat.stdin(OwnedFd::from(client.try_clone()?));
        children.push(cat.stdout(OwnedFd::from(client)).spawn()?);
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

fn serve_by_threads(_: &Scene, listener: &Socket) -> Result<()> {
    thread::scope(|threads| {
        for _ in 0..SERVED {
            let (client, _) = listener.accept()?;
            threads.spawn(move || echo(&client));
        }
        Ok(())
    })
}

fn serve_by_loop(scene: &Scene, listener: &Socket) -> Result<()> {
    let server = Server::Listener(listener.try_clone()?, SERVED);
    scene.pump(server, Wiring::Echo, WAIT_LIMIT).map(drop)
}

fn echo(client: &Socket) -> io::Result<()> {
    io::copy(&mut &*client, &mut &*client).map(drop)
}

/// Clients answered, processes and threads; then KiB of memory and context switches since the start.
type Figures = ([usize; 3], [u64; 2]);

/// Connects all clients, runs the server, and lets the clients talk to it.
fn visit(scene: &Scene, serve: Serve, expected: [usize; 3]) -> Result<Figures> {
    let (listener, name) = scene.listener(128)?;
    // The sockets that it accepts inherit it.
    listener.set_read_timeout(Some(WAIT_LIMIT))?;
    let clients = (0..SERVED).map(|_| scene.client(Type::STREAM, name));
    let clients = clients.collect::<io::Result<Vec<_>>>()?;
    // The threads of an earlier server may not have left the table yet.
    until(|| usage("").is_ok_and(|(counts, _)| counts == [1, 1]))?;
    let (_, before) = usage("")?;
    let patience = if expected[0] == 0 {
        SILENCE
    } else {
        WAIT_LIMIT
    };
    thread::scope(|threads| {
        // The clients are closed at the end of their thread.
        let talk = threads.spawn(move || {
            for client in &clients[1..] {
                client.send(PING)?;
            }
            let answered = count_answered(&clients[1..], patience);
            let ([processes, threads], after) = usage(&gettid().as_raw_nonzero().to_string())?;
            let gained = [0, 1].map(|index| after[index].saturating_sub(before[index]));
            Ok(([answered, processes, threads], gained))
        });
        let result = serve(scene, &listener);
        // Clients that still wait in its queue are reset.
        drop(listener);
        let figures: io::Result<Figures> = talk.join().unwrap_or(Err(ErrorKind::Other.into()));
        result.and(Ok(figures?))
    })
}

/// Counts the clients that are answered, up to the first that is not.
fn count_answered(clients: &[Socket], patience: Duration) -> usize {
    let is_answered = |mut client: &Socket| {
        let is_set = client.set_read_timeout(Some(patience)).is_ok();
        is_set && client.read_exact(&mut [0; PING.len()]).is_ok()
    };
    let mut clients = clients.iter();
    clients
        .position(|client| !is_answered(client))
        .unwrap_or(OTHERS)
}

/// Returns the processes and threads of this program, without one of them, and their memory and context switches.
fn usage(without: &str) -> io::Result<([usize; 2], [u64; 2])> {
    let own = process::id().to_string();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
    let processes = format!("{own} {children}");
    let processes: Vec<&str> = processes.split_whitespace().collect();
    let (mut threads, mut memory, mut switches) = (0, 0, 0);
    for process in &processes {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?;
            // A thread that has just ended has no file.
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            if status.is_empty() || thread.file_name() == without {
                continue;
            }
            threads += 1;
            switches += field(&status, "voluntary_ctxt_switches:");
            switches += field(&status, "nonvoluntary_ctxt_switches:");
            // All threads of a process report its memory.
            let is_first = u64::from(thread.file_name() == *process);
            memory += is_first * field(&status, "RssAnon:");
        }
    }
    Ok(([processes.len(), threads], [memory, switches]))
}

/// Returns the number after a name in a file of /proc.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
