//! Control messages (cmsg(3)): what comes with a datagram beside its bytes, and what is asked for when one is sent.
//! Coming in, they say which of our addresses it was for and how many were dropped before it; going out, which address it is to leave from.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, RecvMsg, SockaddrStorage};

use super::addresses::{comparable, in_family};

/// What is known of a received datagram, or of a run of them that the kernel coalesced, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label {
    /// Who sent it.
    pub(super) sender: SocketAddr,
    /// Our address that it was sent to, with port 0, where the socket has several (`IP_PKTINFO`, ip(7)).
    pub(super) local: Option<SocketAddr>,
    /// Its size in bytes, also where the buffer was smaller.
    pub(super) len: usize,
    /// The size of each datagram but the last of a coalesced run (`UDP_GRO`, udp(7)).
    pub(super) stride: Option<usize>,
    /// How many the kernel had dropped when it was queued (`SO_RXQ_OVFL`, socket(7)).
    pub(super) drops: Option<u32>,
}

impl Label {
    /// Reads a received message; `None` if it has no internet address.
    pub(super) fn read(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Self> {
        let mut label = Self {
            sender: comparable(message.address.as_ref().and_then(to_std)?),
            local: None,
            len: message.bytes,
            stride: None,
            drops: None,
        };
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::UdpGroSegments(stride) => {
                    label.stride = usize::try_from(stride).ok().filter(|&stride| stride > 0);
                }
                ControlMessageOwned::RxqOvfl(count) => label.drops = Some(count),
                other => label.local = label.local.or_else(|| destination(&other)),
            }
        }
        Some(label)
    }
}

/// The address that a datagram was sent to, with port 0.
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

/// The standard library's form of a socket address.
pub(super) fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&v4| SocketAddr::from(v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|&v6| SocketAddr::from(v6)))
}

/// Room for the control messages of one datagram.
pub(super) fn room() -> Vec<u8> {
    cmsg_space!(libc::in6_pktinfo, u32, libc::c_int)
}

/// Room for the control messages of one queued error.
pub(super) fn room_for_error() -> Vec<u8> {
    cmsg_space!(
        libc::in6_pktinfo,
        libc::in_pktinfo,
        u32,
        libc::sock_extended_err,
        libc::sockaddr_in6
    )
}

/// The source address of an outgoing datagram.
pub(super) enum Source {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

impl Source {
    /// `local` as a socket bound to `bound` takes it: its own family, the interface only where the address needs one.
    pub(super) fn new(local: SocketAddr, bound: SocketAddr) -> Self {
        match in_family(local, bound) {
            SocketAddr::V4(v4) => Self::V4(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            SocketAddr::V6(v6) => Self::V6(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                ipi6_ifindex: v6.scope_id(),
            }),
        }
    }

    /// The control message that asks for it (ip(7), RFC 3542, 6.2).
    pub(super) fn message(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

/// Room for the control messages of an outgoing datagram: exactly theirs, for the kernel declines what is left over.
pub(super) fn room_to_send(cut: Option<u16>, source: Option<&Source>) -> Option<Vec<u8>> {
    match (cut, source) {
        (None, None) => None,
        (Some(_), None) => Some(cmsg_space!(u16)),
        (None, Some(Source::V4(_))) => Some(cmsg_space!(libc::in_pktinfo)),
        (Some(_), Some(Source::V4(_))) => Some(cmsg_space!(u16, libc::in_pktinfo)),
        (None, Some(Source::V6(_))) => Some(cmsg_space!(libc::in6_pktinfo)),
        (Some(_), Some(Source::V6(_))) => Some(cmsg_space!(u16, libc::in6_pktinfo)),
    }
}
