//! socket, connect: speak first, over a connection that is named by its 4-tuple from the start.
//! A name may stand for many addresses: they are tried in turn, a little apart, and the first that answers is the connection.

use std::time::Instant;

use super::session::{Manners, Session};
use crate::batch::Shape;
use crate::cli::TcpConnect;
use crate::exit::{Exit, Failure};
use crate::link::tcp::Connection;
use crate::pump::end::Link;
use crate::tap::Event;
use crate::tuple::Transport;

pub(super) fn run(options: &TcpConnect, start: Instant) -> anyhow::Result<Exit> {
    let TcpConnect {
        address,
        report,
        ends,
        engine,
        connect,
        ..
    } = options;
    let resolver = address.resolver(Transport::Tcp);
    let source = resolver.source(connect.source.as_deref(), connect.source_port.as_ref())?;
    let targets = source.reachable(resolver.targets(&options.target.0)?)?;
    let mut session = Session::new(
        (report, ends, engine),
        Manners::Connects,
        Shape::Stream,
        start,
    )?;
    session.rules.on_peer_end = options.peer_end.on_peer_eof.into();
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(targets[0]),
        socket2::Type::STREAM,
        None,
    )?;
    socket
        .connect(&targets[0].into())
        .map_err(|e| Failure::io(format!("cannot connect to {}", targets[0]), &e))?;
    let connection = Connection::new(socket, None, ends.max_bytes)?;
    session.taps.emit(&Event::Connected {
        flow: connection.flow(),
        after: start.elapsed(),
    });
    session.ready.announce(connection.identity())?;
    session.run(Box::new(connection))
}
