//! What stands in the place of standard input and output: a program for each conversation, or an echo.
//! The words of a program are its own: `--exec` takes everything after it, whatever it looks like.

use std::ffi::OsString;

use super::dialogue::DIALOGUE;
use super::numbers;
use crate::exit::Failure;
use crate::local::exec::Program;

/// A program in the place of standard input and output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
#[group(id = "program", multiple = false)]
pub struct ProgramOptions {
    /// Talk with the peer through a program: all words that follow are its name and arguments
    ///
    /// What the peer sends is its standard input, its standard output goes to the peer. tcp-listen -k starts one for each
    /// client, udp-bind one for each datagram. The environment tells it the addresses: PROTO, TCPREMOTEIP, TCPREMOTEPORT,
    /// TCPLOCALIP, TCPLOCALPORT, over UDP the same with UDP in their names.
    #[arg(
        long,
        value_names = ["PROGRAM", "ARG"],
        num_args = 1..,
        allow_hyphen_values = true
    )]
    pub exec: Vec<OsString>,
    /// The same with a command for /bin/sh, in one word
    #[arg(long, value_name = "COMMAND")]
    pub shell: Option<OsString>,
}

impl ProgramOptions {
    /// Whether there is a program.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.exec.is_empty() || self.shell.is_some()
    }

    /// The program, if there is one.
    ///
    /// Errors: it cannot be found, or not be executed.
    pub fn program(&self) -> Result<Option<Program>, Failure> {
        match (self.exec.as_slice(), &self.shell) {
            ([name, arguments @ ..], _) => Program::new(name, arguments).map(Some),
            ([], Some(command)) => Ok(Some(Program::shell(command))),
            ([], None) => Ok(None),
        }
    }
}

/// What else a server can be to its peers, and how many programs it may run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
pub struct LocalOptions {
    /// Send everything back to where it came from
    #[arg(
        long,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = [
            "program", "stdin", "input", "output", "crlf", "rate", "delay", "send_only", "recv_only",
            "on_stdin_eof"
        ]
    )]
    pub echo: bool,
    /// Run at most N programs at once; clients and datagrams wait until one ends
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100,
        requires = "program",
        value_parser = numbers::whole::<u64>(1, u64::MAX)
    )]
    pub max_children: u64,
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use crate::cli::{Cli, Command, ProgramOptions};

    fn read(words: &[&str]) -> Result<ProgramOptions, i32> {
        let cli = Cli::read(["tuplecat"].iter().chain(words)).map_err(|error| error.exit_code())?;
        match cli.command {
            Command::TcpListen(options) => Ok(options.0.program),
            Command::TcpConnect(options) => Ok(options.0.program),
            Command::UdpBind(options) => Ok(options.0.program),
            Command::UdpSendto(options) => Ok(options.0.program),
            Command::Compare(_) | Command::Completions(_) => panic!("not a mode"),
        }
    }

    #[test]
    fn everything_after_exec_is_the_program_s_own() {
        for mode in ["tcp-listen", "tcp-connect", "udp-bind", "udp-sendto"] {
            let words = [
                "::1", "9", "--exec", "sh", "-c", "--", "-x", "--echo", "--exec", "9",
            ];
            let options = read(&[&[mode][..], &words].concat()).unwrap();
            assert_eq!(options.exec, words[3..], "{mode}");
        }
    }

    #[test]
    fn there_is_one_local_end() {
        for words in [
            &["tl", "0", "--shell", "a", "--exec", "b"][..],
            &["tl", "0", "--shell", "a", "--echo"],
            &["tl", "0", "-k", "--broker", "--shell", "a"],
            &["tl", "0", "-k", "--prefix", "--shell", "a"],
            &["tl", "0", "-k", "--out-dir", "d", "--shell", "a"],
            &["tl", "0", "-k", "--stdin-to", "all", "--shell", "a"],
            &["ub", "0", "--echo", "--exec", "a"],
            &["ub", "0", "--send-only", "--exec", "a"],
            &["ub", "0", "--reply-to", "all", "--exec", "a"],
            &["ub", "0", "--in", "line", "--exec", "a"],
            &["tl", "0", "--out", "hex", "--exec", "a"],
            &["tl", "0", "--rate", "1k", "--echo"],
            &["tc", "::1", "9", "--delay", "1", "--exec", "a"],
            &["us", "::1", "9", "--send", "x", "--exec", "a"],
            &["us", "::1", "9", "--probe", "--exec", "a"],
            &["us", "::1", "9", "--recv-only", "--exec", "a"],
            &["tl", "0", "--max-children", "3"],
            &["tl", "0", "--max-children", "0", "--exec", "a"],
            &["tl", "0", "--exec"],
        ] {
            assert_eq!(read(words).map(|_| ()), Err(2), "{words:?}");
        }
    }
}
