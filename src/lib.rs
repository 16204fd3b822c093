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
//! To follow a mode from the command line to the system calls, begin with its file in `modes`, such as `modes/tcp_listen.rs`: a table at
//! its head says where socket, bind, listen, accept, recv, send, shutdown and close are. Then read `pump/end.rs`, the interface between
//! sockets and the pump; `link/tcp.rs` and `link/udp/mod.rs`, which implement it; and `pump/mod.rs`, the loop that drives them.
//!
//! How the parts fit together:
//!
//! - [`cli`] reads the command line, [`address`] resolves names, and each of the [`modes`] is one file that shows its calls in order.
//! - `socket` opens and binds sockets, and `run` holds what the modes share: the session, its observers, and retries.
//! - [`pump`] moves bytes between ends, whatever they are; it knows neither transports nor options.
//! - [`link`] holds the ends on the network, which are sockets, [`local`] those on this side; [`framing`] cuts input into datagrams.
//! - [`batch`] holds the bytes in flight, [`flow`] what names their conversation, [`tap`] the observers that report it.
//! - [`escape`] makes text from outside safe to show.
//! - [`sys`] is what only the operating system can do, and [`exit`] says how it all ended.

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
