//! Tips that follow the parser's errors: the mode that has an option, or the word that caused the error.
//! They come from the context of the error and the words themselves; nothing is parsed again.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

use super::{nc, values};
use crate::escape::Escaped;

/// Options of nc and ncat that no mode has, with their equivalents.
const NETCAT: [(&str, &str); 14] = [
    ("-l", "use tcp-listen or udp-bind"),
    ("-p", "write PORT alone to listen, --source-port to connect"),
    ("-c", "use --shell"),
    ("-i", "use --delay"),
    ("-o", "use --hex-file"),
    ("-s", "use --source to connect, HOST PORT to listen"),
    ("-u", "use udp-bind or udp-sendto"),
    ("-W", "use --count, or --replies"),
    ("-w", "use --connect-timeout, --idle-timeout or --timeout"),
    ("-X", "use --proxy"),
    ("-z", "use tcp-connect --probe"),
    ("-N", "leave it out: TCP sends a FIN at the end of input"),
    ("-e", "use --exec"),
    (
        "-U",
        "use unix-listen, unix-connect, unix-bind or unix-sendto",
    ),
];

/// Options, or the first of a group, with the options that need them.
const NEEDED: [(&str, &str); 8] = [
    (
        "--keep-open",
        "--max-clients --over-limit --stdin-to --client-timeout --prefix --out-dir --broker",
    ),
    ("--exec", "--max-children"),
    ("--probe", "--any"),
    ("--retry-for", "--retry-on"),
    ("--send", "--retry-for"),
    ("--idle-timeout", "--idle-ok"),
    ("--events", "--events-payload"),
    ("--hex", "--hex-width --hex-limit"),
];

/// Adds to an error the tip that fits it. `command` is the whole program, `words` its command line.
pub(super) fn explained(mut error: Error, words: &[OsString], command: &Command) -> Error {
    escape_context(&mut error);
    let foreign = (words.get(1))
        .filter(|word| command.find_subcommand(word).is_none())
        .and_then(|_| nc::suggestion(&words[1..]));
    let tip = match error.kind() {
        ErrorKind::UnknownArgument if foreign.is_some() => {
            error.remove(ContextKind::SuggestedArg);
            foreign
        }
        ErrorKind::UnknownArgument => {
            // clap proposes to pass the option as HOST.
            error.remove(ContextKind::Suggested);
            let option = context(&error, ContextKind::InvalidArg);
            let tip = option.and_then(|option| modes_with(option, command));
            if tip.is_some() {
                error.remove(ContextKind::SuggestedArg);
            }
            tip
        }
        ErrorKind::InvalidSubcommand => keep_best_suggestion(&mut error, foreign),
        ErrorKind::InvalidUtf8 => words
            .iter()
            .find(|word| word.to_str().is_none())
            .map(|word| format!("'{}' is not valid UTF-8", word.as_bytes().escape_ascii())),
        ErrorKind::MissingRequiredArgument => needed_by(&error, words),
        ErrorKind::TooManyValues if separates_keepalive(words) => {
            Some(SEPARATE_KEEPALIVE.to_owned())
        }
        ErrorKind::TooManyValues => context(&error, ContextKind::InvalidArg)
            .filter(|argument| argument.starts_with("<[HOST]"))
            .map(|_| "write '*' in quotes, or the shell replaces it".to_owned()),
        _ => None,
    };
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

fn context(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// The maximum length of a quoted word, in characters.
const MAX_QUOTED: usize = 200;

/// Escapes control characters in quoted words, which clap would leave out, and truncates long words.
fn escape_context(error: &mut Error) {
    let kinds = [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ];
    for kind in kinds {
        if let Some(text) = context(error, kind) {
            let mut text = Escaped(text).to_string();
            if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED) {
                text.truncate(end);
                text += "...";
            }
            error.insert(kind, ContextValue::String(text));
        }
    }
}

/// Names the modes that have an option, or the equivalent of an option of nc.
fn modes_with(option: &str, command: &Command) -> Option<String> {
    let is_it = |arg: &Arg| match option.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => arg
            .get_short()
            .is_some_and(|short| option == format!("-{short}")),
    };
    let modes = command.get_subcommands();
    let modes = modes.filter(|mode| mode.get_arguments().any(is_it));
    let modes: Vec<&str> = modes.map(Command::get_name).collect();
    if !modes.is_empty() {
        return Some(format!("'{option}' is an option of {}", modes.join(", ")));
    }
    let (_, equivalent) = NETCAT.iter().find(|(flag, _)| *flag == option)?;
    Some(format!("for '{option}' of nc, {equivalent}"))
}

/// Keeps the most similar mode, which clap puts last. Without one, returns a tip about modes.
fn keep_best_suggestion(error: &mut Error, foreign: Option<String>) -> Option<String> {
    let kind = ContextKind::SuggestedSubcommand;
    if let Some(ContextValue::Strings(mut similar)) = error.remove(kind)
        && let Some(best) = similar.pop()
    {
        error.insert(kind, ContextValue::String(best));
        return None;
    }
    let tip = "a mode comes first, such as 'tcp-connect HOST PORT'";
    foreign.or_else(|| Some(tip.to_owned()))
}

/// Names the option that needs the missing one, or `--exec` if it has taken the endpoint.
fn needed_by(error: &Error, words: &[OsString]) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_given = |option: &str| own(words).iter().any(|word| is_option(word, option));
    let is_missing = |option: &str| {
        let mut names = missing.iter().map(|name| name.trim_start_matches('<'));
        names.any(|name| name.split([' ', '|']).next() == Some(option))
    };
    let mut options = NEEDED
        .iter()
        .filter(|(option, _)| is_missing(option))
        .flat_map(|(_, options)| options.split(' '));
    match options.find(|option| is_given(option)) {
        Some(option) => Some(format!("'{option}' needs it")),
        None if is_given("--exec") => {
            Some("--exec takes all words that follow; write it last".to_owned())
        }
        None => None,
    }
}

/// The error of [`separates_keepalive`].
pub(super) const SEPARATE_KEEPALIVE: &str =
    "the value of --keepalive follows '=', as in --keepalive=30,5,3";

/// Returns true if a word that looks like the value of `--keepalive` follows it without '='.
pub(super) fn separates_keepalive(words: &[OsString]) -> bool {
    let is_value = |word: &str| word.contains(',') && values::keepalive(word).is_ok();
    let mut pairs = own(words).windows(2);
    pairs.any(|pair| pair[0] == "--keepalive" && pair[1].to_str().is_some_and(is_value))
}

/// Returns the words up to `--exec`, after which they belong to a program.
fn own(words: &[OsString]) -> &[OsString] {
    let exec = words.iter().position(|word| is_option(word, "--exec"));
    exec.map_or(words, |exec| &words[..=exec])
}

/// Returns true if a word is this option, with or without a value after '='.
fn is_option(word: &OsString, option: &str) -> bool {
    word.to_str().and_then(|word| word.split('=').next()) == Some(option)
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    fn error(line: &str) -> String {
        let read = Cli::read(line.split_whitespace());
        read.map(|_| line).unwrap_err().to_string()
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_checked_as_a_value() {
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
            let text = error(line);
            assert!(
                text.contains(words) && !text.contains("tip:"),
                "{line}: {text}"
            );
        }
    }

    #[test]
    fn a_long_value_is_truncated() {
        let line = format!("tuplecat tl 0 --timeout {}", "9".repeat(10_000));
        let text = error(&line);
        let words = format!("'{}...' for '--timeout <TIME>': ", "9".repeat(200));
        assert!(text.contains(&words) && text.len() < 500, "{text}");
    }
}
