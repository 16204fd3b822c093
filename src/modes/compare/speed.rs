//! Speed of both transports here: bytes in a second, and the time of a message there and back.
//! The figures are those of one short run; the checks are that every byte arrived, or that losses were counted.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{Scene, Server, WAIT_LIMIT, sink};
use crate::pump::Wiring;
use crate::sys::wait::wait;

/// Time to send.
const SEND_TIME: Duration = Duration::from_millis(150);

/// The most round trips.
const MAX_TRIPS: usize = 300;

/// Bytes in one send on a stream.
const STREAM_SEND_SIZE: usize = 64 << 10;

/// Bytes in a datagram: those that fit into an Ethernet frame over IPv6.
const DATAGRAM_SIZE: usize = 1452;

/// Measures both, one after the other.
pub(super) fn measure(scene: &Scene) -> Result<Step> {
    let tcp = bulk(scene, Type::STREAM, STREAM_SEND_SIZE)?;
    let udp = bulk(scene, Type::DGRAM, DATAGRAM_SIZE)?;
    let mut step = Step::new("Speed in this run, through the pump");
    let text = format!("{} MiB/s, all of it arrived", tcp.rate());
    step.tcp(tcp.sent == tcp.received, text);
    let lost = 100 * udp.sent.saturating_sub(udp.received) / udp.sent.max(1);
    let rate = udp.rate();
    let text =
        format!("{rate} MiB/s arrived in {DATAGRAM_SIZE}-byte datagrams, {lost} % were lost");
    step.udp(udp.received <= udp.sent, text);
    let (tcp, udp) = (trip(scene, Type::STREAM)?, trip(scene, Type::DGRAM)?);
    step.tcp(tcp.is_some(), describe_trip(tcp));
    step.udp(udp.is_some(), describe_trip(udp));
    Ok(step)
}

fn describe_trip(time: Option<Duration>) -> String {
    let time = time.map_or("no answer".to_owned(), |time| {
        format!("{} µs", time.as_micros())
    });
    format!("{time} for a round trip")
}

/// Bytes that were sent and received.
struct Bulk {
    sent: usize,
    received: usize,
    time: Duration,
}

impl Bulk {
    /// Returns mebibytes in a second.
    fn rate(&self) -> u128 {
        (self.received as u128 >> 20) * 1000 / self.time.as_millis().max(1)
    }
}

/// Returns a server, and its address.
fn serve(scene: &Scene, kind: Type) -> io::Result<(Server, SocketAddr)> {
    let (socket, name) = scene.bound(kind)?;
    if kind == Type::DGRAM {
        return Ok((Server::UntilEmpty(socket), name));
    }
    socket.listen(1)?;
    Ok((Server::Listener(socket, 1), name))
}

/// Lets one client send as fast as it can, while the pump receives.
fn bulk(scene: &Scene, kind: Type, size: usize) -> Result<Bulk> {
    let (server, address) = serve(scene, kind)?;
    let client = scene.client(kind, address)?;
    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let (sent, record) = thread::scope(|threads| {
        let sender = threads.spawn(|| flood(client, size, &is_over));
        let record = scene.pump(server, sink(), WAIT_LIMIT);
        is_over.store(true, Ordering::Relaxed);
        (sender.join().unwrap_or(0), record)
    });
    let received = record?.received.iter().map(|&(_, len, _)| len).sum();
    Ok(Bulk {
        sent,
        received,
        time: start.elapsed().min(SEND_TIME + WAIT_LIMIT),
    })
}

/// Sends for a while, and then the end: a FIN, or empty datagrams until one of them has arrived.
fn flood(client: Socket, size: usize, is_over: &AtomicBool) -> usize {
    let block = vec![b'x'; size];
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < SEND_TIME {
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

/// Returns the median time of a message there and back over an echo.
fn trip(scene: &Scene, kind: Type) -> Result<Option<Duration>> {
    let (server, address) = serve(scene, kind)?;
    let client = scene.client(kind, address)?;
    let message = scene.message.as_bytes();
    let (mut times, record) = thread::scope(|threads| {
        let pinger = threads.spawn(move || ping(&client, message));
        let record = scene.pump(server, Wiring::Echo, WAIT_LIMIT);
        (pinger.join().unwrap_or_default(), record)
    });
    record?;
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied())
}

fn ping(client: &Socket, message: &[u8]) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut space = vec![MaybeUninit::uninit(); message.len()];
    let begin = Instant::now();
    while times.len() < MAX_TRIPS && (times.is_empty() || begin.elapsed() < SEND_TIME) {
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
    // The end for UDP; for TCP it is the close. One message at a time is on its way, so nothing is lost.
    let _ = client.send(&[]);
    times
}
