//! Command lines of other netcats, as lines of this program: `tuplecat nc`, and its `--translate`.
//! A translation is data: the same lines are run, or printed with what is different.

use std::ffi::OsString;
use std::path::Path;

mod equivalent;
mod flags;
mod openbsd;
mod others;
mod socat;

pub use equivalent::Equivalent;
pub use flags::Flags;
use flags::OPENBSD;

/// Names under which this program is `nc`.
const COMMAND_NAMES: [&str; 3] = ["nc", "netcat", "nc.tuplecat"];

/// The command line of `nc`: all words belong to it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "tuplecat nc [--translate [TOOL]] [ARGUMENT]...", after_help = EXAMPLES)]
pub struct Nc {
    /// Arguments of OpenBSD's nc; 'tuplecat nc -h' lists them
    ///
    /// After --translate they are printed as a command of tuplecat, with a line for each difference. TOOL is the tool that the
    /// arguments are for: nc, ncat, nc.traditional or socat. tuplecat-nc(1) describes what each of them becomes.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub words: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  tuplecat nc -zv localhost 22 80 8000-8010
  tuplecat nc --translate -l -p 9000
  tuplecat nc --translate socat - TCP:localhost:9000";

/// Action that a command line of `nc` asks for.
#[derive(Debug)]
pub enum Action {
    /// Run these, one after the other, with reports and a status as these flags say.
    Run(Vec<Equivalent>, Flags),
    /// Print this text on standard output.
    Translate(String),
    /// Print this text on standard error.
    Help(String),
}

impl Nc {
    /// Takes the words of a whole command line, if they are for nc: the name of the program, or the first word after it, says so.
    pub fn of(words: &[OsString]) -> Option<Self> {
        let name = words.first().and_then(|path| Path::new(path).file_name());
        let is_name = COMMAND_NAMES
            .iter()
            .any(|known| name.is_some_and(|name| name == *known));
        let rest = if is_name {
            words.get(1..)
        } else {
            words.get(2..).filter(|_| words[1] == "nc")
        };
        rest.map(|words| Self {
            words: words.to_vec(),
        })
    }

    /// Returns what the words ask for.
    ///
    /// Errors: the text to print, as nc does.
    pub fn action(&self) -> Result<Action, String> {
        if let Some((first, rest)) = self.words.split_first()
            && first == "--translate"
        {
            let lines = translate(rest)?;
            let texts: Vec<String> = lines.iter().map(Equivalent::text).collect();
            return Ok(Action::Translate(texts.concat()));
        }
        let is_long = self.words.first().is_some_and(|word| word == "--help");
        let words = if is_long { &[] } else { self.words.as_slice() };
        let flags = Flags::read(words, &OPENBSD)?;
        if is_long || flags.has('h') {
            return Ok(Action::Help(flags::help()));
        }
        let mut silent = flags.clone();
        // Reports are nc's own.
        silent.remove('v');
        Ok(Action::Run(openbsd::translate(&mut silent)?, flags))
    }
}

/// Returns what to type in the place of words that nc would understand: with nc, and with a mode.
pub(super) fn suggestion(words: &[OsString]) -> Option<String> {
    let lines = openbsd::translate(&mut Flags::read(words, &OPENBSD).ok()?).ok()?;
    let own = lines.first()?.text();
    let given: Vec<String> = words
        .iter()
        .map(|word| word.display().to_string())
        .collect();
    let (given, own) = (given.join(" "), own.lines().next()?.to_owned());
    Some(format!("type `tuplecat nc {given}`, or `{own}`"))
}

/// Translates the words of a tool, whose name may come first.
fn translate(words: &[OsString]) -> Result<Vec<Equivalent>, String> {
    let name = words.first().and_then(|word| word.to_str());
    let rest = words.get(1..).unwrap_or_default();
    match name {
        Some("ncat") => Ok(vec![others::ncat(rest)?]),
        Some("nc.traditional") => Ok(vec![others::traditional(rest)?]),
        Some("socat") => Ok(vec![socat::translate(rest)?]),
        name => {
            let is_named = matches!(name, Some("nc" | "netcat" | "nc.openbsd"));
            let words = if is_named { rest } else { words };
            openbsd::translate(&mut Flags::read(words, &OPENBSD)?)
        }
    }
}
