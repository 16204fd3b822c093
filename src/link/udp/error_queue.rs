//! Error queue (`MSG_ERRQUEUE`, recv(2)): ICMP errors, each with the address that the datagram had been sent to.
//! An error is about one datagram, but the kernel also fails a later, unrelated call with it: drain the queue, and try again.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use libc::{SO_EE_ORIGIN_ICMP as V4, SO_EE_ORIGIN_ICMP6 as V6, sock_extended_err};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::addresses::{Pair, comparable, longest_payload, means};
use super::handle::{Handle, explain_denial};
use super::message::{CONTROL_SIZE, Transmit, destination, sender};
use super::{Audience, Socket};
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::flow::{Address, Direction};
use crate::tap::{Event, IcmpError, Taps};

/// Errors that have come back.
#[derive(Debug, Default)]
pub(super) struct ErrorQueue {
    /// Number of datagrams that errors were about, without those of a repeated empty datagram and those that were sent again.
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
    /// The first bytes of the datagram, as far as the error quotes them.
    quoted: Vec<u8>,
}

impl ErrorQueue {
    /// Describes why a transmit cannot be sent.
    pub(super) fn explain(&self, error: Errno, transmit: &Transmit, handle: &Handle) -> String {
        let (target, len) = (transmit.route.flow.remote, transmit.len);
        let most = longest_payload(Some(target));
        match (error, self.path_mtu) {
            (Errno::EMSGSIZE, _) if len > most => {
                format!("a datagram holds at most {most} bytes, not {len}")
            }
            (Errno::EMSGSIZE, Some(mtu)) => {
                let most = payload_within(mtu, target);
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

/// First bytes of a datagram that are compared.
pub(super) const QUOTED: usize = 32;

/// Number of transmits that are remembered, and by a socket that is one of many.
const MAX_FLIGHTS: usize = 256;
const FEW_FLIGHTS: usize = 16;

/// A transmit that was sent. An ICMP error quotes the datagram that it is about (RFC 792): if that begins a run, the whole run was
/// lost as one packet.
#[derive(Debug)]
struct Flight {
    remote: SocketAddr,
    /// Its first bytes, and their number.
    head: ([u8; QUOTED], usize),
    /// Its datagrams, and the number of those that are not counted as lost.
    datagrams: u64,
    left: u64,
}

impl Flight {
    fn begins_with(&self, quoted: &[u8]) -> bool {
        let (head, len) = &self.head;
        head[..*len].starts_with(quoted) && quoted.is_empty() == (*len == 0)
    }
}

/// The latest transmits, the oldest first.
#[derive(Debug)]
pub(super) struct Flights {
    latest: VecDeque<Flight>,
    most: usize,
}

impl Flights {
    /// Remembers few transmits where there are many such sockets.
    pub(super) fn new(is_one_of_many: bool) -> Self {
        Self {
            latest: VecDeque::new(),
            most: if is_one_of_many {
                FEW_FLIGHTS
            } else {
                MAX_FLIGHTS
            },
        }
    }

    /// Adds a transmit that the kernel has taken.
    pub(super) fn add(&mut self, transmit: &Transmit, batch: &Batch) {
        if self.latest.len() == self.most {
            self.latest.pop_front();
        }
        let bytes = transmit.bytes(batch);
        let mut head = ([0; QUOTED], bytes.len().min(QUOTED));
        head.0[..head.1].copy_from_slice(&bytes[..head.1]);
        let datagrams = transmit.shape().count(transmit.len) as u64;
        self.latest.push_back(Flight {
            remote: comparable(transmit.route.flow.remote),
            head,
            datagrams,
            left: datagrams,
        });
    }

    /// Removes the latest transmit, which is sent again.
    pub(super) fn take_back(&mut self) {
        self.latest.pop_back();
    }

    /// Returns true if something was sent to `remote`.
    pub(super) fn has(&self, remote: SocketAddr) -> bool {
        self.latest
            .iter()
            .any(|flight| means(flight.remote, remote))
    }

    /// Returns the number of datagrams to `remote` that are lost by an error which quotes these bytes of one of them.
    pub(super) fn lose(&mut self, remote: SocketAddr, quoted: &[u8]) -> u64 {
        let mut flights = (self.latest.iter_mut()).filter(|flight| means(flight.remote, remote));
        let is_it = |flight: &&mut Flight| flight.left > 0 && flight.begins_with(quoted);
        if let Some(flight) = flights.find(is_it) {
            return std::mem::take(&mut flight.left);
        }
        // One within a run: the run counts as a whole, with its first datagram.
        let mut flights = (self.latest.iter()).filter(|flight| means(flight.remote, remote));
        u64::from(flights.all(|flight| flight.datagrams == 1))
    }
}

/// The errors that are reported together: addresses, sender of the error, text.
type Key = (Pair, Option<IpAddr>, String);

/// Reports equal errors, which are about this number of datagrams together.
fn report(errors: Option<(Key, u64)>, taps: &mut Taps) {
    if let Some(((pair, reported_by, reason), datagrams)) = errors {
        taps.emit(&Event::Unreachable(IcmpError {
            flow: &pair.flow(),
            reason: &reason,
            datagrams,
            reported_by,
        }));
    }
}

impl Socket {
    /// Reports the errors in the queue, equal ones in a row once; returns true if there were any from the network. What is `held` may
    /// be sent again.
    ///
    /// Those of the target may be the end. Those for addresses that nothing was sent to are forged, and left out.
    pub(super) fn drain_errors(
        &mut self,
        mut held: Option<(&Batch, &mut Cursor)>,
        taps: &mut Taps,
    ) -> bool {
        let mut pending: Option<(Key, u64)> = None;
        let mut found = false;
        while let Ok(entry) = Entry::read(&self.handle) {
            let Some(entry) = entry else { continue };
            if entry.error.ee_origin == libc::SO_EE_ORIGIN_LOCAL {
                // The call that has just failed reports it, without the limit.
                self.errors.path_mtu = path_mtu(&entry.error);
                continue;
            }
            found = true;
            let remote = entry.pair.remote;
            if !self.peers.has_sent_to(remote) && !self.sender.flights.has(remote) {
                continue;
            }
            if entry.quoted.is_empty() && self.eof.is_repeated() {
                self.errors.has_peer_gone = true;
                continue;
            }
            let (mut reason, lost) = (reason(&entry.error), self.lose(&entry, &mut held));
            if let (Audience::Target(target), Some(exit)) =
                (self.settings.audience, exit(&entry.error))
                && means(comparable(target), remote)
            {
                let flow = entry.pair.flow();
                let text = format!("{}: {reason}", flow.arrow(Direction::Outgoing));
                let chunks = self.peers.total.sent.chunks;
                self.errors.unreachable = Some((Failure::new(exit, text), chunks));
                if let Some(next) = self.spares.next() {
                    reason = format!("{reason}; going on to {}", Address::from(next));
                }
            }
            match lost {
                None => reason += ": sent again",
                Some(lost) => self.errors.count += lost,
            }
            // A burst to one closed port brings one error for every datagram.
            let key = (entry.pair, entry.reported_by, reason);
            match &mut pending {
                Some((same, count)) if *same == key => *count += lost.unwrap_or(0),
                _ => report(pending.replace((key, lost.unwrap_or(0))), taps),
            }
        }
        report(pending, taps);
        self.go_on(taps);
        found
    }

    /// Returns the number of datagrams that are lost by an error, or nothing if they are sent again.
    fn lose(&mut self, entry: &Entry, held: &mut Option<(&Batch, &mut Cursor)>) -> Option<u64> {
        let (remote, quoted) = (entry.pair.remote, &entry.quoted);
        if let (Some(mtu), Some((batch, at))) = (path_mtu(&entry.error), held) {
            let most = payload_within(mtu, remote);
            if self.sender.send_again(remote, quoted, most, batch, at) {
                return None;
            }
        }
        Some(self.sender.flights.lose(remote, quoted))
    }
}

/// Returns the most bytes of payload in a packet of `mtu` bytes to `target`.
fn payload_within(mtu: u32, target: SocketAddr) -> usize {
    let headers = if target.is_ipv4() { 28 } else { 48 };
    usize::try_from(mtu).map_or(usize::MAX, |mtu| mtu.saturating_sub(headers))
}

impl Entry {
    /// Takes one entry from the queue; `None` if it is of no known kind.
    fn read(handle: &Handle) -> nix::Result<Option<Self>> {
        // Enough for both addresses, the error, and what else the owner of a passed socket has asked for.
        let mut space = [0; CONTROL_SIZE];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let (fd, control) = (handle.socket.as_raw_fd(), Some(space.as_mut_slice()));
        let mut quoted = [0; QUOTED];
        let mut slot = [IoSliceMut::new(&mut quoted)];
        let message = recvmsg::<SockaddrStorage>(fd, &mut slot, control, flags)?;
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
        let (found, len) = (found.zip(sender(&message)), message.bytes);
        let quoted = quoted[..len.min(QUOTED)].to_vec();
        Ok(found.map(|((error, ip), target)| Self {
            pair: Pair::new(handle.local_of(local), target),
            reported_by: ip.filter(|&ip| ip != target.ip()),
            error,
            quoted,
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
