//! Queues and buffers of the kernel: clients before accept(2), and bytes that a program has sent and the peer has not read.
//! The kernel keeps data that a program has not read yet, and its room is limited.

use std::io;
use std::iter;
use std::mem::MaybeUninit;
use std::time::Instant;

use anyhow::Result;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{SILENCE, Scene, until};
use crate::cli::Experiment;
use crate::sys::sockopt::{dropped, unread, unsent};
use crate::sys::tcp_info::{accept_queue, tcp_info};

/// Datagrams for a small receive buffer: far more than it holds.
const UNREAD_DATAGRAMS: usize = 100;

/// Size of that buffer, in bytes. The kernel doubles it (socket(7)).
const SMALL_BUFFER: usize = 4096;

/// Lets clients connect to a server that does not call accept(2) yet, until its queue is full.
pub(super) fn queue(scene: &Scene) -> Result<Step> {
    let mut step = Step::new(Experiment::Queue, "Clients before accept()");
    let (listener, name) = scene.bound(Type::STREAM)?;
    let start = Instant::now();
    listener.listen(1)?;
    let time = start.elapsed().as_micros();
    let text = format!("listen(1) returns after {time} µs: it does not wait for a client");
    step.tcp(listener.is_listener()?, text);
    let first = scene.client(Type::STREAM, name)?;
    let text = "connect() succeeds before accept() is called: ESTABLISHED";
    step.tcp(state(&first) == "ESTABLISHED", text);
    let len = first.send(scene.message.as_bytes())?;
    let text = format!("send() succeeds: the kernel acknowledges the {len} bytes");
    step.tcp(until(|| unsent(&first) == Some(0))?, text);

    let _second = scene.client(Type::STREAM, name)?;
    let is_full = until(|| accept_queue(&listener).is_some_and(|queue| queue.waiting == 2))?;
    let third = scene.socket(Type::STREAM)?;
    // It bounds the wait in connect(2) as well (socket(7)).
    third.set_write_timeout(Some(SILENCE))?;
    let is_unanswered = third.connect(&name.into()).is_err();
    let is_waiting = is_full && is_unanswered && state(&third) == "SYN-SENT";
    let text = "2 wait, and the queue is full: the next client gets no answer: SYN-SENT";
    step.tcp(is_waiting, text);
    let (accepted, _) = listener.accept()?;
    let text = format!("accept() takes the first: its {len} bytes are there");
    step.tcp(unread(&accepted) == Some(len), text);
    let is_connected = until(|| state(&third) == "ESTABLISHED")?;
    let is_repeated = tcp_info(&third).is_some_and(|info| info.retransmits > 0);
    let text = "now there is room: the next client sends its SYN again, and is connected";
    step.tcp(is_connected && is_repeated, text);
    let (socket, name) = scene.bound(Type::DGRAM)?;
    let len = scene
        .client(Type::DGRAM, name)?
        .send(scene.message.as_bytes())?;
    let text = "a datagram waits before recvfrom() is called; no peer is connected";
    step.udp(until(|| unread(&socket) == Some(len))?, text);
    Ok(step)
}

/// Sends to a peer that does not read, in both directions, until send(2) would wait.
pub(super) fn buffers(scene: &Scene) -> Result<Step> {
    let title = "A peer that does not read";
    let mut step = Step::new(Experiment::Buffers, title);
    let (listener, name) = scene.listener(1)?;
    let (client, server) = scene.pair(&listener, name)?;
    let len = client.send(scene.message.as_bytes())?;
    let is_unread = until(|| unread(&server) == Some(len))?;
    let text = format!("send() returns: the kernel has the {len} bytes, the peer has read none");
    step.tcp(is_unread, text);
    let sent = len + fill(&client)?;
    let text = format!("send() takes {sent} bytes, then it waits");
    step.tcp(sent > len, text);
    let is_settled = settles(&client, &server, sent)?;
    let (ours, theirs) = (unsent(&client).unwrap_or(0), unread(&server).unwrap_or(0));
    let (size, other) = (client.send_buffer_size()?, server.recv_buffer_size()?);
    let text = format!(
        "{ours} are in our send buffer, of {size} bytes, and {theirs} in the peer's receive buffer, of {other}"
    );
    step.tcp(is_settled && ours > 0 && theirs > 0, text);
    let back = fill(&server)?;
    let text = format!("the other direction has two buffers as well: {back} bytes");
    step.tcp(back > 0 && settles(&server, &client, back)?, text);
    let goes_on = until(|| {
        drain(&server);
        client.send(b"x").is_ok()
    })?;
    step.tcp(goes_on, "the peer reads: send() goes on");
    full_receive_buffer(scene, &mut step)?;
    Ok(step)
}

fn full_receive_buffer(scene: &Scene, step: &mut Step) -> Result<()> {
    let (socket, name) = scene.bound(Type::DGRAM)?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    let client = scene.client(Type::DGRAM, name)?;
    let mut sends = (0..UNREAD_DATAGRAMS).map(|_| client.send(scene.message.as_bytes()));
    let are_sent = sends.all(|sent| sent.is_ok());
    let text = format!("send() takes {UNREAD_DATAGRAMS} datagrams, and does not wait for the peer");
    step.udp(are_sent, text);
    let lost = || dropped(&socket).unwrap_or(0) as usize;
    let is_full = until(|| lost() > 0)?;
    let mut received = 0;
    let are_counted = until(|| {
        received += drain(&socket);
        received + lost() == UNREAD_DATAGRAMS
    })?;
    let (size, lost) = (socket.recv_buffer_size()?, lost());
    let text = format!(
        "{received} fill its receive buffer, of {size} bytes: the kernel drops the other {lost}"
    );
    step.udp(is_full && are_counted && received > 0, text);
    Ok(())
}

fn state(socket: &Socket) -> &'static str {
    tcp_info(socket).map_or("", |info| info.state)
}

/// Sends until there has been no room for a while; returns the number of bytes.
fn fill(socket: &Socket) -> io::Result<usize> {
    socket.set_write_timeout(Some(SILENCE))?;
    let block = vec![b'x'; 64 << 10];
    Ok(iter::from_fn(|| socket.send(&block).ok()).sum())
}

/// Returns true once each byte is in one of two buffers: in the receive buffer when it is acknowledged, in the send buffer before.
fn settles(from: &Socket, to: &Socket, sent: usize) -> io::Result<bool> {
    until(|| {
        Some(sent)
            == unsent(from)
                .zip(unread(to))
                .map(|(ours, theirs)| ours + theirs)
    })
}

/// Reads all that has arrived; returns the number of reads.
fn drain(socket: &Socket) -> usize {
    let mut space = vec![MaybeUninit::uninit(); 64 << 10];
    let mut read = || socket.recv_with_flags(&mut space, libc::MSG_DONTWAIT).ok();
    let reads = iter::from_fn(&mut read);
    reads.take_while(|len| *len > 0).count()
}
