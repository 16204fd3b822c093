//! What is wrong with a command line, where the parser's own words would not help.
//! Modes have different options, so an option that one lacks is seldom misspelt: most often it is one of another mode.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

/// The error with the text that it is about and what would be right. `command` is the program, not used before.
pub(super) fn explained(mut error: Error, words: &[OsString], mut command: Command) -> Error {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            // It says how to pass an option as a host, which nobody wants.
            error.remove(ContextKind::Suggested);
            command.build();
            if let Some(tip) = owners(&error, &command) {
                error.remove(ContextKind::SuggestedArg);
                let tips = ContextValue::StyledStrs(vec![tip.into()]);
                error.insert(ContextKind::Suggested, tips);
            }
            error
        }
        ErrorKind::InvalidUtf8 => {
            let Some(word) = words.iter().find(|word| word.to_str().is_none()) else {
                return error;
            };
            let word = word.as_bytes().escape_ascii();
            let text = format!("'{word}' is not valid UTF-8");
            let error = Error::raw(ErrorKind::InvalidUtf8, text);
            command.build();
            let mode = words.get(1).and_then(|word| word.to_str());
            match mode.and_then(|mode| command.find_subcommand_mut(mode)) {
                Some(mode) => error.format(mode),
                None => error.format(&mut command),
            }
        }
        _ => error,
    }
}

/// Which modes have the option.
fn owners(error: &Error, command: &Command) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let names = |arg: &clap::Arg| match option.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().map(|short| format!("-{short}")).as_ref() == Some(option),
    };
    let has = |mode: &&Command| mode.get_arguments().any(names);
    let modes: Vec<&str> = command
        .get_subcommands()
        .filter(has)
        .map(Command::get_name)
        .collect();
    (!modes.is_empty()).then(|| format!("'{option}' is an option of {}", modes.join(", ")))
}
