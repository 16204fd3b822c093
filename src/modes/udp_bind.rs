//! `udp-bind`: socket, bind, recvfrom. It receives from every peer, and answers.
//! There is no listen and no accept: one socket serves every peer, and only the sender of each datagram distinguishes them.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind` | [`open::receiving`], called below |
//! | `recvfrom`: recvmmsg(2), or recvmsg(2) | [`Socket`], in `link/udp/receiver.rs`, whenever the pump finds it ready |
//! | `sendto`: sendmmsg(2), or sendmsg(2) | the same, in `link/udp/message.rs`; `link/udp/sender.rs` chooses the peer |
//! | `close` | when a limit or a signal ends the run (`pump/close.rs`): it sends nothing |

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::address::access::Access;
use crate::address::{BindAddress, Host};
use crate::cli::{BindPoint, GroupOptions, RelayTarget, ReplyTo, TcpOptions, UdpBind};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::link::udp::{
    Accepts, Audience, MappingLimits, Numbering, Numbers, Owner, Settings, Socket, longest_payload,
};
use crate::run::{
    ChildScope, LocalEnd, Observers, Route, Session, Side, TargetLeg, Traffic, affordable,
    datagrams_towards, framing, refuse_exposure,
};
use crate::socket::{activation, multicast, open};
use crate::tap::Reach;

pub(super) fn run(options: &UdpBind, observers: Observers<'_>) -> Result<()> {
    let mut session = session(options, observers)?;
    session.proxy = options.relay.connect.proxy()?;
    let access = session.access(&options.access)?;
    let place = place(options, &session, &access)?;
    let audience = audience(options, &session, &place)?;
    let target = target_of(audience);
    let towards = match (target, place.first()) {
        (Some(target), _) => Some(target),
        (None, Some(bind)) if bind.reach != Reach::DualStack => Some(bind.address),
        _ => None,
    };
    session.traffic = traffic(options, towards)?;
    let numbers = Numbers::default();
    session.local = match &options.relay.to {
        Some(target) => relay(options, &session, target, &numbers)?,
        None => local_end(options, towards)?,
    };
    let mut settings = settings(options, &session, &place, audience, access);
    if options.relay.to.is_some() {
        settings.numbering = Numbering::Each(numbers);
    }
    let (socket, reach) = match place {
        Place::Addresses(addresses) => open::receiving(&addresses, options, session.taps)?,
        Place::Passed(socket, bound) => (socket, bound.reach),
    };
    multicast::obey_zone(&socket, &options.groups, target)?;
    session.report_shortfalls(&socket)?;
    let socket = Socket::new(socket, settings).context("cannot use the socket")?;
    session.receive(Box::new(socket), reach)
}

fn session<'a>(options: &'a UdpBind, observers: Observers<'a>) -> Result<Session<'a>> {
    let (traffic, side) = (traffic(options, None)?, (Side::Receiver, Transport::Udp));
    let mut session = Session::new(&options.common, side, traffic, observers);
    session.address = options.network.address;
    // As over TCP, waiting for the only peer is no silence.
    session.rules.idle_from_first = options.peers.lock_first;
    Ok(session)
}

fn traffic(options: &UdpBind, towards: Option<SocketAddr>) -> Result<Traffic, Failure> {
    let mut traffic = Traffic::datagrams(&options.common, &options.datagrams, towards)?;
    // With nothing to send, a match of any sender will do; and what a user has chosen stays.
    if options.peers.reply_to.is_none() && options.common.dialogue.sends() {
        traffic.choose_first_match();
    }
    Ok(traffic)
}

/// Place to receive at.
enum Place {
    /// The first of these that this machine has.
    Addresses(Vec<BindAddress>),
    /// A socket that was passed.
    Passed(socket2::Socket, BindAddress),
}

impl Place {
    /// Returns the address to try first.
    fn first(&self) -> Option<BindAddress> {
        match self {
            Self::Addresses(addresses) => addresses.first().copied(),
            Self::Passed(_, bound) => Some(*bound),
        }
    }

    /// Returns true if a socket that is bound there can send to `target`.
    fn reaches(&self, target: SocketAddr) -> bool {
        self.first().is_some_and(|bind| {
            bind.reach == Reach::DualStack || bind.address.is_ipv4() == target.is_ipv4()
        })
    }
}

fn place(options: &UdpBind, session: &Session<'_>, access: &Access) -> Result<Place> {
    let endpoint = match &options.bind.0 {
        BindPoint::At(endpoint) => endpoint,
        BindPoint::Passed(name) => {
            let (socket, bound) = activation::datagrams(name.as_deref(), options)?;
            return Ok(Place::Passed(socket, bound));
        }
    };
    let resolver = session.address.resolver(Transport::Udp);
    let mut groups = options.groups.join.iter();
    let excluded = groups.find_map(|join| Some((join, resolver.excludes(join.group)?)));
    if let Some((join, reason)) = excluded {
        let text = format!("--join {join}: {reason}");
        return Err(Failure::new(Exit::Usage, text).into());
    }
    let mut addresses = session.bind_addresses(endpoint)?;
    let mut ips = addresses.iter().map(|bind| bind.address.ip());
    if let Some(group) = ips.find(|ip| ip.is_multicast() && options.groups.join.is_empty()) {
        let text =
            format!("{group} is a multicast group: --join {group} receives what is sent to it");
        return Err(Failure::new(Exit::Usage, text).into());
    }
    let port = addresses.first().map_or(0, |bind| bind.address.port());
    let group = multicast::bind_address(&options.groups, port);
    if let (Host::Unstated, Some(group)) = (&endpoint.host, group) {
        addresses = vec![group];
    }
    let use_of = (&options.common.program, options.relay.to.as_ref());
    refuse_exposure(session, use_of, access, (&endpoint.host, &addresses))?;
    Ok(Place::Addresses(addresses))
}

/// Returns the peers that standard input goes to.
fn audience(options: &UdpBind, session: &Session<'_>, place: &Place) -> Result<Audience> {
    let endpoint = match &options.peers.reply_to {
        None | Some(ReplyTo::Last) => return Ok(Audience::Last),
        Some(ReplyTo::First) => return Ok(Audience::First),
        Some(ReplyTo::All) => return Ok(Audience::All),
        Some(ReplyTo::None) => return Ok(Audience::None),
        Some(ReplyTo::Address(endpoint)) => endpoint.clone(),
    };
    let source = (None, None);
    let (_, lists) = session.source_and_targets(source, &endpoint.into(), None)?;
    let mut targets = lists.concat().into_iter();
    let target = targets.find(|target| place.reaches(*target));
    let target = target.ok_or_else(|| {
        let text = "--reply-to: the socket and that address have no address family in common";
        Failure::new(Exit::CannotBind, text)
    })?;
    Ok(Audience::Target(target))
}

fn target_of(audience: Audience) -> Option<SocketAddr> {
    match audience {
        Audience::Target(target) => Some(target),
        _ => None,
    }
}

/// Returns the local end that all peers share.
fn local_end(options: &UdpBind, towards: Option<SocketAddr>) -> Result<LocalEnd> {
    let (common, server) = (&options.common, &options.server);
    let scope = ChildScope::Datagram(options.datagrams.size_towards(towards));
    let children = (server.max_children, scope);
    LocalEnd::of_server(common, server, children, longest_payload(towards))
}

/// Returns the local end of a relay: a link towards the target for each peer.
fn relay(
    options: &UdpBind,
    session: &Session<'_>,
    target: &RelayTarget,
    numbers: &Numbers,
) -> Result<LocalEnd, Failure> {
    let datagrams = &options.datagrams;
    let transport = target.transport(Transport::Udp);
    let leg = if transport == Transport::Tcp {
        let framing = framing(&options.common.framing, datagrams.datagram_size);
        TargetLeg::Stream(TcpOptions::default(), Some(framing))
    } else {
        let groups = GroupOptions {
            join: Vec::new(),
            ..options.groups.clone()
        };
        let settings = Settings {
            max_datagram: datagrams.max_datagram,
            fail_on_loss: datagrams.fail_on_loss,
            ..datagrams_towards(session)
        };
        TargetLeg::Datagrams(groups, settings)
    };
    let limits = MappingLimits {
        timeout: options.relay.peer_timeout(),
        replies: options.peers.replies,
        max: usize::try_from(affordable(options.peers.max_peers.into(), 1)).unwrap_or(usize::MAX),
        fail_on_loss: datagrams.fail_on_loss,
    };
    let (sockets, peers) = ((&options.network, leg), Some((numbers.clone(), limits)));
    let route = Route::new(session, (target, &options.relay), sockets, peers)?;
    Ok(LocalEnd::Relay(Rc::new(route)))
}

fn settings(
    options: &UdpBind,
    session: &Session<'_>,
    place: &Place,
    audience: Audience,
    access: Access,
) -> Settings {
    let (peers, datagrams) = (&options.peers, &options.datagrams);
    let defaults = Settings::default();
    Settings {
        audience: match session.local {
            LocalEnd::Stdio(_) | LocalEnd::Broker(_) => audience,
            _ => Audience::Named,
        },
        accepts: Accepts::all_or_first(peers.lock_first),
        access,
        owner: match place {
            Place::Addresses(_) => Owner::Run,
            Place::Passed(..) => Owner::Others,
        },
        engine: session.rules.engine,
        max_peers: peers.max_peers.try_into().ok(),
        max_sent: datagrams.datagram_size,
        max_datagram: datagrams.max_datagram,
        multicast_if: multicast::output_interface(&options.groups, target_of(audience)),
        fail_on_loss: datagrams.fail_on_loss,
        wanted: datagrams.count,
        max_bytes: options.common.ends.max_bytes,
        eof_datagram: datagrams.eof_datagram,
        ..defaults
    }
}
