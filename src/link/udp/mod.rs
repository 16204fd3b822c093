//! UDP socket as a link: one socket for every peer, and each datagram brings its addresses.
//! A policy decides which peer an answer goes to, and an ICMP error is about one peer: it does not end the socket.
//!
//! The calls: recvmmsg(2) or recvmsg(2) in `receiver.rs`, sendmmsg(2) or sendmsg(2) in `message.rs` for `delivery.rs`, recvmsg(2) for
//! ICMP errors in `error_queue.rs`, setsockopt(2) and connect(2), with `--connected`, in `handle.rs`. There is no accept and no
//! shutdown.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::flow::{ConnId, Direction, Flow, Identity, Transport};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::sys::sockopt::{unread, unsent};
use crate::tap::{Call, Event, Rejection, SocketState, Taps, Transfer, phrases};

mod addresses;
mod delivery;
mod ends;
mod error_queue;
mod handle;
mod mappings;
mod message;
mod peers;
mod receiver;
mod sender;
mod settings;
mod spares;
#[cfg(test)]
mod tests;

pub use addresses::longest_payload;
pub use mappings::{MappingLimits, Mappings, Open};
pub use peers::{Numbering, Numbers};
pub use settings::{Accepts, Audience, Owner, Refusal, ReplyTimer, Settings};

use addresses::{Pair, comparable, means, reachable};
use ends::{EOF_SEND_TIMEOUT, EofDatagram, was_or_were};
pub(super) use ends::{Limits, Over, sent_after_end};
use error_queue::ErrorQueue;
use handle::Handle;
use message::RecvMeta;
use peers::Peers;
use receiver::Receiver;
use sender::Sender;
use spares::Spares;

/// Number of errors of one read that may have no entry in the error queue: leftovers of errors that were read before.
const MAX_STRAY_ERRORS: usize = 16;

/// UDP socket, and the peers it talks with.
pub struct Socket {
    handle: Handle,
    settings: Settings,
    peers: Peers,
    receiver: Receiver,
    sender: Sender,
    errors: ErrorQueue,
    limits: Limits,
    eof: EofDatagram,
    spares: Spares,
}

impl Socket {
    /// Takes over a socket that is bound, or that the first datagram will bind.
    pub fn new(socket: socket2::Socket, mut settings: Settings) -> io::Result<Self> {
        if let Accepts::Only(target) = &mut settings.accepts {
            *target = comparable(reachable(*target));
        }
        let mut peer = None;
        if let Audience::Target(target) = &mut settings.audience {
            *target = reachable(*target);
            peer = Some(*target).filter(|_| settings.connected);
        }
        let handle = Handle::new(socket, peer)?;
        Ok(Self {
            peers: Peers::new(
                settings.max_peers.unwrap_or(1024),
                settings.numbering.clone(),
            ),
            receiver: Receiver::new(&settings),
            sender: Sender::new(&handle, &settings),
            errors: ErrorQueue::default(),
            limits: Limits::new(&settings),
            eof: EofDatagram::default(),
            spares: Spares::default(),
            handle,
            settings,
        })
    }

    /// Returns both addresses of the datagrams to the target. Our port is 0 until the socket is bound.
    pub fn flow(&mut self) -> Option<Flow> {
        self.sender.update_routes(&self.handle, &self.peers);
        self.sender.first_flow().map(Pair::flow)
    }

    /// Returns the row of the socket itself in the table of sockets.
    fn state(&self) -> SocketState {
        let (total, receiver) = (&self.peers.total, &self.receiver);
        let is_connected = self.handle.remote.is_some();
        SocketState {
            conn: self.peers.conn(),
            state: if is_connected { "connected" } else { "bound" },
            received: total.received,
            sent: total.sent,
            ignored: receiver.ignored,
            dropped: receiver.drops.total,
            dropped_at_least: receiver.drops.may_be_more,
            undelivered: self.undelivered(),
            unread: unread(&self.handle.socket),
            unsent: unsent(&self.handle.socket),
            ..SocketState::new(self.identity(), self.handle.opened)
        }
    }

    /// Reads what is in the receive buffer; false if nothing is.
    fn read(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<bool> {
        let mut strays = 0;
        loop {
            match self.receiver.read(&self.handle, batch) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(_) if self.drain_errors(None, taps) => {}
                Err(error) if strays == MAX_STRAY_ERRORS => return Err(error.into()),
                Err(_) => strays += 1,
            }
        }
    }

    /// Makes a run of what is in one slot, as far as it is to be passed on.
    fn pass_on(&mut self, slot: usize, meta: &RecvMeta, batch: &mut Batch, taps: &mut Taps) {
        let pair = Pair::new(self.handle.local_of(meta.local), meta.sender);
        let flow = &pair.flow();
        let kept = meta.len.min(self.receiver.max_datagram);
        let stride = meta.stride.unwrap_or(kept).max(1);
        let shape = Shape::Datagrams(stride);
        let reason = if !self.settings.access.admits(pair.remote.ip()) {
            Some(Rejection::Denied)
        } else if self.settings.audience == Audience::Named && self.handle.is_own(pair) {
            // Its answer would be the next datagram.
            Some(Rejection::OwnAddress)
        } else {
            None
        };
        if let Some(reason) = reason {
            self.receiver.ignored += shape.count(kept) as u64;
            let datagrams = Some(shape.count(kept));
            return taps.emit(&Event::Rejected {
                flow,
                datagrams,
                reason,
            });
        }
        if !self.accepts(pair.remote) {
            let shape = Shape::Datagrams(meta.stride.unwrap_or(meta.len).max(1));
            for bytes in shape.sizes(meta.len) {
                self.receiver.ignored += 1;
                taps.emit(&Event::Ignored { flow, bytes });
            }
            return;
        }
        let count = self.limits.admit(kept, stride);
        if count == 0 {
            return;
        }
        if kept < meta.len {
            self.receiver.truncated += 1;
            let (bytes, size) = (kept, meta.len);
            taps.emit(&Event::Truncated { flow, bytes, size });
        }
        let run = Run {
            start: slot * self.receiver.slot_size(),
            len: kept.min(count * stride),
            shape,
            flow: Some(pair.flow()),
        };
        self.errors.unreachable = None;
        self.spares.settle();
        let bytes = batch.bytes(&run);
        self.peers
            .note(Direction::Incoming, pair, shape, bytes, taps);
        if run.len == 0 && self.settings.eof_datagram {
            self.limits.over = Some(Over::PeerEof);
        } else {
            self.limits.take(run.len, run.count());
            batch.push(run);
        }
    }

    fn accepts(&self, remote: SocketAddr) -> bool {
        match self.settings.accepts {
            Accepts::Anyone => true,
            Accepts::Only(target) => means(target, remote),
            Accepts::First => (self.peers.first()).is_none_or(|first| first.remote == remote),
        }
    }

    /// Does what is due while nothing is in the receive buffer.
    fn note_silence(&mut self, taps: &mut Taps) {
        self.drain_errors(None, taps);
        self.receiver.drops.check(&self.handle, taps);
        if self.is_peer_gone() {
            self.limits.over = Some(Over::Enough);
        }
        self.limits.check_silence(true);
        if self.limits.over.is_none() && self.eof.due.is_some_and(|due| due <= Instant::now()) {
            // It was sent before: an error ends nothing.
            let _ = self.send_eof_datagram(taps);
        }
    }

    /// Returns true if nothing more can be expected: all is sent, and the latest answer was an error.
    fn is_peer_gone(&self) -> bool {
        let (sent, unreachable) = (self.peers.total.sent.chunks, &self.errors.unreachable);
        let is_refused = matches!(unreachable, Some((_, before)) if *before == sent);
        let ends = is_refused && self.settings.refusal == Refusal::Ends;
        self.errors.has_peer_gone || ends && self.limits.awaits_replies()
    }

    /// Sends the empty datagram that stands for the end to the whole audience.
    fn send_eof_datagram(&mut self, taps: &mut Taps) -> io::Result<()> {
        let mut batch = Batch::default();
        batch.push_datagram(0, 0);
        let before = self.peers.total.sent.chunks;
        let result = self.send_runs(&batch, &mut Cursor::default(), 1, taps);
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if !self.eof.is_sent() && result.as_ref().is_err_and(would_block) {
            if !self.eof.note_delay() {
                return result;
            }
            let (socket, time) = (self.identity(), EOF_SEND_TIMEOUT.as_secs());
            let what = "the datagram that stands for the end could not be sent within";
            return Err(Failure::new(Exit::Failed, format!("{socket}: {what} {time} s")).into());
        }
        // A socket that serves many peers does not wait for one of them.
        let is_answer = self.limits.over == Some(Over::PeerEof);
        let is_repeated = self.settings.refusal == Refusal::Ends;
        let datagrams = self.peers.total.sent.chunks - before;
        self.eof.note_sent(datagrams, is_answer, is_repeated);
        result
    }

    /// Reports a transfer with an agreed end, after answering the end of the peer: closing a UDP socket sends nothing.
    fn end_transfer(&mut self, taps: &mut Taps) {
        let has_come = self.limits.over == Some(Over::PeerEof);
        if has_come && !self.eof.is_sent() {
            let _ = self.send_eof_datagram(taps);
        }
        let mut peers = self.peers.flows();
        let only = match (peers.next(), peers.next()) {
            (None, _) => self.sender.first_flow(),
            (only, None) => only,
            _ => None,
        };
        let socket = &only.map_or_else(|| self.identity(), |only| Identity::Pair(only.flow()));
        let received = Transfer {
            socket,
            direction: Direction::Incoming,
            count: self.peers.total.received,
            complete: has_come,
            lost: self.receiver.lost(),
            at_least: self.receiver.drops.may_be_more,
        };
        let sent = Transfer {
            socket,
            direction: Direction::Outgoing,
            count: self.peers.total.sent,
            complete: self.eof.is_sent(),
            lost: self.undelivered(),
            at_least: true,
        };
        self.eof.report([received, sent], taps);
    }

    /// Returns how the socket ended, once it is closed.
    fn verdict(&mut self) -> Result<(), Failure> {
        let unreachable = self.errors.unreachable.take();
        // Where no reply is waited for, it is by chance that a refusal comes in time.
        let awaits = self.settings.reply_timeout != Some(Duration::ZERO);
        if let (Some((failure, _)), Refusal::Ends) = (unreachable, self.settings.refusal)
            && (awaits || self.limits.missing().is_some())
        {
            return Err(failure);
        }
        let (here, there) = (self.receiver.lost(), self.undelivered());
        let what = match (here, there) {
            (_, 0) => "dropped or truncated (--fail-on-loss)",
            (0, _) => "not delivered (--fail-on-loss)",
            _ => "lost here or not delivered (--fail-on-loss)",
        };
        let (socket, lost) = (self.identity(), here + there);
        if !self.settings.fail_on_loss || lost == 0 {
            return self.limits.check_complete(&socket);
        }
        let (datagrams, were) = (phrases::datagrams(lost), was_or_were(lost));
        let text = format!("{socket}: {datagrams} {were} {what}");
        Err(Failure::new(Exit::DataLost, text))
    }
}

impl End for Socket {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if self.limits.over.is_none() && self.read(batch, taps)? {
            let metas = std::mem::take(&mut self.receiver.metas);
            for (slot, meta) in metas.iter().enumerate() {
                if let (Some(meta), None) = (meta, self.limits.over) {
                    self.pass_on(slot, meta, batch, taps);
                }
            }
            self.receiver.metas = metas;
            self.receiver.note_drops(&self.handle, taps);
            if batch.is_empty() {
                self.limits.check_silence(false);
            }
        } else if self.limits.over.is_none() {
            self.note_silence(taps);
        }
        Ok(self.limits.arrival(batch))
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        if !self.eof.is_in_input {
            let runs = batch.runs();
            let is_end = |run: &Run| run.len == 0 && self.settings.eof_datagram;
            let until = runs.iter().position(is_end).unwrap_or(runs.len());
            self.send_runs(batch, at, until, taps)?;
            if !batch.is_taken(*at) {
                // It is the end: an empty datagram, which goes when the input is at its end as well.
                self.eof.is_in_input = true;
                at.run += 1;
            }
        }
        if batch.is_taken(*at) {
            return Ok(Next::Continue);
        }
        Err(sent_after_end())
    }

    fn finish(&mut self, _: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        if self.settings.eof_datagram && !self.limits.is_finished {
            self.send_eof_datagram(taps)?;
        }
        self.drain_errors(None, taps);
        self.limits.note_sent(true);
        let waits = self.settings.reply_timeout != Some(Duration::ZERO);
        if matches!(self.settings.audience, Audience::Target(_)) && waits {
            taps.emit(&Event::Called(Call::AwaitReplies(self.identity())));
        }
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let fd = self.handle.socket.as_fd();
        let is_over = self.limits.over.is_some() || self.is_peer_gone();
        let has_peers = self.peers.last().is_some();
        let is_addressed = self.settings.audience.is_reachable(has_peers);
        let recv = if is_over {
            Wait::Now
        } else {
            Wait::readable(fd)
        };
        let recv = recv.or_until(self.limits.silent_until());
        let send = self.sender.ready_at();
        let send = send.map_or(Wait::writable(fd), Wait::time);
        let send = if is_addressed { send } else { Wait::Never };
        Readiness {
            recv: recv.or_until(self.eof.due),
            send: send.or_until(self.eof.deadline),
            watch: false,
        }
    }
}

impl Link for Socket {
    /// Returns the addresses that it has in every report: with one target, its own is the one that it sends from.
    fn identity(&self) -> Identity {
        match (&self.settings.audience, self.sender.first_flow()) {
            (Audience::Target(_), Some(pair)) if self.handle.remote.is_none() => {
                let mut own = pair.local;
                own.set_port(self.handle.bound.port());
                Identity::Socket(Transport::Udp, own.into())
            }
            _ => self.handle.identity(),
        }
    }

    fn conn(&self) -> Option<ConnId> {
        self.peers.conn()
    }

    fn states(&self) -> Vec<SocketState> {
        let own = iter::once(self.state());
        own.chain(self.peers.states()).collect()
    }

    fn close(&mut self, _: Close, taps: &mut Taps) -> Result<(), Failure> {
        self.drain_errors(None, taps);
        self.receiver.drops.check(&self.handle, taps);
        if self.settings.eof_datagram {
            self.end_transfer(taps);
        }
        let peers: Vec<_> = self.peers.states().collect();
        if peers.len() > 1 {
            taps.emit(&Event::Peers(&peers));
        }
        taps.emit(&Event::Closed(&self.state()));
        self.verdict()
    }
}
