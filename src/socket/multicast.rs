//! Broadcast and multicast: the socket options, from those of the command line (ip(7), ipv6(7), RFC 3678).
//! A group is joined on one interface; a socket that joins some receives from those only, not from those of other programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::Socket;

use super::{IpVersions, check};
use crate::address::BindAddress;
use crate::cli::{GroupOptions, Membership};
use crate::exit::{Exit, Failure};
use crate::flow::{Address, interface_index, interface_name};
use crate::sys::sockopt::join_group;
use crate::tap::Reach;

/// Sets the options, before `bind`.
pub(super) fn apply(
    socket: &Socket,
    versions: IpVersions,
    options: &GroupOptions,
) -> Result<(), Failure> {
    if options.broadcast {
        check("--broadcast", "", socket.set_broadcast(true), "")?;
    }
    if let Some(ttl) = options.multicast_ttl {
        let result = versions.set(
            || socket.set_multicast_ttl_v4(ttl),
            || socket.set_multicast_hops_v6(ttl),
        );
        check("--multicast-ttl", ttl, result, "")?;
    }
    if let Some(name) = &options.multicast_if {
        let index = interface_index(name);
        let result = index.and_then(|index| {
            versions.set(
                || send_through(socket, index),
                || socket.set_multicast_if_v6(index),
            )
        });
        check("--multicast-if", name, result, "")?;
    }
    if options.no_multicast_loop {
        let result = versions.set(
            || socket.set_multicast_loop_v4(false),
            || socket.set_multicast_loop_v6(false),
        );
        check("--no-multicast-loop", "", result, "")?;
    }
    if !options.join.is_empty() {
        // Without this option, what other programs of this machine have joined comes as well.
        let result = versions.set(
            || socket.set_multicast_all_v4(false),
            || socket.set_multicast_all_v6(false),
        );
        check("--join", "", result, "")?;
    }
    let mut memberships = options.join.iter();
    memberships.try_for_each(|membership| join(socket, versions, membership))
}

fn send_through(socket: &Socket, index: u32) -> std::io::Result<()> {
    let any = Ipv4Addr::UNSPECIFIED;
    let set = set_ip_multicast_if_with_ifindex(socket.as_fd(), &any, &any, index);
    Ok(set?)
}

fn join(socket: &Socket, versions: IpVersions, membership: &Membership) -> Result<(), Failure> {
    let (group, interface) = (membership.group, &membership.interface);
    let (is_missing, family) = match group {
        IpAddr::V4(_) => (versions == IpVersions::V6, "IPv4"),
        IpAddr::V6(_) => (versions == IpVersions::V4, "IPv6"),
    };
    if is_missing {
        let text = format!("--join {membership}: not an {family} socket");
        return Err(Failure::new(Exit::Failed, text));
    }
    let index = interface.as_deref().map_or(Ok(0), interface_index);
    let result = index.and_then(|index| join_group(socket, group, membership.source, index));
    let hint = match interface {
        None => "no route says on which interface: name it, as in --join GROUP%eth0",
        Some(_) => "",
    };
    check("--join", membership, result, hint)
}

/// Returns the index of the interface that a group is sent to through, where its zone says so.
fn zone_of(target: SocketAddr) -> Option<u32> {
    match target {
        SocketAddr::V6(v6) if v6.ip().is_multicast() && v6.scope_id() != 0 => Some(v6.scope_id()),
        _ => None,
    }
}

/// Makes a socket send to the group `target` through the interface that its zone names.
///
/// The kernel itself obeys the zone of link-local groups only (`__ipv6_addr_needs_scope_id`).
pub(crate) fn obey_zone(
    socket: &Socket,
    options: &GroupOptions,
    target: Option<SocketAddr>,
) -> Result<(), Failure> {
    let Some((target, zone)) = target.and_then(|target| Some((target, zone_of(target)?))) else {
        return Ok(());
    };
    if let Some(name) = &options.multicast_if
        && interface_index(name).is_ok_and(|index| index != zone)
    {
        let text = format!(
            "--multicast-if {name}: the zone of {} is another interface",
            Address::from(target)
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    let result = socket.set_multicast_if_v6(zone);
    check("the zone of", target, result, "")
}

/// Returns the name of the interface that groups are sent to through, if the zone of `target` or an option says so.
pub(crate) fn output_interface(
    options: &GroupOptions,
    target: Option<SocketAddr>,
) -> Option<String> {
    let option = options.multicast_if.as_deref();
    let index = target.and_then(zone_of);
    let index = index.or_else(|| interface_index(option?).ok())?;
    interface_name(index)
}

/// Returns the address to bind to receive from groups, if no host is given.
///
/// It is that of the group, so that nothing else comes, or every interface for several groups. `port` is the port to bind.
pub(crate) fn bind_address(options: &GroupOptions, port: u16) -> Option<BindAddress> {
    let (first, others) = options.join.split_first()?;
    let is_v6 = options.join.iter().any(|other| other.group.is_ipv6());
    let is_one = others.iter().all(|other| other.group == first.group);
    let (ip, reach) = match (is_one, is_v6) {
        (true, _) => (first.group, Reach::Address),
        (false, false) => (Ipv4Addr::UNSPECIFIED.into(), Reach::EveryIpv4),
        (false, true) => (Ipv6Addr::UNSPECIFIED.into(), Reach::DualStack),
    };
    let mut address = SocketAddr::new(ip, port);
    if let (SocketAddr::V6(v6), true) = (&mut address, is_one) {
        let index = first.interface.as_deref().map(interface_index);
        v6.set_scope_id(index.and_then(Result::ok).unwrap_or(0));
    }
    Some(BindAddress { address, reach })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use socket2::{Domain, Type};

    use super::*;
    use crate::cli::{Cli, Command};

    fn options(words: &str) -> GroupOptions {
        let line = format!("tuplecat udp-bind 0 {words}");
        match Cli::read(line.split_whitespace()).unwrap().command {
            Command::UdpBind(options) => options.groups,
            command => panic!("{command:?}"),
        }
    }

    fn bound(words: &str) -> Option<String> {
        bind_address(&options(words), 5).map(|bind| bind.address.to_string())
    }

    #[test]
    fn one_group_is_bound_and_several_need_every_interface() {
        assert_eq!(bound(""), None);
        assert_eq!(bound("--join 239.1.1.1%lo").unwrap(), "239.1.1.1:5");
        assert_eq!(
            bound("--join 239.1.1.1%lo --join 239.1.1.1%x").unwrap(),
            "239.1.1.1:5"
        );
        assert_eq!(
            bound("--join 239.1.1.1 --join 239.1.1.2").unwrap(),
            "0.0.0.0:5"
        );
        assert_eq!(bound("--join 239.1.1.1 --join ff02::1").unwrap(), "[::]:5");
        assert_eq!(bound("--join ff0e::1").unwrap(), "[ff0e::1]:5");
    }

    #[test]
    fn a_socket_gets_what_is_asked_for() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let words = "--broadcast --multicast-ttl 7 --no-multicast-loop --multicast-if lo --join 239.1.1.1%lo";
        apply(&socket, IpVersions::V4, &options(words)).unwrap();
        assert!(socket.broadcast().unwrap());
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 7);
        assert!(!socket.multicast_loop_v4().unwrap());
        assert!(!socket.multicast_all_v4().unwrap());
    }

    #[test]
    fn what_cannot_be_joined_is_told() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let message = |words: &str| {
            let result = apply(&socket, IpVersions::V4, &options(words));
            result.unwrap_err().message
        };
        assert_eq!(
            message("--join ff02::1"),
            "--join ff02::1: not an IPv6 socket"
        );
        assert_eq!(
            message("--join 239.1.1.1%nosuch0"),
            "--join 239.1.1.1%nosuch0: no such device"
        );
        assert_eq!(
            message("--multicast-if nosuch0"),
            "--multicast-if nosuch0: no such device"
        );
    }
}
