//! socket, bind, listen, accept: wait for a client, which gets a new socket of its own.
//! The listening socket is named by its address and port alone; the client's socket has the same, and is told apart by the 4-tuple.

use std::rc::Rc;

use super::children::{RESERVED, Weight, affordable, guard};
use super::passed::{self, Stream};
use super::session::{Manners, Session, shared};
use super::traffic::Traffic;
use super::watch::Watched;
use super::{responder, sockets};
use crate::access::Access;
use crate::address::BindAddress;
use crate::cli::{BindPoint, EndOptions, StdinTo, TcpListen};
use crate::exit::{Exit, Failure};
use crate::link::tcp::{Client, Clients, Connection, Listener, Settings, Terms};
use crate::local::folder::{Folder, Place};
use crate::local::prefix::Prefixed;
use crate::local::stdio::Stdio;
use crate::pump::Wiring;
use crate::pump::end::Link;
use crate::pump::rules::{InputTo, OnInputEnd, OnPeerEnd, Rules};
use crate::sys::limits::raise_descriptors;
use crate::tap::Event;
use crate::tuple::Transport;

pub(super) fn run(options: &TcpListen, watched: Watched<'_>) -> anyhow::Result<Exit> {
    let TcpListen {
        ends,
        engine,
        listen,
        many,
        ..
    } = options;
    // Input that nobody gets is not read, and its end is not waited for.
    let ends = &EndOptions {
        recv_only: ends.recv_only || many.stdin_to == StdinTo::None,
        ..ends.clone()
    };
    let (addresses, passed) = place(options)?;
    let access = options.access.access()?;
    let answers = responder::answers(&options.responder, usize::MAX)?;
    let folder = many.out_dir.as_deref();
    let folder = folder.map(Place::open).transpose()?;
    let traffic = Traffic::stream(&options.framing).with_words(&options.dialogue);
    let mut session = Session::new(
        (ends, &options.dialogue, engine),
        Manners::Listens,
        traffic,
        watched,
    )?;
    adjust(&mut session.rules, options);
    if let (Some(sandbox), Some(place)) = (&mut session.sandbox, &folder) {
        sandbox.folder = Some(Rc::clone(&place.folder));
    }
    let children = session.employ(&options.program, ends, children(options))?;
    if answers.is_some() {
        session.replace_input(ends);
    }
    let wire = |stdio| match (children, answers) {
        (Some(children), _) => children.for_connections(),
        (None, Some(answers)) => responder::wiring(answers),
        (None, None) => wire(options, folder, stdio),
    };
    let terms = Terms {
        wanted: ends.max_bytes,
        keeps_congestion: options.tcp.congestion.is_some(),
    };
    let (socket, reach) = match passed {
        None => sockets::listening(
            &addresses,
            listen.backlog,
            &options.socket,
            &options.tcp,
            session.taps,
        )?,
        Some(Stream::Listening(socket, reach)) => (socket, reach),
        Some(Stream::Connected(socket, remote)) => {
            let connection = Connection::new(socket, remote, Some(Client::only()), terms)
                .map_err(|error| Failure::io("cannot use the connection", &error))?;
            return talk(session, connection, &access, wire);
        }
    };
    session.note_shortfalls(&socket, &options.socket)?;
    let settings = Settings {
        clients: clients(options),
        patience: listen.accept_timeout,
        terms,
        access,
    };
    let listener = Listener::new(socket, settings)
        .map_err(|error| Failure::io("cannot use the listening socket", &error))?;
    session.taps.emit(&Event::Listening {
        socket: listener.identity(),
        reach,
    });
    if let Err(stop) = session.announce(listener.identity()) {
        return stop.end();
    }
    session.listen(Box::new(listener), wire)
}

/// Where to listen: on one of these addresses, or on a socket that was passed.
fn place(options: &TcpListen) -> Result<(Vec<BindAddress>, Option<Stream>), Failure> {
    match &options.bind {
        BindPoint::At(endpoint) => {
            let resolver = options.address.resolver(Transport::Tcp);
            let addresses = resolver.bind_addresses(endpoint)?;
            guard(&options.program, endpoint, &addresses, &options.access)?;
            Ok((addresses, None))
        }
        BindPoint::Passed(name) => {
            let passed = passed::stream(name.as_deref(), &options.socket, &options.tcp)?;
            if options.many.keep_open && matches!(passed, Stream::Connected(..)) {
                let text =
                    "-k takes a socket that listens; systemd passes one connection (Accept=yes)";
                return Err(Failure::new(Exit::Usage, text));
            }
            Ok((Vec::new(), Some(passed)))
        }
    }
}

/// Serves a client that somebody else has accepted.
fn talk(
    mut session: Session,
    connection: Connection,
    access: &Access,
    wire: impl FnOnce(Stdio) -> Wiring,
) -> anyhow::Result<Exit> {
    let flow = connection.flow();
    if !access.admits(flow.remote.ip()) {
        session.taps.emit(&Event::Rejected { flow, datagrams: 0 });
        return Ok(Exit::Done);
    }
    session.taps.emit(&Event::Accepted { flow, conn: 1 });
    if let Err(stop) = session.announce(connection.identity()) {
        return stop.end();
    }
    session.run(Box::new(connection), wire)
}

/// How many clients to serve.
fn clients(options: &TcpListen) -> Clients {
    let many = &options.many;
    if !many.keep_open {
        return Clients::First(1);
    }
    if options.program.is_given() {
        let most = many.max_clients.unwrap_or(options.local.max_children);
        return Clients::AtOnce(affordable(most));
    }
    let descriptors = raise_descriptors().saturating_sub(RESERVED);
    // A connection and perhaps a file each.
    let most = descriptors / (1 + u64::from(many.out_dir.is_some()));
    Clients::AtOnce(many.max_clients.unwrap_or(u64::MAX).min(most.max(1)))
}

/// How many children there may be, and what each means.
fn children(options: &TcpListen) -> (u64, Weight) {
    if options.many.keep_open {
        (options.local.max_children, Weight::Part)
    } else {
        (1, Weight::Whole)
    }
}

/// Makes the rules those of a server of many clients.
fn adjust(rules: &mut Rules, options: &TcpListen) {
    let many = &options.many;
    rules.on_peer_end = options.peer_end.on_peer_eof.into();
    if many.keep_open {
        rules.client_timeout = Some(many.client_timeout);
        rules.input_to = match many.stdin_to {
            StdinTo::All | StdinTo::None => InputTo::All,
            StdinTo::First => InputTo::First,
            StdinTo::Last => InputTo::Last,
        };
    }
    if many.broker && options.ends.on_stdin_eof.is_none() {
        // The others may have something to say as long as they are there.
        rules.on_input_end = OnInputEnd::Keep;
    }
    if many.broker && rules.on_peer_end == OnPeerEnd::Auto {
        rules.on_peer_end = OnPeerEnd::Quit;
    }
}

/// Joins clients to what the options put in the place of standard input and output.
fn wire(options: &TcpListen, folder: Option<Place>, stdio: Stdio) -> Wiring {
    let many = &options.many;
    match folder {
        _ if options.local.echo => Wiring::Echo,
        _ if many.broker && many.prefix => Wiring::Broker(Box::new(Prefixed::new(stdio))),
        Some(place) if many.broker => Wiring::Broker(Box::new(Folder::new(stdio, place))),
        None if many.broker => Wiring::Broker(Box::new(stdio)),
        _ if many.prefix => Wiring::Shared(Box::new(Prefixed::new(stdio))),
        Some(place) => Wiring::Shared(Box::new(Folder::new(stdio, place))),
        None => shared(stdio),
    }
}
