//! Connecting to the first of several addresses that answers: happy eyeballs (RFC 8305).
//! Attempts start a moment apart and run side by side; the first connection wins, and the others are closed.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::Socket;

use crate::exit::{Exit, Failure};
use crate::tap::{Event, Taps};

/// How long an attempt runs alone before the next one joins it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The connection that was made first.
#[derive(Debug)]
pub struct Winner {
    /// The connected socket, non-blocking as it was opened.
    pub socket: Socket,
    /// The address that answered.
    pub remote: SocketAddr,
    /// How long its attempt took.
    pub after: Duration,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// The interrupt descriptor became readable.
    Interrupted,
    /// Every address failed, or the time was up: one line of message for each address that was tried.
    Failed(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Connects to the first of `addresses` that answers before `deadline`: a point in time, and the limit that led to it.
///
/// `open` makes the non-blocking socket for an address. The race ends early when `interrupt` becomes readable; nothing is read
/// from it. Each attempt reports [`Event::Connecting`], and [`Event::ConnectFailed`] if it fails; the winner is for the caller
/// to report.
///
/// Errors: the status is that of the failures if they agree. If not, the most telling decides: the deadline, then refused.
pub fn race(
    addresses: &[SocketAddr],
    open: &mut dyn FnMut(SocketAddr, &mut Taps) -> Result<Socket, Failure>,
    deadline: Option<(Instant, Duration)>,
    interrupt: Option<BorrowedFd<'_>>,
    taps: &mut Taps,
) -> Result<Winner, Lost> {
    let mut race = Race {
        waiting: addresses.iter().copied().collect(),
        running: Vec::new(),
        failures: Vec::new(),
        taps,
    };
    let mut next_start = Instant::now();
    loop {
        let now = Instant::now();
        if let Some((_, limit)) = deadline.filter(|(deadline, _)| *deadline <= now) {
            return Err(race.time_out(limit).into());
        }
        if (race.running.is_empty() || next_start <= now)
            && let Some(remote) = race.waiting.pop_front()
        {
            match race.start(remote, open) {
                Started::Won(winner) => return Ok(winner),
                Started::Runs => next_start = now + HEAD_START,
                Started::Failed => next_start = now,
            }
            continue;
        }
        if race.running.is_empty() {
            return Err(race.verdict().into());
        }
        let next_start_counts = (!race.waiting.is_empty()).then_some(next_start);
        let deadline = deadline.map(|(deadline, _)| deadline);
        let wake = deadline.into_iter().chain(next_start_counts).min();
        match race.wait(wake, interrupt)? {
            Waited::Won(winner) => return Ok(winner),
            Waited::Lost => next_start = now,
            Waited::Nothing => {}
        }
    }
}

/// What is known in the middle of a race.
struct Race<'a> {
    waiting: VecDeque<SocketAddr>,
    running: Vec<Attempt>,
    failures: Vec<Failure>,
    taps: &'a mut Taps,
}

struct Attempt {
    socket: Socket,
    remote: SocketAddr,
    began: Instant,
}

/// What came of beginning an attempt.
enum Started {
    Won(Winner),
    Runs,
    Failed,
}

/// What came of waiting for the attempts that run.
enum Waited {
    Won(Winner),
    /// At least one failed.
    Lost,
    Nothing,
}

impl Attempt {
    fn win(self) -> Winner {
        Winner {
            after: self.began.elapsed(),
            socket: self.socket,
            remote: self.remote,
        }
    }

    /// What became of a finished attempt.
    fn outcome(&self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        let local = self.socket.local_addr()?.as_socket();
        if local == Some(self.remote) {
            // By chance the kernel chose the very port that is being called, and the socket met itself (simultaneous open,
            // RFC 9293, 3.5): nobody listens there.
            return Err(Errno::CONNREFUSED.into());
        }
        Ok(())
    }
}

impl Race<'_> {
    /// Begins an attempt.
    fn start(
        &mut self,
        remote: SocketAddr,
        open: &mut dyn FnMut(SocketAddr, &mut Taps) -> Result<Socket, Failure>,
    ) -> Started {
        let socket = match open(remote, self.taps) {
            Ok(socket) => socket,
            Err(failure) => {
                self.failures.push(failure);
                return Started::Failed;
            }
        };
        self.taps.emit(&Event::Connecting { remote });
        let attempt = Attempt {
            socket,
            remote,
            began: Instant::now(),
        };
        let connected = attempt.socket.connect(&remote.into());
        match connected.and_then(|()| attempt.outcome()) {
            Ok(()) => Started::Won(attempt.win()),
            Err(error) if is_under_way(&error) => {
                self.running.push(attempt);
                Started::Runs
            }
            Err(error) => {
                self.fail(&attempt, &error);
                Started::Failed
            }
        }
    }

    /// Waits until an attempt finishes, at the latest until `wake`; failed attempts leave the race.
    fn wait(
        &mut self,
        wake: Option<Instant>,
        interrupt: Option<BorrowedFd<'_>>,
    ) -> Result<Waited, Lost> {
        let sockets = self.running.iter().map(|attempt| &attempt.socket);
        let mut watched: Vec<PollFd<'_>> = sockets
            .map(|socket| PollFd::new(socket, PollFlags::OUT))
            .chain(interrupt.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)))
            .collect();
        let rest = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
        let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
        match poll(&mut watched, rest.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Failure::io("cannot wait for a connection", &error.into()).into());
            }
        }
        let mut ready: Vec<bool> = watched
            .iter()
            .map(|watched| !watched.revents().is_empty())
            .collect();
        if interrupt.is_some() && ready.pop() == Some(true) {
            return Err(Lost::Interrupted);
        }
        Ok(self.sort_out(&ready))
    }

    /// Looks at the attempts that are `ready`: the first connection ends the race, failed ones leave it.
    fn sort_out(&mut self, ready: &[bool]) -> Waited {
        let mut waited = Waited::Nothing;
        for (attempt, is_ready) in std::mem::take(&mut self.running).into_iter().zip(ready) {
            if !is_ready {
                self.running.push(attempt);
                continue;
            }
            match attempt.outcome() {
                Ok(()) => return Waited::Won(attempt.win()),
                Err(error) => self.fail(&attempt, &error),
            }
            waited = Waited::Lost;
        }
        waited
    }

    fn fail(&mut self, attempt: &Attempt, error: &io::Error) {
        let remote = attempt.remote;
        self.taps.emit(&Event::ConnectFailed {
            remote,
            error,
            after: attempt.began.elapsed(),
        });
        let act = format!("cannot connect to {remote}");
        self.failures.push(Failure::io(act, error));
    }

    /// Ends the race at the deadline: what still runs has timed out, and what still waits has missed it.
    fn time_out(mut self, limit: Duration) -> Failure {
        let limit = limit.as_secs_f64();
        for attempt in std::mem::take(&mut self.running) {
            let remote = attempt.remote;
            self.taps.emit(&Event::ConnectFailed {
                remote,
                error: &Errno::TIMEDOUT.into(),
                after: attempt.began.elapsed(),
            });
            self.note_time_out(remote, format_args!("timed out after {limit} s"));
        }
        for remote in std::mem::take(&mut self.waiting) {
            self.note_time_out(remote, format_args!("not tried within {limit} s"));
        }
        Failure {
            exit: Exit::TimedOut,
            ..self.verdict()
        }
    }

    fn note_time_out(&mut self, remote: SocketAddr, reason: fmt::Arguments<'_>) {
        let text = format!("cannot connect to {remote}: {reason}");
        self.failures.push(Failure::new(Exit::TimedOut, text));
    }

    /// All failures in one.
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

/// Whether `connect` goes on in the background (connect(2)).
fn is_under_way(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::INPROGRESS.raw_os_error()) || code == Some(Errno::INTR.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::SystemTime;

    use pretty_assertions::assert_eq;
    use socket2::{Domain, Type};

    use super::*;
    use crate::tap::Tap;

    /// Events as texts.
    #[derive(Clone, Default)]
    struct Record(Rc<RefCell<Vec<String>>>);

    impl Tap for Record {
        fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
            self.0.borrow_mut().push(match event {
                Event::Connecting { remote } => format!("connecting {remote}"),
                Event::ConnectFailed { remote, .. } => format!("failed {remote}"),
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
        interrupt: Option<BorrowedFd<'_>>,
    ) -> (Result<Winner, Lost>, Vec<String>) {
        let record = Record::default();
        let mut taps = Taps::default();
        taps.add(Box::new(record.clone()));
        let deadline = Some((Instant::now() + limit, limit));
        let open = &mut |remote, _: &mut Taps| Ok(open(remote));
        let result = race(addresses, open, deadline, interrupt, &mut taps);
        (result, record.0.take())
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
    fn silence_lets_the_next_one_join() {
        let (_full, silent) = black_hole();
        let (_listener, good) = listener();
        let (result, events) = run(&[silent, good], LONG, None);
        assert_eq!(result.unwrap().remote, good);
        assert_eq!(
            events,
            [format!("connecting {silent}"), format!("connecting {good}")]
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
        assert_eq!(
            result.unwrap_err(),
            Lost::Failed(Failure::new(Exit::Refused, message))
        );
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
        assert_eq!(
            result.unwrap_err(),
            Lost::Failed(Failure::new(Exit::TimedOut, message))
        );
        assert_eq!(events.last(), Some(&format!("failed {silent}")));
    }

    #[test]
    fn an_interruption_ends_the_race_and_is_left_to_be_read() {
        let (_full, silent) = black_hole();
        let (mut writer, reader) = UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        let (result, _) = run(&[silent], LONG, Some(reader.as_fd()));
        assert_eq!(result.unwrap_err(), Lost::Interrupted);
        assert_eq!((&reader).read(&mut [0; 2]).unwrap(), 1);
    }

    #[test]
    fn a_socket_that_meets_itself_is_refused() {
        let (socket, own) = closed();
        let mut socket = Some(socket);
        let mut open = |_, _: &mut Taps| Ok(socket.take().unwrap());
        let deadline = Some((Instant::now() + LONG, LONG));
        let result = race(&[own], &mut open, deadline, None, &mut Taps::default());
        let message = format!("cannot connect to {own}: connection refused");
        assert_eq!(
            result.unwrap_err(),
            Lost::Failed(Failure::new(Exit::Refused, message))
        );
    }

    #[test]
    fn a_socket_that_cannot_be_opened_is_told_once() {
        let (_listener, good) = listener();
        let refuse = Failure::new(Exit::Failed, "--mss 5: invalid argument");
        let result = race(
            &[good, good],
            &mut |_, _| Err(refuse.clone()),
            None,
            None,
            &mut Taps::default(),
        );
        assert_eq!(result.unwrap_err(), Lost::Failed(refuse));
    }
}
