//! Race of the attempts to connect to the addresses of one endpoint, each with a socket of its own.
//! connect(2) on a non-blocking socket returns at once, and a writable socket with no pending error (`SO_ERROR`) is connected.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use super::{Established, Open};
use crate::address::proxy::Hop;
use crate::exit::{Exit, Failure, NO_FREE_PORT, describe_at};
use crate::flow::{Address, Flow, Identity, Transport};
use crate::link::proxy::Handshake;
use crate::sys::wait::Interest;
use crate::tap::{Event, SocketState, Taps, Target};

/// Time between the starts of two attempts (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Attempts to connect, of which the first to succeed wins.
pub struct Race {
    transport: Transport,
    waiting: VecDeque<Hop>,
    running: Vec<Attempt>,
    failures: Vec<Failure>,
    /// Time at which the next attempt may start.
    next_start: Instant,
    /// End of the race, and the limit that it comes from.
    deadline: Option<(Instant, Duration)>,
}

struct Attempt {
    socket: Socket,
    hop: Hop,
    /// Its own address, once it is connected.
    local: SocketAddr,
    began: Instant,
    /// Bytes that went with the SYN.
    in_syn: usize,
    /// True once its socket is ready: connected, or failed, or the proxy has answered.
    is_ready: bool,
    /// Interest with which [`Race::next_unwatched`] has returned its socket.
    watched: Interest,
    /// Token of the socket in the set of the caller.
    token: Option<usize>,
    /// The handshake with the proxy, once there is a connection to it.
    handshake: Option<Handshake>,
    /// Reset of the connection, if it has come already.
    reset: Option<io::Error>,
}

impl Attempt {
    fn established(self) -> Established {
        Established {
            after: self.began.elapsed(),
            local: self.local,
            in_syn: self.in_syn,
            reset: self.reset,
            socket: self.socket,
            remote: self.hop.remote,
            via: self.hop.tunnel.map(|tunnel| tunnel.via),
        }
    }

    /// Goes on with a socket that is ready; returns true once there is a connection to the target.
    fn advance(&mut self) -> io::Result<bool> {
        (self.local, self.reset) = self.outcome()?;
        let Some(tunnel) = &self.hop.tunnel else {
            return Ok(true);
        };
        let handshake = match self.handshake.take() {
            None => Handshake::new(tunnel.clone())?,
            Some(handshake) => handshake,
        };
        let is_open = self.handshake.insert(handshake).advance(&self.socket)?;
        match self.reset.take_if(|_| !is_open) {
            Some(reset) => Err(reset),
            None => Ok(is_open),
        }
    }

    /// Returns the result of connect(2): its own address, and the reset that has come since, if any.
    fn outcome(&self) -> io::Result<(SocketAddr, Option<io::Error>)> {
        let reset = match self.socket.take_error()? {
            Some(error) if !is_of_a_connection(&error) => return Err(error),
            reset => reset,
        };
        let local = self.socket.local_addr()?.as_socket();
        let local = local.ok_or(ErrorKind::AddrNotAvailable)?;
        if local == self.hop.remote {
            // The kernel has chosen the target's port by chance, and the socket is connected to itself (simultaneous open,
            // RFC 9293, 3.5): nothing listens there.
            return Err(Errno::CONNREFUSED.into());
        }
        Ok((local, reset))
    }

    /// Returns what it waits for.
    fn interest(&self) -> Interest {
        let handshake = self.handshake.as_ref();
        handshake.map_or(Interest::WRITE, Handshake::interest)
    }

    /// Returns the act that may fail: to connect to the target, to its proxy, or through the proxy.
    fn act(&self) -> String {
        match &self.hop.tunnel {
            Some(tunnel) if self.handshake.is_some() => {
                format!("cannot connect to {}", tunnel.via)
            }
            _ => act(&self.hop),
        }
    }

    /// Returns the reason if the kernel had no 4-tuple for the connection (`EADDRNOTAVAIL`, connect(2)).
    fn lacks_name(&self, error: &io::Error) -> Option<io::Error> {
        let remote = self.hop.remote;
        if error.kind() != ErrorKind::AddrNotAvailable {
            return None;
        }
        let mut local = self.socket.local_addr().ok()?.as_socket()?;
        // A connected datagram socket has the address that the route gives, and sends nothing. Without one, the error is that.
        let probe = Socket::new(Domain::for_address(remote), Type::DGRAM, None).ok()?;
        probe.connect(&remote.into()).ok()?;
        let text = if local.port() == 0 {
            NO_FREE_PORT.to_owned()
        } else {
            if local.ip().is_unspecified() {
                local.set_ip(probe.local_addr().ok()?.as_socket()?.ip());
            }
            let flow = Flow::new(Transport::Tcp, local.into(), remote.into());
            format!("this 4-tuple exists already, open or in TIME-WAIT: {flow}")
        };
        Some(io::Error::new(ErrorKind::AddrNotAvailable, text))
    }
}

impl Race {
    /// Makes a race by any of `hops` that begins at `now`.
    pub fn new(
        transport: Transport,
        hops: &[Hop],
        deadline: Option<(Instant, Duration)>,
        now: Instant,
    ) -> Self {
        Self {
            transport,
            waiting: hops.iter().cloned().collect(),
            running: Vec::new(),
            failures: Vec::new(),
            next_start: now,
            deadline,
        }
    }

    /// Returns the sockets of attempts under way, each with what it waits for.
    pub fn sockets(&self) -> impl Iterator<Item = (&Socket, Interest)> {
        let running = self.running.iter();
        running.map(|attempt| (&attempt.socket, attempt.interest()))
    }

    /// Returns true if another attempt may join those that run. One that has found its proxy holds it back: the way from there on may
    /// take long, and the target would see two connections.
    fn may_start(&self) -> bool {
        let mut running = self.running.iter();
        running.all(|attempt| attempt.handshake.is_none()) && !self.waiting.is_empty()
    }

    /// Returns a socket that this function has not returned with its present interest, and the place for its token.
    pub fn next_unwatched(&mut self) -> Option<(&Socket, Interest, &mut Option<usize>)> {
        let mut attempts = self.running.iter_mut();
        let attempt = attempts.find(|attempt| attempt.watched != attempt.interest())?;
        attempt.watched = attempt.interest();
        Some((&attempt.socket, attempt.watched, &mut attempt.token))
    }

    /// Returns the rows of these sockets for the table of sockets.
    pub fn states(&self) -> impl Iterator<Item = SocketState> {
        self.running.iter().map(|attempt| {
            let local = attempt.socket.local_addr().ok();
            let local = local.and_then(|local| local.as_socket());
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            let local = local.unwrap_or(unknown).into();
            let flow = Flow::new(self.transport, local, attempt.hop.remote.into());
            SocketState {
                state: "connecting",
                ..SocketState::new(Identity::Pair(flow), attempt.began)
            }
        })
    }

    /// Returns the time at which there is something to do although no attempt has finished.
    pub fn wake(&self) -> Option<Instant> {
        let next_start = self.may_start().then_some(self.next_start);
        let deadline = self.deadline.map(|(deadline, _)| deadline);
        deadline.into_iter().chain(next_start).min()
    }

    /// Notes the attempts that have finished: one value for each of the sockets.
    pub fn mark(&mut self, ready: &mut impl Iterator<Item = bool>) {
        for (attempt, is_ready) in self.running.iter_mut().zip(ready) {
            attempt.is_ready = is_ready;
        }
    }

    /// Starts and finishes attempts as far as possible at `now`; returns the result once there is one.
    pub fn advance(
        &mut self,
        now: Instant,
        (open, first): (&mut Open<'_>, &[u8]),
        taps: &mut Taps,
    ) -> Option<Result<Established, Failure>> {
        loop {
            if let Some(winner) = self.take_finished(now, taps) {
                return Some(Ok(self.end_with(winner, taps)));
            }
            if let Some((_, limit)) = self.deadline.filter(|(deadline, _)| *deadline <= now) {
                return Some(Err(self.time_out(limit, taps)));
            }
            if (self.running.is_empty() || self.next_start <= now)
                && self.may_start()
                && let Some(hop) = self.waiting.pop_front()
            {
                let is_started = self.start(hop, (open, first), taps);
                self.next_start = if is_started { now + ATTEMPT_DELAY } else { now };
            } else if self.running.is_empty() {
                return Some(Err(self.verdict()));
            } else {
                return None;
            }
        }
    }

    /// Ends the race with its winner. The attempts that still run have failed.
    fn end_with(&mut self, winner: Established, taps: &mut Taps) -> Established {
        for attempt in std::mem::take(&mut self.running) {
            let text = "no answer before another address had one";
            taps.emit(&Event::ConnectFailed {
                target: self.target(attempt.hop.remote),
                error: &io::Error::new(ErrorKind::TimedOut, text),
                after: attempt.began.elapsed(),
            });
        }
        winner
    }

    fn target(&self, remote: SocketAddr) -> Target {
        Target {
            transport: self.transport,
            remote: remote.into(),
        }
    }

    /// Starts an attempt; returns false if it has failed already.
    fn start(&mut self, hop: Hop, (open, first): (&mut Open<'_>, &[u8]), taps: &mut Taps) -> bool {
        let remote = hop.remote;
        // The first bytes on the way to a proxy are not for the target.
        let first = if hop.tunnel.is_some() { &[] } else { first };
        let socket = match open(remote, taps) {
            Ok(socket) => socket,
            Err(failure) => {
                self.failures.push(failure);
                return false;
            }
        };
        let has_syn = self.transport.has_connections();
        if has_syn {
            taps.emit(&Event::Connecting(self.target(remote)));
        }
        let mut attempt = Attempt {
            socket,
            hop,
            local: (Ipv4Addr::UNSPECIFIED, 0).into(),
            began: Instant::now(),
            in_syn: 0,
            is_ready: false,
            watched: Interest::default(),
            token: None,
            handshake: None,
            reset: None,
        };
        let started = attempt.socket.connect(&remote.into());
        // With a cookie of the peer nothing is sent yet (TCP_FASTOPEN_CONNECT, tcp(7)): the SYN goes now, empty where `first` is.
        match started.and_then(|()| {
            if has_syn {
                attempt.socket.send(first)
            } else {
                Ok(0)
            }
        }) {
            Ok(count) => attempt.in_syn = count,
            Err(error) if is_under_way(&error) => {}
            Err(error) => {
                self.fail(&attempt, &error, taps);
                return false;
            }
        }
        self.running.push(attempt);
        true
    }

    /// Takes out the attempts that have finished. The first connection wins; after a failure the next attempt may start at once.
    fn take_finished(&mut self, now: Instant, taps: &mut Taps) -> Option<Established> {
        let mut winner = None;
        for mut attempt in std::mem::take(&mut self.running) {
            if !attempt.is_ready || winner.is_some() {
                self.running.push(attempt);
                continue;
            }
            match attempt.advance() {
                Ok(true) => winner = Some(attempt.established()),
                Ok(false) => {
                    attempt.is_ready = false;
                    self.running.push(attempt);
                }
                Err(error) => {
                    self.fail(&attempt, &error, taps);
                    self.next_start = now;
                }
            }
        }
        winner
    }

    fn fail(&mut self, attempt: &Attempt, error: &io::Error, taps: &mut Taps) {
        let remote = attempt.hop.remote;
        let no_name = attempt.lacks_name(error);
        let error = no_name.as_ref().unwrap_or(error);
        taps.emit(&Event::ConnectFailed {
            target: self.target(remote),
            error,
            after: attempt.began.elapsed(),
        });
        let text = format!("{}: {}", attempt.act(), describe_at(error, remote));
        let exit = no_name.as_ref().map_or(error.into(), |_| Exit::CannotBind);
        self.failures.push(Failure::new(exit, text));
    }

    /// Ends the race at the deadline: the attempts that run have timed out, the others were not tried.
    fn time_out(&mut self, limit: Duration, taps: &mut Taps) -> Failure {
        let limit = limit.as_secs_f64();
        for attempt in std::mem::take(&mut self.running) {
            taps.emit(&Event::ConnectFailed {
                target: self.target(attempt.hop.remote),
                error: &Errno::TIMEDOUT.into(),
                after: attempt.began.elapsed(),
            });
            self.note_time_out(&attempt.act(), format_args!("timed out after {limit} s"));
        }
        for hop in std::mem::take(&mut self.waiting) {
            self.note_time_out(&act(&hop), format_args!("not tried within {limit} s"));
        }
        Failure {
            exit: Exit::TimedOut,
            ..self.verdict()
        }
    }

    fn note_time_out(&mut self, act: &str, reason: fmt::Arguments<'_>) {
        let text = format!("{act}: {reason}");
        self.failures.push(Failure::new(Exit::TimedOut, text));
    }

    /// Joins all failures. The most telling status decides.
    fn verdict(&self) -> Failure {
        const TELLING: [Exit; 4] = [Exit::Refused, Exit::TimedOut, Exit::Reset, Exit::CannotBind];
        let occurred = |exit: &Exit| self.failures.iter().any(|failure| failure.exit == *exit);
        let exit = TELLING.into_iter().find(occurred).unwrap_or(Exit::Failed);
        // An option that the kernel refuses fails in the same words for every address.
        let mut lines: Vec<&str> = Vec::new();
        for failure in &self.failures {
            if !lines.contains(&failure.message.as_str()) {
                lines.push(&failure.message);
            }
        }
        Failure::new(exit, lines.join("\n"))
    }
}

/// Returns true for an error that only an established connection meets: a reset of an attempt is a refusal (RFC 9293, 3.10.7.3). A
/// reset after the peer's FIN is reported as a broken pipe (write(2)).
fn is_of_a_connection(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    matches!(error, Some(Errno::CONNRESET | Errno::PIPE))
}

/// Returns true if `connect` goes on in the background (connect(2)).
fn is_under_way(error: &io::Error) -> bool {
    let error = Errno::from_io_error(error);
    matches!(error, Some(Errno::INPROGRESS | Errno::INTR))
}

fn act(hop: &Hop) -> String {
    let remote = Address::from(hop.remote);
    match &hop.tunnel {
        None => format!("cannot connect to {remote}"),
        Some(tunnel) => format!("cannot connect to {}: proxy {remote}", tunnel.via.target),
    }
}
