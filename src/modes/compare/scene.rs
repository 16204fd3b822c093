//! Scene of the experiments: servers on loopback that the pump drives, and a tap that records what it sees.
//! Clients act first and the pump runs afterwards: what they did waits in the kernel, so no outcome is a race.

use std::cell::RefCell;
use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

use crate::address::access::Access;
use crate::cli::Compare;
use crate::exit::{Exit, Failure};
use crate::flow::{Direction, Flow, Transport};
use crate::link::{stream, udp};
use crate::local::stdio::Stdio;
use crate::pump::rules::{OnInputEnd, OnPeerEnd, Rules};
use crate::pump::{Pump, Wiring};
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::{Event, Tap, Taps};

/// Time without a byte that counts as silence.
pub(super) const SILENCE: Duration = Duration::from_millis(50);

/// Bound on every wait. It passes only if something is wrong.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// Scene of all experiments.
pub(super) struct Scene {
    /// Our address.
    pub(super) ip: IpAddr,
    signals: Signals,
    pub(super) clients: usize,
    pub(super) connections: usize,
    pub(super) message: String,
}

/// Record of what a pump saw.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Connections, in order.
    pub(super) accepted: Vec<Flow>,
    /// Reads: the flow, the number of bytes, and that of datagrams or parts of a stream.
    pub(super) received: Vec<(Flow, usize, usize)>,
    /// Connections whose peer sent its FIN.
    pub(super) finished: Vec<Flow>,
    /// Bytes that each client got back after its FIN.
    pub(super) answers: Vec<Vec<u8>>,
}

struct Recorder(Rc<RefCell<Record>>);

impl Tap for Recorder {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        let mut record = self.0.borrow_mut();
        if let Event::Accepted(name) = event {
            record.accepted.push(name.flow.clone());
        } else if let Event::Data(data) = event
            && data.direction == Direction::Incoming
        {
            let received = (data.flow.clone(), data.len, data.count());
            record.received.push(received);
        } else if let Event::PeerFinished(name) = event {
            record.finished.push(name.flow.clone());
        }
    }
}

/// Socket for the pump to drive.
pub(super) enum Server {
    /// A listening socket, for so many clients.
    Listener(Socket, usize),
    /// A bound socket.
    Datagrams(Socket),
    /// A bound socket for datagrams up to an empty one.
    UntilEmpty(Socket),
}

impl Scene {
    pub(super) fn new(options: &Compare) -> Result<Self> {
        Ok(Self {
            ip: if options.ipv6 {
                Ipv6Addr::LOCALHOST.into()
            } else {
                Ipv4Addr::LOCALHOST.into()
            },
            signals: Signals::new().context("cannot catch signals")?,
            clients: options.clients.into(),
            connections: options.connections as usize,
            message: options.message.clone(),
        })
    }

    /// Returns our address with a port.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Opens a socket without a name.
    pub(super) fn socket(&self, kind: Type) -> io::Result<Socket> {
        Socket::new(Domain::for_address(self.at(0)), kind, None)
    }

    /// Opens a socket with a name that the kernel chooses.
    pub(super) fn bound(&self, kind: Type) -> io::Result<(Socket, SocketAddr)> {
        let socket = self.socket(kind)?;
        socket.bind(&self.at(0).into())?;
        let name = name_of(&socket)?;
        Ok((socket, name))
    }

    /// Opens a socket that is connected to `server`, with a bound on every wait.
    pub(super) fn client(&self, kind: Type, server: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(kind)?;
        socket.set_read_timeout(Some(WAIT_LIMIT))?;
        socket.set_write_timeout(Some(WAIT_LIMIT))?;
        if kind == Type::STREAM {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect(&server.into())?;
        Ok(socket)
    }

    /// Opens a listening socket, and returns its address.
    pub(super) fn listener(&self, backlog: i32) -> io::Result<(Socket, SocketAddr)> {
        let (listener, name) = self.bound(Type::STREAM)?;
        listener.listen(backlog)?;
        Ok((listener, name))
    }

    /// Makes a connection; returns its sockets, that of the client first.
    pub(super) fn pair(&self, listener: &Socket, name: SocketAddr) -> io::Result<(Socket, Socket)> {
        let client = self.client(Type::STREAM, name)?;
        let (server, _) = listener.accept()?;
        server.set_read_timeout(Some(WAIT_LIMIT))?;
        Ok((client, server))
    }

    /// Waits until Enter is pressed.
    ///
    /// Errors: a signal asks for the end.
    pub(super) fn pause(&self) -> Result<()> {
        let stdin = io::stdin();
        let watched = [(stdin.as_fd(), Interest::READ)];
        match wait(&watched, Some(&self.signals), None)? {
            Wakeup::Signal(Request::End(number)) => return Err(Failure::signal(number).into()),
            // SIGUSR1 goes on, as a key does.
            Wakeup::Signal(Request::Show) | Wakeup::TimedOut => 0,
            // So does the end of the input.
            Wakeup::Ready(_) => stdin.lock().read_line(&mut String::new())?,
        };
        Ok(())
    }

    /// Lets the pump drive a server until it is done, or nothing has moved for a time; returns what it saw.
    pub(super) fn pump(&self, server: Server, wiring: Wiring, idle: Duration) -> Result<Record> {
        let record = Rc::new(RefCell::new(Record::default()));
        let mut taps = Taps::default();
        taps.add(Box::new(Recorder(Rc::clone(&record))));
        let mut pump = Pump::new(wiring, rules(idle), &self.signals, &mut taps)?;
        let mut settings = udp::Settings::default();
        match server {
            Server::Listener(socket, clients) => {
                let settings = stream::Settings {
                    clients: stream::Clients::first(clients as u64),
                    accept_timeout: None,
                    limits: stream::ReceiveLimits::default(),
                    over_limit: stream::Excess::Waits,
                    leg: None,
                    framing: None,
                    access: Access::default(),
                };
                pump.listen(Box::new(stream::Listener::new(
                    socket,
                    Transport::Tcp,
                    settings,
                )?));
            }
            Server::Datagrams(socket) => pump.join(Box::new(udp::Socket::new(socket, settings)?)),
            Server::UntilEmpty(socket) => {
                settings.eof_datagram = true;
                pump.join(Box::new(udp::Socket::new(socket, settings)?));
            }
        }
        match pump.run() {
            Err(failure) if matches!(failure.exit, Exit::Signal(_)) => Err(failure.into()),
            // Some experiments are about silence.
            _ => Ok(record.take()),
        }
    }
}

/// Returns a local end that drops what it gets, and sends nothing.
pub(super) fn sink() -> Wiring {
    Wiring::Shared(Box::new(Stdio::new(None, None)))
}

fn rules(idle: Duration) -> Rules {
    Rules {
        on_input_end: OnInputEnd::FinishAfterPeer,
        on_peer_end: OnPeerEnd::Wait,
        idle_timeout: Some(idle),
        deadline: Some((Instant::now() + WAIT_LIMIT, WAIT_LIMIT)),
        ..Rules::default()
    }
}

/// Waits until a condition holds that no descriptor reports, for a while at most; returns its last value.
pub(super) fn until(mut holds: impl FnMut() -> bool) -> io::Result<bool> {
    let limit = Instant::now() + WAIT_LIMIT;
    while !holds() {
        if Instant::now() >= limit {
            return Ok(false);
        }
        wait(&[], None, Some(Instant::now() + Duration::from_millis(1)))?;
    }
    Ok(true)
}

/// Returns the internet address of a socket.
pub(super) fn name_of(socket: &Socket) -> io::Result<SocketAddr> {
    let local = socket.local_addr()?.as_socket();
    local.ok_or_else(|| io::Error::other("the socket has no internet address"))
}
