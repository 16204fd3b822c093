//! `--allow` and `--deny`: who may talk to a socket that serves others.
//! The two are one list: a rule counts by its place on the command line, so their order across both options is kept.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::access::{Access, Verdict, Whom, parse_network};
use crate::exit::Failure;

/// The rules of `--allow` and `--deny`, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessOptions {
    /// What each says, and of whom.
    pub rules: Vec<(Verdict, Whom)>,
}

impl AccessOptions {
    /// Reads the files that the rules name.
    pub fn access(&self) -> Result<Access, Failure> {
        Access::new(&self.rules)
    }

    /// Whether anybody is allowed by name.
    #[must_use]
    pub fn allow_somebody(&self) -> bool {
        let mut verdicts = self.rules.iter().map(|(verdict, _)| verdict);
        verdicts.any(|verdict| *verdict == Verdict::Allowed)
    }
}

const OPTIONS: [(&str, Verdict); 2] = [("allow", Verdict::Allowed), ("deny", Verdict::Denied)];

const ALLOW_HELP: &str = "\
Serve only peers from CIDR, a network or an address; may be given again

Of --allow and --deny, the first that matches a peer decides, in the order given. Where none matches, everybody is served, \
unless there is an --allow: then nobody else is. @FILE stands for the networks in FILE, one a line.";

const DENY_HELP: &str = "Do not serve peers from CIDR; may be given again";

impl Args for AccessOptions {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("CIDR")
                .action(ArgAction::Append)
                .value_parser(whom)
                .help_heading("Access")
        };
        command
            .arg(
                option("allow")
                    .help(summary(ALLOW_HELP))
                    .long_help(ALLOW_HELP),
            )
            .arg(option("deny").help(DENY_HELP))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn summary(help: &'static str) -> &'static str {
    help.split("\n\n").next().unwrap_or(help)
}

impl FromArgMatches for AccessOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut rules: Vec<(usize, Verdict, Whom)> = Vec::new();
        for (name, verdict) in OPTIONS {
            let places = matches.indices_of(name).into_iter().flatten();
            let given = matches.get_many(name).into_iter().flatten();
            rules.extend(
                places
                    .zip(given)
                    .map(|(place, whom): (_, &Whom)| (place, verdict, whom.clone())),
            );
        }
        rules.sort_by_key(|&(place, ..)| place);
        let rules = rules
            .into_iter()
            .map(|(_, verdict, whom)| (verdict, whom))
            .collect();
        Ok(Self { rules })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn whom(text: &str) -> Result<Whom, String> {
    match text.strip_prefix('@') {
        Some("") => Err("expected the name of a file after '@'".to_owned()),
        Some(path) => Ok(Whom::Listed(path.into())),
        None => parse_network(text).map(Whom::Network),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_order_holds_across_both_options() {
        let line = "tuplecat ub --deny 10.0.0.1 0 --allow 10.0.0.0/8 --deny @list --allow ::1";
        let Command::UdpBind(options) = Cli::read(line.split_whitespace()).unwrap().command else {
            panic!("not udp-bind");
        };
        let network = |text| Whom::Network(parse_network(text).unwrap());
        let expected = vec![
            (Verdict::Denied, network("10.0.0.1")),
            (Verdict::Allowed, network("10.0.0.0/8")),
            (Verdict::Denied, Whom::Listed("list".into())),
            (Verdict::Allowed, network("::1")),
        ];
        assert_eq!(options.access.rules, expected);
    }

    #[test]
    fn what_is_no_network_is_a_usage_error() {
        for line in ["tuplecat tl 0 --allow host", "tuplecat ub 0 --deny @"] {
            let error = Cli::read(line.split_whitespace())
                .map(|_| line)
                .unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
