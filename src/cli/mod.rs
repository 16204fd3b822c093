//! The command line: the modes, each with the options that have a meaning there.
//! Parsing only validates; names are resolved and sockets opened later.

use std::ffi::OsString;
use std::mem;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

mod common;
mod compare;
mod completions;
mod dialogue;
mod endpoint;
mod errors;
pub mod nc;
mod relay;
mod server;
mod socket;
mod tcp;
mod traffic;
mod udp;
mod unix;
pub mod values;

pub use common::*;
pub use compare::{Compare, Experiment};
pub use completions::Completions;
pub use dialogue::{DialogueOptions, StepOptions};
pub use endpoint::{BindPoint, FromWords, Positional};
pub use relay::{RelayOptions, RelayTarget};
pub use server::*;
pub use socket::{BufferOptions, GroupOptions, Membership, SocketOptions};
pub use tcp::*;
pub use traffic::{Delay, FramingOptions};
pub use udp::*;
pub use unix::*;
pub use values::{Ordered, Sequence};

/// Pipe, script and hex-dump TCP and UDP
#[derive(Debug, Parser)]
#[command(
    name = "tuplecat",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = HELP_WIDTH,
    after_help = OVERVIEW
)]
pub struct Cli {
    /// The mode to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The maximum width of help, in columns.
const HELP_WIDTH: usize = 80;

const OVERVIEW: &str = "\
TCP and UDP, side by side:
                   TCP                          UDP
  wait for others  tcp-listen                   udp-bind
  speak first      tcp-connect                  udp-sendto
  a conversation   a connection has a socket    one socket serves every peer;
                   of its own, and a 4-tuple    each datagram has its sender
  boundaries       none: a stream of bytes      one send is one datagram
  end              each side ends its own       none: an empty datagram
                   direction                    ends nothing

Unix sockets have the same calls: unix-listen and unix-connect for a stream,
unix-bind and unix-sendto for datagrams. A path names the socket, and the
kernel names the process of the peer.

Examples:
  tuplecat tcp-listen '*' 9000 > copy               receive a file over TCP
  tuplecat tcp-connect 192.0.2.7 9000 < file        send it
  echo status | tuplecat udp-sendto 192.0.2.7 8125  ask, and print the replies

'tuplecat MODE -h' lists the options of a mode; 'tuplecat help MODE' explains
them.";

/// The modes, and the other commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept TCP connections: socket, bind, listen, accept
    #[command(visible_alias = "tl")]
    TcpListen(Box<TcpListen>),
    /// Make a TCP connection: socket, connect
    #[command(visible_alias = "tc")]
    TcpConnect(TcpConnect),
    /// Receive and answer datagrams: socket, bind, recvfrom
    #[command(visible_alias = "ub")]
    UdpBind(Box<UdpBind>),
    /// Send datagrams to one address: socket, sendto
    #[command(visible_alias = "us")]
    UdpSendto(UdpSendto),
    /// Accept connections of this machine: socket, bind, listen, accept
    #[command(visible_alias = "ul")]
    UnixListen(UnixListen),
    /// Connect to a socket of this machine: socket, connect
    #[command(visible_alias = "uc")]
    UnixConnect(UnixConnect),
    /// Receive and answer datagrams of this machine: socket, bind, recvfrom
    UnixBind(UnixBind),
    /// Send datagrams to a socket of this machine: socket, sendto
    UnixSendto(UnixSendto),
    /// Show the differences of TCP and UDP by experiments
    Compare(Compare),
    /// Do what OpenBSD's nc does; also when called as nc or netcat
    Nc(nc::Nc),
    /// Print the completion script of a shell
    Completions(Completions),
}

impl Cli {
    /// Parses a command line that begins with the program's name.
    ///
    /// The error is also the carrier of help and version.
    pub fn read<W>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error>
    where
        W: Into<OsString>,
    {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        if let Some(nc) = nc::Nc::of(&words) {
            let command = Command::Nc(nc);
            return Ok(Self { command });
        }
        if let Some(cli) = Self::read_mode(&words) {
            return Ok(cli);
        }
        let words = replace_command(words);
        let mut command = Self::command();
        if let Some(mode) = words
            .get(1)
            .and_then(|word| command.find_subcommand_mut(word))
        {
            *mode = mem::take(mode).mut_args(accept_hyphen);
        }
        let matches = command.try_get_matches_from_mut(&words);
        let mut matches = matches.map_err(|error| errors::explained(error, &words, &command))?;
        let mode = matches.subcommand_name().unwrap_or_default().to_owned();
        Self::from_matches(&mut matches, &words).map_err(|error| {
            match command.find_subcommand_mut(mode) {
                Some(mode) => error.format(mode),
                None => error,
            }
        })
    }

    /// Parses a valid command line of one mode. The parsers of all modes take longer to build than a short run takes.
    fn read_mode(words: &[OsString]) -> Option<Self> {
        let words = words.get(1..)?;
        let command = match words.first()?.to_str()? {
            "tcp-listen" | "tl" => Command::TcpListen(Box::new(options(words)?)),
            "tcp-connect" | "tc" => Command::TcpConnect(options(words)?),
            "udp-bind" | "ub" => Command::UdpBind(Box::new(options(words)?)),
            "udp-sendto" | "us" => Command::UdpSendto(options(words)?),
            "unix-listen" | "ul" => Command::UnixListen(options(words)?),
            "unix-connect" | "uc" => Command::UnixConnect(options(words)?),
            "unix-bind" => Command::UnixBind(options(words)?),
            "unix-sendto" => Command::UnixSendto(options(words)?),
            _ => return None,
        };
        let cli = Self { command };
        let is_valid = cli.contradiction().is_none() && !errors::separates_keepalive(words);
        is_valid.then_some(cli)
    }

    /// Takes the options out of `matches`, and checks those that are not valid together.
    fn from_matches(matches: &mut ArgMatches, words: &[OsString]) -> Result<Self, clap::Error> {
        let conflict = |text| clap::Error::raw(ErrorKind::ArgumentConflict, text);
        if errors::separates_keepalive(words) {
            return Err(conflict(errors::SEPARATE_KEEPALIVE));
        }
        let cli = Self::from_arg_matches_mut(matches)?;
        match cli.contradiction() {
            Some(text) => Err(conflict(text)),
            None => Ok(cli),
        }
    }

    /// Returns the reason why options that are valid alone are not valid together.
    fn contradiction(&self) -> Option<&'static str> {
        match &self.command {
            Command::TcpListen(options) => options.contradiction(),
            Command::TcpConnect(options) => options.contradiction(),
            Command::UdpBind(options) => options.contradiction(),
            Command::UdpSendto(options) => options.contradiction(),
            Command::UnixListen(options) => options.contradiction(),
            Command::UnixConnect(options) => options.contradiction(),
            Command::UnixBind(options) => options.contradiction(),
            Command::UnixSendto(options) => options.contradiction(),
            Command::Compare(_) | Command::Nc(_) | Command::Completions(_) => None,
        }
    }
}

/// Returns the options of a mode, unless its words are not valid or ask for help.
fn options<A: clap::Args>(words: &[OsString]) -> Option<A> {
    let command = A::augment_args(clap::Command::new("tuplecat")).mut_args(accept_hyphen);
    let mut matches = command.try_get_matches_from(words).ok()?;
    A::from_arg_matches_mut(&mut matches).ok()
}

/// Replaces `help [MODE]` and `version` by the options that do the same.
fn replace_command(mut words: Vec<OsString>) -> Vec<OsString> {
    match words.get(1).and_then(|word| word.to_str()) {
        Some("help") => {
            words.remove(1);
            words.truncate(2);
            words.push("--help".into());
        }
        Some("version") => words[1] = "--version".into(),
        _ => {}
    }
    words
}

/// Lets the parser of a value reject a word such as `-1`, which would be an unknown option otherwise.
fn accept_hyphen(option: Arg) -> Arg {
    const FREE: [&str; 7] = ["FILE", "DIR", "HOST", "NAME", "PROGRAM", "COMMAND", "TEXT"];
    let names = option.get_value_names().unwrap_or_default();
    let is_free = names.iter().any(|name| FREE.contains(&name.as_str()));
    if is_free || option.is_positional() || !option.get_action().takes_values() {
        option
    } else {
        option.allow_hyphen_values(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split_whitespace())
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_option_of_the_other_transport_is_a_usage_error() {
        for line in [
            "tuplecat udp-bind 0 --nodelay on",
            "tuplecat us ::1 9 --on-peer-eof quit",
            "tuplecat us ::1 9 --on-stdin-eof shutdown",
            "tuplecat tcp-listen 0 --replies 1",
            "tuplecat tc ::1 9 --backlog 5",
        ] {
            let error = read(line).map(|_| line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn an_option_of_another_mode_is_not_a_misspelt_one() {
        for (line, tip) in [
            ("tuplecat ub -k 0", "tip: '-k' is an option of tcp-listen"),
            (
                "tuplecat us ::1 9 --mss=5",
                "tip: '--mss' is an option of tcp-listen, tcp-connect",
            ),
            (
                "tuplecat tl 0 --datagram-size 1",
                "tip: '--datagram-size' is an option of udp-bind, udp-sendto",
            ),
            (
                "tuplecat tl 0 --timeuot 1",
                "tip: a similar argument exists: '--timeout'",
            ),
            (
                "tuplecat --quiet tl 0",
                "tip: '--quiet' is an option of tcp-listen, tcp-connect, udp-bind, udp-sendto",
            ),
        ] {
            let text = read(line).map(|_| line).unwrap_err().to_string();
            assert!(
                text.contains(tip) && text.matches("tip:").count() == 1,
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn an_option_without_effect_is_refused() {
        for line in [
            "tuplecat tc ::1 9 --probe --in hex",
            "tuplecat tc ::1 9 --probe --on-peer-eof quit",
            "tuplecat tc ::1 9 --recv-only -C",
            "tuplecat us ::1 9 --recv-only --rate 1k",
            "tuplecat tl 0 --recv-only --on-stdin-eof quit",
            "tuplecat ub 0 --send-only --out hex",
            "tuplecat tl 0 -k --send-only --prefix",
            "tuplecat tl 0 -k --recv-only --stdin-to first",
            "tuplecat tl 0 -k --echo --prefix",
            "tuplecat tl 0 -k --echo --out-dir d",
            "tuplecat tl 0 --echo --on-stdin-eof quit",
            "tuplecat tl 0 --respond a=b --on-stdin-eof quit",
            "tuplecat ub 0 --echo --reply-to none",
            "tuplecat tc ::1 9 --pcap - --out json",
            "tuplecat tl 0 -k --pcap - --prefix",
            "tuplecat us ::1 9 --send x --in line",
            "tuplecat tc ::1 9 --send x -C",
            "tuplecat tc ::1 9 --send x --expect y --in hex",
        ] {
            let error = read(line).map(|_| line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
        }
        for line in [
            "tuplecat us ::1 9 --send x --stdin --in line",
            "tuplecat tc ::1 9 --expect x -C",
            "tuplecat tc ::1 9 --send-only --expect x --max-bytes 9",
            "tuplecat tc ::1 9 --recv-only --out hex --on-peer-eof wait",
        ] {
            assert!(read(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn words_that_are_not_utf8_are_named() {
        let word = OsString::from_vec(b"--send=\xff".to_vec());
        let words = ["tuplecat", "tc", "::1", "9"].map(OsString::from);
        let error = Cli::read(words.into_iter().chain([word]))
            .map(|_| ())
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("'--send=\\xff' is not valid UTF-8"), "{text}");
        assert!(text.contains("Usage: tuplecat tcp-connect"), "{text}");
    }

    #[test]
    fn a_bad_endpoint_is_a_usage_error_of_its_mode() {
        let error = read("tuplecat tc ::1:80").map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation);
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("'[::1]:80'"), "{text}");
        assert!(text.contains("Usage: tuplecat tcp-connect"), "{text}");
    }

    #[test]
    fn a_datagram_mode_keeps_or_quits_at_the_end_of_input() {
        let cli = read("tuplecat ub 0 --on-stdin-eof quit").unwrap();
        let Command::UdpBind(options) = cli.command else {
            panic!("not udp-bind");
        };
        assert_eq!(options.common.ends.on_stdin_eof, Some(OnStdinEof::Quit));
    }

    #[test]
    fn an_option_may_stand_between_host_and_port() {
        assert!(read("tuplecat tl ::1 -v 9000").is_ok());
        assert!(read("tuplecat tl ::1 -v 9000 9001").is_err());
    }

    #[test]
    fn keepalive_takes_its_value_only_after_an_equals_sign() {
        for (line, expected) in [
            ("tuplecat tl 0", None),
            ("tuplecat tl --keepalive 0", Some(Keepalive::System)),
        ] {
            let cli = read(line).unwrap();
            let Command::TcpListen(options) = cli.command else {
                panic!("not tcp-listen");
            };
            assert_eq!(options.tcp.keepalive, expected, "{line}");
        }
    }
}
