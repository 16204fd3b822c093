//! SOCKS 5 (RFC 1928, with the passwords of RFC 1929), SOCKS 4 and 4A: requests, and the meaning of their replies.
//! A byte that is no version, or a code of failure, completes a reply: some proxies send no more.

use std::io::{self, ErrorKind};
use std::net::IpAddr;

use super::{Exchange, refuse};
use crate::address::proxy::{Login, Tunnel};

/// Refusals of SOCKS 5 (RFC 1928, section 6), from 1 on.
const REFUSALS: [(ErrorKind, &str); 8] = [
    (ErrorKind::Other, "general failure of the proxy"),
    (ErrorKind::Other, "not allowed by the proxy"),
    (ErrorKind::Other, "network unreachable"),
    (ErrorKind::Other, "host unreachable"),
    (ErrorKind::ConnectionRefused, "connection refused"),
    (ErrorKind::TimedOut, "TTL expired"),
    (ErrorKind::Other, "the proxy does not support CONNECT"),
    (
        ErrorKind::Other,
        "the proxy does not support this type of address",
    ),
];

/// Offers authentication methods: none, and user and password if there is an account (RFC 1928, section 3).
pub(super) fn methods(tunnel: &Tunnel) -> Exchange {
    Exchange {
        request: match tunnel.proxy.login {
            None => vec![5, 1, 0],
            Some(_) => vec![5, 2, 0, 2],
        },
        length: |_| Some(2),
        after: |reply, tunnel| match (reply, &tunnel.proxy.login) {
            ([5, 0], _) => connect5(tunnel),
            ([5, 2], Some(account)) => login(account),
            ([5, 0xff], None) => refuse("authentication required"),
            ([5, _], _) => {
                refuse("the proxy demands an authentication method that was not offered")
            }
            _ => refuse("the reply is not one of a SOCKS 5 proxy"),
        },
    }
}

/// Sends user and password.
fn login(Login { user, password }: &Login) -> io::Result<Option<Exchange>> {
    let password = password.as_deref().unwrap_or_default();
    Ok(Some(Exchange {
        request: [vec![1], field(user)?, field(password)?].concat(),
        length: |_| Some(2),
        after: |reply, tunnel| match reply {
            [_, 0] => connect5(tunnel),
            _ => refuse("user or password rejected"),
        },
    }))
}

/// Asks for the connection (RFC 1928, section 4). The reply ends with an address of the proxy.
fn connect5(tunnel: &Tunnel) -> io::Result<Option<Exchange>> {
    let (kind, address) = match tunnel.host.parse() {
        Ok(IpAddr::V4(v4)) => (1, v4.octets().to_vec()),
        Ok(IpAddr::V6(v6)) => (4, v6.octets().to_vec()),
        Err(_) => (3, field(tunnel.host.as_bytes())?),
    };
    Ok(Some(Exchange {
        request: [&[5, 1, 0, kind], &address[..], &tunnel.port.to_be_bytes()].concat(),
        length: |bytes| match bytes {
            [5, 0, _, 1, ..] => Some(10),
            [5, 0, _, 3, name, ..] => Some(7 + usize::from(*name)),
            [5, 0, _, 4, ..] => Some(22),
            [] | [5] | [5, 0] | [5, 0, _] | [5, 0, _, 3] => None,
            [5, 0, ..] => Some(4),
            [5, ..] => Some(2),
            _ => Some(1),
        },
        after: |reply, _| match reply {
            [5, 0, _, 1 | 3 | 4, ..] => Ok(None),
            [5, 0, ..] => refuse("the reply has an unknown type of address"),
            [5, code, ..] => {
                let known = REFUSALS.get(usize::from(*code) - 1);
                let (kind, text) = known.unwrap_or(&(ErrorKind::Other, "refused"));
                Err(io::Error::new(*kind, format!("{text} (reply {code})")))
            }
            _ => refuse("the reply is not one of a SOCKS 5 proxy"),
        },
    }))
}

/// Returns bytes behind their number.
fn field(bytes: &[u8]) -> io::Result<Vec<u8>> {
    match u8::try_from(bytes.len()) {
        Ok(length) => Ok([&[length], bytes].concat()),
        Err(_) => refuse("SOCKS 5 has no room for a name or password of more than 255 bytes"),
    }
}

/// Asks for the connection, by SOCKS 4A if the target is a name: it follows an address that does not exist.
pub(super) fn connect4(tunnel: &Tunnel) -> io::Result<Exchange> {
    let (address, name) = match tunnel.host.parse() {
        Ok(IpAddr::V4(v4)) => (v4.octets(), String::new()),
        Ok(IpAddr::V6(_)) => return refuse("SOCKS 4 reaches IPv4 addresses only"),
        Err(_) => ([0, 0, 0, 1], format!("{}\0", tunnel.host)),
    };
    let login = tunnel.proxy.login.as_ref();
    let user = login.map_or(&[][..], |login| &login.user);
    let port = tunnel.port.to_be_bytes();
    Ok(Exchange {
        request: [&[4, 1], &port[..], &address, user, &[0], name.as_bytes()].concat(),
        length: |bytes| Some(if *bytes.first()? == 0 { 8 } else { 1 }),
        after: |reply, _| match reply {
            [0, 90, ..] => Ok(None),
            [0, 91, ..] => refuse("request rejected or failed (reply 91)"),
            [0, 92, ..] => refuse("the proxy cannot identify the user by identd (reply 92)"),
            [0, 93, ..] => refuse("identd reports another user (reply 93)"),
            [0, code, ..] => refuse(format!("refused (reply {code})")),
            _ => refuse("the reply is not one of a SOCKS 4 proxy"),
        },
    })
}
