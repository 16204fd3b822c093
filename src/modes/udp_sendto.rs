//! socket, sendto: speak first, to an address, without ever connecting.
//! The socket has no remote half: it hears everybody, so it passes on only what comes from where it sends to.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::children::Weight;
use super::session::{Manners, Session, shared};
use super::sockets;
use super::traffic::Traffic;
use super::watch::{self, Watched};
use crate::batch::Shape;
use crate::cli::{FromPolicy, ReplyTimeout, UdpSendto};
use crate::exit::{Exit, Failure};
use crate::link::udp::{Accepts, Patience, Settings, Socket};
use crate::local::program::Caller;
use crate::pump::end::Link;
use crate::pump::rules::Engine;
use crate::tap::answer::Answer;
use crate::tap::{Call, Event};
use crate::tuple::{Identity, Transport};

pub(super) fn run(options: &UdpSendto, watched: Watched<'_>) -> anyhow::Result<Exit> {
    let UdpSendto {
        address,
        report,
        ends,
        engine,
        sendto,
        ..
    } = options;
    let resolver = address.resolver(Transport::Udp);
    let source = resolver.source(sendto.source.as_deref(), sendto.source_port.as_ref())?;
    let target = choose(&source.reachable(resolver.targets(&options.target.0)?)?)?;
    let traffic = traffic(options, target)?;
    let mut session = Session::new((ends, engine), Manners::Sends, traffic, watched)?;
    let children = session.employ(&options.program, ends, (1, Weight::Whole))?;

    let socket = sockets::sending(
        target,
        source,
        &options.socket,
        &options.groups,
        session.taps,
    )?;
    session.note_shortfalls(&socket, &options.socket)?;
    if session.ready.is_awaited() || children.is_some() {
        // Otherwise the first datagram does it.
        bind_anywhere(&socket, target)?;
    }
    let mut socket = Socket::new(socket, settings(options, target, session.rules.engine))
        .map_err(|error| Failure::io(format!("cannot use a socket for udp {target}"), &error))?;
    if let name @ Identity::Pair(_) = socket.identity() {
        session.taps.emit(&Event::Called(Call::Connect(name)));
    }
    session.ready.announce(socket.identity())?;
    if !sendto.probe {
        let flow = socket.flow();
        let shape = Shape::Datagrams(options.datagrams.size_towards(Some(target)));
        return session.run(Box::new(socket), |stdio| match (children, flow) {
            (Some(children), Some(flow)) => children.for_peer(Caller { flow, conn: None }, shape),
            _ => shared(stdio),
        });
    }
    if let Some(lines) = watch::lines(report, &session.console) {
        session.taps.add(Box::new(Answer::new(lines)));
    }
    let result = session.run(Box::new(socket), shared);
    result.map_err(|error| judge(target, error))
}

/// What it says of a port that no answer came.
fn judge(target: SocketAddr, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Failure>() {
        Some(Failure { exit, message }) => {
            let text = match exit {
                Exit::Refused => format!("closed: {message}"),
                Exit::TimedOut => format!("no answer from udp {target}: it is silent, or filtered"),
                _ => return error,
            };
            Failure::new(*exit, text).into()
        }
        None => error,
    }
}

/// Gives a socket without a source a port, if it has none yet, so that there is something to tell.
fn bind_anywhere(socket: &socket2::Socket, target: SocketAddr) -> Result<(), Failure> {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    if local.is_some_and(|local| local.port() != 0) {
        return Ok(());
    }
    let anywhere: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let bound = socket.bind(&anywhere.into());
    bound.map_err(|error| Failure::io(format!("cannot bind udp {anywhere}"), &error))
}

/// What is sent: standard input, or what the command line gives instead.
fn traffic(options: &UdpSendto, target: SocketAddr) -> Result<Traffic, Failure> {
    let sendto = &options.sendto;
    let traffic = Traffic::datagrams(&options.framing, &options.datagrams, Some(target))?;
    let words = sendto.send.iter().chain(&sendto.send_hex);
    let words: Vec<Vec<u8>> = words.map(|bytes| bytes.0.clone()).collect();
    Ok(match words.is_empty() {
        false => traffic.with_words(words),
        true if sendto.probe => traffic.with_question(),
        true => traffic,
    })
}

fn settings(options: &UdpSendto, target: SocketAddr, engine: Engine) -> Settings {
    let UdpSendto {
        sendto,
        datagrams,
        ends,
        ..
    } = options;
    let towards = Settings::towards(target);
    Settings {
        accepts: match sendto.from {
            Some(FromPolicy::Any) => Accepts::Anyone,
            Some(FromPolicy::Target) => Accepts::Only(target),
            // Nobody answers from the address of a group.
            None if is_group(target) || options.groups.broadcast => Accepts::Anyone,
            None => towards.accepts,
        },
        connected: sendto.connected,
        after_finish: match sendto.reply_timeout {
            ReplyTimeout::After(time) => Patience::Quiet(time),
            ReplyTimeout::Forever => Patience::Forever,
        },
        wanted: if sendto.probe {
            Some(1)
        } else {
            sendto.replies.or(datagrams.count)
        },
        max_bytes: ends.max_bytes,
        max_datagram: datagrams.max_datagram.unwrap_or(towards.max_datagram),
        fail_on_loss: datagrams.fail_on_loss,
        eof_datagram: datagrams.eof_datagram,
        engine,
        ..towards
    }
}

/// The address to send to. Where a name stands for this machine in both families, the one that `udp-bind` binds by default: a
/// datagram cannot find out whether anybody is there before it is sent.
pub(super) fn choose(targets: &[SocketAddr]) -> Result<SocketAddr, Failure> {
    let is_local = targets.iter().all(|target| target.ip().is_loopback());
    let v4 = targets.iter().find(|target| is_local && target.is_ipv4());
    let chosen = v4.or(targets.first()).copied();
    chosen.ok_or_else(|| Failure::new(Exit::Unresolved, "the name has no address"))
}

/// Whether an address stands for many machines: multicast, or the broadcast address of every network.
fn is_group(target: SocketAddr) -> bool {
    match target {
        SocketAddr::V4(v4) => v4.ip().is_multicast() || v4.ip().is_broadcast(),
        SocketAddr::V6(v6) => v6.ip().is_multicast(),
    }
}
