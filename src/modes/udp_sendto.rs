//! `udp-sendto`: socket, sendto. It speaks first, to an address, without ever connecting.
//! The socket has no remote address and receives from every sender, so only datagrams from the target are passed on.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, and `bind` with `--source` | [`open::sending`], called below; otherwise the first datagram binds the socket |
//! | `connect`, with `--connected` only | [`Socket::new`], in `link/udp/handle.rs`: it sends nothing |
//! | `sendto`: sendmmsg(2), or sendmsg(2) | [`Socket`], in `link/udp/message.rs`, as the pump reads the input |
//! | `recvfrom`: recvmmsg(2), or recvmsg(2) | the same, in `link/udp/receiver.rs`, whenever the pump finds it ready |
//! | `close` | when replies have stopped coming (`pump/close.rs`): it sends nothing |

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::address::Source;
use crate::cli::{CommonOptions, FromPolicy, ReplyOptions, ReplyTimeout, UdpSendto};
use crate::exit::{Exit, Failure, NO_FREE_PORT, describe_at};
use crate::flow::{Address, Identity, Transport};
use crate::link::udp::{Accepts, ReplyTimer, Settings, Socket};
use crate::pump::end::Link;
use crate::run::{
    ChildScope, Deadline, LocalEnd, Observers, Payload, Session, Side, Traffic, lines,
};
use crate::socket::{multicast, open};
use crate::tap::stats::FirstReply;
use crate::tap::{Call, Event};

/// Wait for a reply where no option gives one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn run(options: &UdpSendto, observers: Observers<'_>) -> Result<()> {
    let mut session = session(options, observers)?;
    session.local = LocalEnd::of_client(&options.common)?;
    session.retry(&options.retry, |session, deadline| {
        let (source, targets) = look_up(options, session, deadline)?;
        let Some((&target, others)) = targets.split_first() else {
            return Err(Failure::new(Exit::Unresolved, "the name has no address").into());
        };
        let ended = exchange(options, session, deadline, source, (target, others));
        ended.map_err(|error| describe_port(options, target, error))
    })
}

fn session<'a>(options: &'a UdpSendto, observers: Observers<'a>) -> Result<Session<'a>> {
    let (traffic, side) = (traffic(options, None)?, (Side::Sender, Transport::Udp));
    let mut session = Session::new(&options.common, side, traffic, observers);
    session.address = options.network.address;
    if options.sendto.probe
        && let Some(lines) = lines(&options.common.report, &session.console)?
    {
        session.taps.add(Box::new(FirstReply::new(lines)));
    }
    // The next attempt looks the name up again.
    session.is_sandboxed &= options.retry.retry_for.is_none();
    Ok(session)
}

fn traffic(options: &UdpSendto, target: Option<SocketAddr>) -> Result<Traffic, Failure> {
    let mut traffic = Traffic::datagrams(&options.common, &options.datagrams, target)?;
    if options.sendto.probe {
        traffic.replace_stdin(Payload::Question);
    }
    Ok(traffic)
}

/// Returns the address to send from, and those to send to: the first one, or the next if that refuses.
fn look_up(
    options: &UdpSendto,
    session: &Session<'_>,
    deadline: Option<Deadline>,
) -> Result<(Source, Vec<SocketAddr>), Failure> {
    let sendto = &options.sendto;
    let source = (sendto.source.as_deref(), sendto.source_port.as_ref());
    let targets = options.target.0.clone().into();
    let (source, lists) = session.source_and_targets(source, &targets, deadline)?;
    Ok((source, lists.concat()))
}

/// Sends everything once, and waits for what comes back.
fn exchange(
    options: &UdpSendto,
    session: &mut Session<'_>,
    deadline: Option<Deadline>,
    source: Source,
    (target, others): (SocketAddr, &[SocketAddr]),
) -> Result<()> {
    session.traffic = traffic(options, Some(target))?;
    let settings = settings(options, session, deadline, target);
    let (buffers, network) = (&options.common.buffers, &options.network.socket);
    let of_socket = (buffers, network, &options.groups);
    let socket = open::sending(target, source, of_socket, session.taps)?;
    session.report_shortfalls(&socket)?;
    if session.ready.is_awaited() || options.common.program.is_given() {
        // Otherwise the first datagram does it.
        open::bind_anywhere(&socket, target)?;
    }
    let mut socket = Socket::new(socket, settings).map_err(|error| {
        // connect(2) chooses a port too (`inet_autobind`, net/ipv4/af_inet.c).
        let (exit, reason) = match error.kind() {
            ErrorKind::WouldBlock => (Exit::CannotBind, NO_FREE_PORT.to_owned()),
            _ => (Exit::from(&error), describe_at(&error, target)),
        };
        let text = format!(
            "cannot use a socket for udp {}: {reason}",
            Address::from(target)
        );
        Failure::new(exit, text)
    })?;
    let identity = socket.identity();
    if let Identity::Pair(_) = identity {
        session
            .taps
            .emit(&Event::Called(Call::Connect(identity.clone())));
    }
    session.announce(&identity)?;
    if let LocalEnd::Children(children) = &mut session.local {
        if let Some(flow) = socket.flow() {
            let size = options.datagrams.size_towards(Some(target));
            children.scope = ChildScope::OnlyPeer(flow, size);
        }
    } else {
        let open =
            |&other| open::sending(other, source, of_socket, session.taps).map(|it| (it, other));
        // What cannot be opened cannot be gone on to.
        socket.set_spares(others.iter().rev().flat_map(open).collect());
    }
    session.run(Box::new(socket))
}

fn settings(
    options: &UdpSendto,
    session: &Session<'_>,
    deadline: Option<Deadline>,
    target: SocketAddr,
) -> Settings {
    let (common, sendto, datagrams) = (&options.common, &options.sendto, &options.datagrams);
    let defaults = Settings::towards(target);
    Settings {
        accepts: match sendto.from {
            Some(FromPolicy::Any) => Accepts::Anyone,
            Some(FromPolicy::Target) => Accepts::Only(target),
            // No answer comes from the address of a group.
            None if is_group(target) || options.groups.broadcast => Accepts::Anyone,
            None => defaults.accepts,
        },
        connected: sendto.connected,
        reply_timeout: reply_timeout(common, &sendto.reply, deadline),
        reply_timer: reply_timer(common),
        engine: session.rules.engine,
        max_datagram: datagrams.max_datagram,
        multicast_if: multicast::output_interface(&options.groups, Some(target)),
        fail_on_loss: datagrams.fail_on_loss,
        wanted: (sendto.probe.then_some(1)).or(sendto.reply.replies.or(datagrams.count)),
        max_bytes: common.ends.max_bytes,
        eof_datagram: datagrams.eof_datagram,
        ..defaults
    }
}

/// Returns the moment from which replies are waited for.
pub(super) fn reply_timer(common: &CommonOptions) -> ReplyTimer {
    let dialogue = &common.dialogue;
    if dialogue.expects() && dialogue.sends() && !dialogue.stdin {
        ReplyTimer::AfterEachSend
    } else {
        ReplyTimer::AfterEof
    }
}

/// Returns how long to wait for a reply.
pub(super) fn reply_timeout(
    common: &CommonOptions,
    reply: &ReplyOptions,
    deadline: Option<Deadline>,
) -> Option<Duration> {
    let ends = &common.ends;
    let is_limited = ends.timeout.or(ends.idle_timeout).is_some();
    let time = match reply.reply_timeout {
        Some(ReplyTimeout::Forever) => return None,
        Some(ReplyTimeout::After(time)) => time,
        // Another limit ends the run if the answer does not come.
        None if deadline.is_none() && common.dialogue.expects() && is_limited => {
            return None;
        }
        None => REPLY_TIMEOUT,
    };
    let left = deadline.map(|(until, _)| until.saturating_duration_since(Instant::now()));
    Some(left.map_or(time, |left| left.min(time)))
}

/// Returns true for the address of many machines: multicast, or the broadcast address of every network.
fn is_group(target: SocketAddr) -> bool {
    match target {
        SocketAddr::V4(v4) => v4.ip().is_multicast() || v4.ip().is_broadcast(),
        SocketAddr::V6(v6) => v6.ip().is_multicast(),
    }
}

/// Returns what the end of a probe says about the port.
fn describe_port(options: &UdpSendto, target: SocketAddr, error: anyhow::Error) -> anyhow::Error {
    let failure = Failure::of(&error);
    let text = match failure.exit {
        _ if !options.sendto.probe => return error,
        Exit::Refused => format!("closed: {}", failure.message),
        Exit::TimedOut => format!(
            "no answer from udp {}: it is silent, or filtered",
            Address::from(target)
        ),
        _ => return error,
    };
    Failure::new(failure.exit, text).into()
}
