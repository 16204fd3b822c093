//! `tcp-listen`: socket, bind, listen, accept. It waits for clients, and each of them gets a new socket.
//! The listening socket is named by its address alone; a client's socket has the same one, and only its 4-tuple is its own.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind`, `listen` | [`open::listening`], called below |
//! | `accept` | [`Listener`], in `link/stream/listener.rs`: what it receives are connections |
//! | `recv`, `send` | [`Connection`], in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`); or splice(2), where no tap sees the bytes (`pump/splice.rs`) |
//! | `shutdown`: sends the FIN | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use std::rc::Rc;

use anyhow::{Context, Result};

use crate::address::BindAddress;
use crate::address::access::Access;
use crate::cli::{
    Accepting, BindPoint, ConnectOptions, GroupOptions, NetworkOptions, OverLimit, RelayOptions,
    RetryOptions, StdinTo, TcpListen, TcpOptions,
};
use crate::exit::{Exit, Failure};
use crate::flow::{Address, ConnId, Leg, Transport};
use crate::link::framed::{self, Framing};
use crate::link::stream::{Clients, Connection, Excess, Listener, ReceiveLimits, Settings};
use crate::link::udp;
use crate::local::out_dir::OpenDir;
use crate::pump::end::Link;
use crate::pump::rules::{InputTo, OnInputEnd, OnPeerEnd};
use crate::run::{
    ChildScope, ClientOutput, DESCRIPTORS_PER_CHILD, LocalEnd, Observers, Payload, Route, Session,
    Side, TargetLeg, Traffic, affordable, datagrams_towards, framing as relay_framing,
    refuse_exposure,
};
use crate::socket::activation::{self, Stream};
use crate::socket::open;
use crate::tap::{Conversation, Event, Rejection};

pub(super) fn run(options: &TcpListen, observers: Observers<'_>) -> Result<()> {
    let mut session = session(options.accepting(), observers);
    session.address = options.network.address;
    let access = session.access(Transport::Tcp, &options.access)?;
    session.proxy = options.connect.proxy()?;
    let place = place(options, &session, &access)?;
    let ways = (&options.relay, &options.connect, &options.retry);
    let sockets = (&options.network, &options.tcp);
    session.local = match relay(&session, Transport::Tcp, ways, sockets)? {
        Some(relay) => relay,
        None => local_end(options.accepting())?,
    };
    let settings = settings(options.accepting(), access);
    let (socket, reach) = match place {
        Place::Addresses(addresses) => open::listening(&addresses, options, session.taps)?,
        Place::Passed(Stream::Listening(socket, reach)) => (socket, reach),
        Place::Passed(Stream::Connected(socket, remote)) => {
            let peer = (Transport::Tcp, remote);
            return serve_accepted(session, socket, peer, &settings);
        }
    };
    session.report_shortfalls(&socket)?;
    let listener = Listener::new(socket, Transport::Tcp, settings)
        .context("cannot use the listening socket")?;
    let identity = listener.identity();
    session.taps.emit(&Event::Listening {
        socket: &identity,
        reach,
    });
    session.announce(&identity)?;
    session.listen(Box::new(listener))
}

/// Prepares a session with the rules of a server, which may have many clients.
pub(super) fn session<'a>(options: Accepting<'a>, observers: Observers<'a>) -> Session<'a> {
    let clients = options.clients;
    let mut traffic = Traffic::stream(options.common);
    if clients.stdin_to == StdinTo::None {
        traffic.replace_stdin(Payload::Nothing);
    }
    let mut session = Session::new(options.common, Side::Server, traffic, observers);
    session.choose_peer_end(options.peer_end.on_peer_eof);
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
    let ends = &options.common.ends;
    if clients.broker && ends.on_stdin_eof.is_none() && ends.quit_after.is_none() {
        // The other clients may have something to send as long as they are there.
        rules.on_input_end = OnInputEnd::Keep;
    }
    if clients.broker && rules.on_peer_end == OnPeerEnd::Auto {
        rules.on_peer_end = OnPeerEnd::Quit;
    }
    session
}

/// Place to listen at.
enum Place {
    /// The first of these that this machine has.
    Addresses(Vec<BindAddress>),
    /// A socket that was passed.
    Passed(Stream),
}

fn place(options: &TcpListen, session: &Session<'_>, access: &Access) -> Result<Place> {
    let endpoint = match &options.bind.0 {
        BindPoint::At(endpoint) => endpoint,
        BindPoint::Passed(name) => {
            let passed = activation::stream(name.as_deref(), options)?;
            if options.clients.keep_open && matches!(passed, Stream::Connected(..)) {
                let text =
                    "-k takes a socket that listens; systemd passes one connection (Accept=yes)";
                return Err(Failure::new(Exit::Usage, text).into());
            }
            return Ok(Place::Passed(passed));
        }
    };
    let addresses = session.bind_addresses(Transport::Tcp, endpoint)?;
    let use_of = (&options.common.program, options.relay.to.as_ref());
    refuse_exposure(session, use_of, access, (&endpoint.host, &addresses))?;
    Ok(Place::Addresses(addresses))
}

/// Returns the form in which a client's datagrams stand in its stream, if the target takes datagrams.
fn framing(options: Accepting<'_>) -> Option<Framing> {
    let (own, target) = options.transports;
    let is_framed = target.is_some_and(|target| target.has_boundaries() != own.has_boundaries());
    is_framed.then(|| relay_framing(&options.common.framing, None))
}

/// Returns the relay to the target of the options, if they name one.
pub(super) fn relay(
    session: &Session<'_>,
    own: Transport,
    (relay, connect, retry): (&RelayOptions, &ConnectOptions, &RetryOptions),
    (network, tcp): (&NetworkOptions, &TcpOptions),
) -> Result<Option<LocalEnd>> {
    let Some(target) = &relay.to else {
        return Ok(None);
    };
    let leg = match target.transport(own) {
        Transport::Udp => {
            let settings = udp::Settings {
                reply_timeout: Some(relay.peer_timeout()),
                ..datagrams_towards(session)
            };
            TargetLeg::Datagrams(GroupOptions::default(), settings)
        }
        unix if unix.is_unix() => TargetLeg::Unix(unix, None),
        _ => TargetLeg::Stream(tcp.clone(), None),
    };
    let route = Route::new(session, target, (connect, retry), (network, leg), None)?;
    Ok(Some(LocalEnd::Relay(Rc::new(route))))
}

/// Returns the local end that each client is joined to.
pub(super) fn local_end(options: Accepting<'_>) -> Result<LocalEnd> {
    let (common, server, clients) = (options.common, options.server, options.clients);
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
        match LocalEnd::of_server(common, server, children, usize::MAX)? {
            LocalEnd::Stdio(_) if clients.broker => LocalEnd::Broker(output),
            LocalEnd::Stdio(_) => LocalEnd::Stdio(output),
            other => other,
        },
    )
}

pub(super) fn settings(options: Accepting<'_>, access: Access) -> Settings {
    let (common, clients) = (options.common, options.clients);
    Settings {
        clients: served(options),
        accept_timeout: options.listen.accept_timeout,
        limits: ReceiveLimits {
            bytes: common.ends.max_bytes,
            reads: options.peer_end.max_reads,
        },
        over_limit: match clients.over_limit {
            OverLimit::Wait => Excess::Waits,
            OverLimit::Reject => Excess::Rejected,
        },
        access,
        leg: options.is_relay().then_some(Leg::Client),
        framing: framing(options),
    }
}

/// Returns the clients to serve: in all, and at once as far as descriptors last.
fn served(options: Accepting<'_>) -> Clients {
    let clients = options.clients;
    if !clients.keep_open {
        return Clients::first(1);
    }
    let (most, each) = if options.common.program.is_given() {
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

/// Serves the one client whose connection systemd has accepted.
pub(super) fn serve_accepted(
    mut session: Session<'_>,
    socket: socket2::Socket,
    peer: (Transport, Address),
    settings: &Settings,
) -> Result<()> {
    let ip = peer.1.inet().map(|remote| remote.ip());
    let conn = Some(ConnId {
        number: 1,
        leg: settings.leg,
    });
    let connection = Connection::new(socket, peer, conn, settings.limits)
        .context("cannot use the connection")?;
    let flow = connection.flow();
    if ip.is_some_and(|ip| !settings.access.admits(ip)) {
        let (datagrams, reason) = (None, Rejection::Denied);
        session.taps.emit(&Event::Rejected {
            flow,
            datagrams,
            reason,
        });
        return Ok(());
    }
    session
        .taps
        .emit(&Event::Accepted(Conversation { flow, conn }));
    session.announce(&connection.identity())?;
    session.run(framed::wrap(settings.framing, Box::new(connection)))
}
