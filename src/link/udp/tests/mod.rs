//! Tests of the UDP socket against plain sockets on loopback, with many datagrams a call and with one.
//! A rig is a link, its observer and a batch; sockets of the standard library are its peers.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Settings, Socket};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::Exit;
use crate::flow::{Direction, Flow};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Wait};
use crate::pump::rules::Engine;
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{Event, IcmpError, KernelDrop, Tap, Taps};

mod addresses;
mod endings;
mod losses;
mod policies;
mod refusals;
mod runs;

/// Time limit of every wait.
const TEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Recorder of events, one line each; of data the direction, the addresses and the boundaries.
#[derive(Clone, Default)]
struct Tape(Rc<RefCell<Vec<String>>>);

impl Tap for Tape {
    fn event(&mut self, event: &Event<'_>, _time: std::time::SystemTime) {
        let line = match *event {
            Event::Data(data) => {
                let (len, count) = (data.len, data.count());
                assert_eq!(data.bytes.map(<[u8]>::len), Some(len));
                let Shape::Datagrams(size) = data.shape else {
                    panic!("a stream: {data:?}");
                };
                let flow = data.flow.arrow(data.direction);
                format!("{flow} {len} in {count} of {size}")
            }
            Event::Unreachable(IcmpError {
                flow,
                reason,
                datagrams,
                reported_by,
            }) => {
                assert_eq!(reported_by, None);
                let line = format!("{} {reason}", flow.arrow(Direction::Outgoing));
                match datagrams {
                    1 => line,
                    many => format!("{line} x {many}"),
                }
            }
            Event::Ignored { flow, bytes } => {
                format!("ignored {} {bytes}", flow.arrow(Direction::Incoming))
            }
            Event::Forgotten(flow) => format!("forgotten {}", flow.remote),
            Event::Truncated { bytes, size, .. } => format!("truncated {size} -> {bytes}"),
            Event::Dropped(KernelDrop {
                datagrams: count,
                at_least,
                ..
            }) => {
                let more = if at_least { " or more" } else { "" };
                format!("dropped {count}{more}")
            }
            Event::Closed(state) => format!("closed {}", state.identity),
            _ => format!("{event:?}"),
        };
        self.0.borrow_mut().push(line);
    }
}

/// A link under test.
struct Rig {
    link: Socket,
    taps: Taps,
    tape: Tape,
    batch: Batch,
}

impl Rig {
    /// A socket bound to `local`.
    fn bound(local: &str, settings: Settings) -> Self {
        let local: SocketAddr = local.parse().unwrap();
        let domain = socket2::Domain::for_address(local);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
        socket.bind(&local.into()).unwrap();
        Self::new(socket, settings)
    }

    /// A socket that the first datagram binds.
    fn unbound(settings: Settings) -> Self {
        let domain = socket2::Domain::IPV4;
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
        Self::new(socket, settings)
    }

    fn new(socket: socket2::Socket, settings: Settings) -> Self {
        let recorder = Tape::default();
        let mut taps = Taps::default();
        taps.add(Box::new(recorder.clone()));
        Self {
            link: Socket::new(socket, settings).unwrap(),
            taps,
            tape: recorder,
            batch: Batch::default(),
        }
    }

    fn local(&self) -> SocketAddr {
        self.link.identity().local().inet().unwrap()
    }

    /// Returns a plain socket that sends to the link, and can be reached by it.
    fn peer(&self) -> UdpSocket {
        let peer = peer_at("127.0.0.1:0");
        peer.connect(("127.0.0.1", self.local().port())).unwrap();
        peer
    }

    fn recv(&mut self) -> Arrival {
        self.batch.clear();
        self.link.recv(&mut self.batch, &mut self.taps).unwrap()
    }

    /// Receives until nothing more is there. Returns the datagrams that were passed on, and the reason to stop.
    fn drain(&mut self) -> (Vec<(Flow, Vec<u8>)>, Stop) {
        let mut found = Vec::new();
        loop {
            match self.recv() {
                Arrival::Data => {
                    for run in self.batch.runs() {
                        let flow = run.flow.clone().unwrap();
                        let bytes = self.batch.bytes(run);
                        let parts = split(bytes, run.shape).into_iter();
                        found.extend(parts.map(|part| (flow.clone(), part.to_vec())));
                    }
                }
                Arrival::Enough => return (found, Stop::Enough),
                Arrival::Nothing if is_readable(&self.link, Instant::now()) => {}
                Arrival::Nothing => return (found, Stop::Nothing(until(&self.link))),
                Arrival::End => return (found, Stop::End),
                Arrival::Link(_) | Arrival::Established(_) => panic!("not of a UDP socket"),
            }
        }
    }

    /// Returns the payloads that are there now. Loopback delivers before `send` returns.
    fn payloads(&mut self) -> Vec<Vec<u8>> {
        self.drain().0.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// Receives, and waits where the link asks for that, until the end.
    fn wait_until_enough(&mut self) -> Vec<Vec<u8>> {
        let start = Instant::now();
        let mut found = Vec::new();
        loop {
            let (more, stop) = self.drain();
            found.extend(more.into_iter().map(|(_, bytes)| bytes));
            assert!(start.elapsed() < TEST_TIMEOUT, "it never ends");
            match stop {
                Stop::Enough | Stop::End => return found,
                Stop::Nothing(until) => {
                    is_readable(&self.link, until.unwrap_or(start + TEST_TIMEOUT));
                }
            }
        }
    }

    /// Sends one datagram for each of `parts`, from the local end.
    fn send(&mut self, parts: &[&[u8]]) {
        let runs = parts.iter().map(|part| (*part, part.len().max(1), None));
        self.send_runs(&runs.collect::<Vec<_>>()).unwrap();
    }

    /// Sends runs: bytes, the size of their datagrams, and the flow that they answer.
    fn send_runs(&mut self, runs: &[(&[u8], usize, Option<Flow>)]) -> std::io::Result<()> {
        let mut batch = Batch::default();
        let bytes: Vec<u8> = runs.iter().flat_map(|run| run.0).copied().collect();
        batch.space(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
        let mut start = 0;
        for (bytes, stride, flow) in runs {
            let (len, shape) = (bytes.len(), Shape::Datagrams(*stride));
            let flow = flow.clone();
            batch.push(Run {
                start,
                len,
                shape,
                flow,
            });
            start += len;
        }
        let mut at = Cursor::default();
        self.link.send(&batch, &mut at, &mut self.taps)?;
        assert!(batch.is_taken(at));
        Ok(())
    }

    fn finish(&mut self) {
        self.link.finish(Finish::All, &mut self.taps).unwrap();
    }

    fn close(&mut self) -> Exit {
        let closed = self.link.close(Close::Orderly, &mut self.taps);
        closed.map_or_else(|failure| failure.exit, |()| Exit::Done)
    }

    /// Returns the events so far.
    fn events(&self) -> Vec<String> {
        self.tape.0.take()
    }

    /// Returns the number of events so far that begin with `kind`.
    fn count(&self, kind: &str) -> usize {
        let events = self.tape.0.borrow();
        events
            .iter()
            .filter(|event| event.starts_with(kind))
            .count()
    }
}

/// Reason to stop receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// [`Arrival::End`].
    End,
    Nothing(Option<Instant>),
    Enough,
}

/// Runs a test twice: many datagrams a call, and one.
fn both(test: impl Fn(bool)) {
    test(true);
    test(false);
}

fn engine(fast: bool) -> Engine {
    if fast { Engine::Fast } else { Engine::Portable }
}

/// The settings of a bound socket.
fn settings(fast: bool) -> Settings {
    Settings {
        engine: engine(fast),
        ..Settings::default()
    }
}

/// The settings of a socket that sends first.
fn towards(target: SocketAddr, fast: bool) -> Settings {
    Settings {
        engine: engine(fast),
        ..Settings::towards(target)
    }
}

fn peer_at(local: &str) -> UdpSocket {
    let peer = UdpSocket::bind(local).unwrap();
    peer.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    peer
}

/// Returns an address without a socket, which no other test is given meanwhile.
fn closed_port() -> SocketAddr {
    peer_at("127.0.0.77:0").local_addr().unwrap()
}

/// Receives the next datagram of a plain socket, and its sender.
fn next(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, sender) = peer.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), sender)
}

/// Returns true if nothing is queued at a plain socket.
fn is_quiet(peer: &UdpSocket) -> bool {
    peer.set_nonblocking(true).unwrap();
    let is_quiet = peer.recv(&mut [0; 1]).is_err();
    peer.set_nonblocking(false).unwrap();
    is_quiet
}

/// Returns the datagrams of a run.
fn split(bytes: &[u8], shape: Shape) -> Vec<&[u8]> {
    match shape {
        Shape::Datagrams(stride) if !bytes.is_empty() => bytes.chunks(stride).collect(),
        _ => vec![bytes],
    }
}

/// Waits until a socket is readable, or that time; returns true if it is readable.
fn is_readable(link: &Socket, until: Instant) -> bool {
    let Wait::For {
        fd: Some((fd, _)), ..
    } = link.readiness().recv
    else {
        return false;
    };
    let woken = wait(&[(fd, Interest::READ)], None, Some(until)).unwrap();
    woken != Wakeup::TimedOut
}

/// Returns true if some peer can be sent to.
fn is_addressed(link: &Socket) -> bool {
    !matches!(link.readiness().send, Wait::Never)
}

/// Returns the time at which a socket has something to do although nothing comes.
fn until(link: &Socket) -> Option<Instant> {
    match link.readiness().recv {
        Wait::For { until, .. } => until,
        Wait::Now | Wait::Never => None,
    }
}
