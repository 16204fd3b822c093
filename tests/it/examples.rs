//! Examples of the man pages and the README: the program accepts every command line in them.
//! None is run. Names and addresses are those reserved for documentation (RFC 5737, RFC 3849, RFC 2606).

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use tuplecat::cli::Cli;

#[test]
fn every_example_is_a_valid_command_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("man")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for command in examples(&text) {
            count += 1;
            if let Err(error) = Cli::read(&command) {
                panic!("{}: {command:?}\n{error}", path.display());
            }
        }
    }
    assert!(count > 30, "only {count} examples found");
}

#[test]
fn help_has_two_lengths_and_ends_with_examples() {
    let mut program = Cli::command();
    program.build();
    assert_fits(&program);
    for command in program.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        assert_fits(command);
        let (short, long) = (command.render_help(), command.render_long_help());
        let [short, long] = [short, long].map(|text| text.to_string());
        let [few, many] = [&short, &long].map(|text| text.lines().count());
        assert!(many > few, "{name}: {few} lines, and {many}");
        for text in [short, long] {
            let (_, examples) = text.split_once("\nExamples:\n").expect(&name);
            for line in examples.trim_end().lines() {
                let start = line.find("tuplecat ").expect("an example");
                // Its description stands behind it.
                let (line, _) = line[start..]
                    .split_once("  ")
                    .unwrap_or((&line[start..], ""));
                if let Err(error) = Cli::read(shell_words(line)) {
                    panic!("{name}: {line}\n{error}");
                }
            }
        }
    }
}

/// Checks that tables and examples fit into 80 columns; a narrower terminal would wrap them anywhere.
fn assert_fits(command: &Command) {
    let text = command.get_after_help().unwrap().to_string();
    let longest = text
        .lines()
        .max_by_key(|line| line.chars().count())
        .unwrap();
    assert!(longest.chars().count() <= 80, "{longest}");
}

/// Returns the command lines of the program in displays of a page, code blocks of Markdown, and table rows.
fn examples(text: &str) -> Vec<Vec<String>> {
    let program = Cli::command();
    let is_mode = |word: &String| program.find_subcommand(word).is_some();
    let (mut is_inside, mut shown) = (false, String::new());
    for line in text.lines() {
        match line {
            _ if line.starts_with("```") => is_inside = !is_inside,
            _ if line.starts_with(".Bd -literal") => is_inside = true,
            _ if line.starts_with(".Ed") => is_inside = false,
            _ if is_inside || line.starts_with(".Dl") || line.starts_with('|') => {
                shown += line;
                shown.push('\n');
            }
            _ => {}
        }
    }
    let shown = shown.replace(r"\e", r"\").replace(r"\&", "");
    let shown = shown.replace(r"\(dq", "\"");
    let shown = shown.replace("\\\n", "");
    let starts = shown.match_indices("tuplecat ").map(|(at, _)| &shown[at..]);
    let commands = starts.map(shell_words);
    commands
        .filter(|words| words.get(1).is_some_and(is_mode))
        .collect()
}

/// Splits the simple command at the beginning of a text into words, up to a redirection or its end. A variable becomes an endpoint
/// or `$port`.
fn shell_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match letter {
            _ if quote == Some(letter) => quote = None,
            '\'' | '"' if quote.is_none() => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ' ' if quote.is_none() => words.extend(word.take()),
            '<' | '>' if quote.is_none() => {
                // A number right before a redirection is a descriptor.
                word = None;
                break;
            }
            '\n' | '|' | '&' | ';' | ')' | '`' | '\\' if quote.is_none() => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    for word in words.iter_mut().filter(|word| word.starts_with('$')) {
        let value = if word == "$port" { "9" } else { "localhost:9" };
        word.replace_range(.., value);
    }
    words
}
