//! Links: the sockets that the pump drives. TCP has listening sockets and connections, UDP one socket for every peer.
//! Everything that is particular to one transport is in the folder of that name.

pub mod connect;
pub mod tcp;
pub mod udp;
