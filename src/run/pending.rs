//! Connection to the target of a relay while it is being made: a link that gives way to the connection.
//! The look-up, the race of attempts and the pauses between them are steps, and none of them blocks.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::background::Deadline;
use super::relay::{Addresses, Found, InetTarget, Route, Target};
use super::retry::Retry;
use crate::address::Source;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::flow::{Address, ConnId, Flow, Identity, Leg, Transport};
use crate::link::connect::{Established, Race};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::socket::unix::Attempt;
use crate::sys::wait::{Interest, Poller, Wakeup, wait};
use crate::tap::{Conversation, Event, SocketState, Taps, Via};

/// Time after which an attempt is looked at again where no descriptor is left to wait for it.
const NEXT_LOOK: Duration = Duration::from_millis(10);

/// Target leg of a relay until there is a connection.
pub(super) struct Pending {
    route: Rc<Route>,
    /// Connection of the client, by its addresses and its number.
    client: (Flow, ConnId),
    retry: Retry,
    step: Step,
    /// End of the present attempt, and the limit that it comes from.
    limit: Option<Deadline>,
    /// Descriptors that the present step waits for, once it has to wait, and the next token.
    poller: Option<(Poller, usize)>,
    /// Time to look again where there is no descriptor for a poller.
    look_at: Option<Instant>,
}

/// Step towards the connection.
enum Step {
    /// The next attempt begins at this time.
    Pause(Instant),
    /// The addresses as they are after a time are known once a descriptor is readable, which the poller watches.
    LookUp {
        target: Rc<InetTarget>,
        since: Instant,
        _done: OwnedFd,
    },
    Race(Rc<InetTarget>, Source, Race),
    /// The Unix socket is tried, for the next time at this time.
    Unix(Attempt, Instant),
}

/// Returns the failure of a relay whose target is its own socket, which would serve itself without an end.
fn own_target(target: &str) -> Failure {
    let text = format!("cannot relay to {target}: this relay has that address itself");
    Failure::new(Exit::Failed, text)
}

impl Pending {
    /// Makes the target leg of a client, which the addresses and the number on the client leg name.
    pub(super) fn new(route: &Rc<Route>, client: (Flow, ConnId)) -> Self {
        let now = Instant::now();
        Self {
            route: Rc::clone(route),
            client,
            retry: Retry::new(&route.retry, now),
            step: Step::Pause(now),
            limit: None,
            poller: None,
            look_at: None,
        }
    }

    /// Returns the number of the pair, as this leg has it.
    fn own_number(&self) -> ConnId {
        ConnId {
            leg: Some(Leg::Target),
            ..self.client.1
        }
    }

    /// Goes on as far as possible; returns the connection once it is there.
    ///
    /// Errors: the failure after which there is no other attempt.
    fn advance(&mut self, taps: &mut Taps) -> Result<Option<Box<dyn Link>>, Failure> {
        loop {
            let ended = match &mut self.step {
                Step::Pause(until) if Instant::now() < *until => return Ok(None),
                Step::Pause(_) => self.begin(taps),
                Step::LookUp { target, since, .. } => {
                    let (target, since) = (Rc::clone(target), *since);
                    self.look_up(target, since)
                }
                Step::Race(target, ..) => {
                    let target = Rc::clone(target);
                    match self.race(&target, taps).transpose() {
                        Ok(None) => return Ok(None),
                        Ok(Some(winner)) => return self.establish(&target, winner, taps).map(Some),
                        Err(failure) => Err(failure),
                    }
                }
                Step::Unix(attempt, next) => match attempt.advance(taps) {
                    Ok(None) => return self.finish_attempt(taps).map(Some),
                    Ok(Some(again)) => {
                        *next = again;
                        return Ok(None);
                    }
                    Err(failure) => Err(failure),
                },
            };
            match ended {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(failure) => self.step = Step::Pause(self.retry.next(failure, None, taps)?),
            }
        }
    }

    /// Begins an attempt; returns true if it can go on at once, here and below.
    fn begin(&mut self, taps: &mut Taps) -> Result<bool, Failure> {
        let now = Instant::now();
        let each = self.route.limit.map(|limit| (now + limit, limit));
        self.limit = each.into_iter().chain(self.retry.deadline()).min();
        let (transport, buffers) = (self.route.transport, &self.route.buffers);
        match &self.route.target {
            Target::Inet(target) if target.name.is_some() => self.look_up(Rc::clone(target), now),
            Target::Inet(target) => self.start(Rc::clone(target), target.addresses(transport)()?),
            Target::Unix(name) => {
                if let Address::Process(client) = &self.client.0.remote
                    && u32::try_from(client.pid) == Ok(std::process::id())
                {
                    return Err(own_target(&name.address().to_string()));
                }
                let attempt = Attempt::new(transport, name, buffers, self.limit, taps)?;
                self.step = Step::Unix(attempt, now);
                Ok(true)
            }
        }
    }

    /// Looks whether the addresses are known, as they are after `since`.
    fn look_up(&mut self, target: Rc<InetTarget>, since: Instant) -> Result<bool, Failure> {
        let done = match target.look_up(self.route.transport, since)? {
            Found::Addresses(addresses) => return self.start(target, addresses),
            Found::Later(done) => done,
        };
        if let Some((until, limit)) = self.limit
            && until <= Instant::now()
        {
            let (name, limit) = (target.name.as_deref(), limit.as_secs_f64());
            let name = name.unwrap_or_default();
            let text = format!("cannot resolve host '{name}': timed out after {limit} s");
            return Err(Failure::new(Exit::TimedOut, text));
        }
        self.watch(|poller, token| poller.set(token, done.as_fd(), Interest::READ));
        self.step = Step::LookUp {
            target,
            since,
            _done: done,
        };
        Ok(false)
    }

    fn start(
        &mut self,
        target: Rc<InetTarget>,
        (source, hops): Addresses,
    ) -> Result<bool, Failure> {
        let own = self.client.0.local.inet();
        if let Some(hop) = hops.iter().find(|hop| Some(hop.remote) == own) {
            return Err(own_target(&hop.remote.to_string()));
        }
        let race = Race::new(self.route.transport, &hops, self.limit, Instant::now());
        self.step = Step::Race(target, source, race);
        Ok(true)
    }

    /// Goes on with the attempts; returns the result once there is one.
    fn race(
        &mut self,
        target: &InetTarget,
        taps: &mut Taps,
    ) -> Option<Result<Established, Failure>> {
        let Step::Race(_, source, race) = &mut self.step else {
            return None;
        };
        let (source, buffers) = (*source, &self.route.buffers);
        let mut open = |remote, taps: &mut Taps| target.open(remote, source, buffers, taps);
        // A connection to this machine is there by the second look.
        for _ in 0..2 {
            look_at(race);
            if let Some(ended) = race.advance(Instant::now(), (&mut open, &[]), taps) {
                return Some(ended);
            }
        }
        let step = std::mem::replace(&mut self.step, Step::Pause(Instant::now()));
        if let Step::Race(target, source, mut race) = step {
            while let Some((socket, interest, token)) = race.next_unwatched() {
                self.watch(|poller, new| {
                    poller.set(*token.get_or_insert(new), socket.as_fd(), interest)
                });
            }
            self.step = Step::Race(target, source, race);
        }
        None
    }

    /// Adds a descriptor to those that are waited for.
    ///
    /// Each has a token of its own: the kernel takes it out of the set when it is closed (epoll(7)).
    fn watch(&mut self, set: impl FnOnce(&mut Poller, usize) -> io::Result<()>) {
        if self.poller.is_none() {
            self.poller = Poller::new().ok().map(|poller| (poller, 0));
        }
        let is_set = self.poller.as_mut().is_some_and(|(poller, next)| {
            *next += 1;
            set(poller, *next).is_ok()
        });
        if !is_set {
            self.look_at = Some(Instant::now() + NEXT_LOOK);
        }
    }

    fn establish(
        &self,
        target: &InetTarget,
        winner: Established,
        taps: &mut Taps,
    ) -> Result<Box<dyn Link>, Failure> {
        let act = format!("cannot use the connection to {}", winner.remote);
        let (after, via) = (winner.after, winner.via.clone());
        let link = target.link(winner, self.own_number());
        let link = link.map_err(|error| Failure::io(act, &error))?;
        self.report(link.as_ref(), (after, via.as_ref()), taps);
        Ok(link)
    }

    fn finish_attempt(&mut self, taps: &mut Taps) -> Result<Box<dyn Link>, Failure> {
        let step = std::mem::replace(&mut self.step, Step::Pause(Instant::now()));
        let (Step::Unix(attempt, _), Target::Unix(name)) = (step, &self.route.target) else {
            return Err(Failure::new(Exit::Failed, "there is no connection"));
        };
        let after = attempt.began.elapsed();
        let link = self
            .route
            .unix_link(attempt.socket, name, self.own_number());
        let link = link.map_err(|error| Failure::io("cannot use the connection", &error))?;
        self.report(link.as_ref(), (after, None), taps);
        Ok(link)
    }

    fn report(&self, link: &dyn Link, (after, via): (Duration, Option<&Via>), taps: &mut Taps) {
        let conn = self.own_number();
        if let Identity::Pair(flow) = &link.identity() {
            taps.emit(&Event::Relayed {
                client: self.client(),
                target: Conversation {
                    flow,
                    conn: Some(conn),
                },
                after,
                via,
            });
        }
    }

    fn client(&self) -> Conversation<'_> {
        let (flow, conn) = (&self.client.0, Some(self.client.1));
        Conversation { flow, conn }
    }
}

/// Notes which attempts have finished by now.
fn look_at(race: &mut Race) {
    let sockets = race.sockets();
    let watched: Vec<_> = sockets
        .map(|(socket, interest)| (socket.as_fd(), interest))
        .collect();
    if watched.is_empty() {
        return;
    }
    if let Ok(Wakeup::Ready(ready)) = wait(&watched, None, Some(Instant::now())) {
        race.mark(&mut ready.into_iter());
    }
}

impl End for Pending {
    fn recv(&mut self, _batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.look_at = None;
        match self.advance(taps) {
            Ok(Some(link)) => Ok(Arrival::Established(link)),
            Ok(None) => Ok(Arrival::Nothing),
            Err(failure) => {
                taps.emit(&Event::NotRelayed {
                    client: self.client(),
                    failure: &failure,
                });
                Err(failure.into())
            }
        }
    }

    fn send(&mut self, _batch: &Batch, _at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn readiness(&self) -> Readiness<'_> {
        let until = match &self.step {
            Step::Pause(until) | Step::Unix(_, until) => Some(*until),
            Step::LookUp { .. } => self.limit.map(|(until, _)| until),
            Step::Race(.., race) => race.wake(),
        };
        let fd = self.poller.as_ref().map(|(poller, _)| poller.descriptor());
        let recv = fd.map_or(Wait::For { fd: None, until }, Wait::readable);
        Readiness {
            recv: recv.or_until(until).or_until(self.look_at),
            send: Wait::Never,
            watch: false,
        }
    }
}

impl Link for Pending {
    fn identity(&self) -> Identity {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Identity::Socket(Transport::Tcp, unknown.into())
    }

    fn conn(&self) -> Option<ConnId> {
        Some(self.own_number())
    }

    fn states(&self) -> Vec<SocketState> {
        let conn = Some(self.own_number());
        match &self.step {
            Step::Race(.., race) => race
                .states()
                .map(|state| SocketState { conn, ..state })
                .collect(),
            Step::Pause(_) | Step::LookUp { .. } | Step::Unix(..) => Vec::new(),
        }
    }

    fn close(&mut self, how: Close, _taps: &mut Taps) -> Result<(), Failure> {
        if let (Step::Race(.., race), Close::Reset) = (&self.step, how) {
            for (socket, _) in race.sockets() {
                // It may be connected by now, and then a FIN would say that this was all.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
        Ok(())
    }
}
