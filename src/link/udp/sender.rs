//! Sender: from the runs of a batch to the peers that they are for, as many datagrams in a system call as there are.
//! A datagram is done when its whole audience has got it; what the kernel does not take now stays where it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::addresses::{Pair, comparable, longest_payload, means};
use super::error_queue::Flights;
use super::handle::Handle;
use super::message::Transmit;
use super::peers::{Numbering, Peers};
use super::{Audience, Refusal, Settings};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::describe;
use crate::pump::rules::Engine;
use crate::tap::{Event, Taps};

/// Transmits of one call at most, and those whose memory is kept.
const MAX_TRANSMITS: usize = 64;
const FEW_TRANSMITS: usize = 4;

/// Datagrams of one transmit at most (`UDP_MAX_SEGMENTS` before Linux 6.9), and bytes.
const MAX_SEGMENTS: usize = 64;
const MAX_TRANSMIT_SIZE: usize = 65_507;

/// Time after which a full interface queue is tried again: no descriptor becomes ready when it has room.
const QUEUE_RETRY: Duration = Duration::from_millis(1);

/// Time after which a full interface queue is reported.
const QUEUE_REPORT: Duration = Duration::from_secs(1);

/// Route to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Both addresses, for reports.
    pub(super) flow: Pair,
    /// Address to send from, where the kernel does not choose it.
    pub(super) source: Option<SocketAddr>,
}

impl Route {
    /// Returns the route back to the sender of a datagram: an answer leaves from the address that the sender had written to.
    fn back(flow: Pair, handle: &Handle) -> Self {
        let ip = flow.local.ip();
        let can_be_source = !ip.is_multicast() && !ip.is_unspecified();
        let source = Some(flow.local).filter(|_| handle.is_wildcard() && can_be_source);
        Self { flow, source }
    }

    /// Returns the route on which the kernel chooses the source, which is `local` if that is known.
    fn direct(local: Option<SocketAddr>, remote: SocketAddr, handle: &Handle) -> Self {
        Self {
            flow: Pair::new(handle.local_of(local), remote),
            source: None,
        }
    }
}

/// Routes of a socket.
#[derive(Default)]
struct Routes {
    audience: Audience,
    multicast_if: Option<String>,
    /// Routes of datagrams without addresses. They change only between datagrams.
    current: Vec<Route>,
    /// Local address that the kernel chose for the target.
    chosen: Option<SocketAddr>,
    /// Route to a peer that cannot be answered from the address it had written to (a broadcast address, a group).
    fallback: Option<Route>,
}

impl Routes {
    /// Brings the routes of datagrams without addresses up to date.
    fn update(&mut self, handle: &Handle, peers: &Peers) {
        self.current.clear();
        let back = |flow| Route::back(flow, handle);
        match self.audience {
            Audience::Target(target) => {
                let route = self.target_route(target, handle, peers);
                self.current.push(route);
            }
            Audience::Last => self.current.extend(peers.last().map(back)),
            Audience::First => self.current.extend(peers.first().map(back)),
            Audience::All => self.current.extend(peers.flows().map(back)),
            Audience::Named | Audience::None => {}
        }
    }

    fn target_route(&mut self, target: SocketAddr, handle: &Handle, peers: &Peers) -> Route {
        if let Some(flow) = peers.get(comparable(target)) {
            return Route::back(flow, handle);
        }
        if self.chosen.is_none() && handle.is_wildcard() {
            let source = handle.source_for(target, self.multicast_if.as_deref());
            self.chosen = source.or(Some(handle.bound));
        }
        Route::direct(self.chosen, target, handle)
    }

    /// Makes the kernel choose the source of datagrams to `remote`.
    fn fall_back(&mut self, remote: SocketAddr, handle: &Handle) {
        let source = handle.source_for(remote, self.multicast_if.as_deref());
        self.fallback = Some(Route::direct(source, remote, handle));
    }

    /// Returns the route to one recipient of a run, and the number of recipients; `served` of them have got the datagram.
    fn next(&mut self, run: &Run, served: usize, handle: &Handle) -> Option<(Route, usize)> {
        let (route, recipients) = match (&run.flow, self.audience) {
            (None, _) | (_, Audience::Target(_)) => {
                (*self.current.get(served)?, self.current.len())
            }
            (Some(flow), _) => (Route::back(Pair::of(flow)?, handle), 1),
        };
        let remote = route.flow.remote;
        let is_reached = |route: &Route| route.flow.remote == remote;
        // An answer cannot leave from the address of a group.
        if route.flow.local.ip().is_multicast() && !self.fallback.as_ref().is_some_and(is_reached) {
            self.fall_back(remote, handle);
        }
        let fallback = self.fallback.filter(is_reached);
        Some((fallback.unwrap_or(route), recipients))
    }
}

/// Sending side of a socket.
pub(super) struct Sender {
    routes: Routes,
    /// Number of recipients that have got the datagram at the cursor.
    served: usize,
    /// Transmits of the present call, and the most for one call.
    transmits: Vec<Transmit>,
    max_transmits: usize,
    /// Size below which datagrams are left to the kernel to segment.
    pub(super) segment_below: usize,
    /// Most bytes of a datagram, and the number of longer ones, which are not sent.
    max_sent: usize,
    pub(super) too_long: u64,
    /// One that is longer than any may be ends nothing.
    leaves_out: bool,
    /// Datagrams that an error may still be about, and the latest transmit.
    pub(super) flights: Flights,
    latest: Option<Transmit>,
    /// It may be too long for its path, which nothing has shown yet.
    is_in_doubt: bool,
    /// Target whose path takes datagrams of this size at most, as the latest error said.
    known_path: Option<(SocketAddr, usize)>,
    /// Time since when the interface queue has no room, and time to try again.
    full: Option<(Instant, Instant)>,
}

impl Sender {
    pub(super) fn new(handle: &Handle, settings: &Settings) -> Self {
        let is_fast = settings.engine == Engine::Fast;
        let has_gso = is_fast && handle.has_gso();
        Self {
            routes: Routes {
                audience: settings.audience,
                multicast_if: settings.multicast_if.clone(),
                ..Routes::default()
            },
            served: 0,
            transmits: Vec::new(),
            max_transmits: if is_fast { MAX_TRANSMITS } else { 1 },
            segment_below: if has_gso { usize::MAX } else { 0 },
            max_sent: settings.max_sent.unwrap_or(usize::MAX),
            leaves_out: settings.refusal == Refusal::Reported,
            too_long: 0,
            flights: Flights::new(matches!(settings.numbering, Numbering::Peer(_))),
            latest: None,
            is_in_doubt: false,
            known_path: None,
            full: None,
        }
    }

    /// Returns both addresses of datagrams to the first recipient of datagrams without addresses.
    pub(super) fn first_flow(&self) -> Option<Pair> {
        self.routes.current.first().map(|route| route.flow)
    }

    /// Returns the time at which sending is tried again, where no descriptor becomes ready for it.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.full.map(|(_, retry_at)| retry_at)
    }

    /// Brings the routes up to date, unless a datagram is on its way to several recipients.
    pub(super) fn update_routes(&mut self, handle: &Handle, peers: &Peers) {
        if self.served == 0 {
            self.routes.update(handle, peers);
        }
    }

    /// Collects the transmits of the next call, from `at` on. Returns the first of them, and their number. `None`: nothing is left
    /// before the run `until`.
    pub(super) fn gather(
        &mut self,
        batch: &Batch,
        at: &mut Cursor,
        until: usize,
        handle: &Handle,
    ) -> Option<(Transmit, usize)> {
        self.transmits.clear();
        let (mut next, mut served) = (*at, self.served);
        while self.transmits.len() < self.max_transmits
            && next.run < until
            && let Some(run) = batch.runs().get(next.run)
        {
            let Some((route, recipients)) = self.routes.next(run, served, handle) else {
                // It has no recipient.
                next = after(run, next, run.len);
                if self.transmits.is_empty() {
                    *at = next;
                }
                continue;
            };
            let (len, segment_size) = self.cut(run, next);
            let transmit = Transmit {
                at: (next, served),
                len,
                segment_size,
                route,
                next: match served + 1 {
                    more if more < recipients => (next, more),
                    _ => (after(run, next, len), 0),
                },
            };
            let first = self.transmits.first();
            let is_alone = self.limit_of(&transmit).is_some();
            if first.is_some_and(|first| is_alone || !transmit.goes_with(first)) {
                break;
            }
            (next, served) = transmit.next;
            self.transmits.push(transmit);
        }
        if self.transmits.is_empty() {
            // There may be very many such sockets that are idle.
            self.transmits.shrink_to(FEW_TRANSMITS);
        }
        Some((*self.transmits.first()?, self.transmits.len()))
    }

    /// Returns the length of the transmit at `at`, and the size of its datagrams where there are several.
    fn cut(&self, run: &Run, at: Cursor) -> (usize, Option<u16>) {
        let stride = match run.shape {
            Shape::Stream => run.len.max(1),
            Shape::Datagrams(stride) => stride,
        };
        let can_segment = stride < self.segment_below && stride <= self.max_sent;
        let most = if can_segment { MAX_SEGMENTS } else { 1 };
        let segments = (MAX_TRANSMIT_SIZE / stride).clamp(1, most);
        let len = (run.len - at.offset).min(stride * segments);
        (len, u16::try_from(stride).ok().filter(|_| len > stride))
    }

    /// Returns the most bytes of a datagram if this one has more, and is left out for that.
    fn limit_of(&self, transmit: &Transmit) -> Option<usize> {
        let most = longest_payload(Some(transmit.route.flow.remote));
        let most = if self.leaves_out { most } else { usize::MAX };
        let most = most.min(self.max_sent);
        (transmit.size() > most).then_some(most)
    }

    /// Leaves out a datagram that is too long; false if it is not. The first is reported, and then each time the number has doubled.
    pub(super) fn leave_out(&mut self, transmit: &Transmit, taps: &mut Taps) -> bool {
        let Some(limit) = self.limit_of(transmit) else {
            return false;
        };
        self.too_long += 1;
        if self.too_long.is_power_of_two() {
            taps.emit(&Event::Oversized {
                flow: &transmit.route.flow.flow(),
                bytes: transmit.len,
                limit,
                datagrams: self.too_long,
            });
        }
        true
    }

    /// Sends what was gathered. Returns the number of transmits that the kernel took, at least one.
    ///
    /// Errors: `EINTR` also where only one may go in a call from now on.
    pub(super) fn transmit(&mut self, handle: &Handle, batch: &Batch) -> nix::Result<usize> {
        match Transmit::send(&self.transmits, handle, batch) {
            // A sandbox may forbid sendmmsg(2), and nothing else.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) if self.transmits.len() > 1 => {
                self.max_transmits = 1;
                Err(Errno::EINTR)
            }
            sent => sent,
        }
    }

    /// Moves `at` past a transmit of the latest call, and returns it.
    pub(super) fn take(&mut self, index: usize, at: &mut Cursor) -> Transmit {
        let transmit = self.transmits[index];
        (*at, self.served) = transmit.next;
        self.full = None;
        transmit
    }

    /// Keeps in mind a transmit that the kernel took.
    pub(super) fn note_sent(&mut self, transmit: Transmit, batch: &Batch) {
        self.flights.add(&transmit, batch);
        self.latest = Some(transmit);
        let remote = transmit.route.flow.remote;
        let surely_fits = if remote.is_ipv4() { 548 } else { 1232 };
        self.is_in_doubt = transmit.size() > surely_fits && !remote.ip().is_loopback();
    }

    /// Returns true, once, if the latest transmit may have been too long for its path: the error comes before the call returns, if the
    /// narrow link is near.
    pub(super) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_in_doubt)
    }

    /// Goes back to the latest transmit if that is the one to `remote` that was too long for its path, which takes `most` bytes. It then
    /// goes datagram by datagram, which the kernel fragments. Returns false if it was another one.
    pub(super) fn send_again(
        &mut self,
        remote: SocketAddr,
        quoted: &[u8],
        most: usize,
        batch: &Batch,
        at: &mut Cursor,
    ) -> bool {
        self.segment_below = self.segment_below.min(most + 1);
        let was_known = self.known_path.replace((remote, most)) == Some((remote, most));
        let is_it = |latest: &Transmit| {
            let is_next = latest.next == (*at, self.served);
            let is_its =
                means(comparable(latest.route.flow.remote), remote) && latest.size() > most;
            is_next && is_its && latest.bytes(batch).starts_with(quoted)
        };
        let Some(latest) = self.latest.filter(is_it).filter(|_| !was_known) else {
            return false;
        };
        (*at, self.served) = latest.at;
        self.latest = None;
        self.flights.take_back();
        true
    }

    /// Notes why the kernel takes nothing now: the buffer of the socket is full (`EAGAIN`), or the queue of the interface (`ENOBUFS`:
    /// ip(7), `IP_RECVERR`). A queue that is full for long is reported once.
    pub(super) fn note_full(&mut self, error: Errno, handle: &Handle, taps: &mut Taps) {
        let (Some(first), true) = (self.transmits.first(), error != Errno::EAGAIN) else {
            self.full = None;
            return;
        };
        // An interface that segments a transmit itself may drop a part of it without an error.
        self.segment_below = 0;
        let now = Instant::now();
        let (since, earlier) = self.full.unwrap_or((now, now));
        let (due, retry_at) = (since + QUEUE_REPORT, now + QUEUE_RETRY);
        self.full = Some((since, retry_at));
        if earlier < due && due <= retry_at {
            let (target, reason) = (first.route.flow.remote, describe(&error.into()));
            let what = format!("nothing can be sent to {target}: {reason}");
            let text = format!("{what}; trying again until it can");
            let socket = &handle.identity();
            taps.emit(&Event::Waiting { socket, text });
        }
    }

    /// Does without what the kernel may have declined: segmentation (`UDP_SEGMENT`), or the source address. False: the transmit has
    /// neither.
    pub(super) fn do_without(
        &mut self,
        transmit: &Transmit,
        error: Errno,
        handle: &Handle,
    ) -> bool {
        let Route { flow, source } = transmit.route;
        match (transmit.segment_size, error) {
            // Port 0 cannot be sent to in any way.
            _ if flow.remote.port() == 0 => return false,
            // Too large for the path, or too many: smaller ones may still do.
            (Some(size), Errno::EINVAL | Errno::EMSGSIZE) => self.segment_below = size.into(),
            (Some(_), Errno::EIO | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => {
                self.segment_below = 0;
            }
            // A broadcast address can be sent to, but not from.
            (_, Errno::EINVAL | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL) if source.is_some() => {
                self.routes.fall_back(flow.remote, handle);
            }
            _ => return false,
        }
        true
    }
}

/// Returns the place `len` bytes after `at`. Datagrams of a run are taken one after the other, and an empty one is taken too.
fn after(run: &Run, mut at: Cursor, len: usize) -> Cursor {
    at.offset += len;
    if at.offset >= run.len {
        at.run += 1;
        at.offset = 0;
    }
    at
}
