//! `udp-bind`: socket, bind, recvfrom. It receives from whoever sends, and answers.
//! There is no listen and no accept: one socket serves every peer, and only the sender of each datagram tells them apart.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind` | [`open::receiving`], called below |
//! | `recvfrom`: recvmmsg(2), or recvmsg(2) | [`Socket`], in `link/udp/inbox.rs`, whenever the pump finds it ready |
//! | `sendto`: sendmmsg(2), or sendmsg(2) | the same, in `link/udp/parcel.rs`; `link/udp/route.rs` says to whom |
//! | `close` | when a limit or a signal ends the run (`pump/ending.rs`): it sends nothing |

use std::net::SocketAddr;

use super::udp_sendto;
use crate::address::{BindAddress, Endpoint, Host, Resolver};
use crate::cli::{BindPoint, ReplyTo, UdpBind};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::link::udp::{Accepts, Audience, Owner, Settings, Socket, longest_payload};
use crate::pump::Wiring;
use crate::pump::end::Link;
use crate::run::children::{FailedChild, refuse_open_program};
use crate::run::observers::Watched;
use crate::run::responder;
use crate::run::session::{Session, Side, shared_stdio};
use crate::run::traffic::Traffic;
use crate::socket::activation;
use crate::socket::{multicast, open};
use crate::tap::{Event, Reach};

pub(super) fn run(options: &UdpBind, watched: Watched<'_>) -> anyhow::Result<()> {
    let UdpBind {
        datagrams, common, ..
    } = options;
    let ends = &common.ends;
    let resolver = common.address.resolver(Transport::Udp);
    let (addresses, passed) = match &options.bind.0 {
        BindPoint::At(endpoint) => {
            let addresses = addresses(options, endpoint, resolver)?;
            refuse_open_program(
                &common.program,
                endpoint,
                &addresses,
                &options.server.access,
            )?;
            (addresses, None)
        }
        BindPoint::Passed(name) => {
            let (socket, bound) =
                activation::datagrams(name.as_deref(), &common.socket, &options.groups)?;
            (vec![bound], Some((socket, bound.reach)))
        }
    };
    let audience = audience(&options.peers.reply_to, resolver, &addresses)?;
    let towards = match (audience, addresses.first()) {
        (Audience::Target(target), _) => Some(target),
        (_, Some(bind)) if bind.reach != Reach::DualStack => Some(bind.address),
        _ => None,
    };
    let size = datagrams.size_towards(towards);
    let traffic =
        Traffic::datagrams(&common.framing, datagrams, towards)?.with_literal(&common.dialogue);
    let access = options.server.access.access()?;
    let answers = responder::answers(&options.server.responder, longest_payload(towards))?;
    let shared = (ends, &common.dialogue, &common.engine);
    let mut session = Session::new(shared, Side::Server, traffic, watched)?;
    let children = (options.server.max_children, FailedChild::IsReported);
    let children = session.prepare_program(&common.program, ends, children)?;
    if answers.is_some() {
        session.replace_input(ends);
    }
    if audience == Audience::Last {
        session.find_partner();
    }
    let audience = match (&children, &answers) {
        (None, None) => audience,
        _ => Audience::Named,
    };

    let owner = match passed {
        Some(_) => Owner::Others,
        None => Owner::Run,
    };
    let (socket, reach) = match passed {
        Some(passed) => passed,
        None => open::receiving(&addresses, &common.socket, &options.groups, session.taps)?,
    };
    session.report_shortfalls(&socket, &common.socket)?;
    let settings = Settings {
        audience,
        access,
        owner,
        engine: session.rules.engine,
        ..settings(options)
    };
    let socket = Socket::new(socket, settings)
        .map_err(|error| Failure::io("cannot use the socket", &error))?;
    session.taps.emit(&Event::Bound {
        socket: &socket.identity(),
        reach,
    });
    session.announce(&socket.identity())?;
    let echo = options.server.echo;
    session.run(Box::new(socket), |stdio| match (children, answers) {
        (Some(children), _) => children.for_datagrams(size),
        (None, Some(answers)) => responder::wiring(answers),
        (None, None) if echo => Wiring::Echo,
        (None, None) => shared_stdio(stdio),
    })
}

fn settings(options: &UdpBind) -> Settings {
    let UdpBind {
        peers, datagrams, ..
    } = options;
    let defaults = Settings::default();
    Settings {
        accepts: if peers.lock_first {
            Accepts::First
        } else {
            Accepts::Anyone
        },
        max_peers: peers.max_peers.try_into().unwrap_or(usize::MAX),
        max_datagram: datagrams.max_datagram.unwrap_or(defaults.max_datagram),
        multicast_if: options.groups.multicast_if.clone(),
        fail_on_loss: datagrams.fail_on_loss,
        wanted: datagrams.count,
        max_bytes: options.common.ends.max_bytes,
        eof_datagram: datagrams.eof_datagram,
        ..defaults
    }
}

/// Where to bind: as the endpoint says, or where the groups are heard that are to be joined.
fn addresses(
    options: &UdpBind,
    endpoint: &Endpoint,
    resolver: Resolver,
) -> Result<Vec<BindAddress>, Failure> {
    let mut groups = options.groups.join.iter();
    let excluded = groups.find_map(|join| Some((join, resolver.excludes(join.group)?)));
    if let Some((join, reason)) = excluded {
        return Err(Failure::new(
            Exit::Usage,
            format!("--join {join}: {reason}"),
        ));
    }
    let addresses = resolver.bind_addresses(endpoint)?;
    let port = addresses.first().map_or(0, |bind| bind.address.port());
    let of_groups = multicast::bind_address(&options.groups, port);
    Ok(
        match of_groups.filter(|_| endpoint.host == Host::Unstated) {
            Some(address) => vec![address],
            None => addresses,
        },
    )
}

/// Whom standard input goes to.
fn audience(
    reply_to: &ReplyTo,
    resolver: Resolver,
    addresses: &[BindAddress],
) -> Result<Audience, Failure> {
    Ok(match reply_to {
        ReplyTo::Last => Audience::Last,
        ReplyTo::First => Audience::First,
        ReplyTo::All => Audience::All,
        ReplyTo::None => Audience::Nobody,
        ReplyTo::Address(endpoint) => {
            let mut targets = resolver.targets(endpoint)?;
            targets.retain(|target| is_reached(*target, addresses));
            let target = udp_sendto::choose(&targets).map_err(|_| {
                let text =
                    "--reply-to: the socket and that address have no address family in common";
                Failure::new(Exit::CannotBind, text)
            })?;
            Audience::Target(target)
        }
    })
}

/// Whether the socket that will be bound can send there.
fn is_reached(target: SocketAddr, addresses: &[BindAddress]) -> bool {
    let bind = addresses.first();
    bind.is_some_and(|bind| {
        bind.reach == Reach::DualStack || bind.address.is_ipv4() == target.is_ipv4()
    })
}
