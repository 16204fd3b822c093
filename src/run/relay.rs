//! Relay: the target that each client is joined to, and the options of the way there.
//! Each client has a connection of its own, made by [`Pending`], and the pump moves bytes between the two.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::background::Background;
use super::pending::Pending;
use super::session::Session;
use crate::address::proxy::{Hop, Proxy};
use crate::address::{Endpoint, Port, Resolver, Source, Targets, UnixName};
use crate::cli::{
    BufferOptions, ConnectOptions, FramingOptions, GroupOptions, NetworkOptions, RelayOptions,
    RelayTarget, RetryOptions, SocketOptions, TcpOptions,
};
use crate::exit::Failure;
use crate::flow::{ConnId, Identity, Transport};
use crate::link::connect::Established;
use crate::link::framed::{self, Framing, MAX_FRAME};
use crate::link::stream::{Connection, ReceiveLimits};
use crate::link::udp::{self, MappingLimits, Mappings, Numbering, Numbers, Open};
use crate::link::unix::{Audience, Datagrams, peer};
use crate::pump::end::Link;
use crate::pump::{Partner, Wiring};
use crate::socket::open;
use crate::sys::sandbox::Rights;
use crate::tap::Taps;

/// Socket on the target leg, where that has an IP address.
pub(crate) enum TargetLeg {
    /// A connection. Where the client leg has datagrams, they stand in it in this form.
    Stream(TcpOptions, Option<Framing>),
    /// A UDP socket.
    Datagrams(GroupOptions, udp::Settings),
}

/// Returns the form in which datagrams of at most `limit` bytes stand in a stream.
pub(crate) fn framing(options: &FramingOptions, limit: Option<usize>) -> Framing {
    Framing {
        input: options.input,
        output: options.output,
        limit: limit.unwrap_or(MAX_FRAME),
    }
}

/// Returns the settings of a UDP socket on the target leg. Errors that come back are reported, and end nothing.
pub(crate) fn datagrams_towards(session: &Session<'_>) -> udp::Settings {
    udp::Settings {
        engine: session.rules.engine,
        ..udp::Settings::default()
    }
}

/// Peers that share the socket of the client leg, by their numbers there.
pub(crate) type Peers = (Numbers, MappingLimits);

/// Way to the target, the same for each client.
pub(crate) struct Route {
    pub(super) target: Target,
    /// Time that an attempt may take.
    pub(super) limit: Option<Duration>,
    pub(super) retry: RetryOptions,
    pub(super) buffers: BufferOptions,
    pub(super) transport: Transport,
    /// Peers, unless each client has a link of its own.
    peers: Option<Peers>,
}

/// Target of a relay.
pub(super) enum Target {
    /// A host and a port.
    Inet(Rc<InetTarget>),
    /// A Unix socket.
    Unix(UnixName),
}

/// Host and port of a target, and the address to connect from.
pub(super) struct InetTarget {
    endpoint: Targets,
    /// The proxy that leads there.
    proxy: Option<Arc<Proxy>>,
    /// The port of the target or the proxy, and the one to bind to, if there is one.
    ports: (u16, Option<u16>),
    resolver: Resolver,
    /// Name that a name server may be asked for.
    pub(super) name: Option<String>,
    source: (Option<String>, Option<Port>),
    socket: SocketOptions,
    leg: TargetLeg,
    look_up: RefCell<LookUp>,
}

/// Addresses of an attempt: where it comes from, and where it may go.
pub(super) type Addresses = (Source, Vec<Hop>);

/// Look-up of the addresses. All clients that come while it runs share it, so that a slow name server costs one thread.
#[derive(Default)]
struct LookUp {
    work: Option<Background<Result<Addresses, Failure>>>,
    /// Latest result, and the time at which it was known.
    result: Option<(Instant, Result<Addresses, Failure>)>,
}

/// Addresses that are known, or will be.
pub(super) enum Found {
    Addresses(Addresses),
    /// They are known once this descriptor is readable.
    Later(OwnedFd),
}

impl Route {
    /// Returns the way to a target. A Unix socket is of the target's own kind, and `leg` is for any other.
    ///
    /// Errors: a service has no port.
    pub(crate) fn new(
        session: &Session<'_>,
        (target, options): (&RelayTarget, &RelayOptions),
        (network, leg): (&NetworkOptions, TargetLeg),
        peers: Option<Peers>,
    ) -> Result<Self, Failure> {
        let (connect, transport) = (&options.connect, target.transport(session.transport));
        let is_repeated = options.retry.retry_for.is_some();
        Ok(Self {
            target: match target {
                RelayTarget::Unix(name) => Target::Unix(name.clone()),
                RelayTarget::Inet(_, endpoint) => {
                    let resolver = network.address.resolver(transport);
                    let proxy = session.proxy.clone();
                    let ways = (proxy, connect, &network.socket);
                    Target::Inet(Rc::new(InetTarget::new(endpoint, resolver, leg, ways)?))
                }
            },
            limit: session.attempt_limit(connect.connect_timeout, is_repeated),
            retry: options.retry.clone(),
            buffers: session.common.buffers.clone(),
            transport,
            peers,
        })
    }

    /// Returns the rights that a socket on the target leg needs.
    pub(super) fn rights(&self) -> Rights<'static> {
        let Target::Inet(target) = &self.target else {
            return Rights {
                unix: true,
                ..Rights::default()
            };
        };
        let (connect, bind) = target.ports;
        let is_stream = self.transport == Transport::Tcp;
        Rights {
            connect: Some(connect).filter(|_| is_stream),
            bind: bind.filter(|_| is_stream),
            names: target.name.is_some(),
            ..Rights::default()
        }
    }

    /// Returns the link over a Unix socket that is connected to `name`.
    pub(super) fn unix_link(
        &self,
        socket: Socket,
        name: &UnixName,
        conn: ConnId,
    ) -> io::Result<Box<dyn Link>> {
        if self.transport == Transport::UnixDatagram {
            let local = rustix::net::getsockname(&socket)?.try_into()?;
            let audience = Audience::Target((name.address(), None));
            let settings = udp::Settings {
                numbering: Numbering::Peer(conn),
                ..udp::Settings::default()
            };
            let link = Datagrams::new(socket, (local, None), audience, settings)?;
            return Ok(Box::new(link));
        }
        let remote = peer(&socket, &name.address())?;
        let (peer, limits) = ((self.transport, remote), ReceiveLimits::default());
        Ok(Box::new(Connection::new(socket, peer, Some(conn), limits)?))
    }

    /// Returns the plan for the pump.
    pub(super) fn wiring(self: &Rc<Self>) -> Wiring {
        let route = Rc::clone(self);
        Wiring::Each(Box::new(move |client| {
            let link: Box<dyn Link> = match (&route.peers, client.identity(), client.conn()) {
                (Some((numbers, limits)), socket, _) => {
                    let route = Rc::clone(&route);
                    let open: Open = Box::new(move |flow, conn| {
                        Box::new(Pending::new(&route, (flow.clone(), conn)))
                    });
                    Box::new(Mappings::new(socket, numbers.clone(), *limits, open)?)
                }
                (None, Identity::Pair(flow), Some(conn)) => {
                    Box::new(Pending::new(&route, (flow, conn)))
                }
                _ => return Err(io::ErrorKind::NotConnected.into()),
            };
            Ok(Partner::Link(link))
        }))
    }
}

impl InetTarget {
    fn new(
        endpoint: &Endpoint,
        resolver: Resolver,
        leg: TargetLeg,
        (proxy, connect, socket): (Option<Arc<Proxy>>, &ConnectOptions, &SocketOptions),
    ) -> Result<Self, Failure> {
        let Endpoint { host, port } = endpoint;
        let port = resolver.port(port)?;
        let first = proxy
            .as_ref()
            .map(|proxy| resolver.port(&proxy.endpoint.port));
        let first = first.transpose()?.unwrap_or(port);
        let (source, source_port) = (connect.source.as_deref(), connect.source_port.as_ref());
        let from = source_port.map_or(Ok(0), |port| resolver.port(port))?;
        Ok(Self {
            name: resolver.queried_name_on_way(host, proxy.as_ref(), source),
            endpoint: Targets::from(Endpoint {
                host: host.clone(),
                port: Port::Number(port),
            }),
            proxy,
            ports: (first, (source.is_some() || from > 0).then_some(from)),
            resolver,
            source: (connect.source.clone(), connect.source_port.clone()),
            socket: socket.clone(),
            leg,
            look_up: RefCell::default(),
        })
    }

    /// Opens a socket that is ready to `connect` to `remote`.
    pub(super) fn open(
        &self,
        remote: SocketAddr,
        source: Source,
        buffers: &BufferOptions,
        taps: &mut Taps,
    ) -> Result<Socket, Failure> {
        let common = &self.socket;
        match &self.leg {
            TargetLeg::Stream(tcp, _) => {
                open::connecting(remote, source, (buffers, common, tcp), taps)
            }
            TargetLeg::Datagrams(groups, _) => {
                open::sending(remote, source, (buffers, common, groups), taps)
            }
        }
    }

    /// Returns the link over a connected socket.
    pub(super) fn link(&self, winner: Established, conn: ConnId) -> io::Result<Box<dyn Link>> {
        match &self.leg {
            TargetLeg::Stream(_, framing) => {
                let limits = ReceiveLimits::default();
                let connection = Connection::established(winner, Some(conn), limits);
                Ok(framed::wrap(*framing, Box::new(connection)))
            }
            TargetLeg::Datagrams(_, settings) => {
                let settings = udp::Settings {
                    numbering: Numbering::Peer(conn),
                    ..settings.clone().with_target(winner.remote)
                };
                Ok(Box::new(udp::Socket::new(winner.socket, settings)?))
            }
        }
    }

    /// Returns the addresses as they are after `since`.
    pub(super) fn look_up(&self, transport: Transport, since: Instant) -> Result<Found, Failure> {
        let mut look_up = self.look_up.borrow_mut();
        if let Some(work) = look_up.work.take_if(|work| work.is_done()) {
            look_up.result = Some((Instant::now(), work.finish()));
        }
        if let Some((time, result)) = &look_up.result
            && *time >= since
        {
            return result.clone().map(Found::Addresses);
        }
        let work = match look_up.work.take() {
            Some(work) => work,
            None => Background::start(self.addresses(transport))?,
        };
        // Each waits for a descriptor of its own: the first that looks takes the result.
        let done = look_up.work.insert(work).descriptor().try_clone_to_owned();
        let done = done.map_err(|error| Failure::io("cannot wait for a look-up", &error))?;
        Ok(Found::Later(done))
    }

    /// Returns the look-up of the address to connect from, and of the first hops to the target.
    pub(super) fn addresses(
        &self,
        transport: Transport,
    ) -> impl FnOnce() -> Result<Addresses, Failure> + Send + use<> {
        let (resolver, target, proxy) = (self.resolver, self.endpoint.clone(), self.proxy.clone());
        let (host, port) = self.source.clone();
        let is_stream = transport == Transport::Tcp;
        move || {
            let source = resolver.source(host.as_deref(), port.as_ref())?;
            let lists = resolver.hops(&target, proxy.as_ref(), source)?;
            let mut hops = lists.concat();
            if !is_stream {
                // Only a connection shows which of them answers.
                hops.truncate(1);
            }
            Ok((source, hops))
        }
    }
}
