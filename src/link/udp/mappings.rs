//! Mappings of a relay (RFC 4787): each peer has a link of its own towards the target, so that answers and errors are its own.
//! One link holds them all behind one poller. What a link does not take now waits with it, and holds up no other peer.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use slab::Slab;

use super::addresses::Pair;
use super::peers::Numbers;
use crate::batch::{Batch, Cursor, Run};
use crate::exit::{Exit, Failure};
use crate::flow::{ConnId, Flow, Identity};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::pump::{Timers, is_temporary};
use crate::sys::wait::{Poller, Ready};
use crate::tap::{Conversation, Event, IcmpError, Rejection, SocketState, Taps, phrases};

/// Bytes and runs of one peer that wait for its link at most. Further datagrams are dropped, as by a full send buffer.
const PENDING_SIZE: usize = 1 << 20;
const PENDING_RUNS: usize = 1024;

/// Time for which a peer whose link could not be established gets no other: each of its datagrams would fail again.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Makes the link of a peer, which the addresses and the number on the client leg name. It may give way to another link, once
/// that is established.
pub type Open = Box<dyn FnMut(&Flow, ConnId) -> Box<dyn Link>>;

/// Limits on mappings.
#[derive(Clone, Copy, Debug)]
pub struct MappingLimits {
    /// Time without a datagram in either direction after which a mapping ends (RFC 4787, REQ-5).
    pub timeout: Duration,
    /// Number of answers to each datagram of a peer, after which its mapping ends.
    pub replies: Option<u64>,
    /// Number of mappings, at least 1. A further one replaces the one that is idle longest.
    pub max: usize,
    /// Lost datagrams make the status [`Exit::DataLost`].
    pub fail_on_loss: bool,
}

/// Links of the peers of a relay.
pub struct Mappings {
    open: Open,
    limits: MappingLimits,
    numbers: Numbers,
    /// Name of the socket on the client leg.
    identity: Identity,
    links: Slab<Mapping>,
    by_peer: HashMap<Pair, usize>,
    /// Descriptors of the links, with two tokens for each: one descriptor for the pump to wait for (epoll(7)).
    poller: Poller,
    ready: Vec<Ready>,
    timers: Timers,
    /// Part of a batch that is for one peer.
    part: Batch,
    is_finished: bool,
    /// First failure of a mapping that has ended, and datagrams that were dropped here.
    verdict: Result<(), Failure>,
    dropped: u64,
}

/// Link of one peer.
struct Mapping {
    peer: Flow,
    /// Nothing once it could not be established.
    link: Option<Box<dyn Link>>,
    /// Datagrams that the link has not taken yet, and how much of them it has.
    pending: Option<Box<(Batch, Cursor)>>,
    /// Answers that are still to come.
    owed: u64,
    /// Time at which it ends if nothing moves until then.
    ends_at: Instant,
}

impl Mapping {
    /// Sends what is the peer's from `at` on, and keeps what the link does not take now. Returns the number of datagrams that are
    /// dropped.
    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<u64> {
        self.flush(taps)?;
        let Some(link) = &mut self.link else {
            return Ok(0);
        };
        if self.pending.is_none() {
            match link.send(batch, at, taps) {
                Err(error) if is_temporary(&error) => {}
                sent => return sent.map(|_| 0),
            }
            self.pending = Some(Box::new((Batch::default(), *at)));
        }
        let Some((held, _)) = self.pending.as_deref_mut() else {
            return Ok(0);
        };
        if held.len() + batch.len() > PENDING_SIZE || held.runs().len() > PENDING_RUNS {
            return Ok(batch.count() as u64);
        }
        held.append(batch, batch.runs());
        Ok(0)
    }

    /// Drops what waits for the link, and returns the number of its datagrams.
    fn drop_pending(&mut self) -> usize {
        let pending = self.pending.take();
        pending.map_or(0, |pending| pending.0.count_from(pending.1))
    }

    /// Sends what waits for the link, as far as it takes that now.
    fn flush(&mut self, taps: &mut Taps) -> io::Result<()> {
        if let (Some(link), Some((batch, at))) = (&mut self.link, self.pending.as_deref_mut()) {
            match link.send(batch, at, taps) {
                Err(error) if is_temporary(&error) => return Ok(()),
                sent => sent?,
            };
        }
        self.pending = None;
        Ok(())
    }
}

impl Mappings {
    /// Starts without a peer. `numbers` are those of the socket on the client leg, which is named by `identity`.
    pub fn new(
        identity: Identity,
        numbers: Numbers,
        limits: MappingLimits,
        open: Open,
    ) -> io::Result<Self> {
        Ok(Self {
            open,
            limits,
            numbers,
            identity,
            links: Slab::new(),
            by_peer: HashMap::new(),
            poller: Poller::new()?,
            ready: Vec::new(),
            timers: Timers::default(),
            part: Batch::default(),
            is_finished: false,
            verdict: Ok(()),
            dropped: 0,
        })
    }

    /// Returns the mapping of a peer, which is made if there is none.
    fn mapping(&mut self, peer: &Flow, now: Instant, taps: &mut Taps) -> Option<usize> {
        let pair = Pair::of(peer)?;
        if let Some(&id) = self.by_peer.get(&pair) {
            return Some(id);
        }
        if self.links.len() >= self.limits.max
            && let Some((oldest, mapping)) =
                (self.links.iter()).min_by_key(|(_, mapping)| mapping.ends_at)
        {
            taps.emit(&Event::Forgotten(&mapping.peer));
            self.remove(oldest, Close::Orderly, taps);
        }
        let id = self.links.insert(Mapping {
            peer: peer.clone(),
            link: Some((self.open)(peer, self.numbers.of(pair))),
            pending: None,
            owed: 0,
            ends_at: now + self.limits.timeout,
        });
        self.by_peer.insert(pair, id);
        self.timers.set(id, now + self.limits.timeout);
        // Nothing has been sent yet, so no answer can be there.
        self.turn(id, now, &mut Batch::default(), taps);
        self.links.contains(id).then_some(id)
    }

    /// Sends a batch that is all for one peer.
    fn send_to(&mut self, id: usize, batch: &Batch, now: Instant, taps: &mut Taps) {
        let mapping = &mut self.links[id];
        let replies = self.limits.replies.unwrap_or(0);
        mapping.owed += replies.saturating_mul(batch.count() as u64);
        if mapping.link.is_none() {
            let peer = mapping.peer.clone();
            return self.lose(&peer, batch.count(), taps);
        }
        mapping.ends_at = now + self.limits.timeout;
        let mut at = Cursor::default();
        match mapping.send(batch, &mut at, taps) {
            Ok(0) => {}
            Ok(datagrams) => {
                let name = mapping.link.as_ref().map(|link| link.identity());
                if let Some(Identity::Pair(flow)) = &name {
                    let reason = "it takes no more for now: dropped here";
                    let unsent = IcmpError::unsent(flow, reason, datagrams);
                    taps.emit(&Event::Unreachable(unsent));
                }
                self.dropped += datagrams;
            }
            Err(error) => {
                let peer = mapping.peer.clone();
                self.fail(id, &error, taps);
                self.lose(&peer, batch.count_from(at), taps);
            }
        }
        self.sync(id, taps);
    }

    /// Reports and counts datagrams of a peer that no link takes.
    fn lose(&mut self, peer: &Flow, datagrams: usize, taps: &mut Taps) {
        if datagrams > 0 {
            self.dropped += datagrams as u64;
            taps.emit(&Event::Rejected {
                flow: peer,
                datagrams: Some(datagrams),
                reason: Rejection::NotRelayed,
            });
        }
    }

    /// Lets a link go on: it is read, and sent what waits for it.
    fn turn(&mut self, id: usize, now: Instant, batch: &mut Batch, taps: &mut Taps) {
        let Some(mapping) = self.links.get_mut(id) else {
            return;
        };
        let Some(link) = &mut mapping.link else {
            return;
        };
        match link.recv(batch, taps) {
            Ok(Arrival::Data) => {
                batch.set_flow(&mapping.peer);
                mapping.owed = mapping.owed.saturating_sub(batch.count() as u64);
                mapping.ends_at = now + self.limits.timeout;
                if mapping.owed == 0 && self.limits.replies.is_some() {
                    // It is looked at again when these answers are on their way.
                    mapping.ends_at = now;
                    self.timers.set(id, now);
                }
            }
            Ok(Arrival::Established(link)) => {
                let old = mapping.link.replace(link);
                self.unwatch(id);
                drop(old);
            }
            Ok(Arrival::Nothing | Arrival::Link(_)) => {}
            Ok(Arrival::End | Arrival::Enough) => return self.remove(id, Close::Orderly, taps),
            Err(error) if is_temporary(&error) => {}
            Err(error) => return self.fail(id, &error, taps),
        }
        match self.links[id].flush(taps) {
            Err(error) => self.fail(id, &error, taps),
            Ok(()) => self.sync(id, taps),
        }
    }

    /// Makes the poller wait for what a link needs.
    fn sync(&mut self, id: usize, taps: &mut Taps) {
        let mapping = self.links.get(id);
        let Some((mapping, link)) = mapping.and_then(|it| Some((it, it.link.as_ref()?))) else {
            return;
        };
        let (readiness, is_wanted) = (link.readiness(), [true, mapping.pending.is_some()]);
        for wait in readiness.wanted(is_wanted) {
            let now = wait.is_now().then(Instant::now);
            if let Some(time) = now.or(wait.until()) {
                self.timers.set(id, time);
            }
        }
        let synced = readiness.register(&mut self.poller, tokens(id), is_wanted, false);
        if let Err(error) = synced {
            self.fail(id, &error, taps);
        }
    }

    /// Ends what has been idle for long enough, and lets the links go on whose time has come.
    fn check_times(&mut self, now: Instant, batch: &mut Batch, taps: &mut Taps) {
        while batch.is_empty()
            && let Some(id) = self.timers.pop(now)
        {
            let ends_at = self.links[id].ends_at;
            if ends_at <= now {
                self.remove(id, Close::Orderly, taps);
            } else {
                self.timers.set(id, ends_at);
                self.turn(id, now, batch, taps);
            }
        }
    }

    /// Reports why the link of a peer can do no more, and ends its mapping. If the link was never established, the mapping stays
    /// for a while, and the datagrams of the peer are dropped.
    fn fail(&mut self, id: usize, error: &io::Error, taps: &mut Taps) {
        let mapping = &mut self.links[id];
        let Some(link) = &mapping.link else {
            return;
        };
        // A link that was never established has reported why.
        if let Identity::Pair(flow) = &link.identity() {
            let (conn, call) = (link.conn(), None);
            let name = Conversation { flow, conn };
            taps.emit(&Event::Broken { name, error, call });
            return self.remove(id, Close::Reset, taps);
        }
        mapping.ends_at = Instant::now() + FAILURE_PAUSE;
        self.timers.set(id, mapping.ends_at);
        let (peer, lost) = (mapping.peer.clone(), mapping.drop_pending());
        if let Some(link) = mapping.link.take() {
            self.close_link(id, link, Close::Reset, taps);
        }
        self.lose(&peer, lost, taps);
    }

    /// Ends a mapping.
    fn remove(&mut self, id: usize, how: Close, taps: &mut Taps) {
        let mut mapping = self.links.remove(id);
        self.timers.cancel(id);
        if let Some(pair) = Pair::of(&mapping.peer) {
            self.by_peer.remove(&pair);
            self.numbers.forget(pair);
        }
        let lost = mapping.drop_pending();
        self.lose(&mapping.peer, lost, taps);
        if let Some(link) = mapping.link {
            self.close_link(id, link, how, taps);
        }
    }

    fn close_link(&mut self, id: usize, mut link: Box<dyn Link>, how: Close, taps: &mut Taps) {
        self.unwatch(id);
        let closed = link.close(how, taps);
        if self.verdict.is_ok() {
            self.verdict = closed;
        }
    }

    /// Takes the descriptors of a link, which is about to go, from the poller.
    fn unwatch(&mut self, id: usize) {
        for token in tokens(id) {
            self.poller.forget(token);
        }
    }

    /// Returns true if no more datagrams come from peers, and all answers have come.
    fn is_over(&self) -> bool {
        self.is_finished && self.links.is_empty()
    }
}

/// Tokens of the descriptors of a mapping.
fn tokens(id: usize) -> [usize; 2] {
    [2 * id, 2 * id + 1]
}

impl End for Mappings {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let now = Instant::now();
        self.check_times(now, batch, taps);
        if self.ready.is_empty() {
            self.poller.wait(Some(Duration::ZERO), &mut self.ready)?;
        }
        while batch.is_empty()
            && let Some(ready) = self.ready.pop()
        {
            self.turn(ready.token / 2, now, batch, taps);
        }
        Ok(match batch.is_empty() {
            false => Arrival::Data,
            true if self.is_over() => Arrival::End,
            true => Arrival::Nothing,
        })
    }

    /// Never waits: what a link does not take now is kept for it, or dropped.
    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        let (now, count) = (Instant::now(), batch.runs().len());
        let runs = &batch.runs()[at.run..];
        at.run = count;
        for runs in runs.chunk_by(|one, other| one.flow == other.flow) {
            let peer = runs[0].flow.as_ref();
            let Some(peer) = peer else {
                continue;
            };
            let Some(id) = self.mapping(peer, now, taps) else {
                self.lose(peer, runs.iter().map(Run::count).sum(), taps);
                continue;
            };
            if runs.len() == count {
                self.send_to(id, batch, now, taps);
            } else {
                let mut part = std::mem::take(&mut self.part);
                part.clear();
                part.append(batch, runs);
                self.send_to(id, &part, now, taps);
                self.part = part;
            }
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.is_finished = true;
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let is_busy = !self.ready.is_empty() || self.is_over();
        let ready = Wait::readable(self.poller.descriptor()).or_until(self.timers.first());
        Readiness {
            recv: if is_busy { Wait::Now } else { ready },
            send: Wait::Now,
            watch: false,
        }
    }
}

impl Link for Mappings {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn states(&self) -> Vec<SocketState> {
        let links = (self.links.iter()).filter_map(|(_, mapping)| mapping.link.as_ref());
        // Its one peer, in the row behind it, is the target.
        links
            .filter_map(|link| link.states().into_iter().next())
            .collect()
    }

    fn close(&mut self, how: Close, taps: &mut Taps) -> Result<(), Failure> {
        while let Some((id, _)) = self.links.iter().next() {
            self.remove(id, how, taps);
        }
        if self.dropped > 0 && self.limits.fail_on_loss && self.verdict.is_ok() {
            let (socket, what) = (&self.identity, phrases::datagrams(self.dropped));
            let text = format!("{socket}: {what} could not be relayed (--fail-on-loss)");
            return Err(Failure::new(Exit::DataLost, text));
        }
        std::mem::replace(&mut self.verdict, Ok(()))
    }
}
