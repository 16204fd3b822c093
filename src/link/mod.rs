//! The network ends that the pump can drive.
//! Everything that is particular to one transport is in the file of its name.

pub mod connect;
pub mod tcp;
pub mod udp;
