//! Routes: where datagrams go, and which of our addresses they leave from.
//! An answer leaves from the address that the peer had written to; where the kernel chooses, it is asked what it chose.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::addresses::{Pair, comparable};
use super::{Audience, Socket};
use crate::exit::describe;
use crate::flow::unmapped;

/// The way to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Both addresses, for reports.
    pub(super) flow: Pair,
    /// The address to send from, where it is not for the kernel to choose.
    pub(super) source: Option<SocketAddr>,
}

impl Socket {
    /// Brings up to date where bytes without addresses go.
    pub(super) fn update_routes(&mut self) {
        let mut routes = std::mem::take(&mut self.outbox.routes);
        routes.clear();
        match self.settings.audience {
            Audience::Target(target) => routes.push(self.route_to_target(target)),
            Audience::Last => routes.extend(self.peers.last().map(|flow| self.route_back(flow))),
            Audience::First => routes.extend(self.peers.first().map(|flow| self.route_back(flow))),
            Audience::All => routes.extend(self.peers.flows().map(|flow| self.route_back(flow))),
            Audience::Named | Audience::Nobody => {}
        }
        self.outbox.routes = routes;
    }

    /// The way back to the sender of a datagram.
    pub(super) fn route_back(&self, flow: Pair) -> Route {
        let source =
            Some(flow.local).filter(|local| self.name.is_wildcard() && is_ours(local.ip()));
        Route { flow, source }
    }

    pub(super) fn route_to_target(&mut self, target: SocketAddr) -> Route {
        if let Some(flow) = self.peers.get(comparable(target)) {
            return self.route_back(flow);
        }
        let local = match self.outbox.chosen {
            Some(local) => local,
            None if !self.name.is_wildcard() => self.name.bound,
            None => *self
                .outbox
                .chosen
                .insert(self.chosen_for(target).unwrap_or(self.name.bound)),
        };
        Route {
            flow: Pair::new(self.name.with_ip(Some(local)), target),
            source: None,
        }
    }

    /// The way to an address from whichever of ours the kernel chooses.
    pub(super) fn detour_to(&self, remote: SocketAddr) -> Route {
        let local = self.name.with_ip(self.chosen_for(remote));
        Route {
            flow: Pair::new(local, remote),
            source: None,
        }
    }

    /// The address that the kernel chooses to reach `target`.
    fn chosen_for(&self, target: SocketAddr) -> Option<SocketAddr> {
        let of_groups = self.settings.multicast_if.as_ref();
        let of_groups = of_groups.filter(|_| target.ip().is_multicast());
        let bound = self.inner.device().ok().flatten();
        probe(
            target,
            bound.or_else(|| of_groups.map(|name| name.clone().into_bytes())),
        )
    }
}

/// The address that the kernel chooses to reach `target`, by way of an interface where that is not for the routes to say;
/// connecting a UDP socket sends nothing (udp(7)).
fn probe(target: SocketAddr, interface: Option<Vec<u8>>) -> Option<SocketAddr> {
    let domain = socket2::Domain::for_address(target);
    let probe = socket2::Socket::new(domain, socket2::Type::DGRAM, None).ok()?;
    // Otherwise a broadcast address cannot be connected to.
    probe.set_broadcast(true).ok()?;
    if let Some(interface) = interface {
        probe.bind_device(Some(&interface)).ok()?;
    }
    probe.connect(&target.into()).ok()?;
    probe.local_addr().ok()?.as_socket().map(unmapped)
}

/// Says of "permission denied" whether that is because `target` is a broadcast address: a route may prohibit it as well.
pub(super) fn explain_denial(
    socket: &socket2::Socket,
    target: SocketAddr,
    error: &io::Error,
) -> String {
    let text = describe(error);
    let may_broadcast = !matches!(socket.broadcast(), Ok(false));
    if error.kind() != io::ErrorKind::PermissionDenied || may_broadcast || target.is_ipv6() {
        return text;
    }
    match probe(target, socket.device().ok().flatten()) {
        Some(_) => format!("{text} (a broadcast address needs --broadcast)"),
        None => text,
    }
}

/// Whether an address that was written to can be one to send from: not that of a group.
fn is_ours(ip: IpAddr) -> bool {
    !ip.is_multicast() && !ip.is_unspecified()
}
