//! Launches that exist for each transport: the mode that waits, and the mode that sends first.
//! A test body that is generic over the transport is one property of both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use tuplecat::flow::Transport;

use super::{Launch, Running, tuplecat};

/// The mode that waits for peers. Over UDP an empty datagram stands for the end.
pub(crate) fn waits(transport: Transport, words: &str) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-listen"),
        Transport::Udp => tuplecat("udp-bind --eof-datagram"),
        unix => {
            // In the place of port 0 there is a new name.
            let words = words.strip_suffix('0').unwrap_or(words);
            let number = NAMES.fetch_add(1, Ordering::Relaxed);
            let name = format!("@tuplecat-test-{}-{number}", std::process::id());
            let mode = match unix {
                Transport::Unix => "unix-listen",
                Transport::UnixPacket => "unix-listen --seqpacket",
                _ => "unix-bind --eof-datagram",
            };
            return tuplecat(mode).args(words).arg(name);
        }
    }
    .args(words)
}

/// The number of names that were given.
static NAMES: AtomicU32 = AtomicU32::new(0);

/// The mode that sends first, to a mode that waits and is ready.
pub(crate) fn meets(transport: Transport, server: &Running) -> Launch {
    let mode = match transport {
        Transport::Unix => "unix-connect",
        Transport::UnixPacket => "unix-connect --seqpacket",
        Transport::UnixDatagram => "unix-sendto --eof-datagram",
        inet => return speaks(inet, server.ready()),
    };
    let line = server.ready_line();
    tuplecat(mode).arg(line.split_whitespace().nth(1).unwrap())
}

/// The mode that sends first, to `address`.
pub(crate) fn speaks(transport: Transport, address: SocketAddr) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        _ => tuplecat("udp-sendto --eof-datagram"),
    }
    .to(address)
}

/// Splits `tcp 127.0.0.1:1 <-> 127.0.0.1:2  …` and its one-way forms into transport, local and remote address.
pub(crate) fn tuple(line: &str) -> (String, String, String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let arrow = words
        .iter()
        .position(|word| ["<->", "<-", "->"].contains(word))
        .unwrap_or_else(|| panic!("no 4-tuple in '{line}'"));
    let word = |at: usize| words[at].to_owned();
    (word(arrow - 2), word(arrow - 1), word(arrow + 1))
}

/// Defines a test for each transport from one body.
macro_rules! both {
    ($($(#[$attribute:meta])* fn $name:ident($transport:ident) $body:block)*) => {
        $($(#[$attribute])* mod $name {
            use super::*;

            fn check($transport: Transport) $body

            #[test]
            fn tcp() {
                check(Transport::Tcp);
            }

            #[test]
            fn udp() {
                check(Transport::Udp);
            }
        })*
    };
}
pub(crate) use both;

/// Defines a test for each transport from one body, Unix sockets included.
macro_rules! each {
    ($($(#[$attribute:meta])* fn $name:ident($transport:ident) $body:block)*) => {
        both! { $($(#[$attribute])* fn $name($transport) $body)* }

        mod of_unix {
            use super::*;

            $(mod $name {
                use super::*;

                fn check($transport: Transport) $body

                #[test]
                fn stream() {
                    check(Transport::Unix);
                }

                #[test]
                fn packets() {
                    check(Transport::UnixPacket);
                }

                #[test]
                fn datagrams() {
                    check(Transport::UnixDatagram);
                }
            })*
        }
    };
}
pub(crate) use each;
