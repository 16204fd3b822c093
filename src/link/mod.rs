//! Links: the sockets that the pump drives. Streams have listening sockets and connections, UDP one socket for every peer.
//! Everything that is particular to one kind of socket is in the folder of that name.

pub mod connect;
pub mod framed;
mod proxy;
pub mod stream;
pub mod udp;
pub mod unix;
