//! Messages of recvmsg(2) and sendmsg(2): bytes with their addresses and control messages (cmsg(3)).
//! A received one says which of our addresses it was for, and how many were dropped before it; a sent one may name its source.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage,
    sendmmsg, sendmsg,
};

use super::addresses::{comparable, in_family};
use super::handle::Handle;
use super::sender::Route;
use crate::batch::{Batch, Cursor, Shape};

/// Space for control messages in bytes: for ours, and for those that the owner of a passed socket has asked for.
pub(super) const CONTROL_SIZE: usize = 1024;

/// Metadata of a received datagram, or of a run of datagrams that the kernel coalesced.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecvMeta {
    pub(super) sender: SocketAddr,
    /// Our address that it was sent to, with port 0, where the socket has several (`IP_PKTINFO`, ip(7)).
    pub(super) local: Option<SocketAddr>,
    /// Its size in bytes, also where the buffer was smaller.
    pub(super) len: usize,
    /// Size of each datagram but the last of a coalesced run (`UDP_GRO`, udp(7)).
    pub(super) stride: Option<usize>,
    /// Number of datagrams that the kernel had dropped when it queued this one (`SO_RXQ_OVFL`, socket(7)).
    pub(super) drops: Option<u32>,
}

impl RecvMeta {
    /// Reads a received message; `None` if it has no internet address.
    pub(super) fn read(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let mut meta = Self {
            sender: sender(message)?,
            local: None,
            len: message.bytes,
            stride: None,
            drops: None,
        };
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::UdpGroSegments(stride) => {
                    meta.stride = usize::try_from(stride).ok().filter(|&stride| stride > 0);
                }
                ControlMessageOwned::RxqOvfl(count) => meta.drops = Some(count),
                other => meta.local = meta.local.or_else(|| destination(&other)),
            }
        }
        Some(meta)
    }

    /// Returns space for the control messages of one datagram of a socket that is ours.
    pub(super) fn space() -> Vec<u8> {
        cmsg_space!(in6_pktinfo, u32, libc::c_int)
    }
}

/// Returns the address of a message, in the comparable form.
pub(super) fn sender(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<SocketAddr> {
    let address = message.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|&v4| SocketAddr::from(v4));
    let v6 = || address.as_sockaddr_in6().map(|&v6| SocketAddr::from(v6));
    v4.or_else(v6).map(comparable)
}

/// Returns the address that a datagram was sent to, with port 0.
pub(super) fn destination(control: &ControlMessageOwned) -> Option<SocketAddr> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let ip = IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip, 0))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = info.ipi6_addr.s6_addr.into();
            let address = SocketAddrV6::new(ip, 0, 0, info.ipi6_ifindex);
            Some(comparable(address.into()))
        }
        _ => None,
    }
}

/// Part of a batch that the kernel takes as one: a datagram, or a run of equal ones that it segments (`UDP_SEGMENT`, udp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmit {
    /// Place of its first byte, and the number of recipients that have got the datagram there.
    pub(super) at: (Cursor, usize),
    /// Length in bytes.
    pub(super) len: usize,
    /// Size of its datagrams, where there are several.
    pub(super) segment_size: Option<u16>,
    /// Route to its recipient.
    pub(super) route: Route,
    /// Place to go on at once it is sent, and the number of recipients that have got the datagram there.
    pub(super) next: (Cursor, usize),
}

impl Transmit {
    /// Returns true if it can go in one call with `first`: the control messages are the same for all.
    pub(super) fn goes_with(&self, first: &Self) -> bool {
        let is_short = |size: u16| self.segment_size.is_none() && self.len <= size.into();
        self.route.source == first.route.source
            && (self.segment_size == first.segment_size || first.segment_size.is_some_and(is_short))
    }

    pub(super) fn bytes<'a>(&self, batch: &'a Batch) -> &'a [u8] {
        let at = self.at.0;
        &batch.bytes(&batch.runs()[at.run])[at.offset..][..self.len]
    }

    /// Returns the size of its datagrams in bytes; only the last may be shorter.
    pub(super) fn size(&self) -> usize {
        self.segment_size.map_or(self.len, usize::from)
    }

    /// Returns its datagrams as boundaries.
    pub(super) fn shape(&self) -> Shape {
        Shape::Datagrams(self.size().max(1))
    }

    /// Sends `transmits`, which all go with the first of them, in one call: sendmsg(2), or sendmmsg(2) if there are several. Returns
    /// the number that the kernel took, at least one.
    pub(super) fn send(transmits: &[Self], handle: &Handle, batch: &Batch) -> nix::Result<usize> {
        let (v4, v6);
        let mut controls = Vec::new();
        // The kernel declines space that is left over, so it is exact.
        let mut space = Vec::new();
        let first = transmits.first();
        if let Some(size) = first.and_then(|first| first.segment_size.as_ref()) {
            controls.push(ControlMessage::UdpGsoSegments(size));
            space.push(cmsg_space!(u16));
        }
        // A source is named in the family of the socket (ip(7), RFC 3542, 6.2), with an interface only where it needs one.
        let source = first.and_then(|first| first.route.source);
        match source.map(|source| in_family(source, handle.bound)) {
            Some(SocketAddr::V4(source)) => {
                let s_addr = u32::from_ne_bytes(source.ip().octets());
                v4 = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr { s_addr },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                controls.push(ControlMessage::Ipv4PacketInfo(&v4));
                space.push(cmsg_space!(in_pktinfo));
            }
            Some(SocketAddr::V6(source)) => {
                let s6_addr = source.ip().octets();
                v6 = in6_pktinfo {
                    ipi6_addr: in6_addr { s6_addr },
                    ipi6_ifindex: source.scope_id(),
                };
                controls.push(ControlMessage::Ipv6PacketInfo(&v6));
                space.push(cmsg_space!(in6_pktinfo));
            }
            None => {}
        }
        // A connected socket has its destination.
        let destination = |transmit: &Self| match handle.remote {
            Some(_) => None,
            None => Some(in_family(transmit.route.flow.remote, handle.bound).into()),
        };
        let slice = |transmit: &Self| [IoSlice::new(transmit.bytes(batch))];
        let (fd, flags) = (handle.socket.as_raw_fd(), MsgFlags::empty());
        if let [one] = transmits {
            let to: Option<SockaddrStorage> = destination(one);
            return sendmsg(fd, &slice(one), &controls, flags, to.as_ref()).map(|_| 1);
        }
        let slices: Vec<_> = transmits.iter().map(slice).collect();
        let to: Vec<_> = transmits.iter().map(destination).collect();
        let space = Some(space.concat()).filter(|space| !space.is_empty());
        let mut headers = MultiHeaders::preallocate(transmits.len(), space);
        Ok(sendmmsg(fd, &mut headers, &slices, to, controls, flags)?.count())
    }
}
