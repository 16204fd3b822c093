//! The sockets that the pump can drive: TCP's listening sockets and connections, UDP's one socket for every peer.
//! Everything that is particular to one transport is below the name of that transport.

pub mod connect;
pub mod tcp;
pub mod udp;
