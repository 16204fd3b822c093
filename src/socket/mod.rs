//! Sockets: opened and bound in the order of the man pages, or passed by a supervisor.
//! Every option is set before `bind`, and a value that the kernel refuses is an error that names the option.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use crate::exit::{Exit, Failure, describe};

pub(crate) mod activation;
pub(crate) mod multicast;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod unix;

/// Versions of IP that the packets of a socket have. Each has socket options of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IpVersions {
    V4,
    V6,
    /// Either: an IPv6 socket that takes IPv4 as well.
    Both,
}

impl IpVersions {
    /// Returns the version of packets to an address.
    fn of(remote: SocketAddr) -> Self {
        match remote {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// Sets an option for each version.
    fn set(
        self,
        v4: impl FnOnce() -> io::Result<()>,
        v6: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self != Self::V6 {
            v4()?;
        }
        if self != Self::V4 {
            v6()?;
        }
        Ok(())
    }
}

/// Names the option, its value and a hint where the kernel refuses the value.
fn check(
    option: &str,
    value: impl Display,
    result: io::Result<()>,
    hint: &str,
) -> Result<(), Failure> {
    result.map_err(|error| {
        let (given, reason) = (format!("{option} {value}"), describe(&error));
        let hint = match hint {
            "" => String::new(),
            hint => format!(" ({hint})"),
        };
        let text = format!("{}: {reason}{hint}", given.trim_end());
        Failure::new(Exit::Failed, text)
    })
}
