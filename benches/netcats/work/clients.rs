//! Many clients that are there at the same time: idle ones, ones that talk to the tool, ones that talk to each other.
//! Each has to be heard once before anything is measured, so that nobody is counted who only waits to be let in.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::{SOON, Stage, start_and_wait, task};
use crate::contest::{Better, Contest, Measure};
use crate::pattern;
use crate::ports::{HOST, State};
use crate::scene::{Actor, Scene, children_of};
use crate::tools::{Job, Tool};

const MESSAGE: usize = 64;

/// What the clients of a broker are sent at a time, and how much of that may be on its way.
const NEWS: usize = 1024;
const WINDOW: u64 = 64 << 10;

/// How many messages are timed among idle clients.
const QUESTIONS: usize = 200;

/// A pause between two connections: some tools let only ten clients wait, and a client too many waits for a second.
const PAUSE: Duration = Duration::from_micros(200);

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let measure = |what, unit, better| Measure { what, unit, better };
    let contest = |name: String, title: String, jobs, measures, run| Contest {
        name,
        title,
        proof: "every message",
        jobs,
        measures,
        rounds: stage.rounds.min(3),
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
            Box::new(move |tool, _| stay_idle(tool, count)),
        ));
    }
    let time = stage.time;
    contests.push(contest(
        "echo-1000".to_owned(),
        "echo of 64 B to 1000 clients at once".to_owned(),
        &[Job::Echo],
        vec![measure("", "1000/s", Better::More)],
        Box::new(move |tool, _| be_answered(tool, 1000, time)),
    ));
    contests.push(contest(
        "broker-99".to_owned(),
        "broker, 1 KiB messages to 99 clients".to_owned(),
        &[Job::Broker],
        vec![measure("", "1000/s", Better::More)],
        Box::new(move |tool, _| hear_news(tool, 99, time)),
    ));
    contests
}

/// Opens `count` connections.
fn connect(port: u16, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let address = SocketAddr::from((HOST, port));
    let open = |number: usize| -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&address, SOON)
            .with_context(|| format!("client {number}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        thread::sleep(PAUSE);
        Ok(stream)
    };
    (1..=count).map(open).collect()
}

fn stay_idle(tool: &Tool, count: usize) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = task()?;
    let (mut output, stdout) = io::pipe()?;
    let job = (tool, Job::Gather, &task);
    let actor = start_and_wait(&mut scene, job, Stdio::null(), stdout, State::Listening)?;
    let mut first = connect(task.port, 1)?.remove(0);
    first.write_all(&[0; 8])?;
    hear(&mut output, 8)?;
    let before = memory(&scene, actor);
    let mut clients = connect(task.port, count)?;
    for client in &mut clients {
        client.write_all(&[0; 8])?;
    }
    hear(&mut output, 8 * count)?;
    let each = (memory(&scene, actor) - before) / count as f64;

    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let began = Instant::now();
        first.write_all(&[0; MESSAGE])?;
        hear(&mut output, MESSAGE)?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    scene.clear();
    ensure!(output.read(&mut [0])? == 0, "more came out than went in");
    Ok(vec![each, times[QUESTIONS / 2]])
}

/// Reads as many bytes as are to come out, and never waits for more of them for long.
fn hear(output: &mut PipeReader, mut awaited: usize) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let tick = Timespec::try_from(SOON)?;
    while awaited > 0 {
        let mut reader = [PollFd::new(output, PollFlags::IN)];
        poll(&mut reader, Some(&tick))?;
        ensure!(
            !reader[0].revents().is_empty(),
            "{awaited} bytes are missing"
        );
        match output.read(&mut buffer)? {
            0 => bail!("the end came out, and {awaited} bytes did not"),
            len => {
                awaited = (awaited.checked_sub(len)).context("more came out than went in")?;
            }
        }
    }
    Ok(())
}

/// The memory that a tool and its children would free, in KiB (`proc_pid_smaps(5)`, Pss).
fn memory(scene: &Scene, actor: Actor) -> f64 {
    let own = scene.pid(actor).to_string();
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

/// One message of each client is always on its way.
fn be_answered(tool: &Tool, count: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = task()?;
    let job = (tool, Job::Echo, &task);
    start_and_wait(
        &mut scene,
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
    let tick = Timespec::try_from(SOON)?;
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
        ensure!(!events.is_empty(), "no answers any more");
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

/// One client talks, and all others hear it.
fn hear_news(tool: &Tool, count: usize, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut scene = Scene::new();
    let task = task()?;
    let job = (tool, Job::Broker, &task);
    start_and_wait(
        &mut scene,
        job,
        Stdio::null(),
        Stdio::null(),
        State::Listening,
    )?;
    let mut clients = connect(task.port, count + 1)?;
    let mut talker = clients.pop().context("a client to talk")?;
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
    let news = pattern::bytes(NEWS);
    let mut heard = vec![0_u64; count];
    let mut buffer = vec![0; 1 << 16];
    let mut events = Vec::with_capacity(256);
    let tick = Timespec::try_from(SOON)?;
    let (mut said, began) = (0_u64, Instant::now());
    loop {
        let least = heard.iter().copied().min().unwrap_or(0);
        let is_on = began.elapsed() < time;
        if !is_on && least == said {
            break;
        }
        while is_on && said - least < WINDOW {
            talker.write_all(&news)?;
            said += NEWS as u64;
        }
        events.clear();
        epoll::wait(
            &set,
            rustix::buffer::spare_capacity(&mut events),
            Some(&tick),
        )?;
        ensure!(!events.is_empty(), "{said} bytes said, {least} heard");
        for event in &events {
            let place = usize::try_from(event.data.u64())?;
            match clients[place].read(&mut buffer) {
                Ok(len) => {
                    ensure!(len > 0, "a client was dropped");
                    check_news(&buffer[..len], heard[place], &news)?;
                    heard[place] += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let deliveries = heard.iter().sum::<u64>() as f64 / NEWS as f64;
    Ok(vec![deliveries / began.elapsed().as_secs_f64() / 1e3])
}

/// Whether these are the bytes that follow the first `heard`.
fn check_news(mut bytes: &[u8], heard: u64, news: &[u8]) -> anyhow::Result<()> {
    let mut at = usize::try_from(heard % NEWS as u64)?;
    while !bytes.is_empty() {
        let len = bytes.len().min(NEWS - at);
        ensure!(bytes[..len] == news[at..at + len], "other bytes came out");
        bytes = &bytes[len..];
        at = 0;
    }
    Ok(())
}
