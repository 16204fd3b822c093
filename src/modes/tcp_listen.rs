//! socket, bind, listen, accept: wait for a client, which gets a new socket of its own.
//! The listening socket is named by its address and port alone; the client's socket has the same, and is told apart by the 4-tuple.

use std::time::Instant;

use super::session::{Manners, Session};
use super::sockets;
use crate::batch::Shape;
use crate::cli::TcpListen;
use crate::exit::{Exit, Failure};
use crate::link::tcp::{Listener, Settings};
use crate::pump::end::Link;
use crate::tap::Event;
use crate::tuple::Transport;

pub(super) fn run(options: &TcpListen, start: Instant) -> anyhow::Result<Exit> {
    let TcpListen {
        address,
        report,
        ends,
        engine,
        listen,
        ..
    } = options;
    let resolver = address.resolver(Transport::Tcp);
    let addresses = resolver.bind_addresses(&options.bind.0)?;
    let mut session = Session::new(
        (report, ends, engine),
        Manners::Listens,
        Shape::Stream,
        start,
    )?;
    session.rules.on_peer_end = options.peer_end.on_peer_eof.into();

    let (socket, reach) =
        sockets::listening(&addresses, listen.backlog, &options.socket, &options.tcp)?;
    session.note_shortfalls(&socket, &options.socket)?;
    let settings = Settings {
        clients: 1,
        patience: listen.accept_timeout,
        wanted: ends.max_bytes,
    };
    let listener = Listener::new(socket, settings)
        .map_err(|error| Failure::io("cannot use the listening socket", &error))?;
    session.taps.emit(&Event::Listening {
        socket: listener.identity(),
        reach,
    });
    session.ready.announce(listener.identity())?;
    session.listen(Box::new(listener))
}
