//! Relay: the target that each client is joined to, and the options of the way there.
//! Each client has a connection of its own, made by [`Pending`], and the pump moves bytes between the two.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use super::pending::Pending;
use super::retry::{ATTEMPT_TIMEOUT, PROXY_TIMEOUT};
use super::session::Session;
use crate::address::proxy::{Hop, Proxy};
use crate::address::{Endpoint, Port, Resolver, Source, Targets};
use crate::cli::{
    BufferOptions, ConnectOptions, FramingOptions, GroupOptions, NetworkOptions, RelayTarget,
    RetryOptions, SocketOptions, TcpOptions,
};
use crate::exit::Failure;
use crate::flow::{ConnId, Identity, Transport};
use crate::link::connect::Established;
use crate::link::framed::{self, Framing, MAX_FRAME};
use crate::link::stream::{Connection, ReceiveLimits};
use crate::link::udp::{self, MappingLimits, Mappings, Numbering, Numbers, Open};
use crate::pump::end::Link;
use crate::pump::{Partner, Wiring};
use crate::socket::open;
use crate::sys::sandbox::Rights;
use crate::tap::Taps;

/// Socket on the target leg.
pub(crate) enum TargetLeg {
    /// A connection. Where the client leg has datagrams, they stand in it in this form.
    Stream(TcpOptions, Option<Framing>),
    /// A UDP socket.
    Datagrams(GroupOptions, udp::Settings),
}

impl TargetLeg {
    pub(super) fn transport(&self) -> Transport {
        match self {
            Self::Stream(..) => Transport::Tcp,
            Self::Datagrams(..) => Transport::Udp,
        }
    }
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
    target: Targets,
    /// The proxy that leads there.
    proxy: Option<Arc<Proxy>>,
    /// The port of the target or the proxy, and the one to bind to, if there is one.
    ports: (u16, Option<u16>),
    resolver: Resolver,
    /// Name that a name server may be asked for.
    pub(super) name: Option<String>,
    connect: ConnectOptions,
    pub(super) retry: RetryOptions,
    buffers: BufferOptions,
    socket: SocketOptions,
    pub(super) leg: TargetLeg,
    idle_timeout: Option<Duration>,
    /// Peers, unless each client has a link of its own.
    peers: Option<Peers>,
}

impl Route {
    /// Returns the way to a target.
    ///
    /// Errors: a service has no port.
    pub(crate) fn new(
        session: &Session<'_>,
        target: &RelayTarget,
        (connect, retry): (&ConnectOptions, &RetryOptions),
        (network, leg): (&NetworkOptions, TargetLeg),
        peers: Option<Peers>,
    ) -> Result<Self, Failure> {
        let resolver = network.address.resolver(leg.transport());
        let Endpoint { host, port } = &target.endpoint;
        let port = resolver.port(port)?;
        let proxy = session.proxy.clone();
        let first = proxy
            .as_ref()
            .map(|proxy| resolver.port(&proxy.endpoint.port));
        let first = first.transpose()?.unwrap_or(port);
        let (source, source_port) = (connect.source.as_deref(), connect.source_port.as_ref());
        let from = source_port.map_or(Ok(0), |port| resolver.port(port))?;
        Ok(Self {
            name: resolver.queried_name_on_way(host, proxy.as_ref(), source),
            target: Targets::from(Endpoint {
                host: host.clone(),
                port: Port::Number(port),
            }),
            proxy,
            ports: (first, (source.is_some() || from > 0).then_some(from)),
            resolver,
            connect: connect.clone(),
            retry: retry.clone(),
            buffers: session.common.buffers.clone(),
            socket: network.socket.clone(),
            leg,
            idle_timeout: session.rules.idle_timeout,
            peers,
        })
    }

    /// Returns the rights that a socket on the target leg needs.
    pub(super) fn rights(&self) -> Rights<'static> {
        let (connect, bind) = self.ports;
        let is_stream = matches!(self.leg, TargetLeg::Stream(..));
        Rights {
            connect: Some(connect).filter(|_| is_stream),
            bind: bind.filter(|_| is_stream),
            names: self.name.is_some(),
            ..Rights::default()
        }
    }

    /// Returns the time that an attempt may take, its look-up included.
    pub(super) fn limit(&self, is_repeated: bool) -> Option<Duration> {
        let connect = self.connect.connect_timeout;
        let limit = connect.or(is_repeated.then_some(ATTEMPT_TIMEOUT));
        let proxied = self.proxy.as_ref().map(|_| PROXY_TIMEOUT);
        limit.or(self.idle_timeout).or(proxied)
    }

    /// Returns the look-up of the address to connect from, and of the first hops to the target.
    pub(super) fn addresses(
        &self,
    ) -> impl FnOnce() -> Result<(Source, Vec<Hop>), Failure> + Send + use<> {
        let (resolver, target, proxy) = (self.resolver, self.target.clone(), self.proxy.clone());
        let connect = &self.connect;
        let (host, port) = (connect.source.clone(), connect.source_port.clone());
        let is_stream = self.leg.transport() == Transport::Tcp;
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

    /// Opens a socket that is ready to `connect` to `remote`.
    pub(super) fn open(
        &self,
        remote: SocketAddr,
        source: Source,
        taps: &mut Taps,
    ) -> Result<Socket, Failure> {
        let (buffers, socket) = (&self.buffers, &self.socket);
        match &self.leg {
            TargetLeg::Stream(tcp, _) => {
                open::connecting(remote, source, (buffers, socket, tcp), taps)
            }
            TargetLeg::Datagrams(groups, _) => {
                open::sending(remote, source, (buffers, socket, groups), taps)
            }
        }
    }

    /// Returns the link over a connected socket.
    pub(super) fn link(&self, winner: Established, conn: ConnId) -> io::Result<Box<dyn Link>> {
        let (remote, limits) = (winner.remote, ReceiveLimits::default());
        Ok(match &self.leg {
            TargetLeg::Stream(_, framing) => {
                let peer = (Transport::Tcp, remote.into());
                let mut connection = Connection::new(winner.socket, peer, Some(conn), limits)?;
                connection.reset = winner.reset;
                framed::wrap(*framing, Box::new(connection))
            }
            TargetLeg::Datagrams(_, settings) => {
                let settings = udp::Settings {
                    numbering: Numbering::Peer(conn),
                    ..settings.clone().with_target(remote)
                };
                Box::new(udp::Socket::new(winner.socket, settings)?)
            }
        })
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
