//! HTTP proxies: the request CONNECT and its reply (RFC 9110, section 9.3.6).
//! Only the status of a reply counts: its text comes from outside, and is not shown.

use std::io::{self, ErrorKind};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;

use super::{Exchange, refuse};
use crate::address::proxy::Tunnel;

/// Meaning of 407, and of 401 as some proxies use it.
const UNAUTHORIZED: &str = "authentication required";

/// Meanings of the statuses that proxies answer with (RFC 9110, section 15).
const STATUSES: [(u16, &str); 10] = [
    (400, "bad request"),
    (401, UNAUTHORIZED),
    (403, "forbidden"),
    (404, "not found"),
    (405, "method not allowed"),
    (407, UNAUTHORIZED),
    (500, "internal server error"),
    (502, "bad gateway"),
    (503, "service unavailable"),
    (504, "gateway timeout"),
];

/// Asks for the connection, with the account in the form of RFC 7617 if there is one.
pub(super) fn connect(tunnel: &Tunnel) -> Exchange {
    let target = &tunnel.via.target;
    let mut text = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(login) = &tunnel.proxy.login {
        let password = login.password.as_deref().unwrap_or_default();
        let account = BASE64_STANDARD.encode([&login.user, &b":"[..], password].concat());
        text.extend(["Proxy-Authorization: Basic ", &account, "\r\n"]);
    }
    text += "\r\n";
    Exchange {
        request: text.into_bytes(),
        length: |bytes| Some(final_head(bytes)?.0),
        after: |reply, tunnel| match final_head(reply) {
            Some((_, Some(200..=299))) => Ok(None),
            Some((_, Some(status))) => Err(refusal(status, tunnel.proxy.login.is_some())),
            _ => refuse("the reply is not one of an HTTP proxy"),
        },
    }
}

fn refusal(status: u16, has_account: bool) -> io::Error {
    let meaning = STATUSES.iter().find(|(number, _)| *number == status);
    let meaning = match meaning {
        Some((_, UNAUTHORIZED)) if has_account => "user or password rejected",
        Some((_, meaning)) => meaning,
        None => "refused",
    };
    let kind = match status {
        504 => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, format!("{meaning} (status {status})"))
}

/// Returns the length up to the end of the final head, and its status. Interim ones come before it (RFC 9110, section 15.2).
fn final_head(bytes: &[u8]) -> Option<(usize, Option<u16>)> {
    let mut start = 0;
    loop {
        let rest = &bytes[start..];
        if !rest
            .iter()
            .zip(b"HTTP/1.")
            .all(|(byte, wanted)| byte == wanted)
        {
            return Some((bytes.len(), None));
        }
        let ends = [&b"\r\n\r\n"[..], b"\n\n"].into_iter();
        let end = ends.filter_map(|end| Some(memmem::find(rest, end)? + end.len()));
        start += end.min()?;
        match status(rest) {
            Some(100..=199) => {}
            status => return Some((start, status)),
        }
    }
}

/// Returns the number in a status line such as `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(head.get(9..12)?).ok()?;
    digits.parse().ok().filter(|_| head[8] == b' ')
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_final_head_decides() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"HT", None),
            (b"HTTP/1.1 200 OK\r\n\r", None),
            (b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0", Some((19, Some(200)))),
            (b"HTTP/1.0 200\n\nHTTP/1.1 ", Some((14, Some(200)))),
            (b"HTTP/1.1 100\r\n\r\nHTTP", None),
            (
                b"HTTP/1.1 100\r\n\r\nHTTP/1.1 403 No\r\n\r\n",
                Some((35, Some(403))),
            ),
            (b"HTTP/1.1 +20 OK\r\n\r\n", Some((19, Some(20)))),
            (b"HTTP/1.1 OK\r\n\r\n", Some((15, None))),
            (b"HTTP/1.1\n\n", Some((10, None))),
            (b"SSH-2.0-OpenSSH", Some((15, None))),
        ] {
            assert_eq!(final_head(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
