//! Speed of both transports here: bytes in a second, and the time of a message there and back.
//! The figures are those of one short run; the checks are that every byte arrived, or that losses were counted.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{Record, Scene, Server, WAIT_LIMIT, sink, until};
use crate::cli::Experiment;
use crate::pump::Wiring;

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
    let mut step = Step::new(Experiment::Speed, "Speed in this run, through the pump");
    let (sent, received, rate) = bulk(scene, Type::STREAM, STREAM_SEND_SIZE)?;
    step.tcp(sent == received, format!("{rate} MiB/s, all of it arrived"));
    let (sent, received, rate) = bulk(scene, Type::DGRAM, DATAGRAM_SIZE)?;
    let lost = 100 * sent.saturating_sub(received) / sent.max(1);
    let text =
        format!("{rate} MiB/s arrived in {DATAGRAM_SIZE}-byte datagrams, {lost} % were lost");
    step.udp(received <= sent, text);
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

/// Lets the pump serve one client, which runs in a thread; returns what the client returns, and what the pump saw.
///
/// The client can see when the pump is done.
fn serve<T: Send + Default>(
    scene: &Scene,
    kind: Type,
    wiring: Wiring,
    run: impl FnOnce(Socket, &AtomicBool) -> T + Send,
) -> Result<(T, Record)> {
    let (socket, name) = scene.bound(kind)?;
    let server = if kind == Type::DGRAM {
        Server::UntilEmpty(socket)
    } else {
        socket.listen(1)?;
        Server::Listener(socket, 1)
    };
    let client = scene.client(kind, name)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|threads| {
        let client = threads.spawn(|| run(client, &is_over));
        let record = scene.pump(server, wiring, WAIT_LIMIT);
        is_over.store(true, Ordering::Relaxed);
        Ok((client.join().unwrap_or_default(), record?))
    })
}

/// Lets one client send as fast as it can; returns the bytes sent and received, and the mebibytes in a second.
fn bulk(scene: &Scene, kind: Type, size: usize) -> Result<(usize, usize, u128)> {
    let start = Instant::now();
    let flood = |client: Socket, is_over: &AtomicBool| flood(&client, size, is_over);
    let (sent, record) = serve(scene, kind, sink(), flood)?;
    let received: usize = record.received.iter().map(|&(_, len, _)| len).sum();
    let rate = (received as u128 >> 20) * 1000 / start.elapsed().as_millis().max(1);
    Ok((sent, received, rate))
}

/// Sends for a while, and then the end: a FIN, or empty datagrams until one of them has arrived.
fn flood(client: &Socket, size: usize, is_over: &AtomicBool) -> usize {
    let block = vec![b'x'; size];
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < SEND_TIME {
        match client.send(&block) {
            Ok(len) => sent += len,
            Err(_) => break,
        }
    }
    if client.r#type().is_ok_and(|kind| kind == Type::DGRAM) {
        // A wait that fails only makes the next datagram earlier.
        let _ = until(|| is_over.load(Ordering::Relaxed) || client.send(&[]).is_err());
    }
    sent
}

/// Returns the median time of a message there and back over an echo.
fn trip(scene: &Scene, kind: Type) -> Result<Option<Duration>> {
    let message = scene.message.as_bytes();
    let (mut times, _) = serve(scene, kind, Wiring::Echo, |client, _| {
        ping(&client, message)
    })?;
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
