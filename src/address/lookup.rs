//! From what the user wrote to addresses: the only place that asks the name service.
//! It blocks for as long as getaddrinfo(3) does, so it runs before anything else is open, and beside the one thread where it may last.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};

use super::{Endpoint, Family, Host, Item, Port, Targets};
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Transport, unmapped};
use crate::tap::Reach;

/// Whether names may be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Hosts may be names.
    LookedUp,
    /// Hosts must be numeric addresses.
    Refused,
}

/// How to find addresses for one run.
#[derive(Clone, Copy, Debug)]
pub struct Resolver {
    /// Which addresses are wanted.
    pub family: Family,
    /// Whether hosts may be names.
    pub names: Names,
    /// What service names stand for.
    pub transport: Transport,
}

/// An address to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// The address; its port may be 0.
    pub address: SocketAddr,
    /// Who will be able to reach it. Only with [`Reach::DualStack`] may an IPv6 socket take IPv4 as well.
    pub reach: Reach,
}

/// Where to speak from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Wherever the kernel likes.
    Any,
    /// From one of these, by the family of the target.
    Bound {
        /// Towards IPv4.
        v4: Option<SocketAddr>,
        /// Towards IPv6.
        v6: Option<SocketAddr>,
    },
}

impl Source {
    /// The address to bind before speaking to `target`; `None` leaves it to the kernel.
    #[must_use]
    pub fn towards(self, target: SocketAddr) -> Option<SocketAddr> {
        match self {
            Self::Any => None,
            Self::Bound { v4, .. } if target.is_ipv4() => v4,
            Self::Bound { v6, .. } => v6,
        }
    }

    /// Keeps the targets that can be reached from here, by their family.
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
    /// The name that a name server may be asked for, if a host or a source is one.
    #[must_use]
    pub fn asks(self, host: &Host, source: Option<&str>) -> Option<String> {
        let stated = match host {
            Host::Named(name) => Some(name.as_str()),
            Host::Unstated | Host::Every => None,
        };
        let names = stated.into_iter().chain(source);
        let mut names = names.filter(|name| name.parse::<IpAddr>().is_err());
        names
            .next()
            .filter(|_| self.names == Names::LookedUp)
            .map(str::to_owned)
    }

    /// All addresses of a target, in the order in which to try them: as getaddrinfo sorts them (RFC 6724), the families taking
    /// turns (RFC 8305, section 4).
    ///
    /// Errors: [`Exit::Unresolved`], here and below.
    pub fn targets(self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Failure> {
        let port = self.port(&endpoint.port)?;
        let ips = match &endpoint.host {
            Host::Named(host) => self.host(host, port)?,
            Host::Unstated | Host::Every => vec![self.loopback(port)],
        };
        Ok(interleave(&ips))
    }

    /// The addresses of each of several ports, as [`Self::targets`] has them, in the order in which the ports were written; each
    /// port once.
    pub fn each(self, targets: &Targets) -> Result<Vec<Vec<SocketAddr>>, Failure> {
        let mut ports = Vec::new();
        for item in &targets.ports.0 {
            match item {
                Item::One(port) => ports.push(self.port(port)?),
                Item::Range(range) => ports.extend(range.clone()),
            }
        }
        let mut seen = HashSet::new();
        ports.retain(|port| seen.insert(*port));
        let anywhere = Endpoint {
            host: targets.host.clone(),
            port: Port::Number(0),
        };
        let addresses = self.targets(&anywhere)?;
        let at = |port| {
            let mut addresses = addresses.clone();
            for address in &mut addresses {
                address.set_port(port);
            }
            addresses
        };
        Ok(ports.into_iter().map(at).collect())
    }

    /// The addresses of an endpoint of this machine. Another one than the first is for when the first cannot be had at all.
    pub fn bind_addresses(self, endpoint: &Endpoint) -> Result<Vec<BindAddress>, Failure> {
        let port = self.port(&endpoint.port)?;
        let addresses = match &endpoint.host {
            Host::Unstated => vec![self.loopback(port)],
            Host::Every => vec![self.every(port)],
            Host::Named(host) => self.host(host, port)?,
        };
        Ok(addresses
            .into_iter()
            .map(|address| BindAddress {
                address,
                reach: self.reach(address),
            })
            .collect())
    }

    /// Where to speak from, as `--source` and `--source-port` say.
    pub fn source(self, host: Option<&str>, port: Option<&Port>) -> Result<Source, Failure> {
        let number = port.map_or(Ok(0), |port| self.port(port))?;
        match (host, port) {
            (None, None) => Ok(Source::Any),
            (None, Some(_)) => Ok(Source::Bound {
                v4: Some((Ipv4Addr::UNSPECIFIED, number).into()),
                v6: Some((Ipv6Addr::UNSPECIFIED, number).into()),
            }),
            (Some(host), _) => {
                let addresses = self.host(host, number)?;
                Ok(Source::Bound {
                    v4: addresses.iter().copied().find(SocketAddr::is_ipv4),
                    v6: addresses.iter().copied().find(SocketAddr::is_ipv6),
                })
            }
        }
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

    /// The number of a port. Only a service name needs services(5).
    fn port(self, port: &Port) -> Result<u16, Failure> {
        let name = match port {
            Port::Number(number) => return Ok(*number),
            Port::Service(name) => name,
        };
        let found = getaddrinfo(None, Some(name), Some(self.hints(Family::Any)))
            .ok()
            .and_then(|mut found| found.next()?.ok());
        match found {
            Some(info) => Ok(info.sockaddr.port()),
            None => Err(Failure::new(
                Exit::Unresolved,
                format!("unknown {} service '{name}'", self.transport),
            )),
        }
    }

    /// The addresses of a host, without repetitions, as getaddrinfo(3) sorts them.
    fn host(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let unresolved = |reason: String| {
            Failure::new(
                Exit::Unresolved,
                format!("cannot resolve host '{host}': {reason}"),
            )
        };
        let found = getaddrinfo(Some(host), None, Some(self.hints(self.family)))
            .map_err(|error| unresolved(self.explain(host, error)))?;
        let mut addresses = Vec::new();
        for info in found {
            let mut address = info.map_err(|error| unresolved(describe(&error)))?.sockaddr;
            // An IPv4 address in an IPv6 coat is an IPv4 address, unless the user insists on IPv6.
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
                Transport::Tcp => libc::SOCK_STREAM,
                Transport::Udp => libc::SOCK_DGRAM,
            },
            protocol: 0,
        }
    }

    /// Why an address is none of those that are wanted, if that is so.
    #[must_use]
    pub fn excludes(self, ip: IpAddr) -> Option<&'static str> {
        match self.family {
            Family::V4 if ip.is_ipv6() => Some("it is an IPv6 address, but -4 is given"),
            Family::V6 if ip.is_ipv4() => Some("it is an IPv4 address, but -6 is given"),
            _ => None,
        }
    }

    /// Why a host has no address, as far as what was written tells; else in the words of the name service.
    fn explain(self, host: &str, error: LookupError) -> String {
        let literal = host.split('%').next().unwrap_or_default();
        let literal = literal.parse().ok();
        if let Some(reason) = literal.and_then(|ip| self.excludes(ip)) {
            return reason.to_owned();
        }
        if let Some((address, scope)) = host.split_once('%')
            && let Ok(address) = address.parse::<Ipv6Addr>()
        {
            return if address.is_unicast_link_local() || address.is_multicast() {
                format!("no network interface '{scope}'")
            } else {
                "only a link-local address takes a scope".to_owned()
            };
        }
        match (error.kind(), self.names, self.family) {
            (LookupErrorKind::Again, ..) => {
                "temporary failure in name resolution (no answer from a name server)".to_owned()
            }
            (LookupErrorKind::NoName, Names::Refused, _) => {
                "not a numeric address, but -n is given".to_owned()
            }
            (LookupErrorKind::NoName, _, Family::Any) => "name or service not known".to_owned(),
            (LookupErrorKind::NoData, _, Family::Any) => "it has no address".to_owned(),
            (LookupErrorKind::NoName | LookupErrorKind::NoData, _, Family::V4) => {
                "no IPv4 address is known for it".to_owned()
            }
            (LookupErrorKind::NoName | LookupErrorKind::NoData, _, Family::V6) => {
                "no IPv6 address is known for it".to_owned()
            }
            _ => describe(&io::Error::from(error)),
        }
    }
}

fn has_ipv6() -> bool {
    socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).is_ok()
}

/// Lets the families take turns, the family of the first address first, each in its own order.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let turns = first.len().max(second.len());
    (0..turns)
        .flat_map(|turn| [first.get(turn), second.get(turn)])
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
    fn the_families_take_turns() {
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
    fn what_has_no_address_says_why() {
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
