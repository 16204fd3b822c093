//! House rules of the source that a program can check: sizes, layers, words, and the places of unsafe code and system calls.
//! Each test is named after its rule, and prints every offender.

use std::fs;
use std::path::Path;

mod knowledge;
mod layers;
mod sizes;
mod source;
mod words;

use source::{Source, program, sources};

/// Reads the program, its unit tests and the integration tests.
fn all() -> Vec<Source> {
    [sources("src"), sources("tests")].concat()
}

/// Checks that there are no offenders, and prints them otherwise.
#[track_caller]
fn is_kept(rule: &str, offenders: impl IntoIterator<Item = String>) {
    let offenders: Vec<String> = offenders.into_iter().collect();
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

/// Returns the code lines that break a rule, each with its place.
fn lines_of_code(file: &Source, breaks: impl Fn(&str) -> bool) -> Vec<String> {
    let lines = file.code().filter(|(_, line)| breaks(line));
    lines
        .map(|(at, line)| format!("{}:{at}: {line}", file.name()))
        .collect()
}

/// Splits a line into words; an identifier is one word.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

/// Returns a line of code without its string literals.
fn without_strings(line: &str) -> String {
    let line = line
        .replace("\\\\", "")
        .replace("\\\"", "")
        .replace("'\"'", "");
    line.split('"').step_by(2).collect()
}

#[test]
fn only_sys_waits() {
    let waits = |line: &str| {
        let line = without_strings(line);
        let calls = line.split('(').rev().skip(1);
        let mut callees = calls.map(|before| words(before).last().unwrap_or_default().to_owned());
        callees.any(|callee| ["poll", "sleep"].contains(&callee.as_str()))
            || words(&line).any(|word| word.contains("epoll"))
    };
    let files = program().into_iter().filter(|file| !file.is_in("src/sys"));
    let others = files.flat_map(|file| lines_of_code(&file, waits));
    is_kept("poll, epoll or sleep outside src/sys", others);
}

#[test]
fn unsafe_code_is_in_one_place_and_says_why_it_is_sound() {
    // In two parts, so that this file does not contain it.
    let block = concat!("unsafe", " {");
    let others = all().into_iter().filter(|file| !file.is_in("src/sys"));
    let others = others.flat_map(|file| lines_of_code(&file, |line| line.contains(block)));
    is_kept("unsafe code outside src/sys", others);
    let unsound = sources("src/sys").into_iter().filter(|file| {
        let count = |text: &str| {
            let lines = file.lines.iter();
            lines.filter(|(_, line)| line.contains(text)).count()
        };
        count(block) != count("// SAFETY:")
    });
    is_kept(
        "unsafe without a SAFETY line",
        unsound.map(|file| file.name()),
    );
}

/// Only timestamps use the time of day. Durations need a monotonic clock.
#[test]
fn only_what_is_stamped_has_the_time_of_day() {
    let clock = concat!("SystemTime", "::now");
    let stamps = ["src/tap/mod.rs", "src/framing/output.rs"];
    let files = sources("src").into_iter();
    let files = files.filter(|file| !stamps.iter().any(|stamp| file.path == Path::new(stamp)));
    let readers = files.flat_map(|file| lines_of_code(&file, |line| line.contains(clock)));
    is_kept("a clock is read that may be set at any time", readers);
    let form = concat!("format_", "rfc3339");
    let files = sources("src")
        .into_iter()
        .filter(|file| !file.is_in("src/escape.rs"));
    let writers = files.flat_map(|file| lines_of_code(&file, |line| line.contains(form)));
    is_kept("a time is written that need not have a form", writers);
}

#[test]
fn every_file_opens_with_two_lines_that_say_what_it_is_for() {
    let without = all().into_iter().filter(|file| {
        let head = file.lines.iter().take(2);
        head.filter(|(_, line)| line.starts_with("//! ")).count() < 2
    });
    is_kept(
        "a file does not open with two lines of documentation",
        without.map(|file| file.name()),
    );
}

#[test]
fn nothing_unused_is_kept() {
    let lints = [concat!("dead", "_code"), concat!("unused", "_imports")];
    let allows = |line: &str| lints.iter().any(|lint| line.contains(lint));
    let allowed = all()
        .into_iter()
        .flat_map(|file| lines_of_code(&file, allows));
    is_kept("unused code is allowed", allowed);
}

#[test]
fn the_map_of_the_source_names_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
    let map = lib.split("//! ```").nth(1).expect("a map in src/lib.rs");
    let lines = map.lines().filter_map(|line| line.strip_prefix("//! "));
    let named: Vec<&str> = lines.filter_map(|line| line.split(' ').next()).collect();
    let named = named.iter().filter(|name| !name.is_empty());
    let missing = named.clone().filter(|name| !root.join(name).exists());
    is_kept("no such file", missing.map(ToString::to_string));
    let entries = fs::read_dir(&root).unwrap();
    let entries = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let unnamed = entries.filter(|entry| {
        let is_part_of = |name: &&&str| name.split('/').next() == Some(entry);
        entry != "lib.rs" && !named.clone().any(|name| is_part_of(&name))
    });
    is_kept("not in the map", unnamed);
}
