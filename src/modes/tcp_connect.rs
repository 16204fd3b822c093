//! `tcp-connect`: socket, connect. It speaks first, over a connection that its 4-tuple names from the start.
//! A name may stand for many addresses: they are tried in turn, a little apart, and the first that answers is the connection.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, and `bind` with `--source` | [`open::connecting`], called below for each attempt |
//! | `connect` | [`Connector`], in `link/connect/race.rs` |
//! | `recv`, `send` | [`Connection`], in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`); or splice(2), where no tap sees the bytes (`pump/splice.rs`) |
//! | `shutdown`: sends the FIN | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use std::time::Instant;

use anyhow::Result;

use super::probe;
use crate::address::proxy::Hop;
use crate::cli::TcpConnect;
use crate::exit::Failure;
use crate::flow::Transport;
use crate::link::connect::{Connector, Interrupt, Limits};
use crate::link::stream::Connection;
use crate::run::{Deadline, LocalEnd, Observers, Session, Side, Traffic};
use crate::socket::open;
use crate::tap::{Event, Taps};

pub(super) fn run(options: &TcpConnect, observers: Observers<'_>) -> Result<()> {
    let mut session = session(options, observers);
    session.proxy = options.connect.proxy()?;
    session.local = LocalEnd::of_client(&options.common)?;
    if options.probing.probe {
        return probe::run(options, session);
    }
    if options.tcp.fastopen {
        session.read_first_bytes()?;
    }
    let established = session.retry(&options.retry, |session, deadline| {
        connect(options, session, deadline, |connector, lists| {
            connector.connect(lists.first().map_or(&[], Vec::as_slice))
        })
    })?;
    session.report_shortfalls(&established.socket)?;
    let (after, via) = (established.after, established.via.clone());
    let limits = session.receive_limits(&options.peer_end);
    let connection = Connection::established(established, None, limits);
    session.taps.emit(&Event::Connected {
        flow: connection.flow(),
        after,
        via: via.as_ref(),
    });
    session.announce_and_run(Box::new(connection))
}

fn session<'a>(options: &'a TcpConnect, observers: Observers<'a>) -> Session<'a> {
    let (traffic, side) = (
        Traffic::stream(&options.common),
        (Side::Client, Transport::Tcp),
    );
    let mut session = Session::new(&options.common, side, traffic, observers);
    session.address = options.network.address;
    session.choose_peer_end(options.peer_end.on_peer_eof);
    session
}

/// Resolves the name once, and lets `connect_to` use a [`Connector`] on the addresses of each port.
pub(super) fn connect<T>(
    options: &TcpConnect,
    session: &mut Session<'_>,
    deadline: Option<Deadline>,
    connect_to: impl FnOnce(&mut Connector<'_>, &[Vec<Hop>]) -> Result<T, Failure>,
) -> Result<T> {
    let connect = &options.connect;
    let is_bounded = options.probing.probe || deadline.is_some();
    let limits = Limits {
        each: session.attempt_limit(connect.connect_timeout, is_bounded),
        all: session.rules.deadline.into_iter().chain(deadline).min(),
    };
    let own = limits.each.map(|limit| (Instant::now() + limit, limit));
    let deadline = own.into_iter().chain(limits.all).min();
    let source = (connect.source.as_deref(), connect.source_port.as_ref());
    let (source, lists) = session.source_and_hops(source, &options.target.0, deadline)?;
    let signals = session.signals;
    let mut connector = Connector {
        open: &mut |remote, taps: &mut Taps| {
            let (buffers, network) = (&options.common.buffers, &options.network);
            let sockets = (buffers, &network.socket, &options.tcp);
            open::connecting(remote, source, sockets, taps)
        },
        first: session.first_bytes.first_run(),
        limits,
        interrupt: Some(Interrupt {
            wake: signals.wake(),
            next: &|| signals.next(),
        }),
        taps: session.taps,
    };
    Ok(connect_to(&mut connector, &lists)?)
}
