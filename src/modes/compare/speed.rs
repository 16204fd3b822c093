//! How fast both are here: bytes in a second, and the time of a message there and back.
//! Figures of one short run on one machine; what is checked is that all of it arrived, or that losses were seen.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Socket, Type};

use super::scene::{BOUND, Scene, Server, name_of};
use super::{Step, state};
use crate::exit::Failure;
use crate::link::udp;
use crate::local::stdio::Stdio;
use crate::pump::Wiring;
use crate::sys::wait::wait;

/// How long to send.
const TIME: Duration = Duration::from_millis(150);

/// How often a message goes there and back at the most.
const TRIPS: usize = 300;

/// Bytes in a datagram: what fits into an Ethernet frame over IPv6.
const DATAGRAM: usize = 1452;

/// Measures both, one after the other.
pub(super) fn measure(scene: &Scene) -> Result<Step, Failure> {
    let bulk_tcp = bulk(scene, Type::STREAM, 64 << 10)?;
    let bulk_udp = bulk(scene, Type::DGRAM, DATAGRAM)?;
    let (trip_tcp, trip_udp) = (trip(scene, Type::STREAM)?, trip(scene, Type::DGRAM)?);
    let lost = bulk_udp.sent.saturating_sub(bulk_udp.received);
    let share = 100 * lost / bulk_udp.sent.max(1);
    Ok(Step {
        title: "Speed, here and now, through the pump".to_owned(),
        tcp: vec![
            state(
                bulk_tcp.sent == bulk_tcp.received,
                format!("{} MiB/s, all of it arrived", bulk_tcp.rate()),
            ),
            state(
                trip_tcp.is_some(),
                format!("{} for a message there and back", micros(trip_tcp)),
            ),
        ],
        udp: vec![
            state(
                bulk_udp.received <= bulk_udp.sent,
                format!(
                    "{} MiB/s arrived in {DATAGRAM}-byte datagrams, {share} % were lost",
                    bulk_udp.rate()
                ),
            ),
            state(
                trip_udp.is_some(),
                format!("{} for a message there and back", micros(trip_udp)),
            ),
        ],
    })
}

struct Bulk {
    sent: usize,
    received: usize,
    time: Duration,
}

impl Bulk {
    /// Mebibytes in a second.
    fn rate(&self) -> u128 {
        (self.received as u128 >> 20) * 1000 / self.time.as_millis().max(1)
    }
}

fn micros(time: Option<Duration>) -> String {
    time.map_or_else(
        || "no answer".to_owned(),
        |time| format!("{} µs", time.as_micros()),
    )
}

/// A server, and where it is.
fn serve(scene: &Scene, kind: Type) -> io::Result<(Server, SocketAddr)> {
    let socket = scene.bound(kind)?;
    let name = name_of(&socket)?;
    let server = if kind == Type::STREAM {
        socket.listen(1)?;
        Server::Listener(socket, 1)
    } else {
        let settings = udp::Settings {
            eof_datagram: true,
            ..udp::Settings::default()
        };
        Server::Datagrams(socket, settings)
    };
    Ok((server, name))
}

/// One client sends as fast as it can, while the pump takes what comes.
fn bulk(scene: &Scene, kind: Type, size: usize) -> Result<Bulk, Failure> {
    let failed = |error: io::Error| Failure::io("a measurement failed", &error);
    let (server, address) = serve(scene, kind).map_err(failed)?;
    let client = scene.client(kind, address).map_err(failed)?;
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let (sent, record) = thread::scope(|threads| {
        let sender = threads.spawn(|| flood(client, size, &is_over));
        let sink = Wiring::Shared(Box::new(Stdio::new(None, None)));
        let record = scene.pump(server, sink, BOUND);
        is_over.store(true, Ordering::Relaxed);
        (sender.join().unwrap_or(0), record)
    });
    let received = record?.received.iter().map(|&(_, len, _)| len).sum();
    Ok(Bulk {
        sent,
        received,
        time: start.elapsed().min(TIME + BOUND),
    })
}

/// Sends for a while, then says that this was all: with a FIN, or with empty datagrams, until one of them has arrived.
fn flood(client: Socket, size: usize, is_over: &AtomicBool) -> usize {
    let block = vec![b'x'; size];
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        match client.send(&block) {
            Ok(len) => sent += len,
            Err(_) => break,
        }
    }
    if client.r#type().is_ok_and(|kind| kind == Type::DGRAM) {
        while !is_over.load(Ordering::Relaxed) && client.send(&[]).is_ok() {
            let soon = Instant::now() + Duration::from_millis(1);
            // A wait that fails only makes the next datagram earlier.
            let _ = wait(&[], None, Some(soon));
        }
    }
    drop(client);
    sent
}

/// The median time of a message there and back over an echo.
fn trip(scene: &Scene, kind: Type) -> Result<Option<Duration>, Failure> {
    let failed = |error: io::Error| Failure::io("a measurement failed", &error);
    let (server, address) = serve(scene, kind).map_err(failed)?;
    let client = scene.client(kind, address).map_err(failed)?;
    let message = scene.message.as_bytes();
    let (times, record) = thread::scope(|threads| {
        let pinger = threads.spawn(move || ping(&client, message));
        let record = scene.pump(server, Wiring::Echo, BOUND);
        (pinger.join().unwrap_or_default(), record)
    });
    record?;
    let mut times = times;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied())
}

fn ping(client: &Socket, message: &[u8]) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut space = vec![MaybeUninit::uninit(); message.len()];
    let begin = Instant::now();
    while times.len() < TRIPS && (times.is_empty() || begin.elapsed() < TIME) {
        let start = Instant::now();
        let mut missing = message.len();
        if client.send(message).is_err() {
            break;
        }
        while missing > 0 {
            match client.recv(&mut space[..missing]) {
                Ok(len) if len > 0 => missing -= len,
                _ => return times,
            }
        }
        times.push(start.elapsed());
    }
    // For UDP the sign that this was all; for TCP closing is. Nothing is lost here: one message at a time is on its way.
    let _ = client.send(&[]);
    times
}
