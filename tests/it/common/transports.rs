//! Launches that exist for both transports: the mode that waits, and the mode that sends first.
//! A test body that is generic over the transport is one property of both.

use std::net::SocketAddr;

use tuplecat::flow::Transport;

use super::{Launch, tuplecat};

/// The mode that waits for peers. Over UDP an empty datagram stands for the end.
pub(crate) fn waits(transport: Transport, words: &str) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-listen"),
        _ => tuplecat("udp-bind --eof-datagram"),
    }
    .args(words)
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
