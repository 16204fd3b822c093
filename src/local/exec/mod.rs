//! Programs in place of standard input and output (`--exec`, `--shell`), with their peer in the environment.
//! The variables are those of ucspi-tcp, so programs for tcpserver work unchanged; UDP has the same variables under its own name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use rustix::fs::Access;

use crate::exit::{Exit, Failure};
use crate::flow::{Address, ConnId, Flow, Identity};
use crate::pump::end::Link;
use crate::tap::Conversation;

pub mod child;
pub mod datagrams;
pub mod supervisor;

/// Variables for this process, or about its own peer, which would mislead a child (`sd_listen_fds(3)`, `sd_notify(3)`, ucspi-tcp).
const OWN_VARIABLES: [&str; 6] = [
    "PROTO",
    "TUPLECAT_CONN",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
];

/// Ends of the names of variables about one side of a connection.
const PARTS: [&str; 8] = ["IP", "PORT", "HOST", "INFO", "PATH", "PID", "EUID", "EGID"];

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
}

impl Program {
    /// Finds a program as execvp(3) does: in `PATH`, unless its name has a slash.
    ///
    /// Errors: there is no such program, or it cannot be executed. So this is known before a client connects.
    pub fn new(name: &OsStr, arguments: &[OsString]) -> Result<Self, Failure> {
        find(name)?;
        Ok(Self {
            name: name.to_owned(),
            arguments: arguments.to_vec(),
        })
    }

    /// Creates a command for the shell.
    pub fn shell(command: &OsStr) -> Self {
        Self {
            name: "/bin/sh".into(),
            arguments: vec!["-c".into(), command.to_owned()],
        }
    }

    /// Returns the name for reports.
    pub fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// Returns the command that starts the program for `caller`.
    pub fn command(&self, caller: &Caller) -> Command {
        let mut command = Command::new(&self.name);
        command.args(&self.arguments);
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        for transport in ["TCP", "UDP", "UNIX"] {
            for part in PARTS {
                command.env_remove(format!("{transport}LOCAL{part}"));
                command.env_remove(format!("{transport}REMOTE{part}"));
            }
        }
        command.envs(caller.environment());
        command
    }
}

fn find(name: &OsStr) -> Result<(), Failure> {
    let act = format!("cannot run '{}'", name.display());
    if name.as_encoded_bytes().contains(&b'/') {
        let checked = check_executable(Path::new(name));
        return checked.map_err(|error| Failure::io(act, &error));
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
    if paths.any(|path| check_executable(&path).is_ok()) {
        return Ok(());
    }
    let text = format!("{act}: no such program in PATH");
    Err(Failure::new(Exit::Failed, text))
}

fn check_executable(path: &Path) -> std::io::Result<()> {
    rustix::fs::access(path, Access::EXEC_OK)?;
    if path.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    Ok(())
}

/// The peer that a program is started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Both addresses.
    pub flow: Flow,
    /// Number of the connection or of the datagram, if there are many.
    pub conn: Option<ConnId>,
}

impl Caller {
    /// Returns the peer of a link that has only one.
    pub fn of(link: &dyn Link) -> Option<Self> {
        match link.identity() {
            Identity::Pair(flow) => {
                let conn = link.conn();
                Some(Self { flow, conn })
            }
            Identity::Socket(..) => None,
        }
    }

    /// Returns it for an event.
    pub fn conversation(&self) -> Conversation<'_> {
        let (flow, conn) = (&self.flow, self.conn);
        Conversation { flow, conn }
    }

    /// Returns the variables that describe it.
    fn environment(&self) -> Vec<(String, String)> {
        let transport = match self.flow.transport {
            unix if unix.is_unix() => "UNIX".to_owned(),
            other => other.name().to_uppercase(),
        };
        let mut variables = vec![("PROTO".to_owned(), transport.clone())];
        for (side, address) in [("LOCAL", &self.flow.local), ("REMOTE", &self.flow.remote)] {
            let Some(address) = address.inet() else {
                variables.extend(unix_variables(side, address));
                continue;
            };
            let (ip, port) = (address.ip().to_string(), address.port().to_string());
            variables.push((format!("{transport}{side}IP"), ip));
            variables.push((format!("{transport}{side}PORT"), port));
        }
        let conn = self.conn.map(|conn| conn.number.to_string());
        variables.extend(conn.map(|conn| ("TUPLECAT_CONN".to_owned(), conn)));
        variables
    }
}

/// Returns the variables for one side of a Unix socket: those of ucspi-unix.
fn unix_variables(side: &str, address: &Address) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut add = |part: &str, value: String| {
        variables.push((format!("UNIX{side}{part}"), value));
    };
    match address {
        Address::Process(process) => {
            add("PID", process.pid.to_string());
            add("EUID", process.uid.to_string());
            add("EGID", process.gid.to_string());
            if !process.socket.is_empty() {
                add("PATH", process.socket.to_string());
            }
        }
        address => add("PATH", address.to_string()),
    }
    variables
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::flow::Transport;

    #[test]
    fn the_environment_is_that_of_ucspi() {
        let address = |text: &str| text.parse().unwrap();
        let flow = Flow::new(
            Transport::Udp,
            address("[::ffff:127.0.0.1]:53"),
            address("192.0.2.7:4000"),
        );
        let conn = Some(7.into());
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
