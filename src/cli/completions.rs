//! Completion scripts for shells: the modes, their options and the values of those.
//! The name of a value decides how shells complete it, so that no option has to.

use clap::builder::PossibleValuesParser;
use clap::{Arg, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::Cli;

/// The command line of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// Shell to print the script for
    pub shell: Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(tuplecat completions bash)              in ~/.bashrc
  tuplecat completions fish > ~/.config/fish/completions/tuplecat.fish
  tuplecat completions zsh > ~/.zfunc/_tuplecat    with ~/.zfunc in $fpath";

/// Words that options accept beside numbers, times and addresses.
const VALUE_LISTS: [(&str, &str); 4] = [
    ("delay", "original"),
    ("reply_timeout", "forever"),
    ("reply_to", "last first all none"),
    ("tos", "ef va le lowdelay throughput reliability"),
];

impl Completions {
    /// Returns the script that clap generates.
    pub fn script(&self) -> String {
        let mut program = Cli::command().mut_subcommands(|mode| mode.mut_args(completed));
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "tuplecat", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

/// Adds the kind of value to an option that accepts more than a fixed set of words.
fn completed(option: Arg) -> Arg {
    if !option.get_action().takes_values() || !option.get_possible_values().is_empty() {
        return option;
    }
    if let Some((_, words)) = VALUE_LISTS.iter().find(|(id, _)| option.get_id() == id) {
        return option.value_parser(PossibleValuesParser::new(words.split(' ')));
    }
    let names = option.get_value_names().unwrap_or_default();
    let hint = match names.first().map_or("", |name| name.as_str()) {
        "FILE" | "PATH" => ValueHint::FilePath,
        "DIR" => ValueHint::DirPath,
        "COMMAND" => ValueHint::CommandString,
        "PROGRAM" => ValueHint::CommandName,
        name if name.contains("HOST") => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    option.value_hint(hint)
}
