//! Addresses of datagrams, and the forms of one address: IPv4-mapped or not, with a scope or a flow label or without.
//! Peers are compared in one form, the kernel takes another, and the user may have typed a third.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::flow::{Flow, Transport, unmapped};

/// Both addresses of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// Our address.
    pub(super) local: SocketAddr,
    /// The address of the peer.
    pub(super) remote: SocketAddr,
}

impl Pair {
    /// Joins two addresses, IPv4-mapped ones as the IPv4 addresses they stand for.
    pub(super) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local: unmapped(local),
            remote: unmapped(remote),
        }
    }

    /// Takes the addresses of a flow, unless they are no IP addresses.
    pub(super) fn of(flow: &Flow) -> Option<Self> {
        Some(Self {
            local: flow.local.inet()?,
            remote: flow.remote.inet()?,
        })
    }

    /// Returns the same as a UDP flow.
    pub(super) fn flow(self) -> Flow {
        Flow::new(Transport::Udp, self.local.into(), self.remote.into())
    }
}

/// Returns the most bytes of payload in a datagram to `target`, or to any address if that is open: what the headers of UDP and
/// IPv4 leave of the largest packet. IPv6 does not count its own header (RFC 768, RFC 791, RFC 8200).
pub fn longest_payload(target: Option<SocketAddr>) -> usize {
    match target.map(unmapped) {
        Some(SocketAddr::V4(_)) => 65_507,
        Some(SocketAddr::V6(_)) | None => 65_527,
    }
}

/// Returns the address that answers of `target` come from: the unspecified address reaches this machine (ip(7)).
pub(super) fn reachable(mut target: SocketAddr) -> SocketAddr {
    match target.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => target.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => target.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    target
}

/// Returns the form of an address that is equal for one peer: no flow label, and a scope only where it tells two peers apart.
pub(super) fn comparable(address: SocketAddr) -> SocketAddr {
    let mut address = unmapped(address);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_flowinfo(0);
        if !v6.ip().is_unicast_link_local() && !v6.ip().is_multicast() {
            v6.set_scope_id(0);
        }
    }
    address
}

/// Returns true if `target` means `other`, both in the comparable form. A target without a scope means that address on whichever
/// interface the kernel has chosen.
pub(super) fn means(target: SocketAddr, mut other: SocketAddr) -> bool {
    if let (SocketAddr::V6(target), SocketAddr::V6(other)) = (target, &mut other)
        && target.scope_id() == 0
    {
        other.set_scope_id(0);
    }
    target == other
}

/// Returns an address in the form that a socket bound to `bound` takes: an IPv6 socket reaches IPv4 by mapped addresses
/// (RFC 3493, 3.7).
pub(super) fn in_family(address: SocketAddr, bound: SocketAddr) -> SocketAddr {
    match (address.ip(), bound) {
        (IpAddr::V4(v4), SocketAddr::V6(_)) => (v4.to_ipv6_mapped(), address.port()).into(),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_unspecified_address_is_this_machine() {
        assert_eq!(reachable(address("0.0.0.0:9")), address("127.0.0.1:9"));
        assert_eq!(reachable(address("[::]:9")), address("[::1]:9"));
        assert_eq!(reachable(address("10.0.0.1:9")), address("10.0.0.1:9"));
    }

    #[test]
    fn a_scope_tells_only_local_addresses_apart() {
        assert_eq!(comparable(address("[::1%7]:9")), address("[::1]:9"));
        assert_eq!(
            comparable(address("[fe80::1%7]:9")),
            address("[fe80::1%7]:9")
        );
        assert_eq!(
            comparable(address("[::ffff:10.0.0.1]:9")),
            address("10.0.0.1:9")
        );
    }

    #[test]
    fn without_a_scope_any_is_meant() {
        let [any, one, two] = ["[fe80::1]:9", "[fe80::1%7]:9", "[fe80::1%8]:9"].map(address);
        assert!(means(any, any) && means(any, one) && means(one, one));
        assert!(!means(one, two) && !means(one, any));
        assert!(!means(any, address("[fe80::2%7]:9")) && !means(any, address("[fe80::1%7]:8")));
        assert!(!means(any, address("10.0.0.1:9")));
    }

    #[test]
    fn ipv6_sockets_take_mapped_addresses() {
        let v4 = address("10.0.0.1:9");
        assert_eq!(
            in_family(v4, address("[::]:0")),
            address("[::ffff:10.0.0.1]:9")
        );
        assert_eq!(in_family(v4, address("0.0.0.0:0")), v4);
    }
}
