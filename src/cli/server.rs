//! The options of the modes that wait for others: many clients, local ends, fixed answers, access.
//! A server takes all of them; who gets what of standard input is said here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};

use super::dialogue::DIALOGUE;
use super::values::{self, whole};
use crate::address::access::{Access, Networks, Verdict, parse_network};
use crate::exit::Failure;

/// The options of `tcp-listen` and `udp-bind`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerOptions {
    /// Send everything back to where it came from
    #[arg(
        long,
        help_heading = "Local end",
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
        help_heading = "Local end",
        default_value_t = 100,
        requires = "program",
        value_parser = whole::<u64>(1, u64::MAX)
    )]
    pub max_children: u64,
    /// Answers that are known beforehand.
    #[command(flatten)]
    pub responder: ResponderOptions,
    /// Who may talk to it.
    #[command(flatten)]
    pub access: AccessOptions,
}

/// How many clients are served, and how they share standard input and output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Many clients")]
pub struct ClientOptions {
    /// Serve clients until ended by a signal or a limit, any number at once
    #[arg(short, long, conflicts_with_all = DIALOGUE)]
    pub keep_open: bool,
    /// Serve at most N clients at once; others wait until one leaves [default: as many as descriptors allow]
    #[arg(long, value_name = "N", requires = "keep_open", value_parser = whole::<u64>(1, u64::MAX))]
    pub max_clients: Option<u64>,
    /// Which clients get standard input
    #[arg(
        long,
        value_name = "WHICH",
        value_enum,
        default_value = "all",
        requires = "keep_open",
        conflicts_with_all = ["echo", "program", "responder", "recv_only"]
    )]
    pub stdin_to: StdinTo,
    /// Drop a client that takes nothing of what is sent to it for TIME
    ///
    /// Until then it holds back what is meant for it: standard input where it gets that, its own echo, what a broker hands on.
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::duration, requires = "keep_open")]
    pub client_timeout: Duration,
    /// Write whole lines, each with the 4-tuple it came over in front
    #[arg(long, requires = "keep_open", conflicts_with_all = ["out_dir", "echo", "program", "responder", "send_only"])]
    pub prefix: bool,
    /// Write what each client sends to a file of its own in DIR
    ///
    /// The file is named by the 4-tuple. One that exists is never overwritten.
    #[arg(
        long,
        value_name = "DIR",
        requires = "keep_open",
        conflicts_with_all = ["echo", "program", "responder", "send_only"]
    )]
    pub out_dir: Option<PathBuf>,
    /// Hand on what one client sends to all others, and show it here
    #[arg(long, requires = "keep_open", conflicts_with_all = ["echo", "program", "responder"])]
    pub broker: bool,
}

/// Which clients get what is read from standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StdinTo {
    /// Every client that is there
    #[default]
    All,
    /// The one that came first of those that are there
    First,
    /// The one that came last
    Last,
    /// None: standard input is not read
    None,
}

/// Answers that are known beforehand.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
#[group(id = "responder", multiple = true)]
pub struct ResponderOptions {
    /// Answer every request with the bytes in FILE: over TCP a line is a request, over UDP a datagram
    #[arg(long, value_name = "FILE", conflicts_with_all = DIALOGUE, conflicts_with_all = OTHERS)]
    pub canned: Option<PathBuf>,
    /// Answer requests that contain REQUEST with ANSWER; repeat it for more, the first that fits counts
    ///
    /// In both \n, \r, \t, \0, \xHH and \\ stand for bytes; \x3d is an equals sign in REQUEST. An empty REQUEST fits all. What
    /// fits none gets the answer of --canned, or none.
    #[arg(
        long,
        value_name = "REQUEST=ANSWER",
        value_parser = pair,
        allow_hyphen_values = true,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = OTHERS
    )]
    pub respond: Vec<Pair>,
}

/// What has no effect beside a responder, or would have to take its place.
const OTHERS: [&str; 11] = [
    "program",
    "echo",
    "stdin",
    "input",
    "output",
    "crlf",
    "rate",
    "delay",
    "send_only",
    "recv_only",
    "on_stdin_eof",
];

/// A request, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What a request has to contain.
    pub request: Vec<u8>,
    /// What it gets.
    pub answer: Vec<u8>,
}

fn pair(text: &str) -> Result<Pair, String> {
    let (request, answer) = text
        .split_once('=')
        .ok_or("expected REQUEST=ANSWER".to_owned())?;
    Ok(Pair {
        request: values::text(request)?.0,
        answer: values::text(answer)?.0,
    })
}

impl ResponderOptions {
    /// Whether there is anything to answer with.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.canned.is_some() || !self.respond.is_empty()
    }
}

/// The rules of `--allow` and `--deny`, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessOptions {
    /// What each says, and of whom.
    pub rules: Vec<(Verdict, Networks)>,
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
        let mut rules: Vec<(usize, Verdict, Networks)> = Vec::new();
        for (name, verdict) in OPTIONS {
            let places = matches.indices_of(name).into_iter().flatten();
            let given = matches.get_many(name).into_iter().flatten();
            rules.extend(
                places
                    .zip(given)
                    .map(|(place, whom): (_, &Networks)| (place, verdict, whom.clone())),
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

fn whom(text: &str) -> Result<Networks, String> {
    match text.strip_prefix('@') {
        Some("") => Err("expected the name of a file after '@'".to_owned()),
        Some(path) => Ok(Networks::Listed(path.into())),
        None => parse_network(text).map(Networks::One),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command, ProgramOptions};

    #[test]
    fn the_first_equals_sign_parts_request_and_answer() {
        for (text, request, answer) in [
            ("PING=PONG", &b"PING"[..], &b"PONG"[..]),
            (r"a\x3db=c=d\n", b"a=b", b"c=d\n"),
            ("=", b"", b""),
        ] {
            let expected = Pair {
                request: request.to_vec(),
                answer: answer.to_vec(),
            };
            assert_eq!(pair(text), Ok(expected), "{text}");
        }
        for text in ["PING", "", r"\q=x", r"x=\q"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_order_holds_across_both_options() {
        let line = "tuplecat ub --deny 10.0.0.1 0 --allow 10.0.0.0/8 --deny @list --allow ::1";
        let Command::UdpBind(options) = Cli::read(line.split_whitespace()).unwrap().command else {
            panic!("not udp-bind");
        };
        let network = |text| Networks::One(parse_network(text).unwrap());
        let expected = vec![
            (Verdict::Denied, network("10.0.0.1")),
            (Verdict::Allowed, network("10.0.0.0/8")),
            (Verdict::Denied, Networks::Listed("list".into())),
            (Verdict::Allowed, network("::1")),
        ];
        assert_eq!(options.server.access.rules, expected);
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

    fn read(words: &[&str]) -> Result<ProgramOptions, i32> {
        let cli = Cli::read(["tuplecat"].iter().chain(words)).map_err(|error| error.exit_code())?;
        match cli.command {
            Command::TcpListen(options) => Ok(options.common.program),
            Command::TcpConnect(options) => Ok(options.common.program),
            Command::UdpBind(options) => Ok(options.common.program),
            Command::UdpSendto(options) => Ok(options.common.program),
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
