//! The command line: four modes, and for each only the options that mean something to it.
//! Parsing validates and does nothing else; names are looked up and sockets are opened afterwards.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

mod common;
mod compare;
mod completions;
mod dialogue;
mod endpoint;
mod server;
mod socket;
mod tcp;
mod traffic;
mod udp;
pub mod values;
mod wrong;

pub use common::{
    AddressOptions, CommonOptions, DumpOptions, EndOptions, EngineOptions, OnStdinEof, Place,
    ProgramOptions, ReportOptions, RetryOn, RetryOptions,
};
pub use compare::Compare;
pub use completions::Completions;
pub use dialogue::{Bytes, DialogueOptions};
pub use endpoint::{BindPoint, ConnectPoint, Target};
pub use server::{AccessOptions, ClientOptions, Pair, ResponderOptions, ServerOptions, StdinTo};
pub use socket::{GroupOptions, Membership, SocketOptions};
pub use tcp::{
    ConnectOptions, Keepalive, ListenOptions, OnPeerEof, Switch, TcpConnect, TcpListen, TcpOptions,
};
pub use traffic::FramingOptions;
pub use udp::{
    DatagramOptions, FromPolicy, PeerOptions, ReplyTimeout, ReplyTo, SendtoOptions, UdpBind,
    UdpSendto,
};

/// Pipe, script and hex-dump TCP and UDP
#[derive(Debug, Parser)]
#[command(
    name = "tuplecat",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    after_help = OVERVIEW
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

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

Examples:
  tuplecat tcp-listen 9000 > copy                   receive a file over TCP
  tuplecat tcp-connect 192.0.2.7 9000 < file        send it
  echo status | tuplecat udp-sendto 192.0.2.7 8125  ask, and print the replies

'tuplecat MODE -h' has a line for each option, '--help' explains them.";

/// The modes, and what else the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Wait for a TCP connection: socket, bind, listen, accept
    #[command(visible_alias = "tl")]
    TcpListen(TcpListen),
    /// Make a TCP connection: socket, connect
    #[command(visible_alias = "tc")]
    TcpConnect(TcpConnect),
    /// Receive datagrams from every peer, and answer: socket, bind, recvfrom
    #[command(visible_alias = "ub")]
    UdpBind(UdpBind),
    /// Send datagrams to one address: socket, sendto
    #[command(visible_alias = "us")]
    UdpSendto(UdpSendto),
    /// Show TCP and UDP side by side, by experiments on this machine
    Compare(Compare),
    /// Print the completion script of a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Completions),
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(tuplecat completions bash)              in ~/.bashrc
  tuplecat completions fish > ~/.config/fish/completions/tuplecat.fish
  tuplecat completions zsh > ~/.zfunc/_tuplecat    with ~/.zfunc in $fpath";

impl Cli {
    /// Parses a command line, the program's name first.
    ///
    /// The error is also how help and version come: it knows where to print itself and which status to exit with.
    pub fn read<W>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error>
    where
        W: Into<OsString>,
    {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(&words);
        let mut matches =
            matches.map_err(|error| wrong::explained(error, &words, Self::command()))?;
        let mode = matches.subcommand_name().map(str::to_owned);
        let read = Self::from_arg_matches_mut(&mut matches);
        let read = read.and_then(|cli| match cli.contradiction() {
            Some(text) => Err(clap::Error::raw(ErrorKind::ArgumentConflict, text)),
            None => Ok(cli),
        });
        read.map_err(
            |error| match mode.and_then(|mode| command.find_subcommand_mut(mode)) {
                Some(mode) => error.format(mode),
                None => error.format(&mut command),
            },
        )
    }

    /// Why options that are right by themselves are not right together, if they are not.
    fn contradiction(&self) -> Option<&'static str> {
        match &self.command {
            Command::TcpListen(options) => options.contradiction(),
            Command::TcpConnect(options) => options.common.contradiction(),
            Command::UdpBind(options) => options.common.contradiction(),
            Command::UdpSendto(options) => options.contradiction(),
            Command::Compare(_) | Command::Completions(_) => None,
        }
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
            "tuplecat tcp-listen 0 --count 1",
            "tuplecat tc ::1 9 --backlog 5",
        ] {
            let error = read(line).map(|_| line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn an_option_of_another_mode_is_told_apart_from_a_misspelt_one() {
        for (line, tip) in [
            ("tuplecat ub -k 0", "tip: '-k' is an option of tcp-listen"),
            (
                "tuplecat us ::1 9 --mss=5",
                "tip: '--mss' is an option of tcp-listen, tcp-connect",
            ),
            (
                "tuplecat tl 0 --count 1",
                "tip: '--count' is an option of udp-bind, udp-sendto",
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
    fn what_would_be_ignored_is_refused() {
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
    fn words_that_are_no_text_are_named() {
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
