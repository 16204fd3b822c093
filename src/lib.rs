//! tuplecat connects standard input and output to TCP, UDP and Unix sockets: a pair of modes for each, and one I/O pump.
//! Every event carries the identity of its conversation: the 4-tuple of a TCP connection, the sender of a UDP datagram.
//!
//! | | TCP | UDP |
//! |---|---|---|
//! | wait for others | `tcp-listen`: socket, bind, listen, accept; every client gets a new socket | `udp-bind`: socket, bind, recvfrom; one socket for every peer |
//! | speak first | `tcp-connect`: socket, connect | `udp-sendto`: socket, sendto |
//! | identity | the 4-tuple of the socket: local and remote address and port | the socket has its own address only; each datagram brings its sender |
//! | boundaries | none: a byte stream | one send is one datagram |
//! | end | each side ends its own direction (FIN); RST is an error | none: an empty datagram is data, and ends nothing |
//!
//! Unix sockets have the same calls in `unix-*`: a path names the socket, and the kernel names the process of the peer.
//!
//! Start with one of the [`modes`]. The table at the head of the file shows where socket, bind, listen, accept, recv, send,
//! shutdown and close are called. The four files have one shape: `diff tcp_listen.rs udp_bind.rs` shows how TCP and UDP differ.
//! Then read [`pump::end`], the interface between sockets and the pump; [`link::stream`] and [`link::udp`], which implement it;
//! and [`pump`], the loop that drives them.
//!
//! A map of the source, in the order in which a run uses it:
//!
//! ```text
//! main.rs           reads the command line, runs it, exits with a status
//! cli/              the command line: one group of common options, one file for each transport
//! address/          endpoints and their look-up; access rules of servers (--allow, --deny)
//! modes/            tcp_listen, tcp_connect, udp_bind, udp_sendto, unix_*; probe; compare/
//! run/              what the modes share: observers, session, retries, ready line, local end
//! socket/           open and bind; socket options, multicast, sockets passed by systemd
//! link/             the ends on the network: connect/ (RFC 8305), proxy/, stream/, udp/, unix/
//! local/            the ends on this side: stdio/, exec/ (programs), expect/ (dialogues),
//!                   responder, --prefix, --out-dir
//! framing/          input into datagrams, received chunks into output; pace; recordings
//! pump/end.rs       the interface of an end: receive, send, finish, and what to wait for
//! pump/lane.rs      one direction: a chunk from its source to its destinations
//! pump/wait.rs      the one wait: descriptors, times, signals, limits
//! pump/close.rs     the ends of a direction, of a link and of the run
//! tap/event.rs      the events of a run, which every tap receives
//! tap/              the taps: lines, json, hexdump, pcap, explain, stats, progress
//! batch.rs          the bytes in flight, in runs with their addresses
//! flow.rs           transports, addresses, and the identity of a conversation
//! exit.rs           exit statuses, and the failure that carries one
//! escape.rs         text from outside that is safe to show; times
//! sys/              the only unsafe code, and the only poll and sleep
//! ```

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
