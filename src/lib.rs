//! tuplecat connects standard input and output to TCP and UDP sockets: four modes that share one I/O pump.
//! Every event says what identifies the conversation: the 4-tuple of a TCP connection, the sender of a UDP datagram.
//!
//! | | TCP | UDP |
//! |---|---|---|
//! | wait for others | `tcp-listen`: socket, bind, listen, accept; every client gets a new socket | `udp-bind`: socket, bind, recvfrom; one socket for every peer |
//! | speak first | `tcp-connect`: socket, connect | `udp-sendto`: socket, sendto |
//! | what names a conversation | the 4-tuple of the socket: local and remote address and port | the socket has its own address only; each datagram brings its sender |
//! | boundaries | none: a byte stream | one send is one datagram |
//! | the end | each side ends its own direction (FIN); RST is an error | none: a datagram may be empty, and that ends nothing |
//!
//! Each of the [`modes`] is one file. A table at its head shows where socket, bind, listen, accept, recv, send, shutdown and
//! close are called. Read on in [`pump::end`], the interface between sockets and the pump; in [`link::tcp`] and [`link::udp`],
//! which implement it; and in [`pump`], the loop that drives them.
//!
//! The parts:
//!
//! - [`cli`] parses the command line, and [`address`] resolves names.
//! - `socket` opens and binds sockets. `run` holds the parts that the modes share: session, observers, retries.
//! - [`pump`] moves bytes between ends. It knows neither transports nor options.
//! - [`link`] holds the ends on the network: sockets. [`local`] holds the ends on this side: standard input and output, programs.
//! - [`framing`] cuts input into datagrams, and shows received bytes in other forms.
//! - [`batch`] holds the bytes in flight, and [`flow`] the addresses that identify a conversation.
//! - [`tap`] holds the observers, which report events and payload.
//! - [`escape`] makes text from outside safe to show, and [`exit`] holds the exit statuses.
//! - [`sys`] makes the calls that need `unsafe` code, and all waiting.

pub mod address;
pub mod batch;
pub mod cli;
pub mod escape;
pub mod exit;
pub mod flow;
pub mod framing;
pub mod link;
pub mod local;
pub mod modes;
pub mod pump;
mod run;
mod socket;
pub mod sys;
pub mod tap;
