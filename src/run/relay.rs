//! Relay: the target that each client is joined to, and the options of the way there.
//! Each client has a connection of its own, made by [`Pending`], and the pump moves bytes between the two.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::pending::Pending;
use super::retry::{ATTEMPT_TIMEOUT, PROXY_TIMEOUT};
use super::session::Session;
use crate::address::proxy::{Hop, Proxy};
use crate::address::{Endpoint, Port, Resolver, Source, Targets};
use crate::cli::{
    BufferOptions, ConnectOptions, NetworkOptions, RelayTarget, RetryOptions, SocketOptions,
    TcpOptions,
};
use crate::exit::Failure;
use crate::flow::Transport;
use crate::pump::{Partner, Wiring};
use crate::sys::sandbox::Rights;

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
    tcp: TcpOptions,
    idle_timeout: Option<Duration>,
}

impl Route {
    /// Returns the way to a target over TCP.
    ///
    /// Errors: a service has no port.
    pub(crate) fn new(
        session: &Session<'_>,
        target: &RelayTarget,
        (connect, retry): (&ConnectOptions, &RetryOptions),
        (network, tcp): (&NetworkOptions, &TcpOptions),
    ) -> Result<Self, Failure> {
        let resolver = network.address.resolver(Transport::Tcp);
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
            tcp: tcp.clone(),
            buffers: session.common.buffers.clone(),
            socket: network.socket.clone(),
            idle_timeout: session.rules.idle_timeout,
        })
    }

    /// Returns the rights that a connection needs.
    pub(super) fn rights(&self) -> Rights<'static> {
        let (connect, bind) = self.ports;
        Rights {
            connect: Some(connect),
            bind,
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
        move || {
            let source = resolver.source(host.as_deref(), port.as_ref())?;
            let lists = resolver.hops(&target, proxy.as_ref(), source)?;
            Ok((source, lists.concat()))
        }
    }

    /// Returns the options of the socket.
    pub(super) fn options(&self) -> (&BufferOptions, &SocketOptions, &TcpOptions) {
        (&self.buffers, &self.socket, &self.tcp)
    }

    /// Returns the plan for the pump.
    pub(super) fn wiring(self: &Rc<Self>) -> Wiring {
        let route = Rc::clone(self);
        Wiring::Each(Box::new(move |client| {
            let pending = Pending::new(&route, client)?;
            Ok(Partner::Link(Box::new(pending)))
        }))
    }
}
