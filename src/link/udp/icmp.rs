//! What an ICMP error says, in words.
//! The numbers are of RFC 792, RFC 1812 (5.2.7) and RFC 4443; the kernel hands them on as they came.

use std::borrow::Cow;

use nix::errno::Errno;

use crate::exit::Exit;

/// What the kernel tells about an error (`struct sock_extended_err`, ip(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    errno: u32,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
}

impl From<libc::sock_extended_err> for Cause {
    fn from(error: libc::sock_extended_err) -> Self {
        Self {
            errno: error.ee_errno,
            origin: error.ee_origin,
            kind: error.ee_type,
            code: error.ee_code,
            info: error.ee_info,
        }
    }
}

impl Cause {
    /// Whether this machine says so itself, before anything has left it.
    pub(super) fn is_local(self) -> bool {
        self.origin == libc::SO_EE_ORIGIN_LOCAL
    }

    /// The largest packet that passes, headers included, in bytes, where that is the trouble.
    pub(super) fn path_mtu(self) -> Option<u32> {
        (self.errno == Errno::EMSGSIZE as u32).then_some(self.info)
    }

    /// The status if this is the last that was heard of the target; `None` where smaller datagrams get through.
    pub(super) fn exit(self) -> Option<Exit> {
        match self.path_mtu() {
            Some(_) => None,
            None if self.errno == Errno::ECONNREFUSED as u32 => Some(Exit::Refused),
            None => Some(Exit::Failed),
        }
    }

    /// Such as "port unreachable".
    pub(super) fn reason(self) -> Cow<'static, str> {
        if let Some(mtu) = self.path_mtu() {
            return format!("packet too big (path MTU {mtu})").into();
        }
        let known = match self.origin {
            libc::SO_EE_ORIGIN_ICMP => icmp(self.kind, self.code),
            libc::SO_EE_ORIGIN_ICMP6 => icmp6(self.kind, self.code),
            _ => None,
        };
        let number = || format!("ICMP error, type {}, code {}", self.kind, self.code);
        known.map_or_else(|| number().into(), Cow::Borrowed)
    }
}

fn icmp(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (3, 0 | 6 | 11) => "network unreachable",
        (3, 1 | 7 | 8 | 12) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 5) => "source route failed",
        (3, 9 | 10 | 13) => "administratively prohibited",
        (3, _) => "destination unreachable",
        (4, _) => "source quench",
        (11, _) => "time to live exceeded",
        (12, _) => "parameter problem",
        _ => return None,
    })
}

fn icmp6(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "network unreachable",
        (1, 1 | 5 | 6) => "administratively prohibited",
        (1, 2) => "beyond the scope of the source address",
        (1, 3) => "host unreachable",
        (1, 4) => "port unreachable",
        (1, _) => "destination unreachable",
        (3, _) => "hop limit exceeded",
        (4, _) => "parameter problem",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(errno: Errno, origin: u8, kind: u8, code: u8, info: u32) -> Cause {
        Cause {
            errno: errno as u32,
            origin,
            kind,
            code,
            info,
        }
    }

    #[test]
    fn a_closed_port_is_a_refusal_in_both_families() {
        for (origin, kind, code) in [
            (libc::SO_EE_ORIGIN_ICMP, 3, 3),
            (libc::SO_EE_ORIGIN_ICMP6, 1, 4),
        ] {
            let cause = cause(Errno::ECONNREFUSED, origin, kind, code, 0);
            assert_eq!(cause.reason(), "port unreachable");
            assert_eq!(cause.exit(), Some(Exit::Refused));
        }
    }

    #[test]
    fn a_packet_too_big_names_the_path_mtu_and_is_no_verdict() {
        let cause = cause(Errno::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP, 3, 4, 1400);
        assert_eq!(cause.reason(), "packet too big (path MTU 1400)");
        assert_eq!(cause.exit(), None);
    }

    #[test]
    fn an_unknown_error_shows_its_numbers() {
        let cause = cause(Errno::EPROTO, libc::SO_EE_ORIGIN_ICMP, 40, 2, 0);
        assert_eq!(cause.reason(), "ICMP error, type 40, code 2");
        assert_eq!(cause.exit(), Some(Exit::Failed));
    }
}
