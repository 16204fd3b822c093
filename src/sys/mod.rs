//! Calls of the operating system: the words of their errors, waiting, signals, inherited descriptors, socket options, the sandbox, moves without a copy.
//! All `unsafe` code and every condition on the platform is in this folder; the rest of the program is portable.

#![allow(unsafe_code)]

pub mod errno;
pub mod inherited;
pub mod sandbox;
pub mod signals;
pub mod sockopt;
pub mod splice;
pub mod tcp_info;
pub mod wait;
