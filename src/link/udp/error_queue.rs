//! Error queue (`MSG_ERRQUEUE`, recv(2)): ICMP errors, each with the address that the datagram had been sent to.
//! An error is about one datagram, but the kernel also fails a later, unrelated call with it: drain the queue, and try again.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use libc::{SO_EE_ORIGIN_ICMP as V4, SO_EE_ORIGIN_ICMP6 as V6, sock_extended_err};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::Audience;
use super::addresses::{Pair, comparable, longest_payload, means};
use super::handle::{Handle, explain_denial};
use super::message::{Transmit, destination, sender};
use crate::exit::{Exit, Failure};
use crate::flow::Direction;
use crate::tap::{Event, IcmpError, Taps};

/// Errors that have come back.
#[derive(Debug, Default)]
pub(super) struct ErrorQueue {
    /// Number of errors, without those of a repeated empty datagram.
    pub(super) count: u64,
    /// One was about a repeated empty datagram: the peer has received an earlier one, and has gone.
    pub(super) has_peer_gone: bool,
    /// Reason that the target cannot be reached, if nothing has come from it since, and the number of datagrams sent by then.
    pub(super) unreachable: Option<(Failure, u64)>,
    /// The limit of the path for the latest datagram that was too long for it, in bytes with headers.
    path_mtu: Option<u32>,
}

/// Entry of the error queue.
struct Entry {
    /// Addresses of the datagram.
    pair: Pair,
    /// Address that the error came from, unless that is the destination.
    reported_by: Option<IpAddr>,
    error: sock_extended_err,
    /// The datagram was an empty one.
    is_empty: bool,
}

impl ErrorQueue {
    /// Reports the errors in the queue, equal ones in a row once; returns true if there were any from the network.
    ///
    /// Those of the target may be the end; `sent` datagrams were sent so far. `is_eof_repeated` says that an empty one stands for the
    /// end, and was sent before.
    pub(super) fn drain(
        &mut self,
        handle: &Handle,
        audience: Audience,
        sent: u64,
        is_eof_repeated: bool,
        taps: &mut Taps,
    ) -> bool {
        let mut last = None;
        let mut found = false;
        while let Ok(entry) = Entry::read(handle) {
            let Some(entry) = entry else { continue };
            if entry.error.ee_origin == libc::SO_EE_ORIGIN_LOCAL {
                // The call that has just failed reports it, without the limit.
                self.path_mtu = path_mtu(&entry.error);
                continue;
            }
            found = true;
            if entry.is_empty && is_eof_repeated {
                self.has_peer_gone = true;
                continue;
            }
            self.count += 1;
            // A burst to one closed port brings one error for every datagram.
            let addresses = (entry.pair, entry.reported_by);
            let key = (addresses, entry.is_empty, reason(&entry.error));
            if last.as_ref() == Some(&key) {
                continue;
            }
            let (flow, (.., reason)) = (&entry.pair.flow(), last.insert(key));
            taps.emit(&Event::Unreachable(IcmpError {
                flow,
                reason,
                reported_by: entry.reported_by,
            }));
            if let (Audience::Target(target), Some(exit)) = (audience, exit(&entry.error))
                && means(comparable(target), entry.pair.remote)
            {
                let text = format!("{}: {reason}", flow.arrow(Direction::Outgoing));
                self.unreachable = Some((Failure::new(exit, text), sent));
            }
        }
        found
    }

    /// Describes why a transmit cannot be sent.
    pub(super) fn explain(&self, error: Errno, transmit: &Transmit, handle: &Handle) -> String {
        let (target, len) = (transmit.route.flow.remote, transmit.len);
        let most = longest_payload(Some(target));
        match (error, self.path_mtu) {
            (Errno::EMSGSIZE, _) if len > most => {
                format!("a datagram holds at most {most} bytes, not {len}")
            }
            (Errno::EMSGSIZE, Some(mtu)) => {
                let headers = if target.is_ipv4() { 28 } else { 48 };
                let most = mtu.saturating_sub(headers);
                format!("the path takes at most {most} bytes (path MTU {mtu}), not {len}")
            }
            (Errno::ENETUNREACH, _) if target.ip().is_multicast() => {
                let advice = "(no route for multicast; --multicast-if names an interface)";
                format!("network is unreachable {advice}")
            }
            (Errno::ENETUNREACH, _) if target.ip() == Ipv4Addr::BROADCAST => {
                let advice = "(no default route; a network has a broadcast address of its own)";
                format!("network is unreachable {advice}")
            }
            _ => explain_denial(&handle.socket, target, &error.into()),
        }
    }
}

impl Entry {
    /// Takes one entry from the queue; `None` if it is of no known kind.
    fn read(handle: &Handle) -> nix::Result<Option<Self>> {
        // Enough for both addresses and the error.
        let mut space = cmsg_space!([libc::sockaddr_storage; 2]);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let (fd, control) = (handle.socket.as_raw_fd(), Some(space.as_mut_slice()));
        let message = recvmsg::<SockaddrStorage>(fd, &mut [], control, flags)?;
        let (mut local, mut found) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4RecvErr(error, address) => {
                    let ip = |v4: libc::sockaddr_in| v4.sin_addr.s_addr.to_ne_bytes().into();
                    found = Some((error, address.map(ip)));
                }
                ControlMessageOwned::Ipv6RecvErr(error, address) => {
                    let ip = |v6: libc::sockaddr_in6| IpAddr::from(v6.sin6_addr.s6_addr);
                    found = Some((error, address.map(|v6| ip(v6).to_canonical())));
                }
                other => local = local.or_else(|| destination(&other)),
            }
        }
        let found = found.zip(sender(&message));
        Ok(found.map(|((error, ip), target)| Self {
            pair: Pair::new(handle.local_of(local), target),
            reported_by: ip.filter(|&ip| ip != target.ip()),
            error,
            // The call has no room for bytes, so any that there are do not fit.
            is_empty: !message.flags.contains(MsgFlags::MSG_TRUNC),
        }))
    }
}

/// Returns the size of the largest packet that passes, in bytes with headers, where the packet was too big.
fn path_mtu(error: &sock_extended_err) -> Option<u32> {
    (error.ee_errno == Errno::EMSGSIZE as u32).then_some(error.ee_info)
}

/// Returns the exit status if nothing more is heard of the target; `None` where smaller datagrams may get through.
fn exit(error: &sock_extended_err) -> Option<Exit> {
    let errno = Errno::from_raw(error.ee_errno.cast_signed());
    path_mtu(error).is_none().then(|| Exit::from(&errno.into()))
}

/// Describes an ICMP error, as in "port unreachable". The numbers are of RFC 792, RFC 1812 (5.2.7) and RFC 4443.
fn reason(error: &sock_extended_err) -> String {
    if let Some(mtu) = path_mtu(error) {
        return format!("packet too big (path MTU {mtu})");
    }
    let known = match (error.ee_origin, error.ee_type, error.ee_code) {
        (V4, 3, 0 | 6 | 11) | (V6, 1, 0) => "network unreachable",
        (V4, 3, 1 | 7 | 8 | 12) | (V6, 1, 3) => "host unreachable",
        (V4, 3, 2) => "protocol unreachable",
        (V4, 3, 3) | (V6, 1, 4) => "port unreachable",
        (V4, 3, 5) => "source route failed",
        (V4, 3, 9 | 10 | 13) | (V6, 1, 1 | 5 | 6) => "administratively prohibited",
        (V6, 1, 2) => "beyond the scope of the source address",
        (V4, 3, _) | (V6, 1, _) => "destination unreachable",
        (V4, 4, _) => "source quench",
        (V4, 11, _) => "time to live exceeded",
        (V6, 3, _) => "hop limit exceeded",
        (V4, 12, _) | (V6, 4, _) => "parameter problem",
        (_, kind, code) => return format!("ICMP error, type {kind}, code {code}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(
        errno: Errno,
        ee_origin: u8,
        ee_type: u8,
        ee_code: u8,
        ee_info: u32,
    ) -> sock_extended_err {
        sock_extended_err {
            ee_errno: errno as u32,
            ee_origin,
            ee_type,
            ee_code,
            ee_pad: 0,
            ee_info,
            ee_data: 0,
        }
    }

    #[test]
    fn a_closed_port_is_a_refusal_in_both_families() {
        for (origin, kind, code) in [(V4, 3, 3), (V6, 1, 4)] {
            let error = error(Errno::ECONNREFUSED, origin, kind, code, 0);
            assert_eq!(reason(&error), "port unreachable");
            assert_eq!(exit(&error), Some(Exit::Refused));
        }
    }

    #[test]
    fn a_packet_too_big_names_the_path_mtu_and_is_no_verdict() {
        let error = error(Errno::EMSGSIZE, V4, 3, 4, 1400);
        assert_eq!(reason(&error), "packet too big (path MTU 1400)");
        assert_eq!(exit(&error), None);
    }

    #[test]
    fn an_unknown_error_shows_its_numbers() {
        let error = error(Errno::EPROTO, V4, 40, 2, 0);
        assert_eq!(reason(&error), "ICMP error, type 40, code 2");
        assert_eq!(exit(&error), Some(Exit::Failed));
    }
}
