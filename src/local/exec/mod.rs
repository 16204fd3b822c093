//! A program that takes the place of standard input and output, and what it is told about its peer.
//! The environment is that of ucspi-tcp, so that programs for tcpserver and its kin work as they are; UDP has the same under its name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use rustix::fs::Access;

use crate::exit::{Exit, Failure, describe};
use crate::flow::{Flow, Identity, Transport};
use crate::pump::end::Link;

pub mod child;
pub mod datagrams;
pub mod supervisor;

/// Variables that are for this process, and would mislead a child (`sd_listen_fds(3)`, `sd_notify(3)`).
const OURS: [&str; 4] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// A program that is found as execvp(3) does: in `PATH`, unless its name has a slash.
    ///
    /// Errors: there is no such program, or it cannot be executed; known before anybody connects.
    pub fn new(name: &OsStr, arguments: &[OsString]) -> Result<Self, Failure> {
        find(name)?;
        Ok(Self {
            name: name.to_owned(),
            arguments: arguments.to_vec(),
        })
    }

    /// A command for the shell.
    #[must_use]
    pub fn shell(command: &OsStr) -> Self {
        Self {
            name: "/bin/sh".into(),
            arguments: vec!["-c".into(), command.to_owned()],
        }
    }

    /// What it is called in reports.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// The program, about to be started for `caller`.
    #[must_use]
    pub fn command(&self, caller: &Caller) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments);
        for name in OURS {
            command.env_remove(name);
        }
        command.envs(caller.environment());
        command
    }
}

fn find(name: &OsStr) -> Result<(), Failure> {
    let shown = name.display();
    if name.as_encoded_bytes().contains(&b'/') {
        return executable(Path::new(name)).map_err(|error| {
            let text = format!("cannot run '{shown}': {}", describe(&error));
            Failure::new(Exit::Failed, text)
        });
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
    if paths.any(|path| executable(&path).is_ok()) {
        return Ok(());
    }
    let text = format!("cannot run '{shown}': no such program in PATH");
    Err(Failure::new(Exit::Failed, text))
}

fn executable(path: &Path) -> std::io::Result<()> {
    rustix::fs::access(path, Access::EXEC_OK)?;
    if path.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    Ok(())
}

/// Whom a program is started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Our address and the peer's.
    pub flow: Flow,
    /// The number of the connection or of the datagram, where there are many.
    pub conn: Option<u64>,
}

impl Caller {
    /// The peer of a link, if it has just one.
    #[must_use]
    pub fn behind(link: &dyn Link) -> Option<Self> {
        match link.identity() {
            Identity::Pair(flow) => {
                let conn = link.state().conn;
                Some(Self { flow, conn })
            }
            Identity::Socket(..) => None,
        }
    }

    /// The variables that tell it.
    fn environment(&self) -> Vec<(String, String)> {
        let transport = match self.flow.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        let mut variables = vec![("PROTO".to_owned(), transport.to_owned())];
        for (side, address) in [("LOCAL", &self.flow.local), ("REMOTE", &self.flow.remote)] {
            let Some(address) = address.inet() else {
                continue;
            };
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            variables.push((format!("{transport}{side}IP"), ip));
            variables.push((format!("{transport}{side}PORT"), port));
        }
        let conn = self
            .conn
            .map(|conn| ("TUPLECAT_CONN".to_owned(), conn.to_string()));
        variables.extend(conn);
        variables
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_environment_is_that_of_ucspi() {
        let address = |text: &str| text.parse().unwrap();
        let flow = Flow::new(
            Transport::Udp,
            address("[::ffff:127.0.0.1]:53"),
            address("192.0.2.7:4000"),
        );
        let conn = Some(7);
        let variables = Caller { flow, conn }.environment();
        let text: Vec<_> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let expected = [
            "PROTO=UDP",
            "UDPLOCALIP=127.0.0.1",
            "UDPLOCALPORT=53",
            "UDPREMOTEIP=192.0.2.7",
            "UDPREMOTEPORT=4000",
            "TUPLECAT_CONN=7",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_program_that_is_not_there_is_known_at_once() {
        let fails = |name: &str| Program::new(name.as_ref(), &[]).unwrap_err().message;
        let expected = "cannot run 'no-such-program': no such program in PATH";
        assert_eq!(fails("no-such-program"), expected);
        assert_eq!(
            fails("/no/such/program"),
            "cannot run '/no/such/program': no such file or directory"
        );
        assert_eq!(
            fails("/etc/passwd"),
            "cannot run '/etc/passwd': permission denied"
        );
        assert_eq!(fails("/tmp/"), "cannot run '/tmp/': is a directory");
        assert!(Program::new("sh".as_ref(), &[]).is_ok());
    }
}
