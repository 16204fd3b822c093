//! Many simultaneous clients: idle ones, clients of an echo, clients of a broker.
//! Each client exchanges data once before a measurement, so that none of them still waits in the backlog.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::{EVENT_TIMEOUT, Setup, start_and_wait, task};
use crate::contest::{Better, Contest, Measure};
use crate::pattern;
use crate::ports::{HOST, State};
use crate::processes::{ProcessId, Processes, children_of};
use crate::tools::{Job, Tool};

const MESSAGE: usize = 64;

/// Size of a broker message, and the number of bytes that may be in flight.
const BROKER_MESSAGE: usize = 1024;
const WINDOW: u64 = 64 << 10;

/// Number of messages that are timed among idle clients.
const TIMED_MESSAGES: usize = 200;

/// Pause between two connections: some tools have a backlog of ten, and a client beyond that waits for a second.
const CONNECT_INTERVAL: Duration = Duration::from_micros(200);

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let measure = |what, unit, better| Measure { what, unit, better };
    let contest = |name: String, title: String, jobs, measures, run| Contest {
        name,
        title,
        proof: "every message",
        jobs,
        measures,
        rounds: setup.rounds.min(3),
        run,
    };
    let mut contests = Vec::new();
    for count in [1_000, 10_000] {
        contests.push(contest(
            format!("idle-{count}"),
            format!("{count} idle clients"),
            &[Job::Gather],
            vec![
                measure("memory of each", "KiB", Better::Less),
                measure("message of another, p50", "µs", Better::Less),
            ],
            Box::new(move |tool, _| idle(tool, count)),
        ));
    }
    let time = setup.time;
    contests.push(contest(
        "echo-1000".to_owned(),
        "echo of 64 B to 1000 clients at once".to_owned(),
        &[Job::Echo],
        vec![measure("", "1000/s", Better::More)],
        Box::new(move |tool, _| echo(tool, 1000, time)),
    ));
    contests.push(contest(
        "broker-99".to_owned(),
        "broker, 1 KiB messages to 99 clients".to_owned(),
        &[Job::Broker],
        vec![measure("", "1000/s", Better::More)],
        Box::new(move |tool, _| broadcast(tool, 99, time)),
    ));
    contests
}

/// Opens `count` connections.
fn connect(port: u16, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let address = SocketAddr::from((HOST, port));
    let open = |number: usize| -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, EVENT_TIMEOUT)
            .with_context(|| format!("client {number}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(EVENT_TIMEOUT))?;
        thread::sleep(CONNECT_INTERVAL);
        Ok(stream)
    };
    (1..=count).map(open).collect()
}

fn idle(tool: &Tool, count: usize) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = task()?;
    let (mut output, stdout) = io::pipe()?;
    let job = (tool, Job::Gather, &task);
    let process = start_and_wait(&mut processes, job, Stdio::null(), stdout, State::Listening)?;
    let mut first = connect(task.port, 1)?.remove(0);
    first.write_all(&[0; 8])?;
    read_exactly(&mut output, 8)?;
    let before = memory(&processes, process);
    let mut clients = connect(task.port, count)?;
    for client in &mut clients {
        client.write_all(&[0; 8])?;
    }
    read_exactly(&mut output, 8 * count)?;
    let each = (memory(&processes, process) - before) / count as f64;

    let mut times = Vec::new();
    for _ in 0..TIMED_MESSAGES {
        let began = Instant::now();
        first.write_all(&[0; MESSAGE])?;
        read_exactly(&mut output, MESSAGE)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    processes.clear();
    ensure!(output.read(&mut [0])? == 0, "more came out than went in");
    Ok(vec![each, times[TIMED_MESSAGES / 2]])
}

/// Reads exactly `awaited` bytes, with a time limit for each read.
fn read_exactly(output: &mut PipeReader, mut awaited: usize) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let tick = Timespec::try_from(EVENT_TIMEOUT)?;
    while awaited > 0 {
        let mut reader = [PollFd::new(output, PollFlags::IN)];
        poll(&mut reader, Some(&tick))?;
        ensure!(
            !reader[0].revents().is_empty(),
            "{awaited} bytes are missing"
        );
        match output.read(&mut buffer)? {
            0 => bail!("end of output, and {awaited} bytes are missing"),
            len => {
                awaited = (awaited.checked_sub(len)).context("more came out than went in")?;
            }
        }
    }
    Ok(())
}

/// Memory of a tool and its children in KiB, shared pages in proportion (`proc_pid_smaps(5)`, Pss).
fn memory(processes: &Processes, process: ProcessId) -> f64 {
    let own = processes.pid(process).to_string();
    let children = children_of(&own).into_iter().map(|pid| pid.to_string());
    let texts = children
        .chain([own])
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok());
    texts
        .filter_map(|text| {
            let line = text.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        })
        .sum()
}

/// Keeps one message of each client in flight.
fn echo(tool: &Tool, count: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = task()?;
    let job = (tool, Job::Echo, &task);
    start_and_wait(
        &mut processes,
        job,
        Stdio::null(),
        Stdio::null(),
        State::Listening,
    )?;
    let mut clients = connect(task.port, count)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let message = pattern::bytes(MESSAGE);
    let mut answer = [0; MESSAGE];
    for (place, client) in (0_u64..).zip(&mut clients) {
        client.write_all(&message)?;
        client.read_exact(&mut answer)?;
        ensure!(message == answer, "a wrong answer");
        epoll::add(
            &set,
            &*client,
            epoll::EventData::new_u64(place),
            epoll::EventFlags::IN,
        )?;
    }
    let mut events = Vec::with_capacity(256);
    let tick = Timespec::try_from(EVENT_TIMEOUT)?;
    let mut answers = 0_u64;
    let began = Instant::now();
    for client in &mut clients {
        client.write_all(&message)?;
    }
    while began.elapsed() < time {
        events.clear();
        epoll::wait(
            &set,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        )?;
        ensure!(!events.is_empty(), "no more answers");
        for event in &events {
            let client = &mut clients[usize::try_from(event.data.u64())?];
            client.read_exact(&mut answer)?;
            ensure!(message == answer, "a wrong answer");
            client.write_all(&message)?;
            answers += 1;
        }
    }
    Ok(vec![answers as f64 / began.elapsed().as_secs_f64() / 1e3])
}

/// Sends from one client, and receives on all others.
fn broadcast(tool: &Tool, count: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut processes = Processes::new();
    let task = task()?;
    let job = (tool, Job::Broker, &task);
    start_and_wait(
        &mut processes,
        job,
        Stdio::null(),
        Stdio::null(),
        State::Listening,
    )?;
    let mut clients = connect(task.port, count + 1)?;
    let mut sender = clients.pop().context("a client that sends")?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (place, client) in (0_u64..).zip(&clients) {
        client.set_nonblocking(true)?;
        epoll::add(
            &set,
            client,
            epoll::EventData::new_u64(place),
            epoll::EventFlags::IN,
        )?;
    }
    let message = pattern::bytes(BROKER_MESSAGE);
    let mut received = vec![0_u64; count];
    let mut buffer = vec![0; 1 << 16];
    let mut events = Vec::with_capacity(256);
    let tick = Timespec::try_from(EVENT_TIMEOUT)?;
    let (mut written, began) = (0_u64, Instant::now());
    loop {
        let least = received.iter().copied().min().unwrap_or(0);
        let is_running = began.elapsed() < time;
        if !is_running && least == written {
            break;
        }
        while is_running && written - least < WINDOW {
            sender.write_all(&message)?;
            written += BROKER_MESSAGE as u64;
        }
        events.clear();
        epoll::wait(
            &set,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        )?;
        ensure!(
            !events.is_empty(),
            "{written} bytes written, {least} received"
        );
        for event in &events {
            let place = usize::try_from(event.data.u64())?;
            match clients[place].read(&mut buffer) {
                Ok(len) => {
                    ensure!(len > 0, "a client was dropped");
                    check_message(&buffer[..len], received[place], &message)?;
                    received[place] += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let deliveries = received.iter().sum::<u64>() as f64 / BROKER_MESSAGE as f64;
    Ok(vec![deliveries / began.elapsed().as_secs_f64() / 1e3])
}

/// Verifies the bytes that follow the first `received` bytes.
fn check_message(mut bytes: &[u8], received: u64, message: &[u8]) -> anyhow::Result<()> {
    let mut at = usize::try_from(received % BROKER_MESSAGE as u64)?;
    while !bytes.is_empty() {
        let len = bytes.len().min(BROKER_MESSAGE - at);
        ensure!(
            bytes[..len] == message[at..at + len],
            "other bytes came out"
        );
        bytes = &bytes[len..];
        at = 0;
    }
    Ok(())
}
