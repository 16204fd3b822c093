//! The error queue (`MSG_ERRQUEUE`, recv(2)): ICMP errors, each with the address that the datagram had been sent to.
//! An error is about one datagram, but the kernel also fails a later call with it that has nothing to do with it: drain the queue, try again.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::addresses::{Pair, comparable, means};
use super::control::{destination, room_for_error, to_std};
use super::icmp::Cause;
use super::receive::Over;
use super::{Audience, Socket};
use crate::exit::Exit;
use crate::flow::Direction;
use crate::tap::{Event, IcmpError, Taps};

/// The last news of the target is that it cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreachable {
    /// The exit status that it means.
    pub(super) exit: Exit,
    /// The addresses, and why.
    pub(super) text: String,
    /// How many datagrams had been sent by then.
    pub(super) sent: u64,
}

/// One entry of the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    /// Where the datagram had been sent to.
    target: SocketAddr,
    /// Where it had been sent from, with port 0, where the socket has several addresses.
    local: Option<SocketAddr>,
    /// Who says so.
    offender: Option<IpAddr>,
    cause: Cause,
    /// Whether the datagram was an empty one.
    is_empty: bool,
}

impl Socket {
    /// Reports the errors that have come back, equal ones in a row once; returns whether there were any. What this machine says of
    /// the call that has just failed is not one of them.
    pub(super) fn drain_errors(&mut self, taps: &mut Taps) -> bool {
        let mut last = None;
        let mut found = false;
        while let Ok(report) = read(self.inner.as_raw_fd()) {
            let Some(report) = report else { continue };
            let is_remote = !report.cause.is_local();
            found |= is_remote;
            if is_remote && report.is_empty && self.eof.is_repeated() {
                // The peer has heard it before, and has gone.
                self.over.get_or_insert(Over::Enough);
                continue;
            }
            self.eof.errors += u64::from(is_remote);
            // A burst to one closed port brings one error for every datagram.
            if last.replace(report) != Some(report) {
                self.take_report(&report, taps);
            }
        }
        found
    }

    fn take_report(&mut self, report: &Report, taps: &mut Taps) {
        if report.cause.is_local() {
            // The call itself has failed, and tells the size; this tells the limit.
            self.outbox.path_mtu = report.cause.path_mtu();
            return;
        }
        let local = self.name.with_ip(report.local);
        let flow = Pair::new(local, report.target);
        taps.emit(&Event::Unreachable(IcmpError {
            flow: &flow.flow(),
            reason: &report.cause.reason(),
            reported_by: report.offender.filter(|&other| other != flow.remote.ip()),
        }));
        let target = match self.settings.audience {
            Audience::Target(target) => Some(comparable(target)),
            _ => None,
        };
        let is_target = target.is_some_and(|target| means(target, report.target));
        if let (true, Some(exit)) = (is_target, report.cause.exit()) {
            let sent = self.totals.sent.chunks;
            let text = format!(
                "{}: {}",
                flow.flow().arrow(Direction::Outgoing),
                report.cause.reason()
            );
            self.unreachable = Some(Unreachable { exit, text, sent });
        }
    }
}

/// Takes one entry from the queue; `None` if it is of no known kind.
fn read(socket: RawFd) -> nix::Result<Option<Report>> {
    let mut room = room_for_error();
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut [], Some(&mut room), flags)?;
    let (mut local, mut found) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                found = Some((error, offender.map(from_v4)));
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                found = Some((error, offender.map(from_v6)));
            }
            other => local = local.or_else(|| destination(&other)),
        }
    }
    let target = message.address.as_ref().and_then(to_std);
    Ok(found.zip(target).map(|((error, offender), target)| Report {
        target: comparable(target),
        local,
        offender: offender.map(|other| comparable(other).ip()),
        cause: Cause::from(error),
        // There is no room for what was sent, so anything does not fit.
        is_empty: !message.flags.contains(MsgFlags::MSG_TRUNC),
    }))
}

fn from_v4(address: libc::sockaddr_in) -> SocketAddr {
    let ip = address.sin_addr.s_addr.to_ne_bytes();
    SocketAddr::from((ip, u16::from_be(address.sin_port)))
}

fn from_v6(address: libc::sockaddr_in6) -> SocketAddr {
    let ip = address.sin6_addr.s6_addr.into();
    let port = u16::from_be(address.sin6_port);
    SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into()
}
