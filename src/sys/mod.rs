//! What only the operating system can do: waiting, signals, non-blocking access to inherited descriptors, moving bytes unseen.
//! All `unsafe` code and every platform condition of the program is below this folder; the rest is portable.

#![allow(unsafe_code)]

pub mod buffers;
pub mod conduit;
pub mod fast_open;
pub mod inherited;
pub mod limits;
pub mod multicast;
mod pieces;
pub mod sandbox;
pub mod signals;
mod sockopt;
pub mod startup;
pub mod systemd;
pub mod tcp_info;
mod unwinder;
pub mod wait;
