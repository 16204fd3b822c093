//! The options of a dialogue: data to send, and data to wait for.
//! They may be repeated and mixed; their order on the command line is the order of the dialogue.

use clap::{ArgGroup, Args};

use super::FramingOptions;
use super::values::{self, Ordered, Sequence};
use crate::framing::hex_text::hexadecimal;
use crate::local::expect::{Pattern, Step};

/// The steps of a dialogue, and the use of standard input beside it.
#[derive(Clone, Debug, Args)]
#[command(
    next_help_heading = "Dialogue",
    group = ArgGroup::new("said").args(["send", "send_hex"]).multiple(true)
)]
pub struct DialogueOptions {
    /// Each `--send` and each `--expect`.
    #[command(flatten)]
    pub steps: Ordered<StepOptions>,
    /// After the dialogue, continue with standard input
    #[arg(long)]
    pub stdin: bool,
}

impl DialogueOptions {
    /// Returns true if a step waits for data.
    pub fn expects(&self) -> bool {
        self.steps.0.iter().any(Step::expects)
    }

    /// Returns true if a step sends data.
    pub fn sends(&self) -> bool {
        self.frames().next().is_some()
    }

    /// Returns the data of each step that sends some.
    pub fn frames(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.steps.0.iter().filter_map(|step| match step {
            Step::Send(frame) => Some(frame),
            Step::Expect(_) => None,
        })
    }

    /// Returns the reason why the options are not valid beside those that shape the input.
    pub(super) fn contradiction(&self, framing: &FramingOptions) -> Option<&'static str> {
        if self.expects() && framing.pace().is_some() {
            Some("--rate and --delay are not for a dialogue, which --expect paces")
        } else if self.sends() && !self.stdin && framing.shapes_input() {
            Some("--in and --crlf are for standard input, which --send replaces without --stdin")
        } else {
            None
        }
    }
}

/// The ids of the options that are steps of a dialogue.
pub(super) const DIALOGUE: [&str; 5] = ["send", "send_hex", "expect", "expect_hex", "expect_regex"];

/// The options that are steps of a dialogue.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub struct StepOptions {
    /// Send TEXT; \n \r \t \0 \xHH \\ stand for bytes
    ///
    /// Standard input is not read. Options for sending and expecting may be repeated and mixed; data after an --expect is sent
    /// once that is met. Over UDP each --send is one datagram.
    #[arg(long, value_name = "TEXT", value_parser = send, allow_hyphen_values = true)]
    send: Vec<Step>,
    /// Send bytes given in hexadecimal
    ///
    /// Blanks, ',', ':' and '-' may stand between bytes, and '0x' or '\x' before them.
    #[arg(long, value_name = "HEX", value_parser = send_hex)]
    send_hex: Vec<Step>,
    /// Wait for TEXT; exit with 0 once all is met, or 8
    ///
    /// TEXT may be anywhere after the data of the previous --expect; over UDP one datagram meets one --expect. Received
    /// data is written to standard output as usual. Status 8 means that TEXT cannot come any more. --timeout limits the wait.
    #[arg(long, value_name = "TEXT", value_parser = expect, allow_hyphen_values = true)]
    expect: Vec<Step>,
    /// Wait for bytes given in hexadecimal
    #[arg(long, value_name = "HEX", value_parser = expect_hex)]
    expect_hex: Vec<Step>,
    /// Wait for a match of the regular expression RE
    ///
    /// RE matches bytes; ^ is the end of the previous match, or over UDP the start of a datagram.
    #[arg(long, value_name = "RE", value_parser = expect_regex, allow_hyphen_values = true)]
    expect_regex: Vec<Step>,
}

impl Sequence for StepOptions {
    type Value = Step;
    const OPTIONS: &'static [&'static str] = &DIALOGUE;
}

fn send(text: &str) -> Result<Step, String> {
    values::text(text).map(Step::Send)
}

fn send_hex(text: &str) -> Result<Step, String> {
    hexadecimal(text).map(Step::Send)
}

fn expect(text: &str) -> Result<Step, String> {
    Pattern::bytes(values::text(text)?).map(Step::Expect)
}

fn expect_hex(text: &str) -> Result<Step, String> {
    Pattern::bytes(hexadecimal(text)?).map(Step::Expect)
}

fn expect_regex(text: &str) -> Result<Step, String> {
    Pattern::regex(text).map(Step::Expect)
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
        let steps = options
            .common
            .dialogue
            .steps
            .0
            .iter()
            .map(|step| match step {
                Step::Send(bytes) => format!("say {}", bytes.escape_ascii()),
                Step::Expect(pattern) => match &pattern.text {
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
