//! A UDP socket as a link: one socket for every peer, and each datagram brings its addresses.
//! Nothing here is a connection: whom answers go to is a policy, and an ICMP error is news of one peer, not the end of the socket.

use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::batch::{Batch, Cursor};
use crate::exit::Exit;
use crate::pump::end::{Arrival, End, Link};
use crate::sys::udp::dropped;
use crate::tap::{Count, Event, SocketState, Taps};
use crate::tuple::{FourTuple, Identity, Transport, unmapped};

mod control;
mod errors;
mod icmp;
mod options;
mod parcel;
mod peers;
mod receive;
mod route;
mod send;
#[cfg(test)]
mod tests;
mod unsent;

use errors::Verdict;
use peers::Peers;
use receive::Inbox;
use send::Outbox;

/// How a [`Socket`] behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom datagrams from the local end go to.
    pub audience: Audience,
    /// Whose datagrams are passed on.
    pub accepts: Accepts,
    /// Connect the socket to the target: the kernel filters, and the socket has a 4-tuple.
    pub connected: bool,
    /// What an unreachable target means.
    pub refusal: Refusal,
    /// How long to listen on once the local end has finished.
    pub after_finish: Patience,
    /// End when this many datagrams were passed on.
    pub wanted: Option<u64>,
    /// End before a datagram that would make it more than this many bytes passed on. Datagrams are never cut.
    pub max_bytes: Option<u64>,
    /// An empty datagram ends the data: one is sent at the end, and one received is the end.
    pub eof_datagram: bool,
    /// Longer datagrams are truncated, in bytes.
    pub max_datagram: usize,
    /// How many peers are remembered at the most; the one that is idle longest is forgotten.
    pub max_peers: usize,
    /// Many datagrams a system call (`UDP_GRO`, `UDP_SEGMENT`, `recvmmsg`, `sendmmsg`); otherwise one.
    pub fast: bool,
    /// Lost datagrams make the status [`Exit::DataLost`].
    pub fail_on_loss: bool,
}

impl Default for Settings {
    /// A bound socket that answers whoever spoke last.
    fn default() -> Self {
        Self {
            audience: Audience::Last,
            accepts: Accepts::Anyone,
            connected: false,
            refusal: Refusal::Reported,
            after_finish: Patience::Forever,
            wanted: None,
            max_bytes: None,
            eof_datagram: false,
            max_datagram: 65_535,
            max_peers: 1024,
            fast: true,
            fail_on_loss: false,
        }
    }
}

impl Settings {
    /// A socket that speaks first, to `target`, and listens to nobody else.
    #[must_use]
    pub fn towards(target: SocketAddr) -> Self {
        Self {
            audience: Audience::Target(target),
            accepts: Accepts::Only(target),
            refusal: Refusal::Ends,
            after_finish: Patience::Quiet(Duration::from_secs(1)),
            ..Self::default()
        }
    }
}

/// Whom datagrams go to that come from the local end without addresses. Those with addresses (answers of an echo or of a
/// child) go to the peer they are for, whatever the audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// This address.
    Target(SocketAddr),
    /// The peer that spoke last.
    Last,
    /// The peer that spoke first.
    First,
    /// Every peer that is remembered.
    All,
    /// Nobody.
    Nobody,
}

/// Whose datagrams are passed on. Others are counted and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Everybody's.
    Anyone,
    /// Those of this address.
    Only(SocketAddr),
    /// Those of whoever spoke first.
    First,
}

/// What it means that the target is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Once nothing more is to be sent, it is the end.
    Ends,
    /// It is reported, and ends nothing.
    Reported,
}

/// How long to wait for answers once nothing more is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Take what has arrived, and leave.
    No,
    /// Until it was quiet for so long.
    Quiet(Duration),
    /// Nothing sent says nothing about what may come.
    Forever,
}

/// A UDP socket and those it talks with.
pub struct Socket {
    socket: socket2::Socket,
    settings: Settings,
    name: Name,
    peers: Peers,
    inbox: Inbox,
    outbox: Outbox,
    totals: Totals,
    verdict: Option<Verdict>,
    finished: bool,
    opened: Instant,
}

/// What went through the socket, and what did not.
#[derive(Debug, Default)]
struct Totals {
    received: Count,
    sent: Count,
    ignored: u64,
    dropped: u64,
    truncated: u64,
    /// The kernel's count of drops when it was last looked at.
    last_drops: u32,
}

/// The socket's own address, and what follows from it.
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
            socket.connect(&in_family(target, Name::of(&socket)?.bound).into())?;
        }
        let name = Name::of(&socket)?;
        options::prepare(&socket, name)?;
        let inbox = Inbox::new(&socket, &settings);
        Ok(Self {
            outbox: Outbox::new(&settings),
            peers: Peers::new(settings.max_peers),
            inbox,
            name,
            socket,
            settings,
            totals: Totals::default(),
            verdict: None,
            finished: false,
            opened: Instant::now(),
        })
    }

    /// Datagrams that are known to be lost on their way in: dropped by the kernel, or truncated.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state().dropped + self.totals.truncated
    }

    /// Reports drops that were not reported yet. The kernel's count may be that of an older moment, and starts again after 2^32.
    fn note_drops(&mut self, count: u32, taps: &mut Taps) {
        let new = count.wrapping_sub(self.totals.last_drops);
        if new > 0 && new < u32::MAX / 2 {
            self.totals.last_drops = count;
            self.totals.dropped += u64::from(new);
            let socket = self.identity();
            let count = new.into();
            taps.emit(&Event::Dropped { socket, count });
        }
    }
}

impl End for Socket {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.receive(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        self.dispatch(batch, at, taps)
    }

    fn finish(&mut self, taps: &mut Taps) -> io::Result<()> {
        if self.settings.eof_datagram && !self.finished {
            self.say_goodbye(taps)?;
        }
        self.drain_errors(taps);
        self.finished = true;
        self.inbox.restart_silence();
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn is_addressed(&self) -> bool {
        match self.settings.audience {
            Audience::Target(_) => true,
            Audience::Last | Audience::First | Audience::All => !self.peers.is_empty(),
            Audience::Nobody => false,
        }
    }
}

impl Link for Socket {
    fn identity(&self) -> Identity {
        let local = unmapped(self.name.bound);
        match self.name.remote {
            Some(remote) => Identity::Pair(FourTuple::new(Transport::Udp, local, remote)),
            None => Identity::Socket(Transport::Udp, local),
        }
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
            dropped: self.totals.dropped,
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn states(&self) -> Vec<SocketState> {
        iter::once(self.state())
            .chain(self.peers.states())
            .collect()
    }

    fn close(&mut self, taps: &mut Taps) -> Exit {
        self.drain_errors(taps);
        if let Ok(total) = dropped(&self.socket) {
            self.note_drops(total, taps);
        }
        taps.emit(&Event::Closed(&self.state()));
        match (self.verdict, self.settings.refusal) {
            (Some(verdict), Refusal::Ends) => verdict.exit,
            _ if self.settings.fail_on_loss && self.lost() > 0 => Exit::DataLost,
            _ if self.inbox.is_short() => Exit::TimedOut,
            _ => Exit::Done,
        }
    }
}

/// An address as answers come from it: what is sent to the unspecified address reaches this machine (ip(7)).
fn reachable(mut target: SocketAddr) -> SocketAddr {
    if target.ip().is_unspecified() {
        target.set_ip(match target {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    target
}

/// The one form of an address that compares equal for one peer: no flow label, and a scope only where it tells two apart.
fn comparable(address: SocketAddr) -> SocketAddr {
    let mut address = unmapped(address);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
        if !v6.ip().is_unicast_link_local() && !v6.ip().is_multicast() {
            v6.set_scope_id(0);
        }
    }
    address
}

/// An address in the form that a socket bound to `bound` takes: an IPv6 socket reaches IPv4 by mapped addresses (RFC 3493, 3.7).
fn in_family(address: SocketAddr, bound: SocketAddr) -> SocketAddr {
    match (address, bound) {
        (SocketAddr::V4(v4), SocketAddr::V6(_)) => {
            SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
        }
        _ => address,
    }
}
