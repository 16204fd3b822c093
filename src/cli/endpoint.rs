//! The positional arguments, one or two words that name an endpoint.
//! They are read while clap parses, so that a bad one is a usage error with the usage line below it.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::address::{self, Endpoint, Targets};
use crate::escape::Escaped;

/// `[HOST] PORT`: where to listen or receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindPoint {
    /// At an address of this machine.
    At(Endpoint),
    /// `systemd`: on the socket that systemd(1) passes; of several, on the one of this name.
    Passed(Option<String>),
}

/// `HOST PORT`: where to connect or send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub Endpoint);

/// `HOST PORT`, or several ports of a host: where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectPoint(pub Targets);

const ID: &str = "endpoint";

const BIND_HELP: &str = "\
Where to bind: PORT, HOST PORT or HOST:PORT [default HOST: loopback]

PORT is a number, a service name, or 0 for a port that the kernel chooses. HOST is an address of this machine, a name for \
one, or '*' for every interface. Without HOST only this machine can reach the socket (127.0.0.1, with -6 ::1). As one word: \
HOST:PORT, [IPV6]:PORT or :PORT. An IPv6 address may carry a scope, as in fe80::1%eth0. The word 'systemd' stands for the \
socket that a systemd unit passes; 'systemd:NAME' for the one of that name.";

const TARGET_HELP: &str = "\
Where to: HOST PORT or HOST:PORT

HOST is a name or an address, PORT a number or a service name. As one word: HOST:PORT or [IPV6]:PORT. An IPv6 address may \
carry a scope, as in fe80::1%eth0.";

const CONNECT_HELP: &str = "\
Where to: HOST PORT or HOST:PORT; with --probe also several PORTs

HOST is a name or an address, PORT a number or a service name. As one word: HOST:PORT or [IPV6]:PORT. An IPv6 address may \
carry a scope, as in fe80::1%eth0. With --probe, PORT may be a list such as 22,80,8000-8010.";

fn argument(names: &[&'static str], help: &'static str) -> Arg {
    let short = help.split("\n\n").next().unwrap_or(help);
    Arg::new(ID)
        .num_args(1..=2)
        // Appending lets an option stand between the two words.
        .action(ArgAction::Append)
        .required(true)
        .value_names(names.to_vec())
        .help(short)
        .long_help(help)
}

fn read<T>(matches: &ArgMatches, parse: fn(&[&str]) -> Result<T, String>) -> Result<T, Error> {
    let words = words_of(matches);
    parse(&words).map_err(|error| Error::raw(ErrorKind::ValueValidation, Escaped(error)))
}

fn words_of(matches: &ArgMatches) -> Vec<&str> {
    let words = matches.get_many::<String>(ID).unwrap_or_default();
    words.map(String::as_str).collect()
}

/// The socket that a word stands for, if it is one that is passed.
fn passed(word: &str) -> Option<BindPoint> {
    let name = match word.strip_prefix("systemd")? {
        "" => None,
        rest => Some(rest.strip_prefix(':').filter(|name| !name.is_empty())?),
    };
    Some(BindPoint::Passed(name.map(str::to_owned)))
}

impl FromArgMatches for BindPoint {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let words = words_of(matches);
        if let [word] = words[..]
            && let Some(point) = passed(word)
        {
            return Ok(point);
        }
        read(matches, address::parse_bind_point).map(Self::At)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BindPoint {
    fn augment_args(command: Command) -> Command {
        command.arg(argument(&["[HOST] PORT"], BIND_HELP))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Target {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        read(matches, address::parse_target).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Target {
    fn augment_args(command: Command) -> Command {
        command.arg(argument(&["HOST", "PORT"], TARGET_HELP))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConnectPoint {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let targets = read(matches, address::parse_targets)?;
        if targets.ports.only().is_none() && !matches.get_flag("probe") {
            let word = words_of(matches).pop().unwrap_or_default();
            let text = format!(
                "'{}' names several ports: a connection is to one, --probe takes several",
                Escaped(word)
            );
            return Err(Error::raw(ErrorKind::ValueValidation, text));
        }
        Ok(Self(targets))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ConnectPoint {
    fn augment_args(command: Command) -> Command {
        command.arg(argument(&["HOST", "PORT"], CONNECT_HELP))
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
            Command::UdpBind(options) => Ok(options.bind),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn one_word_stands_for_a_socket_that_is_passed() {
        assert_eq!(bind_point("systemd"), Ok(BindPoint::Passed(None)));
        let named = BindPoint::Passed(Some("web".to_owned()));
        assert_eq!(bind_point("systemd:web"), Ok(named));
        // As two words it is a host like any other.
        assert!(matches!(bind_point("systemd 9"), Ok(BindPoint::At(_))));
        assert!(matches!(bind_point("systemdx"), Ok(BindPoint::At(_))));
        assert_eq!(bind_point("systemd:"), Err(2));
    }
}
