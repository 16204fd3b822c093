//! Steps that the modes with a listening socket share: the rules of a server, its local end, and the start of serving.
//! The transport decides nothing here: a mode opens its socket, and hands over the [`Listener`] or the one connection.

use std::rc::Rc;

use anyhow::{Context, Result};
use socket2::Socket;

use super::local_end::{ChildScope, ClientOutput, DESCRIPTORS_PER_CHILD, LocalEnd, affordable};
use super::observers::Observers;
use super::relay::{Route, TargetLeg, datagrams_towards, framing};
use super::session::{Session, Side};
use super::traffic::{Payload, Traffic};
use crate::address::access::Access;
use crate::cli::{
    AcceptOptions, CommonOptions, GroupOptions, NetworkOptions, OverLimit, PeerEndOptions,
    RelayOptions, RelayTarget, StdinTo, TcpOptions,
};
use crate::flow::{Address, ConnId, Leg, Transport};
use crate::link::framed;
use crate::link::stream::{Clients, Connection, Excess, Listener, Settings};
use crate::link::udp;
use crate::local::out_dir::OpenDir;
use crate::pump::end::Link;
use crate::pump::rules::{InputTo, OnInputEnd, OnPeerEnd};
use crate::tap::{Conversation, Event, Reach, Rejection};

impl<'a> Session<'a> {
    /// Prepares a session with the rules of a server, which may have many clients.
    pub(crate) fn accepting(
        options: &AcceptOptions,
        (common, peer_end): (&'a CommonOptions, &PeerEndOptions),
        (transport, mut traffic): (Transport, Traffic),
        observers: Observers<'a>,
    ) -> Result<Self> {
        let clients = &options.clients;
        if clients.stdin_to == StdinTo::None {
            traffic.replace_stdin(Payload::Nothing);
        }
        let mut session = Self::new(common, (Side::Server, transport), traffic, observers);
        session.proxy = options.relay.connect.proxy()?;
        session.choose_peer_end(peer_end.on_peer_eof);
        let rules = &mut session.rules;
        if clients.keep_open {
            // A relay does not come between a target and a client that is slow.
            rules.client_timeout = (!options.is_relay()).then_some(clients.client_timeout);
            rules.input_to = match clients.stdin_to {
                StdinTo::All | StdinTo::None => InputTo::All,
                StdinTo::First => InputTo::First,
                StdinTo::Last => InputTo::Last,
            };
        }
        let ends = &common.ends;
        if clients.broker && ends.on_stdin_eof.is_none() && ends.quit_after.is_none() {
            // The other clients may have something to send as long as they are there.
            rules.on_input_end = OnInputEnd::Keep;
        }
        if clients.broker && rules.on_peer_end == OnPeerEnd::Auto {
            rules.on_peer_end = OnPeerEnd::Quit;
        }
        Ok(session)
    }

    /// Returns the local end that each client is joined to.
    pub(crate) fn client_end(
        &self,
        options: &AcceptOptions,
        sockets: (&NetworkOptions, &TcpOptions),
    ) -> Result<LocalEnd> {
        if let Some(target) = &options.relay.to {
            return self.relay(target, &options.relay, sockets);
        }
        let (server, clients) = (&options.server, &options.clients);
        let children = if clients.keep_open {
            (server.max_children, ChildScope::Connection)
        } else {
            (1, ChildScope::OnlyConnection)
        };
        let output = match &clients.out_dir {
            Some(path) => ClientOutput::Files(OpenDir::open(path)?),
            None if clients.prefix => ClientOutput::Prefixed,
            None => ClientOutput::Plain,
        };
        Ok(
            match LocalEnd::of_server(self.common, server, children, usize::MAX)? {
                LocalEnd::Stdio(_) if clients.broker => LocalEnd::Broker(output),
                LocalEnd::Stdio(_) => LocalEnd::Stdio(output),
                other => other,
            },
        )
    }

    /// Returns the relay to the target of the options.
    fn relay(
        &self,
        target: &RelayTarget,
        relay: &RelayOptions,
        (network, tcp): (&NetworkOptions, &TcpOptions),
    ) -> Result<LocalEnd> {
        let leg = match target.transport(self.transport) {
            Transport::Udp => {
                let settings = udp::Settings {
                    reply_timeout: Some(relay.peer_timeout()),
                    ..datagrams_towards(self)
                };
                TargetLeg::Datagrams(GroupOptions::default(), settings)
            }
            _ => TargetLeg::Stream(tcp.clone(), None),
        };
        let route = Route::new(self, (target, relay), (network, leg), None)?;
        Ok(LocalEnd::Relay(Rc::new(route)))
    }

    /// Returns the settings of the listening socket.
    pub(crate) fn listener_settings(
        &self,
        options: &AcceptOptions,
        peer_end: &PeerEndOptions,
        access: Access,
    ) -> Settings {
        let own = self.transport;
        let crosses = |target: Transport| target.has_boundaries() != own.has_boundaries();
        let is_framed = options.relay.transport(own).is_some_and(crosses);
        Settings {
            clients: served(options, self.common),
            accept_timeout: options.listen.accept_timeout,
            limits: self.receive_limits(peer_end),
            over_limit: match options.clients.over_limit {
                OverLimit::Wait => Excess::Waits,
                OverLimit::Reject => Excess::Rejected,
            },
            access,
            leg: options.is_relay().then_some(Leg::Client),
            framing: is_framed.then(|| framing(&self.common.framing, None)),
        }
    }

    /// Serves the clients of a listening socket.
    pub(crate) fn listen(&mut self, listener: Listener, reach: Reach) -> Result<()> {
        let identity = listener.identity();
        self.taps.emit(&Event::Listening {
            socket: &identity,
            reach,
        });
        self.announce(&identity)?;
        self.pump(|pump| pump.listen(Box::new(listener)))
    }

    /// Serves the one client whose connection systemd has accepted.
    pub(crate) fn serve_accepted(
        &mut self,
        socket: Socket,
        remote: Address,
        settings: &Settings,
    ) -> Result<()> {
        let ip = remote.inet().map(|remote| remote.ip());
        let conn = Some(ConnId {
            number: 1,
            leg: settings.leg,
        });
        let connection = Connection::new(socket, (self.transport, remote), conn, settings.limits)
            .context("cannot use the connection")?;
        let flow = connection.flow();
        if ip.is_some_and(|ip| !settings.access.admits(ip)) {
            let (datagrams, reason) = (None, Rejection::Denied);
            self.taps.emit(&Event::Rejected {
                flow,
                datagrams,
                reason,
            });
            return Ok(());
        }
        self.taps
            .emit(&Event::Accepted(Conversation { flow, conn }));
        self.announce(&connection.identity())?;
        self.run(framed::wrap(settings.framing, Box::new(connection)))
    }
}

/// Returns the clients to serve: in all, and at once as far as descriptors last.
fn served(options: &AcceptOptions, common: &CommonOptions) -> Clients {
    let clients = &options.clients;
    if !clients.keep_open {
        return Clients::first(1);
    }
    let (most, each) = if common.program.is_given() {
        (options.server.max_children, DESCRIPTORS_PER_CHILD)
    } else {
        // A connection, and perhaps a file or the connection to a target.
        let has_more = clients.out_dir.is_some() || options.is_relay();
        (u64::MAX, 1 + u64::from(has_more))
    };
    Clients {
        in_all: clients.count.unwrap_or(u64::MAX),
        at_once: affordable(clients.max_clients.unwrap_or(most), each),
    }
}
