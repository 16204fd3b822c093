//! The positional arguments: one or two words that name an endpoint.
//! The parser reads them, so that a bad endpoint is a usage error followed by the usage line.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::address::{self, Endpoint, Targets};
use crate::escape::Escaped;

/// An endpoint that the words of the command line name.
pub trait FromWords: Sized {
    /// The form of the words.
    const FORM: &'static str;
    /// Their help, the first paragraph alone for `-h`.
    const HELP: &'static str;

    /// Reads the words.
    fn from_words(words: &[&str]) -> Result<Self, String>;
}

/// The endpoint of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positional<P>(pub P);

/// The local endpoint of a mode that waits for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindPoint<P = Endpoint> {
    /// An address of this machine, or the name of a Unix socket.
    At(P),
    /// `systemd`: the socket that systemd(1) passes, or of several the one with this name.
    Passed(Option<String>),
}

impl FromWords for BindPoint {
    const FORM: &'static str = "[HOST] PORT";
    const HELP: &'static str = "\
PORT or HOST PORT to bind [default HOST: loopback]

PORT is a number, a service name, or 0 for a port that the kernel chooses. HOST is an address of this machine, a name for \
one, or '*' for every interface. Without HOST only this machine can reach the socket (127.0.0.1, with -6 ::1). As one word: \
HOST:PORT, [IPV6]:PORT or :PORT. An IPv6 address may have a zone, as in fe80::1%eth0. 'systemd' is the socket that a \
systemd unit passes; 'systemd:NAME' is the one of that name.";

    fn from_words(words: &[&str]) -> Result<Self, String> {
        Self::passed_or(words, || address::parse_bind_point(words))
    }
}

impl<P> BindPoint<P> {
    /// Reads `systemd[:NAME]`, or lets `parse` read other words.
    pub(super) fn passed_or(
        words: &[&str],
        parse: impl FnOnce() -> Result<P, String>,
    ) -> Result<Self, String> {
        let name = match *words {
            ["systemd"] => return Ok(Self::Passed(None)),
            [word] => word.strip_prefix("systemd:"),
            _ => None,
        };
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self::Passed(Some(name.to_owned()))),
            None => parse().map(Self::At),
        }
    }
}

impl FromWords for Endpoint {
    const FORM: &'static str = "HOST PORT";
    const HELP: &'static str = "\
HOST PORT or HOST:PORT to send to

HOST is a name or an address, PORT a number or a service name. As one word: HOST:PORT or [IPV6]:PORT. An IPv6 address may \
have a zone, as in fe80::1%eth0.";

    fn from_words(words: &[&str]) -> Result<Self, String> {
        address::parse_target(words)
    }
}

impl FromWords for Targets {
    const FORM: &'static str = "HOST PORT";
    const HELP: &'static str = "\
HOST PORT or HOST:PORT to connect to

HOST is a name or an address, PORT a number or a service name. As one word: HOST:PORT or [IPV6]:PORT. An IPv6 address may \
have a zone, as in fe80::1%eth0. With --probe, PORT may be a list such as 22,80,8000-8010.";

    fn from_words(words: &[&str]) -> Result<Self, String> {
        address::parse_targets(words)
    }
}

/// The id of the argument.
const ENDPOINT: &str = "endpoint";

impl<P: FromWords> FromArgMatches for Positional<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let words = matches.get_many::<String>(ENDPOINT).unwrap_or_default();
        let words: Vec<&str> = words.map(String::as_str).collect();
        P::from_words(&words)
            .map(Self)
            .map_err(|error| Error::raw(ErrorKind::ValueValidation, Escaped(error)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<P: FromWords> Args for Positional<P> {
    fn augment_args(command: Command) -> Command {
        let short = P::HELP.split("\n\n").next().unwrap_or(P::HELP);
        let argument = Arg::new(ENDPOINT)
            .num_args(1..=2)
            // Appending lets an option stand between the two words.
            .action(ArgAction::Append)
            .required(true)
            .value_name(P::FORM)
            .help(short)
            .long_help(P::HELP);
        command.arg(argument)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command};

    fn bind_point(words: &str) -> Result<BindPoint, i32> {
        let line = format!("tuplecat udp-bind {words}");
        let cli = Cli::read(line.split_whitespace()).map_err(|error| error.exit_code())?;
        match cli.command {
            Command::UdpBind(options) => Ok(options.bind.0),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn one_word_names_a_passed_socket() {
        assert_eq!(bind_point("systemd"), Ok(BindPoint::Passed(None)));
        let named = BindPoint::Passed(Some("web".to_owned()));
        assert_eq!(bind_point("systemd:web"), Ok(named));
        // As two words it is a host like any other.
        assert!(matches!(bind_point("systemd 9"), Ok(BindPoint::At(_))));
        assert!(matches!(bind_point("systemdx"), Ok(BindPoint::At(_))));
        assert_eq!(bind_point("systemd:"), Err(2));
    }
}
