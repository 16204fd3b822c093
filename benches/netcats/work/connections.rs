//! Connections per second: each client connects, sends 16 bytes and a FIN, and waits for the FIN of the tool.
//! Messages that a tool accepts but does not write to standard output count as lost.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Socket, Type};

use super::{Setup, start_and_wait, task};
use crate::contest::{Better, Contest, Measure};
use crate::ports::{HOST, State};
use crate::processes::Processes;
use crate::tools::{Job, Tool};
use crate::workers::{Check, drain, spawn};

const MESSAGE: [u8; 16] = *b"a short message\n";

/// Time limit for the clients after the last one has started.
const END_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let measure = |what, unit, better| Measure { what, unit, better };
    [("connections-1", 1), ("connections-64", 64)]
        .map(|(name, at_once)| {
            let time = setup.time;
            Contest {
                name: name.to_owned(),
                title: format!("connections, {at_once} at once"),
                proof: "count",
                jobs: &[Job::Gather],
                measures: vec![
                    measure("", "1/s", Better::More),
                    measure("lost", "", Better::Neither),
                ],
                rounds: setup.rounds,
                run: Box::new(move |tool, _| serve(tool, at_once, time)),
            }
        })
        .into()
}

fn serve(tool: &Tool, at_once: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = task()?;
    let (output, stdout) = io::pipe()?;
    let job = (tool, Job::Gather, &task);
    let process = start_and_wait(&mut processes, job, Stdio::null(), stdout, State::Listening)?;
    let drained = spawn("reading what arrives", move || drain(output, Check::Count));
    let port = task.port;
    let visits = spawn("connecting", move || visit(port, at_once, time));
    let visits = visits.result(&mut processes)?;
    processes.end(process, Duration::ZERO)?;
    processes.clear();
    let drained = drained.result(&mut processes)?;
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
    /// Number of messages sent.
    sent: u64,
    /// Time from the first connection to the end of the last.
    time: Duration,
}

/// A client and its progress.
struct Client {
    stream: TcpStream,
    has_sent: bool,
}

/// Keeps `at_once` clients active.
fn visit(port: u16, at_once: usize, time: Duration) -> anyhow::Result<Visits> {
    let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients: Vec<Option<Client>> = (0..at_once).map(|_| None).collect();
    let mut events = Vec::with_capacity(at_once);
    let began = Instant::now();
    let (mut sent, mut last) = (0, began);
    loop {
        let is_running = began.elapsed() < time;
        for (place, client) in (0_u64..).zip(&mut clients) {
            if is_running && client.is_none() {
                let stream = connecting(port)?;
                let name = epoll::EventData::new_u64(place);
                epoll::add(&waiting, &stream, name, epoll::EventFlags::OUT)?;
                *client = Some(Client {
                    stream,
                    has_sent: false,
                });
            }
        }
        let is_late = began.elapsed() > time + END_TIMEOUT;
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
            let sends_now = !client.has_sent;
            if go_on(client)? {
                epoll::modify(&waiting, &client.stream, event.data, epoll::EventFlags::IN)?;
            } else {
                clients[place] = None;
                last = Instant::now();
            }
            sent += u64::from(sends_now);
        }
    }
}

/// Starts to connect.
fn connecting(port: u16) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&std::net::SocketAddr::from((HOST, port)).into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        _ => Ok(socket.into()),
    }
}

/// Performs the next step of a client; false after the last.
fn go_on(client: &mut Client) -> io::Result<bool> {
    if !client.has_sent {
        client.stream.write_all(&MESSAGE)?;
        client.stream.shutdown(Shutdown::Write)?;
        client.has_sent = true;
        return Ok(true);
    }
    match client.stream.read(&mut [0; 64]) {
        Ok(0) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(true),
    }
}
