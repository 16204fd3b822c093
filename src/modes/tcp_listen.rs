//! `tcp-listen`: socket, bind, listen, accept. It waits for clients, and each of them gets a new socket.
//! The listening socket is named by its address and port alone; a client's socket has the same, and is told apart by the 4-tuple.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind`, `listen` | [`open::listening`], called below |
//! | `accept` | [`Listener`], in `link/tcp/listener.rs`: what it receives are connections |
//! | `recv`, `send` | [`Connection`], in `link/tcp.rs`, as the pump calls it (`pump/transfer.rs`); or splice(2), where nobody looks at the bytes (`pump/bypass.rs`) |
//! | `shutdown`: sends the FIN | the same, at the end of the input (`pump/ending.rs`) |
//! | `close` | when both directions have ended, and the pump drops it (`pump/ending.rs`) |

use std::rc::Rc;

use crate::address::BindAddress;
use crate::address::access::Access;
use crate::cli::{BindPoint, EndOptions, StdinTo, TcpListen};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::link::tcp::{Client, Clients, Connection, Listener, Settings};
use crate::local::out_dir::{OpenDir, OutDir};
use crate::local::prefix::PrefixedLines;
use crate::local::stdio::Stdio;
use crate::pump::Wiring;
use crate::pump::end::Link;
use crate::pump::rules::{InputTo, OnInputEnd, OnPeerEnd, Rules};
use crate::run::children::{FailedChild, RESERVED, affordable, refuse_open_program};
use crate::run::observers::Watched;
use crate::run::responder;
use crate::run::session::{Session, Side, choose_peer_end, shared_stdio};
use crate::run::traffic::Traffic;
use crate::socket::activation::{self, Stream};
use crate::socket::{open, options};
use crate::sys::inherited::allow_descriptors;
use crate::tap::{Conversation, Event};

pub(super) fn run(options: &TcpListen, watched: Watched<'_>) -> anyhow::Result<()> {
    let TcpListen {
        listen,
        clients,
        common,
        ..
    } = options;
    // Input that nobody gets is not read, and its end is not waited for.
    let ends = &EndOptions {
        recv_only: common.ends.recv_only || clients.stdin_to == StdinTo::None,
        ..common.ends.clone()
    };
    let place = place(options)?;
    let access = options.server.access.access()?;
    let answers = responder::answers(&options.server.responder, usize::MAX)?;
    let folder = clients.out_dir.as_deref().map(OpenDir::open).transpose()?;
    let mut session = session(options, ends, folder.as_ref(), watched)?;
    let children = session.prepare_program(&common.program, ends, child_limit(options))?;
    if answers.is_some() {
        session.replace_input(ends);
    }
    let wire = |stdio| match (children, answers) {
        (Some(children), _) => children.for_connections(),
        (None, Some(answers)) => responder::wiring(answers),
        (None, None) => wiring(options, folder, stdio),
    };

    let terms = options::terms(ends, &options.tcp);

    let (socket, reach) = match place {
        Place::Addresses(addresses) => open::listening(
            &addresses,
            listen.backlog,
            &common.socket,
            &options.tcp,
            session.taps,
        )?,
        Place::Passed(Stream::Listening(socket, reach)) => (socket, reach),
        Place::Passed(Stream::Connected(socket, remote)) => {
            let connection = Connection::new(socket, remote, Some(Client::only()), terms)
                .map_err(|error| Failure::io("cannot use the connection", &error))?;
            return serve_accepted(session, connection, &access, wire);
        }
    };
    session.report_shortfalls(&socket, &common.socket)?;
    let settings = Settings {
        clients: client_limit(options),
        patience: listen.accept_timeout,
        terms,
        access,
    };
    let listener = Listener::new(socket, settings)
        .map_err(|error| Failure::io("cannot use the listening socket", &error))?;
    session.taps.emit(&Event::Listening {
        socket: &listener.identity(),
        reach,
    });
    session.announce(&listener.identity())?;
    session.listen(Box::new(listener), wire)
}

/// Where to listen.
enum Place {
    /// On the first of these that this machine has.
    Addresses(Vec<BindAddress>),
    /// On a socket that was passed.
    Passed(Stream),
}

fn place(options: &TcpListen) -> Result<Place, Failure> {
    match &options.bind.0 {
        BindPoint::At(endpoint) => {
            let resolver = options.common.address.resolver(Transport::Tcp);
            let addresses = resolver.bind_addresses(endpoint)?;
            refuse_open_program(
                &options.common.program,
                endpoint,
                &addresses,
                &options.server.access,
            )?;
            Ok(Place::Addresses(addresses))
        }
        BindPoint::Passed(name) => {
            let passed = activation::stream(name.as_deref(), &options.common.socket, &options.tcp)?;
            if options.clients.keep_open && matches!(passed, Stream::Connected(..)) {
                let text =
                    "-k takes a socket that listens; systemd passes one connection (Accept=yes)";
                return Err(Failure::new(Exit::Usage, text));
            }
            Ok(Place::Passed(passed))
        }
    }
}

fn session<'a>(
    options: &TcpListen,
    ends: &EndOptions,
    folder: Option<&OpenDir>,
    watched: Watched<'a>,
) -> anyhow::Result<Session<'a>> {
    let traffic = Traffic::stream(&options.common.framing).with_literal(&options.common.dialogue);
    let shared = (ends, &options.common.dialogue, &options.common.engine);
    let mut session = Session::new(shared, Side::Server, traffic, watched)?;
    adjust(&mut session.rules, options);
    if let (Some(sandbox), Some(folder)) = (&mut session.sandbox, folder) {
        sandbox.folder = Some(Rc::clone(&folder.descriptor));
    }
    Ok(session)
}

/// Serves a client whose connection systemd has accepted.
fn serve_accepted(
    mut session: Session,
    connection: Connection,
    access: &Access,
    wire: impl FnOnce(Stdio) -> Wiring,
) -> anyhow::Result<()> {
    let flow = connection.flow();
    if flow
        .remote
        .inet()
        .is_some_and(|remote| !access.admits(remote.ip()))
    {
        session.taps.emit(&Event::Rejected {
            flow,
            datagrams: None,
        });
        return Ok(());
    }
    let name = Conversation {
        flow,
        conn: Some(1),
    };
    session.taps.emit(&Event::Accepted(name));
    session.announce(&connection.identity())?;
    session.run(Box::new(connection), wire)
}

/// How many clients to serve.
fn client_limit(options: &TcpListen) -> Clients {
    let clients = &options.clients;
    if !clients.keep_open {
        return Clients::First(1);
    }
    if options.common.program.is_given() {
        let most = clients.max_clients.unwrap_or(options.server.max_children);
        return Clients::AtOnce(affordable(most));
    }
    let descriptors = allow_descriptors(u64::MAX).saturating_sub(RESERVED);
    // A connection and perhaps a file each.
    let most = descriptors / (1 + u64::from(clients.out_dir.is_some()));
    Clients::AtOnce(clients.max_clients.unwrap_or(u64::MAX).min(most.max(1)))
}

/// How many children there may be, and what it means if one of them fails.
fn child_limit(options: &TcpListen) -> (u64, FailedChild) {
    if options.clients.keep_open {
        (options.server.max_children, FailedChild::IsReported)
    } else {
        (1, FailedChild::FailsTheRun)
    }
}

/// Adjusts the rules to a server, which may have many clients.
fn adjust(rules: &mut Rules, options: &TcpListen) {
    let clients = &options.clients;
    choose_peer_end(rules, options.tcp.on_peer_eof);
    if clients.keep_open {
        rules.client_timeout = Some(clients.client_timeout);
        rules.input_to = match clients.stdin_to {
            StdinTo::All | StdinTo::None => InputTo::All,
            StdinTo::First => InputTo::First,
            StdinTo::Last => InputTo::Last,
        };
    }
    if clients.broker && options.common.ends.on_stdin_eof.is_none() {
        // The others may have something to say as long as they are there.
        rules.on_input_end = OnInputEnd::Keep;
    }
    if clients.broker && rules.on_peer_end == OnPeerEnd::Auto {
        rules.on_peer_end = OnPeerEnd::Quit;
    }
}

/// Which local end each client is joined to.
fn wiring(options: &TcpListen, folder: Option<OpenDir>, stdio: Stdio) -> Wiring {
    let clients = &options.clients;
    match folder {
        _ if options.server.echo => Wiring::Echo,
        _ if clients.broker && clients.prefix => {
            Wiring::Broker(Box::new(PrefixedLines::new(stdio)))
        }
        Some(folder) if clients.broker => Wiring::Broker(Box::new(OutDir::new(stdio, folder))),
        None if clients.broker => Wiring::Broker(Box::new(stdio)),
        _ if clients.prefix => Wiring::Shared(Box::new(PrefixedLines::new(stdio))),
        Some(folder) => Wiring::Shared(Box::new(OutDir::new(stdio, folder))),
        None => shared_stdio(stdio),
    }
}
