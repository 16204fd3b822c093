//! The options of the modes that wait for others: local ends, access, and many clients at once.
//! They decide which client gets standard input, and which clients are served at all.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::common::STDIO;
use super::dialogue::DIALOGUE;
use super::values::{self, Ordered, Sequence, whole};
use crate::address::access::{Networks, Verdict, parse_entry};

/// The local ends of the modes that wait for others.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Local end")]
pub struct ServerOptions {
    /// Send received data back to its sender
    #[arg(
        long,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = STDIO,
        conflicts_with_all = ["exec", "shell", "crlf", "on_stdin_eof", "quit_after"]
    )]
    pub echo: bool,
    /// Run at most N programs at once
    ///
    /// Further clients and datagrams wait until a program ends.
    #[arg(long, value_name = "N", default_value_t = 100, requires = "program", value_parser = whole::<u64>(1, u64::MAX))]
    pub max_children: u64,
    /// Fixed answers.
    #[command(flatten)]
    pub responder: ResponderOptions,
}

/// Fixed answers, in the place of standard input and output.
#[derive(Clone, Debug, Args)]
#[group(
    id = "responder",
    multiple = true,
    conflicts_with_all = STDIO,
    conflicts_with_all = DIALOGUE,
    conflicts_with_all = ["exec", "shell", "echo", "crlf", "on_stdin_eof", "quit_after"]
)]
pub struct ResponderOptions {
    /// Answer every request with the contents of FILE
    ///
    /// Over TCP a request is a line, over UDP a datagram.
    #[arg(long, value_name = "FILE")]
    pub canned: Option<PathBuf>,
    /// Answer requests that contain REQUEST; repeatable
    ///
    /// The first REQUEST that a request contains decides. \n, \r, \t, \0, \xHH and \\ stand for bytes; \x3d is an equals sign in
    /// REQUEST. An empty REQUEST is in every request. A request that contains none gets the answer of --canned, or no answer.
    #[arg(
        long,
        value_name = "REQUEST=ANSWER",
        value_parser = pair,
        allow_hyphen_values = true
    )]
    pub respond: Vec<Pair>,
}

/// A request, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Bytes that a request contains.
    pub request: Vec<u8>,
    /// The answer to it.
    pub answer: Vec<u8>,
}

fn pair(text: &str) -> Result<Pair, String> {
    let (request, answer) = text.split_once('=').ok_or("expected REQUEST=ANSWER")?;
    Ok(Pair {
        request: values::text(request)?,
        answer: values::text(answer)?,
    })
}

impl ResponderOptions {
    /// Returns true if there is an answer.
    pub fn is_given(&self) -> bool {
        self.canned.is_some() || !self.respond.is_empty()
    }
}

/// Rules about peers, each `--allow` and each `--deny`: the first rule that matches a peer decides.
pub type AccessOptions = Ordered<RuleOptions>;

impl AccessOptions {
    /// Returns the first name to look up, of a host or of a file that may have some.
    pub fn name(&self) -> Option<String> {
        self.0.iter().find_map(|(_, networks)| match networks {
            Networks::One(_) => None,
            Networks::Named(name) => Some(name.clone()),
            Networks::Listed(path) => Some(format!("@{}", path.display())),
        })
    }
}

/// The options that are rules about peers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Access")]
#[group(skip)]
pub struct RuleOptions {
    /// Serve only peers in CIDR; repeatable
    ///
    /// CIDR is a network, an address, or a host name, which is looked up once, at the start. @FILE is those in FILE, separated by
    /// blanks, commas or line ends. Of --allow and --deny, the first that matches a peer decides, in the order given. A peer that
    /// none matches is served, unless there is an --allow.
    #[arg(long, value_name = "CIDR", value_parser = |text: &str| rule(Verdict::Allowed, text))]
    allow: Vec<(Verdict, Networks)>,
    /// Do not serve peers in CIDR; repeatable
    #[arg(long, value_name = "CIDR", value_parser = |text: &str| rule(Verdict::Denied, text))]
    deny: Vec<(Verdict, Networks)>,
}

impl Sequence for RuleOptions {
    type Value = (Verdict, Networks);
    const OPTIONS: &'static [&'static str] = &["allow", "deny"];
}

fn rule(verdict: Verdict, text: &str) -> Result<(Verdict, Networks), String> {
    let networks = match text.strip_prefix('@') {
        Some("") => return Err("expected the name of a file after '@'".to_owned()),
        Some(path) => Networks::Listed(path.into()),
        None => parse_entry(text)?,
    };
    Ok((verdict, networks))
}

/// Many clients at once, and their shares of standard input and output.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Many clients")]
pub struct ClientOptions {
    /// Serve any number of clients at once
    ///
    /// The run ends by a signal or a limit.
    #[arg(short, long, conflicts_with_all = DIALOGUE)]
    pub keep_open: bool,
    /// Serve N clients in all, and exit
    #[arg(long, value_name = "N", requires = "keep_open", value_parser = whole::<u64>(1, u64::MAX))]
    pub count: Option<u64>,
    /// Serve at most N clients at once
    ///
    /// Other clients wait until one leaves (--over-limit). The default is what the limit on open descriptors allows.
    #[arg(long, value_name = "N", requires = "keep_open", value_parser = whole::<u64>(0, u64::MAX))]
    pub max_clients: Option<u64>,
    /// Treatment of further clients
    #[arg(
        long,
        value_name = "HOW",
        default_value = "wait",
        requires = "keep_open"
    )]
    pub over_limit: OverLimit,
    /// Clients that get standard input
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "all",
        requires = "keep_open",
        conflicts_with_all = LOCAL_ENDS,
        conflicts_with_all = ["recv_only", "to"]
    )]
    pub stdin_to: StdinTo,
    /// Disconnect a client that has not acknowledged anything for TIME
    ///
    /// Until then it holds back the data meant for it: standard input if it gets that, its own echo, or the messages of a
    /// broker.
    #[arg(long, value_name = "TIME", default_value = "30", value_parser = values::duration, requires = "keep_open", conflicts_with = "to")]
    pub client_timeout: Duration,
    /// Write whole lines, each after its 4-tuple
    #[arg(
        long,
        requires = "keep_open",
        conflicts_with_all = LOCAL_ENDS,
        conflicts_with_all = ["out_dir", "send_only", "to"]
    )]
    pub prefix: bool,
    /// Write each client's data to its own file in DIR
    ///
    /// The 4-tuple is the name of the file. An existing file is never overwritten.
    #[arg(
        long,
        value_name = "DIR",
        requires = "keep_open",
        conflicts_with_all = LOCAL_ENDS,
        conflicts_with_all = ["send_only", "to"]
    )]
    pub out_dir: Option<PathBuf>,
    /// Forward each client's data to all other clients
    ///
    /// It is written to standard output as well.
    #[arg(long, requires = "keep_open", conflicts_with_all = LOCAL_ENDS, conflicts_with = "to")]
    pub broker: bool,
}

/// The options that replace standard input and output.
const LOCAL_ENDS: [&str; 5] = ["echo", "exec", "shell", "canned", "respond"];

/// The treatment of clients beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverLimit {
    /// They wait in the backlog until a client leaves
    Wait,
    /// Their connections are closed at once
    Reject,
}

/// The clients that get standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StdinTo {
    /// Every connected client
    #[default]
    All,
    /// The connected client that came first
    First,
    /// The connected client that came last
    Last,
    /// None: standard input is not read
    None,
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command, ProgramOptions};

    #[test]
    fn the_first_equals_sign_separates_request_and_answer() {
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
        let network = |text| parse_entry(text).unwrap();
        let expected = vec![
            (Verdict::Denied, network("10.0.0.1")),
            (Verdict::Allowed, network("10.0.0.0/8")),
            (Verdict::Denied, Networks::Listed("list".into())),
            (Verdict::Allowed, network("::1")),
        ];
        assert_eq!(options.access.0, expected);
    }

    #[test]
    fn a_bad_network_is_a_usage_error() {
        for line in ["tuplecat tl 0 --allow 10.0.0/8", "tuplecat ub 0 --deny @"] {
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
            _ => panic!("not a mode"),
        }
    }

    #[test]
    fn words_after_exec_belong_to_the_program() {
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
