//! What is wrong with a command line, where the parser's own words would not help.
//! Modes have different options, so an option that one lacks is seldom misspelt: most often it is one of another mode.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::escape::Escaped;

/// The error with the text that it is about and what would be right. `command` is the program, not used before.
pub(super) fn explained(mut error: Error, words: &[OsString], mut command: Command) -> Error {
    show_controls(&mut error);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            if let Some(error) = about_the_value(&error, words, &command) {
                return error;
            }
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

/// The most letters of a wrong text that are shown: enough to know which one it is.
const SHOWN: usize = 200;

/// Escapes what a terminal would obey in the text that the error is about, as the parser would leave it out, and cuts what is long.
fn show_controls(error: &mut Error) {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        if let Some(ContextValue::String(text)) = error.get(kind) {
            let mut text = Escaped(text).to_string();
            if let Some((end, _)) = text.char_indices().nth(SHOWN) {
                text.truncate(end);
                text += "...";
            }
            error.insert(kind, ContextValue::String(text));
        }
    }
}

/// What is wrong with a word if it is the value of the option before it: one such as `-1` looks like an option of its own.
fn about_the_value(error: &Error, words: &[OsString], command: &Command) -> Option<Error> {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let place = words
        .windows(2)
        .position(|pair| is_long(&pair[0]) && starts_with(&pair[1], unknown))?;
    let (before, [option, value, after @ ..]) = words.split_at(place) else {
        return None;
    };
    let mut joined = option.clone();
    joined.push("=");
    joined.push(value);
    let words = before.iter().chain([&joined]).chain(after);
    let mut error = command.clone().try_get_matches_from(words).err()?;
    show_controls(&mut error);
    matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    )
    .then_some(error)
}

fn is_long(word: &OsString) -> bool {
    word.as_bytes().starts_with(b"--") && !word.as_bytes().contains(&b'=')
}

fn starts_with(word: &OsString, start: &str) -> bool {
    word.as_bytes().starts_with(start.as_bytes())
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

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    fn told(line: &str) -> String {
        let read = Cli::read(line.split_whitespace());
        read.map(|_| line).unwrap_err().to_string()
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_told_what_would_be_right() {
        for (line, words) in [
            (
                "tuplecat tl 0 --timeout -1",
                "'-1' for '--timeout <TIME>': expected a time",
            ),
            (
                "tuplecat tl 0 --timeout -10s -v",
                "'-10s' for '--timeout <TIME>': expected a time",
            ),
            (
                "tuplecat tl 0 --ready-fd -1",
                "'-1' for '--ready-fd <N>': expected a whole number from 0",
            ),
            ("tuplecat tl 0 --stats -1", "unexpected argument '-1' found"),
            (
                "tuplecat tl 0 --timeout=\u{1b}[31m",
                r"invalid value '\x1b[31m' for '--timeout",
            ),
            ("tuplecat tl \u{1b}[31m", r"'\x1b[31m' is"),
        ] {
            let text = told(line);
            assert!(
                text.contains(words) && !text.contains("tip:"),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn a_long_value_does_not_hide_what_is_wrong_with_it() {
        let line = format!("tuplecat tl 0 --timeout {}", "9".repeat(10_000));
        let text = told(&line);
        let words = format!("'{}...' for '--timeout <TIME>': ", "9".repeat(200));
        assert!(text.contains(&words) && text.len() < 500, "{text}");
    }
}
