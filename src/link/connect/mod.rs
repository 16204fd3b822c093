//! Connecting to the first of several addresses that answers: happy eyeballs (RFC 8305).
//! Attempts start a moment apart and run side by side; the first connection wins, and the others are closed.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::address::proxy::Hop;
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::sys::signals::Request;
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{Event, Taps, Via};

mod race;

pub use race::Race;

/// Result of a successful race.
#[derive(Debug)]
pub struct Established {
    /// The connected socket, non-blocking as it was opened.
    pub socket: Socket,
    /// Its own address.
    pub local: SocketAddr,
    /// The address that answered.
    pub remote: SocketAddr,
    /// Duration of its attempt.
    pub after: Duration,
    /// Bytes of [`Connector::first`] that went with the SYN.
    pub in_syn: usize,
    /// Reset that came meanwhile, which a socket reports only once. What had come before it can still be read.
    pub reset: Option<io::Error>,
    /// The target, if a proxy has answered.
    pub via: Option<Via>,
}

/// Time limits of connecting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Limit of each race, all its addresses together.
    pub each: Option<Duration>,
    /// End of all races, and the limit that it comes from.
    pub all: Option<(Instant, Duration)>,
}

impl Limits {
    /// Returns the end of a race that begins at `start`, and the limit that it comes from.
    fn for_race(self, start: Instant) -> Option<(Instant, Duration)> {
        let own = self.each.map(|limit| (start + limit, limit));
        own.into_iter().chain(self.all).min()
    }
}

/// Makes the non-blocking socket for an address.
pub type Open<'a> = dyn FnMut(SocketAddr, &mut Taps) -> Result<Socket, Failure> + 'a;

/// Takes the result for one list of hops; a break ends all races.
pub type Done<'a> =
    dyn FnMut(usize, Result<Established, Failure>, &mut Taps) -> ControlFlow<()> + 'a;

/// Connects to addresses, and through a proxy to what is behind it.
///
/// Each attempt reports [`Event::Connecting`], and [`Event::ConnectFailed`] if it fails. The caller reports the winner.
pub struct Connector<'a> {
    /// Makes the socket of each attempt.
    pub open: &'a mut Open<'a>,
    /// Bytes to send with the SYN where the socket and the kernel allow it (TCP Fast Open, RFC 7413).
    pub first: &'a [u8],
    /// Time limits.
    pub limits: Limits,
    /// Requests that may come meanwhile.
    pub interrupt: Option<Interrupt<'a>>,
    /// Observers of the attempts.
    pub taps: &'a mut Taps,
}

/// Source of requests, such as signals.
#[derive(Clone, Copy)]
pub struct Interrupt<'a> {
    /// Descriptor that is readable when there is a request.
    pub wake: BorrowedFd<'a>,
    /// Returns the request.
    pub next: &'a dyn Fn() -> Option<Request>,
}

impl Connector<'_> {
    /// Connects by the first of `hops` that leads to the target.
    ///
    /// Errors: the status is that of the failures if they agree. If not, the most telling decides: the deadline, then refused.
    pub fn connect(&mut self, hops: &[Hop]) -> Result<Established, Failure> {
        let mut result = None;
        let mut keep = |_, ended, _: &mut Taps| {
            result = Some(ended);
            ControlFlow::Continue(())
        };
        self.connect_each(&[hops.to_vec()], 1, &mut keep)?;
        match result {
            Some(ended) => ended,
            None => Err(Failure::new(Exit::Failed, "the race has no result")),
        }
    }

    /// Runs a race for each list of hops, `most` of them at once. Each result goes to `done` as it comes, with the index of its
    /// list.
    pub fn connect_each(
        &mut self,
        lists: &[Vec<Hop>],
        most: usize,
        done: &mut Done<'_>,
    ) -> Result<(), Failure> {
        let mut waiting = lists.iter().enumerate().peekable();
        let mut running: Vec<(usize, Race)> = Vec::new();
        loop {
            let now = Instant::now();
            let room = most.max(1) - running.len();
            running.extend(waiting.by_ref().take(room).map(|(number, hops)| {
                (
                    number,
                    Race::new(Transport::Tcp, hops, self.limits.for_race(now), now),
                )
            }));
            let before = running.len();
            for (number, mut race) in std::mem::take(&mut running) {
                let Some(ended) = race.advance(now, (self.open, self.first), self.taps) else {
                    running.push((number, race));
                    continue;
                };
                if done(number, ended, self.taps).is_break() {
                    return Ok(());
                }
            }
            if running.is_empty() && waiting.peek().is_none() {
                return Ok(());
            }
            if running.len() == before {
                self.wait(&mut running)?;
            }
        }
    }

    /// Waits until an attempt finishes, a request comes, or a race has something to do.
    fn wait(&mut self, races: &mut [(usize, Race)]) -> Result<(), Failure> {
        let sockets = races.iter().flat_map(|(_, race)| race.sockets());
        let mut watched: Vec<_> = sockets
            .map(|(socket, interest)| (socket.as_fd(), interest))
            .collect();
        let interrupt = self.interrupt;
        watched.extend(interrupt.map(|interrupt| (interrupt.wake, Interest::READ)));
        let until = races.iter().filter_map(|(_, race)| race.wake()).min();
        let failed = |error| Failure::io("cannot wait for a connection", &error);
        let Wakeup::Ready(mut ready) = wait(&watched, None, until).map_err(failed)? else {
            return Ok(());
        };
        if let Some(interrupt) = interrupt
            && ready.pop() == Some(true)
        {
            match (interrupt.next)() {
                Some(Request::End(number)) => return Err(Failure::signal(number)),
                Some(Request::Show) => {
                    let races = races.iter().map(|(_, race)| race);
                    let states: Vec<_> = races.flat_map(Race::states).collect();
                    self.taps.emit(&Event::Sockets(&states));
                }
                None => {}
            }
        }
        let mut ready = ready.into_iter();
        for (_, race) in races {
            race.mark(&mut ready);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::thread;
    use std::time::SystemTime;

    use pretty_assertions::assert_eq;
    use socket2::{Domain, Type};

    use super::*;
    use crate::address::proxy::Proxy;
    use crate::address::{Family, Host, Names, Resolver, Source, Targets};
    use crate::flow::Transport;
    use crate::tap::Tap;

    /// Events as texts.
    #[derive(Clone, Default)]
    struct Record(Rc<RefCell<Vec<String>>>);

    impl Tap for Record {
        fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
            self.0.borrow_mut().push(match event {
                Event::Connecting(target) => format!("connecting {}", target.remote),
                Event::ConnectFailed { target, .. } => format!("failed {}", target.remote),
                event => format!("{event:?}"),
            });
        }
    }

    fn open(remote: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    /// Runs a race, with a bound on every wait.
    fn run(
        addresses: &[SocketAddr],
        limit: Duration,
        interrupt: Option<Interrupt<'_>>,
    ) -> (Result<Established, Failure>, Vec<String>) {
        let record = Record::default();
        let mut taps = Taps::default();
        taps.add(Box::new(record.clone()));
        let mut connector = Connector {
            open: &mut |remote, _| Ok(open(remote)),
            first: &[],
            limits: within(limit),
            interrupt,
            taps: &mut taps,
        };
        let hops: Vec<Hop> = addresses.iter().map(|&to| to.into()).collect();
        let result = connector.connect(&hops);
        (result, record.0.take())
    }

    fn within(limit: Duration) -> Limits {
        Limits {
            each: Some(limit),
            all: None,
        }
    }

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that refuses: bound by a socket that does not listen.
    fn closed() -> (Socket, SocketAddr) {
        let socket = open("127.0.0.1:0".parse().unwrap());
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    /// An address that never answers: a listener whose queue is full.
    fn black_hole() -> (Vec<Socket>, SocketAddr) {
        let (listener, address) = closed();
        listener.listen(0).unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let socket = open(address);
            // In progress, whether it finds a place in the queue or not.
            let _ = socket.connect(&address.into());
            sockets.push(socket);
        }
        (sockets, address)
    }

    #[test]
    fn a_refusal_lets_the_next_one_start_at_once() {
        let (_closed, bad) = closed();
        let (_listener, good) = listener();
        let (result, events) = run(&[bad, good], LONG, None);
        let winner = result.unwrap();
        assert_eq!(winner.remote, good);
        assert!(winner.socket.peer_addr().is_ok());
        assert_eq!(
            events,
            [
                format!("connecting {bad}"),
                format!("failed {bad}"),
                format!("connecting {good}")
            ]
        );
    }

    #[test]
    fn a_connection_that_was_reset_has_been_made() {
        let (listener, good) = listener();
        let (mut writer, reader) = UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        // The server is done with it before the attempt is looked at.
        let next = || {
            if (&reader).read(&mut [0]).is_ok() {
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(b"before").unwrap();
                let client = Socket::from(client);
                client.set_linger(Some(Duration::ZERO)).unwrap();
            }
            None
        };
        let interrupt = Interrupt {
            wake: reader.as_fd(),
            next: &next,
        };
        let (result, _) = run(&[good], LONG, Some(interrupt));
        let mut winner = result.unwrap();
        let reset = winner.reset.map(|error| error.kind());
        assert_eq!(reset, Some(io::ErrorKind::ConnectionReset));
        let mut came = String::new();
        winner.socket.read_to_string(&mut came).unwrap();
        assert_eq!(came, "before");
    }

    #[test]
    fn silence_lets_the_next_one_join() {
        let (_full, silent) = black_hole();
        let (_listener, good) = listener();
        let (result, events) = run(&[silent, good], LONG, None);
        assert_eq!(result.unwrap().remote, good);
        assert_eq!(
            events,
            [
                format!("connecting {silent}"),
                format!("connecting {good}"),
                format!("failed {silent}")
            ]
        );
    }

    #[test]
    fn the_first_that_answers_keeps_the_others_from_starting() {
        let (_listener, good) = listener();
        let (_full, silent) = black_hole();
        let (result, events) = run(&[good, silent], LONG, None);
        assert_eq!(result.unwrap().remote, good);
        assert_eq!(events, [format!("connecting {good}")]);
    }

    #[test]
    fn each_failed_address_has_its_line() {
        let (_first, one) = closed();
        let (_second, two) = closed();
        let (result, _) = run(&[one, two], LONG, None);
        let message = format!(
            "cannot connect to {one}: connection refused\ncannot connect to {two}: connection refused"
        );
        assert_eq!(result.unwrap_err(), Failure::new(Exit::Refused, message));
    }

    #[test]
    fn the_deadline_ends_the_race() {
        let (_closed, bad) = closed();
        let (_full, silent) = black_hole();
        let (_listener, late) = listener();
        let (result, events) = run(&[bad, silent, late], SHORT, None);
        let message = format!(
            "cannot connect to {bad}: connection refused\n\
             cannot connect to {silent}: timed out after 0.05 s\n\
             cannot connect to {late}: not tried within 0.05 s"
        );
        assert_eq!(result.unwrap_err(), Failure::new(Exit::TimedOut, message));
        assert_eq!(events.last(), Some(&format!("failed {silent}")));
    }

    #[test]
    fn a_signal_shows_the_attempts_or_ends_the_race() {
        let (_full, silent) = black_hole();
        let (mut writer, reader) = UnixStream::pair().unwrap();
        writer.write_all(b"xx").unwrap();
        let asked = Cell::new(false);
        let next = || match (&reader).read(&mut [0]) {
            Ok(1) if asked.replace(true) => Some(Request::End(2)),
            _ => Some(Request::Show),
        };
        let interrupt = Interrupt {
            wake: reader.as_fd(),
            next: &next,
        };
        let (result, events) = run(&[silent], LONG, Some(interrupt));
        assert_eq!(result.unwrap_err(), Failure::signal(2));
        assert_eq!(events[0], format!("connecting {silent}"));
        assert!(
            events[1].contains("connecting") && events.len() == 2,
            "{events:?}"
        );
    }

    #[test]
    fn a_proxy_gets_one_target_at_a_time() {
        let (listener, at) = listener();
        let proxy: Proxy = format!("socks4://{at}").parse().unwrap();
        let (host, port) = (Host::Named("127.0.0.1".to_owned()), "1-2".parse().unwrap());
        let targets = Targets { host, ports: port };
        let resolver = Resolver {
            family: Family::Any,
            names: Names::Refused,
            transport: Transport::Tcp,
        };
        let lists = resolver.hops(&targets, Some(&Arc::new(proxy)), Source::Any);
        let hops = lists.unwrap().concat();
        let server = thread::spawn(move || {
            let mut request = [0; 9];
            let (mut first, _) = listener.accept().unwrap();
            first.read_exact(&mut request).unwrap();
            assert_eq!(request[3], 1);
            // Longer than the time between two attempts.
            let listener = Socket::from(listener);
            let time = Some(Duration::from_millis(400));
            listener.set_read_timeout(time).unwrap();
            assert!(listener.accept().is_err());
            first.write_all(&[0, 91, 0, 0, 0, 0, 0, 0]).unwrap();
            listener.set_read_timeout(Some(LONG)).unwrap();
            let (mut second, _) = listener.accept().unwrap();
            second.read_exact(&mut request).unwrap();
            assert_eq!(request[3], 2);
            second.write_all(&[0, 90, 0, 0, 0, 0, 0, 0]).unwrap();
        });
        let mut connector = Connector {
            open: &mut |remote, _| Ok(open(remote)),
            first: &[],
            limits: within(LONG),
            interrupt: None,
            taps: &mut Taps::default(),
        };
        let winner = connector.connect(&hops).unwrap();
        assert_eq!(
            (winner.remote, winner.via.unwrap().target.as_str()),
            (at, "127.0.0.1:2")
        );
        server.join().unwrap();
    }

    #[test]
    fn a_socket_that_meets_itself_is_refused() {
        let (socket, own) = closed();
        let mut socket = Some(socket);
        let mut connector = Connector {
            open: &mut |_, _| Ok(socket.take().unwrap()),
            first: &[],
            limits: within(LONG),
            interrupt: None,
            taps: &mut Taps::default(),
        };
        let result = connector.connect(&[own.into()]);
        let message = format!("cannot connect to {own}: connection refused");
        assert_eq!(result.unwrap_err(), Failure::new(Exit::Refused, message));
    }

    #[test]
    fn a_socket_that_cannot_be_opened_is_told_once() {
        let (_listener, good) = listener();
        let refuse = Failure::new(Exit::Failed, "--mss 5: invalid argument");
        let mut connector = Connector {
            open: &mut |_, _| Err(refuse.clone()),
            first: &[],
            limits: Limits::default(),
            interrupt: None,
            taps: &mut Taps::default(),
        };
        let result = connector.connect(&[good.into(), good.into()]);
        assert_eq!(result.unwrap_err(), refuse);
    }

    #[test]
    fn many_races_run_beside_each_other_a_few_at_a_time() {
        let (_full, silent) = black_hole();
        let (_listener, good) = listener();
        let (_closed, bad) = closed();
        let lists = [vec![silent], vec![bad], vec![good], vec![bad, good]];
        let lists = lists.map(|list| list.into_iter().map(Hop::from).collect::<Vec<_>>());
        let mut taps = Taps::default();
        let mut connector = Connector {
            open: &mut |remote, _| Ok(open(remote)),
            first: &[],
            limits: within(SHORT),
            interrupt: None,
            taps: &mut taps,
        };
        for most in [1, 2, 9] {
            let mut results = vec![None; lists.len()];
            let mut keep = |number: usize, ended: Result<Established, Failure>, _: &mut Taps| {
                let ended = ended.map(|winner| winner.remote);
                results[number] = Some(ended.map_err(|failure| failure.exit));
                ControlFlow::Continue(())
            };
            connector.connect_each(&lists, most, &mut keep).unwrap();
            assert_eq!(
                results,
                [
                    Some(Err(Exit::TimedOut)),
                    Some(Err(Exit::Refused)),
                    Some(Ok(good)),
                    Some(Ok(good))
                ]
            );
        }
        let mut stop = |_, _, _: &mut Taps| ControlFlow::Break(());
        connector.connect_each(&[], 1, &mut stop).unwrap();
        connector.connect_each(&lists[1..], 1, &mut stop).unwrap();
    }
}
