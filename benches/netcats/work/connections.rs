//! Connections a second: each client connects, sends 16 bytes, says that this was all, and waits for the tool to say the same.
//! What a tool takes in and does not pass on is lost, and shown as such.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use super::{Stage, start_and_wait, task};
use crate::contest::{Better, Contest, Measure};
use crate::crew::{Look, drain, hire};
use crate::ports::{HOST, State};
use crate::scene::Scene;
use crate::tools::{Job, Tool};

const MESSAGE: [u8; 16] = *b"a short message\n";

/// How long clients may take after the last has begun.
const LATE: Duration = Duration::from_secs(2);

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let measure = |what, unit, better| Measure { what, unit, better };
    [("connections-1", 1), ("connections-64", 64)]
        .map(|(name, at_once)| {
            let time = stage.time;
            Contest {
                name: name.to_owned(),
                title: format!("connections, {at_once} at once"),
                proof: "count",
                jobs: &[Job::Gather],
                measures: vec![
                    measure("", "1/s", Better::More),
                    measure("lost", "", Better::Neither),
                ],
                rounds: stage.rounds,
                run: Box::new(move |tool, _| serve(tool, at_once, time)),
            }
        })
        .into()
}

fn serve(tool: &Tool, at_once: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = task()?;
    let (output, stdout) = io::pipe()?;
    let job = (tool, Job::Gather, &task);
    let actor = start_and_wait(&mut scene, job, Stdio::null(), stdout, State::Listening)?;
    let drained = hire("reading what arrives", move || drain(output, Look::Count));
    let port = task.port;
    let visits = hire("connecting", move || visit(port, at_once, time));
    let visits = visits.result(&mut scene)?;
    scene.end(actor, Duration::ZERO)?;
    scene.clear();
    let drained = drained.result(&mut scene)?;
    let arrived = drained.bytes / MESSAGE.len() as u64;
    ensure!(arrived > 0, "nothing arrived");
    ensure!(arrived <= visits.sent, "{} in, {arrived} out", visits.sent);
    let lost = visits.sent - arrived;
    Ok(vec![
        arrived as f64 / visits.time.as_secs_f64(),
        lost as f64,
    ])
}

struct Visits {
    /// Messages that were sent.
    sent: u64,
    /// From the first to the end of the last.
    time: Duration,
}

/// Where a client stands.
struct Client {
    stream: TcpStream,
    has_spoken: bool,
}

/// Keeps `at_once` clients busy.
fn visit(port: u16, at_once: usize, time: Duration) -> anyhow::Result<Visits> {
    let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients: Vec<Option<Client>> = (0..at_once).map(|_| None).collect();
    let mut events = Vec::with_capacity(at_once);
    let began = Instant::now();
    let (mut sent, mut last) = (0, began);
    loop {
        let is_on = began.elapsed() < time;
        for (place, client) in (0_u64..).zip(&mut clients) {
            if is_on && client.is_none() {
                let stream = connecting(port)?;
                let name = epoll::EventData::new_u64(place);
                epoll::add(&waiting, &stream, name, epoll::EventFlags::OUT)?;
                *client = Some(Client {
                    stream,
                    has_spoken: false,
                });
            }
        }
        let is_late = began.elapsed() > time + LATE;
        if is_late || clients.iter().all(Option::is_none) {
            let time = last.duration_since(began);
            return Ok(Visits { sent, time });
        }
        events.clear();
        let tick = Timespec::try_from(Duration::from_millis(100))?;
        epoll::wait(
            &waiting,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        )?;
        for event in &events {
            let place = usize::try_from(event.data.u64())?;
            let Some(client) = &mut clients[place] else {
                continue;
            };
            let spoke = !client.has_spoken;
            if go_on(client)? {
                epoll::modify(&waiting, &client.stream, event.data, epoll::EventFlags::IN)?;
            } else {
                clients[place] = None;
                last = Instant::now();
            }
            sent += u64::from(spoke);
        }
    }
}

/// A connection on its way.
fn connecting(port: u16) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&std::net::SocketAddr::from((HOST, port)).into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        _ => Ok(socket.into()),
    }
}

/// The next step of a client; false if it was the last.
fn go_on(client: &mut Client) -> io::Result<bool> {
    if !client.has_spoken {
        client.stream.write_all(&MESSAGE)?;
        client.stream.shutdown(Shutdown::Write)?;
        client.has_spoken = true;
        return Ok(true);
    }
    match client.stream.read(&mut [0; 64]) {
        Ok(0) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(true),
    }
}
