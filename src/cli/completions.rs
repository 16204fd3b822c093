//! Completion scripts for shells: the modes, their options, and what the values of those may be.
//! The name of a value says what completes it, so that no option has to say so by itself.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::Cli;

/// The command line of `completions`.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell to write for
    pub shell: Shell,
}

/// Words that options know besides numbers, times and addresses.
const WORDS: [(&str, &[&str]); 4] = [
    ("delay", &["original"]),
    ("reply_timeout", &["forever"]),
    ("reply_to", &["last", "first", "all", "none"]),
    (
        "tos",
        &["ef", "va", "le", "lowdelay", "throughput", "reliability"],
    ),
];

impl Completions {
    /// The script.
    #[must_use]
    pub fn script(&self) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program(), "tuplecat", &mut script);
        let script = String::from_utf8_lossy(&script);
        match self.shell {
            Shell::Bash => with_hosts(&script),
            Shell::Fish => script.into_owned() + FISH_WORDS,
            _ => script.into_owned(),
        }
    }
}

/// The program, with what completes each value.
fn program() -> Command {
    let mut program = Cli::command();
    // Options are described to it when it comes to them.
    program.build();
    let modes = program.get_subcommands().map(Command::get_name);
    let modes: Vec<String> = modes.map(str::to_owned).collect();
    modes.into_iter().fold(program, |program, mode| {
        program.mut_subcommand(mode, |mode| mode.mut_args(completed))
    })
}

fn completed(option: Arg) -> Arg {
    if !option.get_action().takes_values() || !option.get_possible_values().is_empty() {
        return option;
    }
    if let Some((_, words)) = WORDS.iter().find(|(id, _)| option.get_id() == id) {
        return option.value_parser(PossibleValuesParser::new(*words));
    }
    let names = option.get_value_names().unwrap_or_default();
    let hint = match names.first().map_or("", |name| name.as_str()) {
        "FILE" => ValueHint::FilePath,
        "DIR" => ValueHint::DirPath,
        "HOST" => ValueHint::Hostname,
        "COMMAND" => ValueHint::CommandString,
        "PROGRAM" => ValueHint::CommandName,
        // Where to bind, connect or send to.
        _ if option.is_positional() => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    option.value_hint(hint)
}

/// What the script for fish lacks: words that belong to no option, for which it would offer files.
const FISH_WORDS: &str = "\
complete -c tuplecat -n \"__fish_tuplecat_using_subcommand tcp-listen tl tcp-connect tc udp-bind ub udp-sendto us\" \
-f -a \"(__fish_print_hostnames)\"
complete -c tuplecat -n \"__fish_tuplecat_using_subcommand completions\" -f -a \"bash elvish fish powershell zsh\"
";

/// What the script for bash offers where it knows nothing better: files.
const FILES: &str = "$(compgen -f \"${cur}\")";

/// Lets the script for bash complete the names of hosts and commands as well, for which it has no words of its own.
fn with_hosts(script: &str) -> String {
    let (mut result, mut is_mode, mut option) = (String::new(), false, "");
    for line in script.lines() {
        let word = line.trim();
        let label = word.strip_suffix(')');
        if let Some(label) = label.filter(|label| !label.contains('(')) {
            if label.starts_with("tuplecat") {
                is_mode = label.contains("tcp") || label.contains("udp");
            }
            option = label;
        }
        let line = match option {
            "--source" => line.replace(FILES, "$(compgen -A hostname -- \"${cur}\")"),
            "--exec" => line.replace(FILES, "$(compgen -c -- \"${cur}\")"),
            _ if is_mode => line.replace(
                "compgen -W \"${opts}\"",
                "compgen -A hostname -W \"${opts}\"",
            ),
            _ => line.to_owned(),
        };
        result.push_str(&line);
        result.push('\n');
        // An option and its value may be one word, which bash takes apart.
        if word == "prev=\"$3\"" {
            result.push_str("    [[ ${prev} == = ]] && prev=\"${COMP_WORDS[COMP_CWORD-2]}\"\n");
            result.push_str("    [[ ${cur} == = ]] && cur=\n");
        }
    }
    result
}
