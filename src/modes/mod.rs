//! Modes: each makes its sockets in the order of the man pages, then hands them to the pump.
//! They have the same shape: `diff tcp_listen.rs udp_bind.rs` shows how TCP and UDP differ, and `unix_listen.rs` what is shared.

use std::time::Instant;

use crate::cli::Command;
use crate::exit::{Failure, print};

use crate::run::{Start, observe};

mod compare;
mod nc;
mod probe;
mod tcp_connect;
mod tcp_listen;
mod udp_bind;
mod udp_sendto;
mod unix_bind;
mod unix_connect;
mod unix_listen;
mod unix_sendto;

/// Runs a command line that was read at `start`.
pub fn run(command: &Command, start: Instant) -> Result<(), Failure> {
    let style = None;
    run_with(command, Start { time: start, style })
}

/// Runs it with reports in another style, where `start` has one.
fn run_with(command: &Command, start: Start) -> Result<(), Failure> {
    match command {
        Command::TcpListen(options) => observe(&**options, &options.common, start, tcp_listen::run),
        Command::TcpConnect(options) => observe(options, &options.common, start, tcp_connect::run),
        Command::UdpBind(options) => {
            observe(options.as_ref(), &options.common, start, udp_bind::run)
        }
        Command::UdpSendto(options) => observe(options, &options.common, start, udp_sendto::run),
        Command::UnixListen(options) => observe(options, &options.common, start, unix_listen::run),
        Command::UnixConnect(options) => {
            observe(options, &options.common, start, unix_connect::run)
        }
        Command::UnixBind(options) => observe(options, &options.common, start, unix_bind::run),
        Command::UnixSendto(options) => observe(options, &options.common, start, unix_sendto::run),
        Command::Compare(options) => compare::run(options).map_err(|error| Failure::of(&error)),
        Command::Nc(nc) => nc::run(nc, start.time),
        Command::Completions(options) => print(&options.script()),
    }
}
