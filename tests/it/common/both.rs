//! What the two transports share in a test: who waits, who speaks first, and how a line names both addresses.
//! A test body that is given a transport works for both.

use std::net::SocketAddr;

use tuplecat::flow::Transport;

use super::{Launch, tuplecat};

/// The mode that waits for others, with words that suit both transports. Over UDP an empty datagram has to stand for the end,
/// because there is no other.
pub(crate) fn waits(transport: Transport, words: &str) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-listen"),
        Transport::Udp => tuplecat("udp-bind --eof-datagram"),
    }
    .args(words)
}

/// The mode that speaks first, towards `address`.
pub(crate) fn speaks(transport: Transport, address: SocketAddr) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        Transport::Udp => tuplecat("udp-sendto --eof-datagram"),
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
