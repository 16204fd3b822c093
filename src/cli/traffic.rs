//! The formats of input and output, and the rate of the input.
//! Every mode has these options; formats with boundaries exist only where datagrams do.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{
    NonEmptyStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser,
};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error, ValueEnum};

use super::values;
use crate::flow::Leg;
use crate::framing::pace::Pace;
use crate::framing::{InputFraming, LineEnds, OutputFraming, Playback, ReplayTiming};

/// The formats of input and output, and the rate of the input.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Input and output")]
pub struct FramingOptions {
    /// Format of the input: how to split it into datagrams
    #[arg(
        long = "in",
        value_name = "FRAMING",
        default_value = "raw",
        value_parser = InputForms::Datagrams
    )]
    pub input: InputFraming,
    /// Format of the output
    #[arg(long = "out", value_name = "FRAMING", default_value = "raw")]
    pub output: OutputFraming,
    /// End lines with CR LF
    ///
    /// A line feed without a carriage return before it gets one, in standard input or in the output of a program. With '--in line'
    /// every datagram ends with both.
    #[arg(short = 'C', long)]
    pub crlf: bool,
    /// Send at most SIZE bytes a second
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub rate: Option<u64>,
    /// Wait TIME between frames; 'original' is as recorded
    ///
    /// A frame is a part that --in makes of the input; with raw input it is a datagram, or the result of one read.
    #[arg(long, value_name = "TIME", value_parser = delay)]
    pub delay: Option<Delay>,
    /// Divide the pauses of '--delay original' by FACTOR
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    pub speed: Option<f64>,
    /// Send a recording N times, or 'forever'
    #[arg(long = "loop", value_name = "N", value_parser = passes)]
    pub passes: Option<u64>,
    /// Choose the flow of a recording: its number, or addresses
    ///
    /// Without it, a recording with several flows is an error that lists them. Addresses are as in that list.
    #[arg(long, value_name = "FLOW", value_parser = NonEmptyStringValueParser::new())]
    pub flow: Option<String>,
    /// Choose the side of a recording that is sent; default client
    #[arg(long, value_name = "SIDE", value_parser = legs())]
    pub leg: Option<Leg>,
}

/// The pause between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// This time.
    Fixed(Duration),
    /// The time between them in the recording.
    Original,
}

fn delay(text: &str) -> Result<Delay, String> {
    let time = |text: &str| values::duration(text).map(Delay::Fixed);
    values::word_or(text, ("original", Delay::Original), time)
}

/// Factors of the speed: no pause becomes too long for a clock.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;

fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| SPEEDS.contains(factor));
    factor.ok_or_else(|| "expected a number from 0.001 to 1000000, such as 2 or 0.5".to_owned())
}

fn legs() -> impl TypedValueParser<Value = Leg> {
    let names = PossibleValuesParser::new(["client", "target"]);
    names.map(|name| {
        if name == "client" {
            Leg::Client
        } else {
            Leg::Target
        }
    })
}

fn passes(text: &str) -> Result<u64, String> {
    values::word_or(text, ("forever", u64::MAX), values::whole(1, u64::MAX))
}

impl FramingOptions {
    /// Returns the line ends to send.
    pub fn ends(&self) -> LineEnds {
        if self.crlf {
            LineEnds::CrLf
        } else {
            LineEnds::Kept
        }
    }

    /// Returns the limit on the rate of the input.
    pub fn pace(&self) -> Option<Pace> {
        let delay = match self.delay {
            Some(Delay::Fixed(time)) => Some(time),
            Some(Delay::Original) | None => None,
        };
        Pace::new(self.rate, delay)
    }

    /// Returns the part of a recording to send, and the times of its frames.
    pub fn playback(&self) -> Playback {
        let speed = self.speed.unwrap_or(1.0);
        Playback {
            timing: match self.delay {
                Some(Delay::Original) => ReplayTiming::Original { speed },
                Some(Delay::Fixed(_)) | None => ReplayTiming::Immediate,
            },
            passes: self.passes.unwrap_or(1),
            flow: self.flow.clone(),
            leg: self.leg,
        }
    }

    /// Returns true if input or output is not as it is.
    pub(super) fn is_given(&self) -> bool {
        self.input != InputFraming::Raw || self.output != OutputFraming::Raw
    }

    /// Returns true if a format is none of a stream.
    pub(super) fn divides(&self) -> bool {
        !STREAM_FORMATS.contains(&self.input) || !WRITTEN_FORMATS.contains(&self.output)
    }

    /// Returns true if both formats show where a datagram ends.
    pub(super) fn has_boundaries(&self) -> bool {
        use InputFraming::{Block, FullLine, Hex, Len16, Len32, Line, Nul};
        let is_divided = matches!(
            self.input,
            Line | FullLine | Nul | Len16 | Len32 | Hex | Block(_)
        );
        is_divided && !matches!(self.output, OutputFraming::Raw | OutputFraming::Json)
    }

    /// Returns true if standard input is not sent as it is.
    pub(super) fn shapes_input(&self) -> bool {
        self.crlf || self.input != InputFraming::Raw
    }

    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let has_lines = self.input == InputFraming::Line || self.input.keeps_line_ends();
        let is_original = self.delay == Some(Delay::Original);
        if self.crlf && !has_lines {
            Some("--crlf is for '--in raw', '--in line' and '--in full-line'")
        } else if is_original && !self.input.is_recording() {
            Some("'--delay original' is for recordings: '--in dump', 'hexdump' or 'pcap'")
        } else if self.speed.is_some() && !is_original {
            Some("--speed is for '--delay original'")
        } else if self.passes.is_some() && !self.input.is_recording() {
            Some("--loop is for recordings: '--in dump', 'hexdump' or 'pcap'")
        } else if self.flow.is_some() && !self.input.has_flows() {
            Some("--flow is for '--in pcap' and '--in hexdump'")
        } else if self.leg.is_some() && !self.input.is_recording() {
            Some("--leg is for recordings: '--in dump', 'hexdump' or 'pcap'")
        } else {
            None
        }
    }
}

/// Restricts `--in` to the formats of a stream.
pub(super) fn read_as_stream(option: Arg) -> Arg {
    option
        .help("Format of the input")
        .value_parser(InputForms::Stream)
}

/// Restricts `--out` to the formats of a stream.
pub(super) fn written_as_stream(option: Arg) -> Arg {
    option.value_parser(values::some_of(&WRITTEN_FORMATS))
}

/// The parser of `--in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputForms {
    /// Formats that make datagrams.
    Datagrams,
    /// Formats that make a stream.
    Stream,
}

/// The formats that make a stream.
pub(super) const STREAM_FORMATS: [InputFraming; 7] = [
    InputFraming::Raw,
    InputFraming::FullLine,
    InputFraming::Hex,
    InputFraming::Dump,
    InputFraming::DumpReceived,
    InputFraming::Hexdump,
    InputFraming::Pcap,
];

/// The formats of a received stream.
const WRITTEN_FORMATS: [OutputFraming; 3] =
    [OutputFraming::Raw, OutputFraming::Hex, OutputFraming::Json];

/// The format of input that has a value of its own.
const BLOCK: &str = "block:N";

impl TypedValueParser for InputForms {
    type Value = InputFraming;

    fn parse_ref(
        &self,
        command: &Command,
        option: Option<&Arg>,
        value: &OsStr,
    ) -> Result<InputFraming, Error> {
        let text = value.to_str().unwrap_or_default();
        let size = text.strip_prefix("block:");
        let size = size.filter(|_| *self == Self::Datagrams);
        let name = size.map_or(value, |_| OsStr::new(BLOCK));
        let values = self.possible_values().into_iter().flatten();
        let name = PossibleValuesParser::new(values).parse_ref(command, option, name)?;
        let Some(size) = size else {
            return Ok(InputFraming::from_str(&name, false).unwrap_or_default());
        };
        let size = values::payload(size).map_err(|error| {
            let text = format!("invalid value '{text}' for '--in <FRAMING>': {error}");
            Error::raw(ErrorKind::ValueValidation, text).format(&mut command.clone())
        })?;
        Ok(InputFraming::Block(size))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let formats = match self {
            Self::Datagrams => InputFraming::value_variants(),
            Self::Stream => &STREAM_FORMATS,
        };
        let help = "N bytes; only the last datagram may have fewer";
        let block = (*self == Self::Datagrams).then(|| PossibleValue::new(BLOCK).help(help));
        let formats = formats.iter().filter_map(ValueEnum::to_possible_value);
        Some(Box::new(formats.chain(block)))
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
            let error = Cli::read(format!("tuplecat tc ::1 9 {words}").split(' ')).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("[possible values: raw, "), "{text}");
            let error = framing(&format!("tl 0 {words}")).unwrap_err();
            assert!(error.contains("--to udp:HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn only_lines_have_ends() {
        assert!(framing("tl 0 -C").is_ok() && framing("ub 0 -C --in line").is_ok());
        let error = framing("ub 0 -C --in nul").unwrap_err();
        assert!(
            error.contains("--crlf is for '--in raw', '--in line' and '--in full-line'"),
            "{error}"
        );
        assert!(error.contains("Usage: tuplecat udp-bind"), "{error}");
    }
}
