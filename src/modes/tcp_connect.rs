//! socket, connect: speak first, over a connection that is named by its 4-tuple from the start.
//! A name may stand for many addresses: they are tried in turn, a little apart, and the first that answers is the connection.

use std::time::Instant;

use super::children::Weight;
use super::session::{Manners, Session, shared};
use super::sockets;
use super::traffic::Traffic;
use super::watch::Watched;
use crate::cli::TcpConnect;
use crate::exit::{Exit, Failure};
use crate::link::connect::{Lost, race};
use crate::link::tcp::Connection;
use crate::pump::end::Link;
use crate::sys::signals::Request;
use crate::tap::{Event, Taps};
use crate::tuple::Transport;

pub(super) fn run(options: &TcpConnect, watched: Watched<'_>) -> anyhow::Result<Exit> {
    let TcpConnect {
        address,
        ends,
        engine,
        connect,
        ..
    } = options;
    let resolver = address.resolver(Transport::Tcp);
    let source = resolver.source(connect.source.as_deref(), connect.source_port.as_ref())?;
    let targets = source.reachable(resolver.targets(&options.target.0)?)?;
    let traffic = Traffic::stream(&options.framing);
    let mut session = Session::new((ends, engine), Manners::Connects, traffic, watched)?;
    let children = session.employ(&options.program, ends, (1, Weight::Whole))?;
    session.rules.on_peer_end = options.peer_end.on_peer_eof.into();
    let limit = [
        connect
            .connect_timeout
            .map(|limit| (Instant::now() + limit, limit)),
        session.rules.deadline,
    ];
    let deadline = limit.into_iter().flatten().min();
    let mut open = |remote, taps: &mut Taps| {
        sockets::connecting(remote, source, &options.socket, &options.tcp, taps)
    };
    let winner = loop {
        let interrupt = Some(session.signals.wake());
        match race(&targets, &mut open, deadline, interrupt, session.taps) {
            Ok(winner) => break winner,
            Err(Lost::Failed(failure)) => return Err(failure.into()),
            Err(Lost::Interrupted) => {
                if let Some(Request::End(number)) = session.signals.next() {
                    return Ok(Exit::Signal(number));
                }
            }
        }
    };
    session.note_shortfalls(&winner.socket, &options.socket)?;
    let connection =
        Connection::new(winner.socket, winner.remote, None, ends.max_bytes).map_err(|error| {
            Failure::io(
                format!("cannot use the connection to {}", winner.remote),
                &error,
            )
        })?;
    session.taps.emit(&Event::Connected {
        flow: connection.flow(),
        after: winner.after,
    });
    session.ready.announce(connection.identity())?;
    session.run(Box::new(connection), |stdio| match children {
        Some(children) => children.for_connections(),
        None => shared(stdio),
    })
}
