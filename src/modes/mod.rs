//! Modes: each makes its sockets in the order of the man pages, then hands them to the pump.
//! The four have the same shape: `diff tcp_listen.rs udp_bind.rs` shows how TCP and UDP differ.

use std::time::Instant;

use crate::cli::Command;
use crate::exit::{Failure, print};

use crate::run::observe;

mod compare;
mod probe;
mod tcp_connect;
mod tcp_listen;
mod udp_bind;
mod udp_sendto;

/// Runs a command line that was read at `start`.
pub fn run(command: &Command, start: Instant) -> Result<(), Failure> {
    match command {
        Command::TcpListen(options) => observe(&options.common, start, |observers| {
            tcp_listen::run(options, observers)
        }),
        Command::TcpConnect(options) => observe(&options.common, start, |observers| {
            tcp_connect::run(options, observers)
        }),
        Command::UdpBind(options) => observe(&options.common, start, |observers| {
            udp_bind::run(options, observers)
        }),
        Command::UdpSendto(options) => observe(&options.common, start, |observers| {
            udp_sendto::run(options, observers)
        }),
        Command::Compare(options) => compare::run(options).map_err(|error| Failure::of(&error)),
        Command::Completions(options) => print(&options.script()),
    }
}
