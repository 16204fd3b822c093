//! The modes: each makes its sockets in the order of the man pages, then hands them to the pump.
//! What differs between TCP and UDP is to be seen by laying two of these files side by side.

use std::time::Instant;

use crate::cli::Command;
use crate::exit::{Failure, print};
use crate::run::observers::watch;

mod compare;
mod probe;
mod tcp_connect;
mod tcp_listen;
mod udp_bind;
mod udp_sendto;

/// Does what a command line asks for, which was read at `start`, and says how it ended.
pub fn run(command: &Command, start: Instant) -> Result<(), Failure> {
    match command {
        Command::TcpListen(options) => watch(&options.common, start, |watched| {
            tcp_listen::run(options, watched)
        }),
        Command::TcpConnect(options) => watch(&options.common, start, |watched| {
            tcp_connect::run(options, watched)
        }),
        Command::UdpBind(options) => watch(&options.common, start, |watched| {
            udp_bind::run(options, watched)
        }),
        Command::UdpSendto(options) => watch(&options.common, start, |watched| {
            udp_sendto::run(options, watched)
        }),
        Command::Compare(options) => compare::run(options).map_err(|error| Failure::of(&error)),
        Command::Completions(options) => print(&options.script()),
    }
}
