//! Look-up: from an endpoint as written to addresses, by getaddrinfo(3).
//! It blocks as long as a name server does not answer; [`Resolver::queried_name`] tells the caller beforehand.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};

use super::{Endpoint, Family, Host, Item, Port, Ports, Targets};
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Transport, interface_index, unmapped};
use crate::tap::Reach;

/// Treatment of host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Hosts may be names.
    LookedUp,
    /// Hosts must be numeric addresses.
    Refused,
}

/// Finder of addresses for one run.
#[derive(Clone, Copy, Debug)]
pub struct Resolver {
    /// The addresses that are wanted.
    pub family: Family,
    /// The treatment of host names.
    pub names: Names,
    /// The transport that service names refer to.
    pub transport: Transport,
}

/// Address to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// The address; its port may be 0.
    pub address: SocketAddr,
    /// The hosts that can reach it. An IPv6 socket takes IPv4 as well only with [`Reach::DualStack`].
    pub reach: Reach,
}

/// Local address for outgoing traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The choice of the kernel.
    Any,
    /// One of these, by the family of the target.
    Bound {
        /// For IPv4 targets.
        v4: Option<SocketAddr>,
        /// For IPv6 targets.
        v6: Option<SocketAddr>,
    },
}

impl Source {
    /// Returns the address to bind before contacting `target`; `None` leaves it to the kernel.
    pub fn towards(self, target: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Any => None,
            Self::Bound { v4, .. } if target.is_ipv4() => v4,
            Self::Bound { v6, .. } => v6,
        }
    }

    /// Keeps the targets of a family that can be reached from here.
    ///
    /// Errors: [`Exit::CannotBind`] if none is left.
    pub fn reachable(self, mut targets: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        if self == Self::Any {
            return Ok(targets);
        }
        targets.retain(|target| self.towards(*target).is_some());
        if targets.is_empty() {
            let message = "--source and the target have no address family in common";
            return Err(Failure::new(Exit::CannotBind, message));
        }
        Ok(targets)
    }
}

impl Resolver {
    /// Returns the name that a name server may be asked for, if the host or the source is one.
    pub fn queried_name(self, host: &Host, source: Option<&str>) -> Option<String> {
        let host = match host {
            Host::Named(name) => Some(name.as_str()),
            Host::Unstated | Host::Every => None,
        };
        let mut names = host.into_iter().chain(source);
        let name = names.find(|name| name.parse::<IpAddr>().is_err());
        name.filter(|_| self.names == Names::LookedUp)
            .map(str::to_owned)
    }

    /// Returns all addresses of a target, in the order in which to try them: as getaddrinfo sorts them (RFC 6724), with the
    /// families interleaved (RFC 8305, section 4). Over UDP the first has to be the one that the other side binds.
    ///
    /// Errors: [`Exit::Unresolved`], here and below.
    pub fn targets(self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Failure> {
        let port = self.port(&endpoint.port)?;
        let ips = match &endpoint.host {
            Host::Named(host) if self.transport == Transport::Udp => {
                bound_first(self.host(host, port)?)
            }
            Host::Named(host) => self.host(host, port)?,
            Host::Unstated | Host::Every => vec![self.loopback(port)],
        };
        Ok(interleave(&ips))
    }

    /// Returns the addresses of each of several ports, like [`Self::targets`], in the order in which the ports were written and
    /// without repetitions.
    pub fn target_lists(self, targets: &Targets) -> Result<Vec<Vec<SocketAddr>>, Failure> {
        let ports = self.ports(&targets.ports)?;
        let addresses = self.targets(&Endpoint {
            host: targets.host.clone(),
            port: Port::Number(0),
        })?;
        let at = |port| {
            let addresses = addresses.iter();
            let at_port = addresses.map(|&(mut address)| {
                address.set_port(port);
                address
            });
            at_port.collect()
        };
        Ok(ports.into_iter().map(at).collect())
    }

    /// Returns the addresses of an endpoint of this machine. The others than the first are for when the first does not exist.
    pub fn bind_addresses(self, endpoint: &Endpoint) -> Result<Vec<BindAddress>, Failure> {
        let port = self.port(&endpoint.port)?;
        let addresses = match &endpoint.host {
            Host::Unstated => vec![self.loopback(port)],
            Host::Every => vec![self.every(port)],
            Host::Named(host) => bound_first(self.host(host, port)?),
        };
        let bound = addresses.into_iter().map(|address| BindAddress {
            address,
            reach: self.reach(address),
        });
        Ok(bound.collect())
    }

    /// Returns the local address for `--source` and `--source-port`.
    pub fn source(self, host: Option<&str>, port: Option<&Port>) -> Result<Source, Failure> {
        let number = port.map_or(Ok(0), |port| self.port(port))?;
        let addresses = match (host, port) {
            (None, None) => return Ok(Source::Any),
            (None, Some(_)) => vec![
                (Ipv4Addr::UNSPECIFIED, number).into(),
                (Ipv6Addr::UNSPECIFIED, number).into(),
            ],
            (Some(host), _) => self.host(host, number)?,
        };
        Ok(Source::Bound {
            v4: addresses.iter().copied().find(SocketAddr::is_ipv4),
            v6: addresses.iter().copied().find(SocketAddr::is_ipv6),
        })
    }

    /// Returns all addresses of a host, of both families.
    pub fn addresses(self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let family = Family::Any;
        let found = Self { family, ..self }.host(host, 0)?.into_iter();
        Ok(found.map(|address| address.ip()).collect())
    }

    fn loopback(self, port: u16) -> SocketAddr {
        match self.family {
            Family::V6 => (Ipv6Addr::LOCALHOST, port).into(),
            Family::Any | Family::V4 => (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    fn every(self, port: u16) -> SocketAddr {
        match self.family {
            Family::V4 => (Ipv4Addr::UNSPECIFIED, port).into(),
            Family::Any if !has_ipv6() => (Ipv4Addr::UNSPECIFIED, port).into(),
            Family::Any | Family::V6 => (Ipv6Addr::UNSPECIFIED, port).into(),
        }
    }

    fn reach(self, address: SocketAddr) -> Reach {
        let ip = unmapped(address).ip();
        match ip {
            _ if ip.is_loopback() => Reach::Loopback,
            _ if !ip.is_unspecified() => Reach::Address,
            IpAddr::V4(_) => Reach::EveryIpv4,
            IpAddr::V6(_) if self.family == Family::V6 => Reach::EveryIpv6,
            IpAddr::V6(_) => Reach::DualStack,
        }
    }

    /// Returns the numbers in a list of ports, without repetitions.
    pub(super) fn ports(self, list: &Ports) -> Result<Vec<u16>, Failure> {
        let mut ports = Vec::new();
        for item in &list.0 {
            match item {
                Item::One(port) => ports.push(self.port(port)?),
                Item::Range(range) => ports.extend(range.clone()),
            }
        }
        let mut seen = HashSet::new();
        ports.retain(|port| seen.insert(*port));
        Ok(ports)
    }

    /// Returns the number of a port. Only a service name needs services(5).
    pub fn port(self, port: &Port) -> Result<u16, Failure> {
        let name = match port {
            Port::Number(number) => return Ok(*number),
            Port::Service(name) => name,
        };
        let found = getaddrinfo(None, Some(name), Some(self.hints(Family::Any)));
        let found = found.ok().and_then(|mut found| found.next()?.ok());
        found.map(|info| info.sockaddr.port()).ok_or_else(|| {
            let message = format!("unknown {} service '{name}'", self.transport);
            Failure::new(Exit::Unresolved, message)
        })
    }

    /// Returns the addresses of a host, without repetitions, as getaddrinfo(3) sorts them.
    fn host(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let unresolved = |reason: String| {
            let message = format!("cannot resolve host '{host}': {reason}");
            Failure::new(Exit::Unresolved, message)
        };
        if let Some(zoned) = self.zoned(host, port) {
            return zoned.map(|address| vec![address]).map_err(unresolved);
        }
        let found = getaddrinfo(Some(host), None, Some(self.hints(self.family)))
            .map_err(|error| unresolved(self.explain(host, error)))?;
        let mut addresses = Vec::new();
        for info in found {
            let mut address = info.map_err(|error| unresolved(describe(&error)))?.sockaddr;
            // An IPv4-mapped address is used as IPv4, unless the user insists on IPv6.
            if self.family != Family::V6 {
                address = unmapped(address);
            }
            address.set_port(port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// Returns the address of a literal with a zone (RFC 4007, section 11), which getaddrinfo(3) knows for link-local ones only.
    fn zoned(self, host: &str, port: u16) -> Option<Result<SocketAddr, String>> {
        let (literal, zone) = host.split_once('%')?;
        let ip: Ipv6Addr = literal.parse().ok()?;
        if let Some(reason) = self.excludes(ip.into()) {
            return Some(Err(reason.to_owned()));
        }
        if !ip.is_unicast_link_local() && !ip.is_multicast() {
            let text = "only a link-local or multicast address takes a zone";
            return Some(Err(text.to_owned()));
        }
        let index = interface_index(zone);
        let index = index.map_err(|_| format!("no network interface '{zone}'"));
        Some(index.map(|index| SocketAddrV6::new(ip, port, 0, index).into()))
    }

    fn hints(self, family: Family) -> AddrInfoHints {
        AddrInfoHints {
            flags: match self.names {
                Names::LookedUp => 0,
                Names::Refused => libc::AI_NUMERICHOST,
            },
            address: match family {
                Family::Any => libc::AF_UNSPEC,
                Family::V4 => libc::AF_INET,
                Family::V6 => libc::AF_INET6,
            },
            socktype: match self.transport {
                Transport::Udp => libc::SOCK_DGRAM,
                _ => libc::SOCK_STREAM,
            },
            protocol: 0,
        }
    }

    /// Returns the reason if an address is of a family that the user has excluded.
    pub fn excludes(self, ip: IpAddr) -> Option<&'static str> {
        match self.family {
            Family::V4 if ip.is_ipv6() => Some("it is an IPv6 address, but -4 is given"),
            Family::V6 if ip.is_ipv4() => Some("it is an IPv4 address, but -6 is given"),
            _ => None,
        }
    }

    /// Explains a failed look-up by the text of the host, or else in the words of the name service.
    fn explain(self, host: &str, error: LookupError) -> String {
        let ip = host.parse::<IpAddr>().ok();
        if let Some(reason) = ip.and_then(|ip| self.excludes(ip)) {
            return reason.to_owned();
        }
        let is_unknown = matches!(
            error.kind(),
            LookupErrorKind::NoName | LookupErrorKind::NoData
        );
        let text = match (error.kind(), self.names, self.family) {
            (LookupErrorKind::Again, ..) => {
                "temporary failure in name resolution (no answer from a name server)"
            }
            (LookupErrorKind::Fail, ..) => "non-recoverable failure in name resolution",
            (LookupErrorKind::NoName, Names::Refused, _) => {
                "not a numeric address, but -n is given"
            }
            (LookupErrorKind::NoName, _, Family::Any) => "name or service not known",
            (LookupErrorKind::NoData, _, Family::Any) => "it has no address",
            (_, _, Family::V4) if is_unknown => "no IPv4 address is known for it",
            (_, _, Family::V6) if is_unknown => "no IPv6 address is known for it",
            _ => return describe(&io::Error::from(error)),
        };
        text.to_owned()
    }
}

/// Puts 127.0.0.1 before `::1` if these are the addresses of a name of this machine. Without it, `localhost` is bound as `::1` by one
/// program, and sent to as 127.0.0.1 by the next.
fn bound_first(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.iter().all(|address| address.ip().is_loopback()) {
        addresses.sort_by_key(SocketAddr::is_ipv6);
    }
    addresses
}

fn has_ipv6() -> bool {
    socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).is_ok()
}

/// Interleaves the families, beginning with that of the first address, each in its own order.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let rounds = first.len().max(second.len());
    (0..rounds)
        .flat_map(|round| [first.get(round), second.get(round)])
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::address::{parse_bind_point, parse_target};

    fn resolver(family: Family) -> Resolver {
        Resolver {
            family,
            names: Names::Refused,
            transport: Transport::Tcp,
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn targets(family: Family, words: &[&str]) -> Result<Vec<SocketAddr>, String> {
        let endpoint = parse_target(words).unwrap();
        resolver(family).targets(&endpoint).map_err(|failure| {
            assert_eq!(failure.exit, Exit::Unresolved);
            failure.message
        })
    }

    fn bind_address(family: Family, words: &[&str]) -> (String, Reach) {
        let endpoint = parse_bind_point(words).unwrap();
        let found = resolver(family).bind_addresses(&endpoint).unwrap();
        assert_eq!(found.len(), 1);
        (found[0].address.to_string(), found[0].reach)
    }

    #[test]
    fn the_families_are_interleaved() {
        for (given, expected) in [
            (&[][..], &[][..]),
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1"],
            ),
            (
                &["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::1]:1"],
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1", "3.3.3.3:1"],
            ),
        ] {
            assert_eq!(interleave(&addresses(given)), addresses(expected));
        }
    }

    #[test]
    fn literals_need_no_name_service() {
        for (words, expected) in [
            (["127.0.0.1", "80"], "127.0.0.1:80"),
            (["::1", "80"], "[::1]:80"),
            (["::ffff:127.0.0.1", "80"], "127.0.0.1:80"),
        ] {
            assert_eq!(targets(Family::Any, &words), Ok(addresses(&[expected])));
        }
    }

    #[test]
    fn a_service_is_a_port() {
        let knows_http =
            std::fs::read_to_string("/etc/services").is_ok_and(|text| text.contains("http"));
        if knows_http {
            let found = targets(Family::Any, &["127.0.0.1", "http"]);
            assert_eq!(found, Ok(addresses(&["127.0.0.1:80"])));
        }
    }

    #[test]
    fn a_scope_survives() {
        let found = targets(Family::Any, &["[fe80::1%lo]:80"]).unwrap();
        let [SocketAddr::V6(address)] = found[..] else {
            panic!("{found:?}");
        };
        assert_ne!(address.scope_id(), 0);
    }

    #[test]
    fn a_failed_look_up_is_explained() {
        for (family, words, says) in [
            (
                Family::V4,
                ["::1", "80"],
                "cannot resolve host '::1': it is an IPv6 address, but -4 is given",
            ),
            (
                Family::V6,
                ["127.0.0.1", "80"],
                "cannot resolve host '127.0.0.1': it is an IPv4 address, but -6 is given",
            ),
            (
                Family::Any,
                ["localhost", "80"],
                "cannot resolve host 'localhost': not a numeric address, but -n is given",
            ),
            (
                Family::Any,
                ["fe80::1%nosuch", "80"],
                "cannot resolve host 'fe80::1%nosuch': no network interface 'nosuch'",
            ),
            (
                Family::Any,
                ["127.0.0.1", "no-such-service"],
                "unknown tcp service 'no-such-service'",
            ),
        ] {
            assert_eq!(targets(family, &words), Err(says.to_owned()));
        }
    }

    #[test]
    fn an_unknown_name_does_not_resolve() {
        let lookup = Resolver {
            names: Names::LookedUp,
            ..resolver(Family::Any)
        };
        // A label of more than 63 bytes (RFC 1035) is refused without a question to the network.
        let endpoint = parse_target(&["x".repeat(64).as_str(), "80"]).unwrap();
        let failure = lookup.targets(&endpoint).unwrap_err();
        assert_eq!(failure.exit, Exit::Unresolved);
    }

    #[test]
    fn without_a_host_only_this_machine_is_meant() {
        for (family, words, address, reach) in [
            (Family::Any, &["80"][..], "127.0.0.1:80", Reach::Loopback),
            (Family::V4, &["80"], "127.0.0.1:80", Reach::Loopback),
            (Family::V6, &["80"], "[::1]:80", Reach::Loopback),
            (Family::V4, &["*", "80"], "0.0.0.0:80", Reach::EveryIpv4),
            (Family::V6, &["*", "80"], "[::]:80", Reach::EveryIpv6),
            (Family::Any, &["0.0.0.0:80"], "0.0.0.0:80", Reach::EveryIpv4),
            (Family::Any, &["::", "80"], "[::]:80", Reach::DualStack),
            (Family::V6, &["::", "80"], "[::]:80", Reach::EveryIpv6),
            (Family::Any, &["192.0.2.1:0"], "192.0.2.1:0", Reach::Address),
        ] {
            assert_eq!(
                bind_address(family, words),
                (address.to_owned(), reach),
                "{words:?}"
            );
        }
        let every = bind_address(Family::Any, &["*", "80"]);
        let expected = if has_ipv6() {
            ("[::]:80".to_owned(), Reach::DualStack)
        } else {
            ("0.0.0.0:80".to_owned(), Reach::EveryIpv4)
        };
        assert_eq!(every, expected);
    }

    #[test]
    fn a_source_narrows_the_targets_to_its_family() {
        let both = addresses(&["[::1]:80", "127.0.0.1:80"]);
        let any = resolver(Family::Any);
        let source = any.source(Some("127.0.0.2"), None).unwrap();
        assert_eq!(
            source.reachable(both.clone()),
            Ok(addresses(&["127.0.0.1:80"]))
        );
        assert_eq!(
            source.towards(both[1]),
            Some("127.0.0.2:0".parse().unwrap())
        );
        assert!(source.reachable(addresses(&["[::1]:80"])).is_err());

        let port = any.source(None, Some(&Port::Number(7))).unwrap();
        assert_eq!(port.towards(both[0]), Some("[::]:7".parse().unwrap()));
        assert_eq!(port.reachable(both.clone()), Ok(both.clone()));
        assert_eq!(any.source(None, None).unwrap().towards(both[0]), None);
    }
}
