//! House rules of the source that a program can check: documentation, size, and the places of unsafe code and clocks.
//! Each test prints the files that break its rule.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a directory of the project, with its content.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting = vec![root.join(directory)];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root).unwrap().to_owned(), text));
        }
    }
    assert!(!found.is_empty(), "no source in {directory}");
    found
}

fn all() -> Vec<(PathBuf, String)> {
    [sources("src"), sources("tests")].concat()
}

/// Checks every file, and names all that fail.
#[track_caller]
fn holds(files: &[(PathBuf, String)], rule: &str, is_kept: impl Fn(&Path, &str) -> bool) {
    let broken: Vec<_> = files
        .iter()
        .filter(|(path, text)| !is_kept(path, text))
        .map(|(path, text)| format!("{} ({} lines)", path.display(), text.lines().count()))
        .collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn the_pump_knows_neither_transport() {
    let mut files = sources("src/pump");
    // Its own tests need links, and links have names.
    files.retain(|(path, _)| !path.starts_with("src/pump/tests"));
    holds(&files, "the pump names a transport", |_, text| {
        let text = text.to_lowercase();
        !text.contains("tcp") && !text.contains("udp")
    });
}

#[test]
fn unsafe_code_is_in_one_place_and_says_why_it_is_sound() {
    // In two parts, so that this file does not hold what it looks for.
    let block = concat!("unsafe", " {");
    holds(&all(), "unsafe code outside src/sys", |path, text| {
        path.starts_with("src/sys") || !text.contains(block)
    });
    let dangerous = sources("src/sys");
    holds(&dangerous, "unsafe without a SAFETY line", |_, text| {
        text.matches(block).count() == text.matches("// SAFETY:").count()
    });
}

/// Whatever else takes time is measured by a clock that nobody sets.
#[test]
fn only_what_is_stamped_has_the_time_of_day() {
    let clock = concat!("SystemTime", "::now");
    let stamps = ["src/tap/mod.rs", "src/framing/output.rs"];
    let rule = "a clock is read that may be set at any time";
    holds(&sources("src"), rule, |path, text| {
        stamps.iter().any(|stamp| path.ends_with(stamp)) || !text.contains(clock)
    });
    let form = concat!("format_", "rfc3339");
    let rule = "a time is written that need not have a form";
    holds(&sources("src"), rule, |path, text| {
        path.ends_with("src/escape.rs") || !text.contains(form)
    });
}

#[test]
fn every_file_opens_with_two_lines_that_say_what_it_is_for() {
    holds(
        &all(),
        "a file does not open with two lines of documentation",
        |_, text| {
            text.lines()
                .take(2)
                .filter(|line| line.starts_with("//! "))
                .count()
                == 2
        },
    );
}

#[test]
fn no_file_has_two_ideas_in_it() {
    // Unit tests at the foot of a file do not count; a list of cases may be longer than what it is about.
    holds(&all(), "a file is too long", |path, text| {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let is_list = path.starts_with("tests") || path.ends_with("tests.rs");
        code.lines().count() <= if is_list { 600 } else { 500 }
    });
}
