//! Error queue (`MSG_ERRQUEUE`, recv(2)): ICMP errors, each with the address that the datagram had been sent to.
//! An error is about one datagram, but the kernel also fails a later, unrelated call with it: drain the queue, and try again.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use libc::{SO_EE_ORIGIN_ICMP as V4, SO_EE_ORIGIN_ICMP6 as V6, sock_extended_err};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::addresses::{Pair, comparable, means};
use super::handle::Handle;
use super::message::{destination, sender};
use super::{Audience, Settings};
use crate::exit::{Exit, Failure};
use crate::flow::Direction;
use crate::tap::{Event, IcmpError, Taps};

/// Errors that have come back.
#[derive(Debug, Default)]
pub(super) struct ErrorQueue {
    /// The address whose errors may be the end, in the comparable form.
    target: Option<SocketAddr>,
    /// Number of errors, without those of a repeated empty datagram.
    pub(super) count: u64,
    /// One was about a repeated empty datagram: the peer has received an earlier one, and has gone.
    pub(super) has_peer_gone: bool,
    /// Why the target cannot be reached, if nothing has come from it since, and the number of datagrams sent by then.
    pub(super) unreachable: Option<(Failure, u64)>,
    /// The limit of the path for the latest datagram that was too long for it, in bytes with headers.
    pub(super) path_mtu: Option<u32>,
}

/// Entry of the error queue.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Destination of the datagram.
    target: SocketAddr,
    /// Its source, with port 0, where the socket has several addresses.
    local: Option<SocketAddr>,
    /// Address that the error came from.
    reported_by: Option<IpAddr>,
    /// This machine reports the error itself, of the call that has just failed.
    is_local: bool,
    path_mtu: Option<u32>,
    reason: String,
    exit: Option<Exit>,
    /// The datagram was an empty one.
    is_empty: bool,
}

impl ErrorQueue {
    pub(super) fn new(settings: &Settings) -> Self {
        let target = match settings.audience {
            Audience::Target(target) => Some(comparable(target)),
            _ => None,
        };
        Self {
            target,
            ..Self::default()
        }
    }

    /// Reports the errors in the queue, equal ones in a row once; returns true if there were any from the network.
    ///
    /// `sent` datagrams were sent so far. `is_eof_repeated` says that an empty one stands for the end, and was sent before.
    pub(super) fn drain(
        &mut self,
        handle: &Handle,
        sent: u64,
        is_eof_repeated: bool,
        taps: &mut Taps,
    ) -> bool {
        let mut last = None;
        let mut found = false;
        while let Ok(entry) = Entry::read(handle) {
            let Some(entry) = entry else { continue };
            if entry.is_local {
                // The call reports the error, without the limit.
                self.path_mtu = entry.path_mtu;
                continue;
            }
            found = true;
            if entry.is_empty && is_eof_repeated {
                self.has_peer_gone = true;
                continue;
            }
            self.count += 1;
            // A burst to one closed port brings one error for every datagram.
            if last.as_ref() != Some(&entry) {
                self.report(&entry, handle, sent, taps);
                last = Some(entry);
            }
        }
        found
    }

    fn report(&mut self, entry: &Entry, handle: &Handle, sent: u64, taps: &mut Taps) {
        let pair = Pair::new(handle.local_of(entry.local), entry.target);
        let (flow, reason) = (&pair.flow(), entry.reason.as_str());
        let reported_by = (entry.reported_by).filter(|&address| address != pair.remote.ip());
        taps.emit(&Event::Unreachable(IcmpError {
            flow,
            reason,
            reported_by,
        }));
        let is_target = (self.target).is_some_and(|target| means(target, entry.target));
        if let (true, Some(exit)) = (is_target, entry.exit) {
            let text = format!("{}: {reason}", flow.arrow(Direction::Outgoing));
            self.unreachable = Some((Failure::new(exit, text), sent));
        }
    }
}

impl Entry {
    /// Takes one entry from the queue; `None` if it is of no known kind.
    fn read(handle: &Handle) -> nix::Result<Option<Self>> {
        let mut space = cmsg_space!(
            libc::in6_pktinfo,
            libc::in_pktinfo,
            u32,
            sock_extended_err,
            libc::sockaddr_in6
        );
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
        Ok(found.map(|((error, reported_by), target)| Self {
            target,
            local,
            reported_by,
            is_local: error.ee_origin == libc::SO_EE_ORIGIN_LOCAL,
            path_mtu: path_mtu(&error),
            reason: reason(&error),
            exit: exit(&error),
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
