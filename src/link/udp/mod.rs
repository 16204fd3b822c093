//! A UDP socket as a link: one socket for every peer, and each datagram brings its addresses.
//! Nothing here is a connection: whom answers go to is a policy, and an ICMP error is news of one peer, not the end of the socket.
//!
//! The calls: recvmmsg(2) or recvmsg(2) in `inbox.rs`, sendmmsg(2) or sendmsg(2) in `parcel.rs`, recvmsg(2) for ICMP errors in
//! `error_queue.rs`, setsockopt(2) in `options.rs`. There is no accept and no shutdown; connect(2), with `--connected`, is below.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Cursor, Run};
use crate::exit::{Exit, Failure};
use crate::flow::{Flow, Identity, Transport, unmapped};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::sys::sockopt::{dropped, unread, unsent};
use crate::tap::{Call, Count, Event, KernelDrop, SocketState, Taps};

mod addresses;
mod control;
mod drops;
mod eof_datagram;
mod error_queue;
mod icmp;
mod inbox;
mod options;
mod parcel;
mod peers;
mod quota;
mod receive;
mod route;
mod send;
mod send_errors;
mod settings;
#[cfg(test)]
mod tests;

pub use addresses::longest_payload;
pub use settings::{Accepts, Audience, Owner, Patience, Refusal, Settings, Speech};

use addresses::{Pair, comparable, in_family, reachable};
use drops::Drops;
use eof_datagram::EofDatagram;
use error_queue::Unreachable;
use inbox::Inbox;
use peers::Peers;
use receive::Over;
use route::explain_denial;
use send::Outbox;

/// A UDP socket, and the peers it talks with.
pub struct Socket {
    inner: socket2::Socket,
    settings: Settings,
    name: Name,
    peers: Peers,
    inbox: Inbox,
    outbox: Outbox,
    totals: Totals,
    unreachable: Option<Unreachable>,
    eof: EofDatagram,
    /// Whether the local end has nothing more to send.
    finished: bool,
    /// Why nothing more is received.
    over: Option<Over>,
    /// When something was last received, or the local end finished: silence is counted from here.
    heard: Instant,
    opened: Instant,
}

/// What went through the socket, and what did not.
#[derive(Debug, Default)]
struct Totals {
    received: Count,
    sent: Count,
    ignored: u64,
    truncated: u64,
    drops: Drops,
}

/// What names the socket: its own address, and that of its one peer if it is connected.
#[derive(Clone, Copy, Debug)]
struct Name {
    /// As `getsockname` gives it.
    bound: SocketAddr,
    /// Its one peer, where it is connected.
    remote: Option<SocketAddr>,
}

impl Name {
    fn of(socket: &socket2::Socket) -> io::Result<Self> {
        let bound = socket.local_addr()?.as_socket();
        let bound = bound.ok_or_else(|| io::Error::other("not an internet socket"))?;
        let remote = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
        Ok(Self { bound, remote })
    }

    /// Whether each datagram has to say which of our addresses it is for.
    fn is_wildcard(self) -> bool {
        unmapped(self.bound).ip().is_unspecified()
    }

    fn with_ip(self, local: Option<SocketAddr>) -> SocketAddr {
        let mut address = local.unwrap_or(self.bound);
        address.set_port(self.bound.port());
        address
    }
}

impl Socket {
    /// Takes over a bound socket, or one that the first datagram will bind.
    ///
    /// Sets `O_NONBLOCK` and what makes the kernel tell the addresses, drops and errors of each datagram (ip(7), ipv6(7), udp(7)).
    pub fn new(socket: socket2::Socket, mut settings: Settings) -> io::Result<Self> {
        if let Audience::Target(target) = &mut settings.audience {
            *target = reachable(*target);
        }
        if let Accepts::Only(target) = &mut settings.accepts {
            *target = comparable(reachable(*target));
        }
        if let (true, Audience::Target(target)) = (settings.connected, settings.audience) {
            let connected = socket.connect(&in_family(target, Name::of(&socket)?.bound).into());
            connected.map_err(|error| {
                io::Error::new(error.kind(), explain_denial(&socket, target, &error))
            })?;
        }
        let name = Name::of(&socket)?;
        options::prepare(&socket, name)?;
        let inbox = Inbox::new(&settings);
        Ok(Self {
            outbox: Outbox::new(&socket, &settings),
            peers: Peers::new(settings.max_peers),
            over: inbox.quota.is_used_up().then_some(Over::Enough),
            inbox,
            name,
            inner: socket,
            settings,
            totals: Totals::default(),
            unreachable: None,
            eof: EofDatagram::default(),
            finished: false,
            heard: Instant::now(),
            opened: Instant::now(),
        })
    }

    /// Both addresses of the datagrams to the target, if there is one. Our port is 0 until the socket is bound.
    pub fn flow(&mut self) -> Option<Flow> {
        match self.settings.audience {
            Audience::Target(target) => Some(self.route_to_target(target).flow.flow()),
            _ => None,
        }
    }

    /// Datagrams that are known to be lost on their way in: dropped by the kernel, or truncated.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.totals.drops.total() + self.totals.truncated
    }

    /// Whether what was sent may have been all: from now on silence counts.
    fn has_spoken(&self) -> bool {
        self.finished || self.settings.speech == Speech::InTurn
    }

    fn state(&self) -> SocketState {
        SocketState {
            state: match self.name.remote {
                Some(_) => "connected",
                None => "bound",
            },
            received: self.totals.received,
            sent: self.totals.sent,
            ignored: self.totals.ignored,
            dropped: self.totals.drops.total(),
            dropped_at_least: self.totals.drops.may_be_more(),
            unread: unread(&self.inner),
            unsent: unsent(&self.inner),
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    /// Asks the kernel how many datagrams it dropped, and reports those not reported yet.
    fn check_drops(&mut self, taps: &mut Taps) {
        if let Ok(count) = dropped(&self.inner) {
            self.totals.drops.note(count);
        }
        let news = self.totals.drops.take_untold();
        self.report_drops(news, taps);
    }

    /// Reports what went to and from each peer, where there was more than one.
    fn report_peers(&self, taps: &mut Taps) {
        let states: Vec<SocketState> = self.peers.states().collect();
        if states.len() > 1 {
            taps.emit(&Event::Peers(&states));
        }
    }

    fn report_drops(&self, news: Option<u64>, taps: &mut Taps) {
        if let Some(count) = news {
            taps.emit(&Event::Dropped(KernelDrop {
                socket: &self.identity(),
                datagrams: count,
                at_least: self.totals.drops.may_be_more(),
            }));
        }
    }
}

impl End for Socket {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.receive(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        if !self.eof.is_in_input {
            let runs = batch.runs();
            let is_end = |run: &Run| run.len == 0 && self.settings.eof_datagram;
            let until = runs.iter().position(is_end).unwrap_or(runs.len());
            self.send_batch(batch, at, until, taps)?;
            if !batch.is_taken(*at) {
                // It is the end: an empty datagram, which goes when the input is at its end as well.
                self.eof.is_in_input = true;
                at.run += 1;
            }
        }
        if batch.is_taken(*at) {
            return Ok(Next::Continue);
        }
        let text = "cannot send anything after an empty datagram: that is the end (--eof-datagram)";
        Err(Failure::new(Exit::Failed, text).into())
    }

    fn finish(&mut self, _: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        if self.settings.eof_datagram && !self.finished {
            self.send_eof_datagram(taps)?;
        }
        self.drain_errors(taps);
        self.finished = true;
        let waits = self.settings.after_finish != Patience::Quiet(Duration::ZERO);
        if matches!(self.settings.audience, Audience::Target(_)) && waits {
            taps.emit(&Event::Called(Call::AwaitReplies(self.identity())));
        }
        self.heard = Instant::now();
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let fd = self.inner.as_fd();
        let is_addressed = match self.settings.audience {
            Audience::Target(_) | Audience::Named => true,
            Audience::Last | Audience::First | Audience::All => !self.peers.is_empty(),
            Audience::Nobody => false,
        };
        Readiness {
            recv: if self.over.is_some() || self.is_refused() {
                Wait::Now
            } else {
                Wait::readable(fd).or_until(self.next_time())
            },
            send: if is_addressed {
                Wait::writable(fd)
            } else {
                Wait::Never
            },
            watch: false,
        }
    }
}

impl Link for Socket {
    fn identity(&self) -> Identity {
        let local = unmapped(self.name.bound);
        match self.name.remote {
            Some(remote) => Identity::Pair(Pair::new(local, remote).flow()),
            None => Identity::Socket(Transport::Udp, local.into()),
        }
    }

    fn states(&self) -> Vec<SocketState> {
        let own = iter::once(self.state());
        own.chain(self.peers.states()).collect()
    }

    fn close(&mut self, _: Close, taps: &mut Taps) -> Result<(), Failure> {
        self.drain_errors(taps);
        self.check_drops(taps);
        if self.settings.eof_datagram {
            self.answer_eof_datagram(taps);
            self.report_transfer(taps);
        }
        self.report_peers(taps);
        taps.emit(&Event::Closed(&self.state()));
        let name = self.identity();
        if let (Some(last), Refusal::Ends) = (&self.unreachable, self.settings.refusal) {
            return Err(Failure::new(last.exit, last.text.clone()));
        }
        if self.settings.fail_on_loss && self.lost() > 0 {
            let lost = self.lost();
            let what = match lost {
                1 => "1 datagram was".to_owned(),
                many => format!("{many} datagrams were"),
            };
            let text = format!("{name}: {what} dropped or truncated (--fail-on-loss)");
            return Err(Failure::new(Exit::DataLost, text));
        }
        if let Some(missing) = self.inbox.quota.missing() {
            let were = if missing == 1 {
                "1 datagram that was"
            } else {
                &format!("{missing} datagrams that were")
            };
            let text = format!("{name}: {were} asked for did not come");
            return Err(Failure::new(Exit::TimedOut, text));
        }
        Ok(())
    }
}
