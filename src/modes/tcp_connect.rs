//! `tcp-connect`: socket, connect. It speaks first, over a connection that its 4-tuple names from the start.
//! A name may stand for many addresses: they are tried in turn, a little apart, and the first that answers is the connection.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, and `bind` with `--source` | [`open::connecting`], called below for each attempt |
//! | `connect` | [`Connector`], in `link/connect/attempts.rs` |
//! | `recv`, `send` | [`Connection`], in `link/tcp.rs`, as the pump calls it (`pump/transfer.rs`); or splice(2), where nobody looks at the bytes (`pump/bypass.rs`) |
//! | `shutdown`: sends the FIN | the same, at the end of the input (`pump/ending.rs`) |
//! | `close` | when both directions have ended, and the pump drops it (`pump/ending.rs`) |

use std::net::SocketAddr;
use std::time::Instant;

use super::probe;
use crate::address::Source;
use crate::cli::TcpConnect;
use crate::exit::Failure;
use crate::flow::Transport;
use crate::link::connect::{Connector, Established, Interrupt, Limits};
use crate::link::tcp::Connection;
use crate::pump::end::Link;
use crate::run::background;
use crate::run::children::FailedChild;
use crate::run::observers::Watched;
use crate::run::retry::{self, Retry};
use crate::run::session::{Session, Side, choose_peer_end, shared_stdio};
use crate::run::traffic::Traffic;
use crate::socket::{open, options};
use crate::tap::{Event, Taps};

pub(super) fn run(options: &TcpConnect, watched: Watched<'_>) -> anyhow::Result<()> {
    let common = &options.common;
    let ends = &common.ends;
    let traffic = Traffic::stream(&common.framing).with_literal(&common.dialogue);
    let start = watched.start;
    let mut session = Session::new(
        (ends, &common.dialogue, &common.engine),
        Side::Client,
        traffic,
        watched,
    )?;
    let children = session.prepare_program(&common.program, ends, (1, FailedChild::FailsTheRun))?;
    choose_peer_end(&mut session.rules, options.tcp.on_peer_eof);
    let mut retry = Retry::new(&options.retry, start);
    if options.connect.probe {
        return probe::run(options, session, retry);
    }
    let established = loop {
        match connect(options, &mut session, &retry) {
            Ok(established) => break established,
            Err(failure) => retry.wait(failure, &mut session)?,
        }
    };
    session.report_shortfalls(&established.socket, &common.socket)?;
    let terms = options::terms(ends, &options.tcp);
    let mut connection = Connection::new(established.socket, established.remote, None, terms)
        .map_err(|error| {
            Failure::io(
                format!("cannot use the connection to {}", established.remote),
                &error,
            )
        })?;
    if let Some(error) = established.reset {
        connection.note_reset(error);
    }
    session.taps.emit(&Event::Connected {
        flow: connection.flow(),
        after: established.after,
    });
    session.announce(&connection.identity())?;
    session.run(Box::new(connection), |stdio| match children {
        Some(children) => children.for_connections(),
        None => shared_stdio(stdio),
    })
}

/// Connects to the one port there is.
fn connect(
    options: &TcpConnect,
    session: &mut Session<'_>,
    retry: &Retry<'_>,
) -> Result<Established, Failure> {
    attempt(options, session, retry, |connector, lists| {
        let addresses = lists.first().map_or(&[][..], Vec::as_slice);
        connector.connect(addresses)
    })
}

/// Resolves the name, and lets `connect_to` use a [`Connector`] on the addresses of each port.
pub(super) fn attempt<T>(
    options: &TcpConnect,
    session: &mut Session<'_>,
    retry: &Retry<'_>,
    mut connect_to: impl FnMut(&mut Connector<'_>, &[Vec<SocketAddr>]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let connect = &options.connect;
    let is_bounded = connect.probe || retry.until().is_some();
    let own = connect.connect_timeout;
    // To connect in vain is to hear nothing.
    let silence = session.rules.idle_timeout;
    let limits = Limits {
        each: own.or(is_bounded.then_some(retry::ATTEMPT)).or(silence),
        all: session
            .rules
            .deadline
            .into_iter()
            .chain(retry.until())
            .min(),
    };
    let (source, lists) = look_up(options, session, limits)?;
    let signals = &session.signals;
    let mut connector = Connector {
        open: &mut |remote, taps: &mut Taps| {
            open::connecting(remote, source, &options.common.socket, &options.tcp, taps)
        },
        limits,
        interrupt: Some(Interrupt {
            wake: signals.wake(),
            next: &|| signals.next(),
        }),
        taps: session.taps,
    };
    connect_to(&mut connector, &lists)
}

/// Where to speak from, and the addresses of each port.
fn look_up(
    options: &TcpConnect,
    session: &Session<'_>,
    limits: Limits,
) -> Result<(Source, Vec<Vec<SocketAddr>>), Failure> {
    let resolver = options.common.address.resolver(Transport::Tcp);
    let (host, port) = (
        options.connect.source.clone(),
        options.connect.source_port.clone(),
    );
    let targets = options.target.0.clone();
    let asked = resolver.queried_name(&targets.host, host.as_deref());
    let work = move || {
        let source = resolver.source(host.as_deref(), port.as_ref())?;
        let lists = resolver.target_lists(&targets)?;
        let lists = lists.into_iter().map(|list| source.reachable(list));
        Ok((source, lists.collect::<Result<_, Failure>>()?))
    };
    let own = limits.each.map(|limit| (Instant::now() + limit, limit));
    let limits = own.into_iter().chain(limits.all);
    background::look_up(asked, limits, &session.signals, work)
}
