//! The options that make a dialogue: what to send, and what to wait for.
//! They may be repeated and mixed, and what counts is their order on the command line, whichever option it is.

use clap::{ArgGroup, ArgMatches, Args, Command, Error, FromArgMatches};

use super::FramingOptions;
use super::values;
use crate::local::expect::{Pattern, Step};

/// Bytes as they were written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// What is sent and what is expected, in the order of the command line.
#[derive(Clone, Debug)]
pub struct DialogueOptions {
    /// Each `--send` and each `--expect`.
    pub steps: Vec<Step>,
    /// Whether standard input is read after them.
    pub stdin: bool,
}

impl DialogueOptions {
    /// Whether there is anything to wait for.
    #[must_use]
    pub fn expects(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Expect(_)))
    }

    /// Why the options do not go together with those that say how input is read, if they do not.
    pub(super) fn contradiction(&self, framing: &FramingOptions) -> Option<&'static str> {
        if self.expects() && framing.pace().is_some() {
            Some("--rate and --delay are not for a dialogue: what is expected says when to go on")
        } else if self.sends() && !self.stdin && framing.shapes_input() {
            Some(
                "--in and --crlf are for standard input, which is read beside --send only with --stdin",
            )
        } else {
            None
        }
    }

    /// Whether there is anything to send.
    #[must_use]
    pub fn sends(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Send(_)))
    }
}

/// The options that are steps of a dialogue, which is one with one peer.
pub(super) const DIALOGUE: [&str; 5] = ["send", "send_hex", "expect", "expect_hex", "expect_regex"];

/// The options as clap sees them, each kind by itself.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dialogue")]
struct Words {
    /// Send TEXT, in which \n \r \t \0 \xHH \\ stand for bytes, and do not read standard input
    ///
    /// This and the --expect options may be repeated and mixed: what comes after an --expect is sent when that is met. Over UDP
    /// each --send is one datagram.
    #[arg(long, value_name = "TEXT", value_parser = values::text, allow_hyphen_values = true, conflicts_with_all = ["program", "recv_only"])]
    send: Vec<Bytes>,
    /// Send the bytes that are written in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = values::hexadecimal, conflicts_with_all = ["program", "recv_only"])]
    send_hex: Vec<Bytes>,
    /// Wait until TEXT arrives; leave when all is met (status 0), or cannot be (status 8)
    ///
    /// TEXT may be anywhere in what arrives after what was met before; over UDP each --expect is met by one datagram. What arrives
    /// is written to standard output as ever. Give --timeout to limit the wait.
    #[arg(long, value_name = "TEXT", value_parser = expected, allow_hyphen_values = true, conflicts_with = "program")]
    expect: Vec<Pattern>,
    /// Wait until the bytes arrive that are written in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = expected_hexadecimal, conflicts_with = "program")]
    expect_hex: Vec<Pattern>,
    /// Wait until something arrives that the regular expression RE matches
    ///
    /// It sees bytes; ^ is the end of what was met before, or over UDP the beginning of a datagram.
    #[arg(long, value_name = "RE", value_parser = Pattern::regex, allow_hyphen_values = true, conflicts_with = "program")]
    expect_regex: Vec<Pattern>,
    /// Read standard input all the same, when the dialogue is over, and go on
    #[arg(long, conflicts_with_all = ["program", "recv_only"])]
    stdin: bool,
}

fn expected(text: &str) -> Result<Pattern, String> {
    Pattern::bytes(values::text(text)?.0)
}

fn expected_hexadecimal(text: &str) -> Result<Pattern, String> {
    Pattern::bytes(values::hexadecimal(text)?.0)
}

impl FromArgMatches for DialogueOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        let indices = |option| matches.indices_of(option).into_iter().flatten();
        // Gone from the matches with the words.
        let order = DIALOGUE.map(|option| indices(option).collect::<Vec<_>>());
        let words = Words::from_arg_matches_mut(matches)?;
        let says = |said: Vec<Bytes>| said.into_iter().map(|bytes| Step::Send(bytes.0)).collect();
        let hears = |heard: Vec<Pattern>| heard.into_iter().map(Step::Expect).collect();
        let kinds: [Vec<Step>; 5] = [
            says(words.send),
            says(words.send_hex),
            hears(words.expect),
            hears(words.expect_hex),
            hears(words.expect_regex),
        ];
        let placed = order.into_iter().zip(kinds);
        let placed = placed.flat_map(|(indices, steps)| indices.into_iter().zip(steps));
        let mut placed: Vec<(usize, Step)> = placed.collect();
        placed.sort_by_key(|(index, _)| *index);
        Ok(Self {
            steps: placed.into_iter().map(|(_, step)| step).collect(),
            stdin: words.stdin,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DialogueOptions {
    fn augment_args(command: Command) -> Command {
        let said = ArgGroup::new("said").args(["send", "send_hex"]);
        Words::augment_args(command).group(said.multiple(true))
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
    use crate::local::expect::PatternText;

    fn steps(words: &[&str]) -> Vec<String> {
        let line = ["tuplecat", "tcp-connect", "::1", "9"];
        let cli = Cli::read(line.iter().chain(words)).unwrap();
        let Command::TcpConnect(options) = cli.command else {
            panic!("not tcp-connect");
        };
        let steps = options.common.dialogue.steps.iter().map(|step| match step {
            Step::Send(bytes) => format!("say {}", bytes.escape_ascii()),
            Step::Expect(pattern) => match pattern.text() {
                PatternText::Bytes(bytes) => format!("hear {}", bytes.escape_ascii()),
                PatternText::Regex(text) => format!("hear /{text}/"),
            },
        });
        steps.collect()
    }

    #[test]
    fn the_order_is_that_of_the_command_line() {
        let words = [
            "--expect-regex=^220",
            "--send-hex",
            "45 48",
            "--expect",
            "-x",
            "--send",
            r"QUIT\r\n",
            "--send=",
            "--expect-hex=00",
        ];
        assert_eq!(
            steps(&words),
            [
                "hear /^220/",
                "say EH",
                "hear -x",
                r"say QUIT\r\n",
                "say ",
                r"hear \x00"
            ]
        );
        assert_eq!(steps(&[]), [""; 0]);
    }
}
