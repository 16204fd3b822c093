//! Where the experiments take place: servers on loopback that the pump drives, and a tap that writes down what it sees.
//! Clients act first and the pump runs afterwards: what they did waits in the kernel, so nothing depends on who is faster.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::address::access::Access;
use crate::cli::Compare;
use crate::exit::{Exit, Failure};
use crate::flow::{Direction, Flow};
use crate::link::{tcp, udp};
use crate::pump::rules::{Engine, InputTo, OnInputEnd, OnPeerEnd, Rules, Words};
use crate::pump::{Pump, Wiring};
use crate::sys::signals::Signals;
use crate::tap::{Event, Tap, Taps};

/// How long nothing has to come for it to count as silence.
pub(super) const SILENCE: Duration = Duration::from_millis(50);

/// The bound on every wait. It only passes where something is wrong.
pub(super) const BOUND: Duration = Duration::from_secs(5);

/// The stage of all experiments.
pub(super) struct Scene {
    ip: IpAddr,
    signals: Signals,
    pub(super) clients: usize,
    pub(super) message: String,
}

/// What a pump saw while it ran.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Connections, in order.
    pub(super) accepted: Vec<Flow>,
    /// What came from the network: whence, how many bytes, and in how many datagrams or pieces of a stream.
    pub(super) received: Vec<(Flow, usize, usize)>,
    /// Connections whose peer sent its FIN.
    pub(super) finished: Vec<Flow>,
    /// Why connections broke.
    pub(super) broken: Vec<String>,
}

struct Recorder(Rc<RefCell<Record>>);

impl Tap for Recorder {
    fn event(&mut self, event: &Event<'_>, _time: std::time::SystemTime) {
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
        } else if let Event::Broken { error, .. } = event {
            record.broken.push(crate::exit::describe(error));
        }
    }
}

/// What the pump drives.
pub(super) enum Server {
    /// A listening socket, for so many clients.
    Listener(Socket, usize),
    /// A bound socket.
    Datagrams(Socket, udp::Settings),
}

impl Scene {
    pub(super) fn new(options: &Compare) -> Result<Self, Failure> {
        Ok(Self {
            ip: if options.ipv6 {
                Ipv6Addr::LOCALHOST.into()
            } else {
                Ipv4Addr::LOCALHOST.into()
            },
            signals: Signals::new().map_err(|error| Failure::io("cannot catch signals", &error))?,
            clients: options.clients.into(),
            message: options.message.clone(),
        })
    }

    /// Our address.
    pub(super) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// A socket without a name.
    pub(super) fn socket(&self, kind: Type) -> io::Result<Socket> {
        Socket::new(Domain::for_address(self.at(0)), kind, None)
    }

    /// Our address with this port.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// A socket with a name of its own.
    pub(super) fn bound(&self, kind: Type) -> io::Result<Socket> {
        let socket = self.socket(kind)?;
        socket.bind(&self.at(0).into())?;
        Ok(socket)
    }

    /// A client's socket, connected to `server`, with a bound on every wait.
    pub(super) fn client(&self, kind: Type, server: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(kind)?;
        socket.set_read_timeout(Some(BOUND))?;
        socket.set_write_timeout(Some(BOUND))?;
        if kind == Type::STREAM {
            socket.set_tcp_nodelay(true)?;
        }
        socket.connect(&server.into())?;
        Ok(socket)
    }

    /// Lets the pump drive a server until it has nothing more to do, or nothing has moved for `patience`; returns what it saw.
    pub(super) fn pump(
        &self,
        server: Server,
        wiring: Wiring,
        patience: Duration,
    ) -> Result<Record, Failure> {
        let unusable = |error: io::Error| Failure::io("cannot use a socket", &error);
        let record = Rc::new(RefCell::new(Record::default()));
        let mut taps = Taps::default();
        taps.add(Box::new(Recorder(Rc::clone(&record))));
        let mut pump =
            Pump::new(wiring, rules(patience), &self.signals, &mut taps).map_err(unusable)?;
        match server {
            Server::Listener(socket, clients) => {
                let clients = tcp::Clients::First(clients as u64);
                let settings = tcp::Settings {
                    clients,
                    accept_timeout: None,
                    max_bytes: None,
                    access: Access::default(),
                };
                let listener = tcp::Listener::new(socket, settings).map_err(unusable)?;
                pump.listen(Box::new(listener));
            }
            Server::Datagrams(socket, settings) => {
                let socket = udp::Socket::new(socket, settings).map_err(unusable)?;
                pump.join(Box::new(socket));
            }
        }
        match pump.run() {
            Err(failure) if matches!(failure.exit, Exit::Signal(_)) => Err(failure),
            // A connection that breaks, and silence, are what some experiments are about.
            _ => Ok(record.take()),
        }
    }
}

fn rules(patience: Duration) -> Rules {
    Rules {
        on_input_end: OnInputEnd::FinishAfterPeer,
        on_peer_end: OnPeerEnd::Wait,
        input_to: InputTo::All,
        client_timeout: None,
        input_is_terminal: false,
        idle_timeout: Some(patience),
        deadline: Some((Instant::now() + BOUND, BOUND)),
        engine: Engine::Fast,
        words: Words::default(),
    }
}

/// The internet address of a socket.
pub(super) fn name_of(socket: &Socket) -> io::Result<SocketAddr> {
    tcp::address_of(&socket.local_addr()?)
}
