//! The positional arguments, one or two words that name an endpoint.
//! They are read while clap parses, so that a bad one is a usage error with the usage line below it.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::address::{self, Endpoint, InvalidEndpoint};

/// `[HOST] PORT`: where to listen or receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPoint(pub Endpoint);

/// `HOST PORT`: where to connect or send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub Endpoint);

const ID: &str = "endpoint";

const BIND_HELP: &str = "\
Where to bind: PORT, HOST PORT or HOST:PORT [default HOST: loopback]

PORT is a number, a service name, or 0 for a port that the kernel chooses. HOST is an address of this machine, a name for \
one, or '*' for every interface. Without HOST only this machine can reach the socket (127.0.0.1, with -6 ::1). As one word: \
HOST:PORT, [IPV6]:PORT or :PORT. An IPv6 address may carry a scope, as in fe80::1%eth0.";

const TARGET_HELP: &str = "\
Where to: HOST PORT or HOST:PORT

HOST is a name or an address, PORT a number or a service name. As one word: HOST:PORT or [IPV6]:PORT. An IPv6 address may \
carry a scope, as in fe80::1%eth0.";

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

fn read(
    matches: &ArgMatches,
    parse: fn(&[&str]) -> Result<Endpoint, InvalidEndpoint>,
) -> Result<Endpoint, Error> {
    let words: Vec<&str> = matches
        .get_many::<String>(ID)
        .unwrap_or_default()
        .map(String::as_str)
        .collect();
    parse(&words).map_err(|error| Error::raw(ErrorKind::ValueValidation, error))
}

impl FromArgMatches for BindPoint {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        read(matches, address::parse_bind_point).map(Self)
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
