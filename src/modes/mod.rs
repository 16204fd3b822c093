//! The modes: each makes its sockets in the order of the man pages, then hands them to the pump.
//! What differs between TCP and UDP is to be seen by laying two of these files side by side.

use std::time::Instant;

use crate::cli::Command;
use crate::exit::Exit;

mod children;
mod compare;
mod groups;
mod passed;
mod ready;
mod session;
mod settings;
mod sockets;
mod tcp_connect;
mod tcp_listen;
mod traffic;
mod udp_bind;
mod udp_sendto;

/// Does what a command line asks for, which was read at `start`, and says how it ended.
///
/// An error wraps a [`crate::exit::Failure`] where it has a status of its own.
pub fn run(command: &Command, start: Instant) -> anyhow::Result<Exit> {
    match command {
        Command::TcpListen(options) => tcp_listen::run(options, start),
        Command::TcpConnect(options) => tcp_connect::run(options, start),
        Command::UdpBind(options) => udp_bind::run(options, start),
        Command::UdpSendto(options) => udp_sendto::run(options, start),
        Command::Compare(options) => compare::run(options),
        Command::Completions(options) => {
            options.write(&mut std::io::stdout())?;
            Ok(Exit::Done)
        }
    }
}
