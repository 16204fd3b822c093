//! Stand-ins for proxies: the exchange of each protocol, byte by byte, and servers that play the proxy's part.
//! A stand-in checks each byte that it gets, and then is the target.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use pretty_assertions::assert_eq;

use super::{accept, listen, read_len};

/// A way to ask a proxy for port 9 of a host, and what the proxy gets and says.
pub(crate) struct Dialect {
    /// The URL, with the address of the proxy to be added.
    pub(crate) url: &'static str,
    pub(crate) host: &'static str,
    /// The target as reports name it.
    pub(crate) target: &'static str,
    /// Each request with its reply.
    pub(crate) exchange: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A reply of SOCKS 5 that has connected from an IPv4 address.
pub(crate) const CONNECTED5: [u8; 10] = [5, 0, 0, 1, 10, 0, 0, 1, 4, 5];

/// A reply of SOCKS 4 that has connected.
pub(crate) const CONNECTED4: [u8; 8] = [0, 90, 1, 2, 3, 4, 5, 6];

/// A request of SOCKS 5 for port 9, with an address of this type.
pub(crate) fn socks5(kind: u8, address: &[u8]) -> Vec<u8> {
    [&[5, 1, 0, kind][..], address, &[0, 9]].concat()
}

pub(crate) fn dialect(
    (url, host, target): (&'static str, &'static str, &'static str),
    exchange: &[(&[u8], &[u8])],
) -> Dialect {
    let exchange = exchange.iter();
    let exchange = exchange.map(|(request, reply)| (request.to_vec(), reply.to_vec()));
    Dialect {
        url,
        host,
        target,
        exchange: exchange.collect(),
    }
}

/// Returns every protocol with every kind of target, and with and without an account.
#[rustfmt::skip]
pub(crate) fn dialects() -> Vec<Dialect> {
    let v4 = Ipv4Addr::new(192, 0, 2, 7).octets();
    let (v6, name) = (Ipv6Addr::LOCALHOST.octets(), b"\x0ba.invalid.x");
    let long_reply = [&[5, 0, 0, 3, 200][..], &[b'n'; 200], &[1, 2]].concat();
    let reply6 = [&[5, 0, 0, 4][..], &[7; 18]].concat();
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 No\r\nContent-Length: 99\r\n\r\n";
    let http = |more: &str| format!("CONNECT a.invalid.x:9 HTTP/1.1\r\nHost: a.invalid.x:9\r\n{more}\r\n");
    let (a, n) = ("192.0.2.7", "a.invalid.x");
    let (at, nt) = ("192.0.2.7:9", "a.invalid.x:9");
    let none: (&[u8], &[u8]) = (&[5, 1, 0], &[5, 0]);
    vec![
        dialect(("socks5://", a, at), &[none, (&socks5(1, &v4), &CONNECTED5)]),
        dialect(("socks5h://", a, at), &[none, (&socks5(1, &v4), &long_reply)]),
        dialect(("socks5://", "::1", "[::1]:9"), &[none, (&socks5(4, &v6), &reply6)]),
        dialect(("socks5h://", n, nt), &[none, (&socks5(3, name), &CONNECTED5)]),
        dialect(("socks5h://me:p%20w@", n, nt), &[
            (&[5, 2, 0, 2], &[5, 2]),
            (b"\x01\x02me\x03p w", &[1, 0]),
            (&socks5(3, name), &CONNECTED5),
        ]),
        // The proxy needs no password, so it gets none.
        dialect(("socks5://me:pw@", a, at), &[(&[5, 2, 0, 2], &[5, 0]), (&socks5(1, &v4), &CONNECTED5)]),
        dialect(("socks4://", a, at), &[(b"\x04\x01\x00\x09\xc0\x00\x02\x07\x00", &CONNECTED4)]),
        dialect(("socks4a://me@", a, at), &[(b"\x04\x01\x00\x09\xc0\x00\x02\x07me\x00", &CONNECTED4)]),
        dialect(("socks4a://me@", n, nt), &[
            (b"\x04\x01\x00\x09\x00\x00\x00\x01me\x00a.invalid.x\x00", &CONNECTED4),
        ]),
        dialect(("http://", n, nt), &[(http("").as_bytes(), b"HTTP/1.1 200 OK\r\n\r\n")]),
        dialect(("http://me:pw@", n, nt), &[
            (http("Proxy-Authorization: Basic bWU6cHc=\r\n").as_bytes(), interim),
        ]),
        dialect(("http://", "::1", "[::1]:9"), &[
            (b"CONNECT [::1]:9 HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", b"HTTP/1.0 200\n\n"),
        ]),
    ]
}

/// The pieces in which a stand-in writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// Each reply in one segment, the last one with what follows it.
    Whole,
    /// Each byte in a segment of its own.
    Bytes,
}

/// Accepts a client, goes through the exchange, and writes `more` behind the last reply.
pub(crate) fn serve(
    listener: &TcpListener,
    exchange: &[(Vec<u8>, Vec<u8>)],
    more: &[u8],
    pieces: Pieces,
) -> TcpStream {
    let mut client = accept(listener);
    client.set_nodelay(true).unwrap();
    let last = exchange.len() - 1;
    for (number, (request, reply)) in exchange.iter().enumerate() {
        assert_eq!(read_len(&client, request.len()), *request);
        let more = if number == last { more } else { b"" };
        let said = [reply, more].concat();
        match pieces {
            Pieces::Whole => client.write_all(&said).unwrap(),
            Pieces::Bytes => said
                .iter()
                .for_each(|byte| client.write_all(&[*byte]).unwrap()),
        }
    }
    client
}

/// Starts a stand-in that answers the first request, whatever it is, with `reply`, and then keeps silent until the client has gone.
pub(crate) fn answering(reply: &[u8]) -> (SocketAddr, JoinHandle<()>) {
    let (listener, address) = listen();
    let reply = reply.to_vec();
    let thread = thread::spawn(move || {
        let mut client = accept(&listener);
        assert!(client.read(&mut [0; 1000]).unwrap() > 0);
        client.write_all(&reply).unwrap();
        // A client that gives up with bytes unread resets.
        let _ = client.read_to_end(&mut Vec::new());
    });
    (address, thread)
}
