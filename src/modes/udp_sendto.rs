//! `udp-sendto`: socket, sendto. It speaks first, to an address, without ever connecting.
//! The socket has no remote address: it hears everybody, so it passes on only what comes from where it sends to.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, and `bind` with `--source` | [`open::sending`], called below; otherwise the first datagram binds the socket |
//! | `connect`, with `--connected` only | [`Socket::new`], in `link/udp/mod.rs`: it sends nothing |
//! | `sendto`: sendmmsg(2), or sendmsg(2) | [`Socket`], in `link/udp/parcel.rs`, as the pump reads the input |
//! | `recvfrom`: recvmmsg(2), or recvmsg(2) | the same, in `link/udp/inbox.rs`, whenever the pump finds it ready |
//! | `close` | when replies have stopped coming (`pump/ending.rs`): it sends nothing |

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::Source;
use crate::batch::Shape;
use crate::cli::{FromPolicy, ReplyTimeout, UdpSendto};
use crate::exit::{Exit, Failure, describe_at};
use crate::flow::{Identity, Transport};
use crate::link::udp::{Accepts, Patience, Settings, Socket, Speech};
use crate::local::exec::Caller;
use crate::local::expect::StdinUse;
use crate::pump::end::Link;
use crate::pump::rules::Engine;
use crate::run::children::FailedChild;
use crate::run::observers::{self, Watched};
use crate::run::retry::Retry;
use crate::run::session::{Session, Side, shared_stdio};
use crate::run::traffic::Traffic;
use crate::run::{background, dialogue};
use crate::socket::open;
use crate::tap::stats::FirstReply;
use crate::tap::{Call, Event};

pub(super) fn run(options: &UdpSendto, watched: Watched<'_>) -> anyhow::Result<()> {
    let UdpSendto { sendto, common, .. } = options;
    let ends = &common.ends;
    let start = watched.start;
    let mut session = Session::new(
        (ends, &common.dialogue, &common.engine),
        Side::Sender,
        traffic(options, None)?,
        watched,
    )?;
    session.prepare_program(&common.program, ends, (1, FailedChild::FailsTheRun))?;
    if let Some(lines) = observers::lines(&common.report, &session.console).filter(|_| sendto.probe)
    {
        session.taps.add(Box::new(FirstReply::new(lines)));
    }
    let mut retry = Retry::new(&options.retry, start);
    if retry.until().is_some() {
        // The next attempt looks the name up again.
        session.sandbox = None;
    }
    loop {
        let failure = match attempt(options, &mut session, &retry) {
            Ok(()) => return Ok(()),
            Err(error) => error.downcast::<Failure>()?,
        };
        retry.wait(failure, &mut session)?;
    }
}

/// Sends everything once, and waits for what comes back.
fn attempt(
    options: &UdpSendto,
    session: &mut Session<'_>,
    retry: &Retry<'_>,
) -> anyhow::Result<()> {
    let sendto = &options.sendto;
    let (source, target) = look_up(options, session, retry)?;
    session.traffic = traffic(options, Some(target))?;

    let socket = open::sending(
        target,
        source,
        &options.common.socket,
        &options.groups,
        session.taps,
    )?;
    session.report_shortfalls(&socket, &options.common.socket)?;
    let children = session.children.clone();
    if session.ready.is_awaited() || children.is_some() {
        // Otherwise the first datagram does it.
        bind_anywhere(&socket, target)?;
    }
    let settings = Settings {
        after_finish: patience(options, retry),
        ..settings(options, target, session.rules.engine)
    };
    let mut socket = Socket::new(socket, settings).map_err(|error| {
        let reason = describe_at(&error, target);
        Failure::new(
            Exit::from(&error),
            format!("cannot use a socket for udp {target}: {reason}"),
        )
    })?;
    if let name @ Identity::Pair(_) = socket.identity() {
        session.taps.emit(&Event::Called(Call::Connect(name)));
    }
    session.announce(&socket.identity())?;
    let flow = socket.flow();
    let shape = Shape::Datagrams(options.datagrams.size_towards(Some(target)));
    let end = session.run(Box::new(socket), |stdio| match (children, flow) {
        (Some(children), Some(flow)) => children.for_peer(Caller { flow, conn: None }, shape),
        _ => shared_stdio(stdio),
    });
    if sendto.probe {
        return end.map_err(|error| describe_port(target, error));
    }
    end
}

/// Where to speak from, and the address to send to.
fn look_up(
    options: &UdpSendto,
    session: &Session<'_>,
    retry: &Retry<'_>,
) -> Result<(Source, SocketAddr), Failure> {
    let resolver = options.common.address.resolver(Transport::Udp);
    let sendto = &options.sendto;
    let (host, port) = (sendto.source.clone(), sendto.source_port.clone());
    let endpoint = options.target.0.clone();
    let asked = resolver.queried_name(&endpoint.host, host.as_deref());
    let work = move || {
        let source = resolver.source(host.as_deref(), port.as_ref())?;
        let target = choose(&source.reachable(resolver.targets(&endpoint)?)?)?;
        Ok::<_, Failure>((source, target))
    };
    let limits = session.rules.deadline.into_iter().chain(retry.until());
    background::look_up(asked, limits, &session.signals, work)
}

/// How long to wait for replies.
fn patience(options: &UdpSendto, retry: &Retry<'_>) -> Patience {
    let ends = &options.common.ends;
    let is_limited = ends.timeout.or(ends.idle_timeout).is_some();
    let left = retry
        .until()
        .map(|(until, _)| until.saturating_duration_since(Instant::now()));
    match (options.sendto.reply_timeout, left) {
        (Some(ReplyTimeout::After(time)), Some(left)) => Patience::Quiet(time.min(left)),
        (Some(ReplyTimeout::After(time)), None) => Patience::Quiet(time),
        (Some(ReplyTimeout::Forever), _) => Patience::Forever,
        (None, Some(left)) => Patience::Quiet(REPLY.min(left)),
        // There is a limit that ends the run without the answer that it is for.
        (None, None) if options.common.dialogue.expects() && is_limited => Patience::Forever,
        (None, None) => Patience::Quiet(REPLY),
    }
}

/// How long a reply may take where nothing else is said.
const REPLY: Duration = Duration::from_secs(1);

/// What the end of a run says of the port that was probed.
fn describe_port(target: SocketAddr, error: anyhow::Error) -> anyhow::Error {
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

/// Binds a socket that has no port yet to one that the kernel chooses, so that there is an address to announce.
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
fn traffic(options: &UdpSendto, target: Option<SocketAddr>) -> Result<Traffic, Failure> {
    let traffic = Traffic::datagrams(&options.common.framing, &options.datagrams, target)?;
    let traffic = traffic.with_literal(&options.common.dialogue);
    Ok(if options.sendto.probe {
        traffic.with_question()
    } else {
        traffic
    })
}

fn settings(options: &UdpSendto, target: SocketAddr, engine: Engine) -> Settings {
    let UdpSendto {
        sendto,
        datagrams,
        common,
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
        multicast_if: options.groups.multicast_if.clone(),
        speech: match dialogue::input_use(&common.dialogue) {
            StdinUse::Unused if common.dialogue.expects() => Speech::InTurn,
            _ => Speech::AtWill,
        },
        wanted: if sendto.probe {
            Some(1)
        } else {
            sendto.replies.or(datagrams.count)
        },
        max_bytes: common.ends.max_bytes,
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
