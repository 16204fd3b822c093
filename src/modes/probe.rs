//! `tcp-connect --probe`: connects to one port or to many, reports which are open, and closes.
//! Ports are probed side by side, a few at a time, and reported in the order in which they were written.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;

use super::tcp_connect::connect;
use crate::address::proxy::Hop;
use crate::cli::{PortState, TcpConnect};
use crate::exit::{Exit, Failure};
use crate::flow::{Flow, Transport};
use crate::link::connect::Established;
use crate::run::{Deadline, Session, affordable};
use crate::tap::{Event, Taps, Via};

/// The most ports that are probed at once.
const MAX_PROBES: u64 = 64;

/// State of a port.
enum Port {
    Unknown,
    /// It is open. The connection and the time it took, until they are reported.
    Open(Option<(Flow, Duration, Option<Via>)>),
    Failed(Failure),
}

/// Round of probes. What fails in the last one is final.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Last,
    Other,
}

pub(super) fn run(options: &TcpConnect, mut session: Session<'_>) -> Result<()> {
    let mut ports = Vec::new();
    let ended = session.retry(&options.retry, |session, deadline| {
        probe(options, session, deadline, &mut ports)?;
        Ok(verdict(options, &ports)?)
    });
    let is_complete = !options.probing.open_only && !until_closed(options);
    let is_reported = options.retry.retry_for.is_some() && is_complete;
    if ended.is_err() && is_reported && ports.len() > 1 {
        let failed = |port: &&mut Port| matches!(port, Port::Failed(_));
        for port in ports.iter_mut().filter(failed) {
            report(port, Round::Last, session.taps);
        }
    }
    ended
}

/// Probes every port that is not known to be open.
fn probe(
    options: &TcpConnect,
    session: &mut Session<'_>,
    deadline: Option<Deadline>,
    ports: &mut Vec<Port>,
) -> Result<()> {
    connect(options, session, deadline, |connector, lists| {
        ports.resize_with(lists.len(), || Port::Unknown);
        let numbers: Vec<usize> = (0..lists.len())
            .filter(|&at| until_closed(options) || !matches!(ports[at], Port::Open(_)))
            .collect();
        let lists: Vec<Vec<Hop>> = numbers.iter().map(|&at| lists[at].clone()).collect();
        for &at in &numbers {
            ports[at] = Port::Unknown;
        }
        // The error of the run names a port that is probed alone.
        let is_last = deadline.is_none() && ports.len() > 1 && !options.probing.open_only;
        let round = if is_last { Round::Last } else { Round::Other };
        let mut reported = 0;
        // A port without a descriptor would seem to be closed.
        let each = lists.iter().map(Vec::len).max().unwrap_or(1).max(1) as u64;
        let most = usize::try_from(affordable(MAX_PROBES, each)).unwrap_or(1);
        connector.connect_each(&lists, most, &mut |number, ended, taps| {
            let at = numbers[number];
            ports[at] = Port::from(ended);
            while !until_closed(options)
                && reported < ports.len()
                && report(&mut ports[reported], round, taps)
            {
                reported += 1;
            }
            if options.probing.any && matches!(ports[at], Port::Open(_)) {
                // No other port is probed, so what waits for its turn is reported now.
                for port in ports.iter_mut() {
                    report(port, Round::Other, taps);
                }
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    })
}

/// Reports a port that is open, and one that is not after the last round; returns true if its state is known.
fn report(port: &mut Port, round: Round, taps: &mut Taps) -> bool {
    match port {
        Port::Unknown => return false,
        Port::Open(connection) => {
            if let Some((flow, after, via)) = connection.take() {
                let (flow, via) = (&flow, via.as_ref());
                taps.emit(&Event::Open { flow, after, via });
            }
        }
        Port::Failed(failure) => {
            if round == Round::Last {
                taps.emit(&Event::ProbeFailed(failure));
            }
        }
    }
    true
}

/// Returns true if the ports are to be closed.
fn until_closed(options: &TcpConnect) -> bool {
    options.probing.until == PortState::Closed
}

/// Returns the failure if ports do not refuse connections. Silence does not show that a port is closed.
fn closed(ports: &[Port]) -> Result<(), Failure> {
    for port in ports {
        match port {
            Port::Open(Some((flow, ..))) => {
                let text = format!("{} is open (--until closed)", flow.remote);
                return Err(Failure::new(Exit::TimedOut, text));
            }
            Port::Failed(failure) if failure.exit != Exit::Refused => {
                return Err(failure.clone());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the failure if ports are not in the state that they should be in.
fn verdict(options: &TcpConnect, ports: &[Port]) -> Result<(), Failure> {
    if until_closed(options) {
        return closed(ports);
    }
    let failures = ports.iter().filter_map(|port| match port {
        Port::Failed(failure) => Some(failure),
        Port::Unknown | Port::Open(_) => None,
    });
    let failures: Vec<&Failure> = failures.collect();
    let is_one_enough = options.probing.any || options.probing.open_only;
    let is_any_open = ports.iter().any(|port| matches!(port, Port::Open(_)));
    match failures.as_slice() {
        [] => Ok(()),
        _ if is_one_enough && is_any_open => Ok(()),
        [failure] if ports.len() == 1 => Err((*failure).clone()),
        [first, ..] => {
            let mut kinds = failures.iter().map(|failure| failure.exit);
            let refused = kinds.find(|exit| *exit == Exit::Refused);
            let (count, all) = (failures.len(), ports.len());
            let text = format!("{count} of {all} ports are not open");
            Err(Failure::new(refused.unwrap_or(first.exit), text))
        }
    }
}

impl From<Result<Established, Failure>> for Port {
    fn from(ended: Result<Established, Failure>) -> Self {
        let established = match ended {
            Ok(established) => established,
            Err(failure) => return Self::Failed(failure),
        };
        let local = established.socket.local_addr().ok();
        let local = local.and_then(|local| local.as_socket());
        Self::Open(local.map(|local| {
            let remote = established.remote.into();
            let flow = Flow::new(Transport::Tcp, local.into(), remote);
            (flow, established.after, established.via)
        }))
    }
}
