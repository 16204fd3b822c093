//! How input is cut and output is dressed, and how fast input goes out.
//! Every mode has these options; the forms that show borders are offered where there are borders.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error, ValueEnum};

use super::values;
use crate::flow::Direction;
use crate::framing::pace::Pace;
use crate::framing::{InputFraming, OutputFraming};
use crate::framing::{LineEnds, ReplayTiming};

/// What becomes of standard input, and of what arrives.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Input and output")]
pub struct FramingOptions {
    /// How input is cut into datagrams
    #[arg(
        long = "in",
        value_name = "FRAMING",
        default_value = "raw",
        value_parser = InputForms::Datagrams,
        conflicts_with = "program"
    )]
    pub input: InputFraming,
    /// How datagrams are written to standard output
    #[arg(
        long = "out",
        value_name = "FRAMING",
        value_enum,
        default_value = "raw",
        conflicts_with = "program"
    )]
    pub output: OutputFraming,
    /// Send lines with CR LF at their ends
    ///
    /// A line feed that has no carriage return before it gets one. With '--in line' every datagram ends in both.
    #[arg(short = 'C', long, conflicts_with = "program")]
    pub crlf: bool,
    /// Send at most SIZE bytes of payload in a second
    #[arg(long, value_name = "SIZE", conflicts_with = "program", value_parser = values::size)]
    pub rate: Option<u64>,
    /// Let TIME pass between one frame and the next; 'original' keeps the pauses of a dump
    ///
    /// A frame is what --in makes of the input; of raw input it is a datagram, or what is read at once.
    #[arg(long, value_name = "TIME", conflicts_with = "program", value_parser = delay)]
    pub delay: Option<Delay>,
}

/// What lies between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// This time.
    Fixed(Duration),
    /// What lay between them when they were recorded.
    Original,
}

fn delay(text: &str) -> Result<Delay, String> {
    match text {
        "original" => Ok(Delay::Original),
        _ => values::duration(text)
            .map(Delay::Fixed)
            .map_err(|error| format!("{error}, or 'original'")),
    }
}

impl FramingOptions {
    /// What becomes of the ends of lines.
    #[must_use]
    pub fn ends(&self) -> LineEnds {
        if self.crlf {
            LineEnds::CrLf
        } else {
            LineEnds::Kept
        }
    }

    /// How fast input may go.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        let delay = match self.delay {
            Some(Delay::Fixed(time)) => Some(time),
            Some(Delay::Original) | None => None,
        };
        Pace::new(self.rate, delay)
    }

    /// Whether a recording keeps its pauses.
    #[must_use]
    pub fn timing(&self) -> ReplayTiming {
        match self.delay {
            Some(Delay::Original) => ReplayTiming::Original,
            Some(Delay::Fixed(_)) | None => ReplayTiming::Immediate,
        }
    }

    /// Whether standard input is read in another way than as it is.
    pub(super) fn shapes_input(&self) -> bool {
        self.crlf || self.input != InputFraming::Raw
    }

    /// Why the options do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let has_lines = matches!(self.input, InputFraming::Raw | InputFraming::Line);
        let has_times = matches!(self.input, InputFraming::Dump(_));
        if self.crlf && !has_lines {
            Some("--crlf is for '--in raw' and '--in line'")
        } else if self.delay == Some(Delay::Original) && !has_times {
            Some("'--delay original' is for '--in dump' and '--in dump-received'")
        } else {
            None
        }
    }
}

/// Offers `--in` as it is where there are no datagrams.
pub(super) fn read_as_stream(option: Arg) -> Arg {
    option
        .help("How input is read")
        .value_parser(InputForms::Stream)
}

/// Offers `--out` as it is where there are no datagrams.
pub(super) fn written_as_stream(option: Arg) -> Arg {
    let values = [
        PossibleValue::new("raw").help("The bytes as they come"),
        PossibleValue::new("hex").help("Hexadecimal digits, a line for what came at once"),
        PossibleValue::new("json")
            .help("A JSON object for what came at once, with addresses and time"),
    ];
    let read = |name: String| OutputFraming::from_str(&name, false);
    option
        .help("How what arrives is written to standard output")
        .value_parser(PossibleValuesParser::new(values).try_map(read))
}

/// The forms of input that a mode offers.
#[derive(Clone, Copy, Debug)]
enum InputForms {
    /// Those that make datagrams.
    Datagrams,
    /// Those that make a stream.
    Stream,
}

/// A form by its name, with what it is for datagrams.
const FORMS: [(&str, InputFraming, &str); 8] = [
    (
        "raw",
        InputFraming::Raw,
        "What one read returns, cut at --datagram-size; a terminal gives a line at a time",
    ),
    ("line", InputFraming::Line, "A line, without its line feed"),
    ("nul", InputFraming::Nul, "What ends in a NUL, without it"),
    (
        "len16",
        InputFraming::Len16,
        "What follows its length in two bytes, big-endian",
    ),
    (
        "len32",
        InputFraming::Len32,
        "What follows its length in four bytes, big-endian",
    ),
    (
        "hex",
        InputFraming::Hex,
        "A line of hexadecimal digits; spaces mean nothing",
    ),
    SENT,
    RECEIVED,
];

/// What goes for datagrams and for a stream alike.
const SENT: (&str, InputFraming, &str) = (
    "dump",
    InputFraming::Dump(Direction::Outgoing),
    "What a dump (--hex) shows as sent",
);
const RECEIVED: (&str, InputFraming, &str) = (
    "dump-received",
    InputFraming::Dump(Direction::Incoming),
    "What a dump shows as received",
);

/// The same for a stream.
const STREAM_FORMS: [(&str, InputFraming, &str); 4] = [
    ("raw", InputFraming::Raw, "The bytes as they are"),
    (
        "hex",
        InputFraming::Hex,
        "Hexadecimal digits; white space means nothing",
    ),
    SENT,
    RECEIVED,
];

const BLOCK: &str = "block:";
const BLOCK_HELP: &str = "N bytes; only the last datagram may have fewer";

impl InputForms {
    fn forms(self) -> &'static [(&'static str, InputFraming, &'static str)] {
        match self {
            Self::Datagrams => &FORMS,
            Self::Stream => &STREAM_FORMS,
        }
    }

    fn block_size(self, text: &str) -> Option<Result<InputFraming, String>> {
        let size = text
            .strip_prefix(BLOCK)
            .filter(|_| matches!(self, Self::Datagrams))?;
        Some(values::payload(size).map(InputFraming::Block))
    }
}

impl TypedValueParser for InputForms {
    type Value = InputFraming;

    fn parse_ref(
        &self,
        command: &Command,
        option: Option<&Arg>,
        value: &OsStr,
    ) -> Result<InputFraming, Error> {
        let text = value.to_str().unwrap_or_default();
        if let Some(&(_, framing, _)) = self.forms().iter().find(|form| form.0 == text) {
            return Ok(framing);
        }
        if let Some(block) = self.block_size(text) {
            return block.map_err(|error| {
                let text = format!("invalid value '{text}' for '--in <FRAMING>': {error}");
                Error::raw(ErrorKind::ValueValidation, text).format(&mut command.clone())
            });
        }
        // It is none of them, and this is how clap says so.
        let names: Vec<PossibleValue> = self.possible_values().into_iter().flatten().collect();
        let parser = PossibleValuesParser::new(names);
        parser
            .parse_ref(command, option, value)
            .map(|_| InputFraming::Raw)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let block =
            matches!(self, Self::Datagrams).then(|| PossibleValue::new("block:N").help(BLOCK_HELP));
        let forms = self.forms().iter();
        let forms = forms.map(|&(name, _, help)| PossibleValue::new(name).help(help));
        Some(Box::new(forms.chain(block)))
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use crate::cli::{Cli, Command};
    use crate::framing::InputFraming;

    fn framing(words: &str) -> Result<InputFraming, String> {
        let line = format!("tuplecat {words}");
        let cli = Cli::read(line.split_whitespace()).map_err(|error| error.to_string())?;
        Ok(match cli.command {
            Command::UdpBind(options) => options.common.framing.input,
            Command::TcpListen(options) => options.common.framing.input,
            command => panic!("{command:?}"),
        })
    }

    #[test]
    fn a_block_has_a_size_that_a_datagram_holds() {
        assert_eq!(framing("ub 0 --in block:1k"), Ok(InputFraming::Block(1024)));
        for text in ["block:", "block:0", "block:N", "block:65528", "block"] {
            let error = framing(&format!("ub 0 --in {text}")).unwrap_err();
            let start = format!("error: invalid value '{text}' for '--in <FRAMING>'");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.ends_with("try '--help'.\n"), "{error}");
        }
    }

    #[test]
    fn a_stream_has_no_forms_with_borders() {
        assert_eq!(framing("tl 0 --in hex"), Ok(InputFraming::Hex));
        for words in ["--in line", "--in block:9", "--out len16", "--out line"] {
            let error = framing(&format!("tl 0 {words}")).unwrap_err();
            assert!(error.contains("[possible values: raw, hex"), "{error}");
        }
    }

    #[test]
    fn only_lines_have_ends() {
        assert!(framing("tl 0 -C").is_ok() && framing("ub 0 -C --in line").is_ok());
        let error = framing("ub 0 -C --in nul").unwrap_err();
        assert!(
            error.contains("--crlf is for '--in raw' and '--in line'"),
            "{error}"
        );
        assert!(error.contains("Usage: tuplecat udp-bind"), "{error}");
    }
}
