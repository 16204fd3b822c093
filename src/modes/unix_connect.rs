//! `unix-connect`: socket, connect. It speaks first, to a socket of this machine that a path or an abstract name names.
//! The peer is the process that listens there, as the kernel reports it.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `connect` | [`Attempt`], called below; it waits only while the backlog is full |
//! | `recv`, `send` | [`Connection`], in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`) |
//! | `shutdown`: the peer reads the end | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::Socket;

use crate::cli::UnixConnect;
use crate::exit::Failure;
use crate::link;
use crate::link::stream::Connection;
use crate::run::{Deadline, LocalEnd, Observers, Session, Side, Traffic, wait_for};
use crate::socket::unix::Attempt;
use crate::tap::Event;

pub(super) fn run(options: &UnixConnect, observers: Observers<'_>) -> Result<()> {
    let mut session = session(options, observers)?;
    session.local = LocalEnd::of_client(&options.common)?;
    let (socket, after) = session.retry(&options.retry, |session, deadline| {
        Ok(connect(options, session, deadline)?)
    })?;
    session.report_shortfalls(&socket)?;
    let remote = link::unix::peer(&socket, &options.target.0.address())
        .map_err(|error| Failure::io("cannot read who the peer is", &error))?;
    let limits = session.receive_limits(&options.peer_end);
    let peer = (options.kind.transport(), remote);
    let connection = Connection::new(socket, peer, None, limits)
        .map_err(|error| Failure::io("cannot use the connection", &error))?;
    let flow = connection.flow();
    if options.connect.probe {
        session.taps.emit(&Event::Open {
            flow,
            after,
            via: None,
        });
        return Ok(());
    }
    session.taps.emit(&Event::Connected {
        flow,
        after,
        via: None,
    });
    session.announce_and_run(Box::new(connection))
}

fn session<'a>(options: &'a UnixConnect, observers: Observers<'a>) -> Result<Session<'a>> {
    let traffic = Traffic::of_type(&options.common, &options.kind)?;
    let side = (Side::Client, options.kind.transport());
    let mut session = Session::new(&options.common, side, traffic, observers);
    session.choose_peer_end(options.peer_end.on_peer_eof);
    Ok(session)
}

/// Connects, and returns the socket and the time it took.
fn connect(
    options: &UnixConnect,
    session: &mut Session<'_>,
    deadline: Option<Deadline>,
) -> Result<(Socket, Duration), Failure> {
    let (transport, name) = (options.kind.transport(), &options.target.0);
    let each = session.attempt_limit(options.connect.connect_timeout, deadline.is_some());
    let each = each.map(|limit| (Instant::now() + limit, limit));
    let limits = each.into_iter().chain(session.rules.deadline);
    let limit = limits.chain(deadline).min();
    let buffers = &options.common.buffers;
    let attempt = Attempt::new(transport, name, buffers, limit, session.taps)?;
    while let Some(next) = attempt.advance(session.taps)? {
        wait_for(None, session.signals, Some(next))?;
    }
    Ok((attempt.socket, attempt.began.elapsed()))
}
