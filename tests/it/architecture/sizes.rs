//! Size limits: lines of the program, of a file and of a function, and methods of the traits of the pump.
//! Each limit is a constant here, and a test prints what exceeds it.

use std::path::Path;

use super::is_kept;
use super::source::{Source, program, sources};

/// The limit on code lines of the program.
const MOST_LINES: usize = 25_000;

/// The limit on files of the program.
const MOST_FILES: usize = 160;

/// The fewest lines of a file.
const LEAST_LINES: usize = 60;

/// The limit on lines of a file, without unit tests.
const MOST_LINES_OF_FILE: usize = 500;

/// The limit on lines of a file of integration tests.
const MOST_LINES_OF_TESTS: usize = 600;

/// The limit on lines of a function.
const MOST_LINES_OF_FUNCTION: usize = 60;

/// Files that may be shorter, each with its reason. So may `main.rs` and every `mod.rs`.
const SHORT_FILES: [(&str, &str); 1] = [("src/lib.rs", "the list of modules")];

#[test]
fn the_program_is_small() {
    let files = program();
    let count = |file: &Source| file.code().count();
    let lines: usize = files.iter().map(count).sum();
    let list = files
        .iter()
        .map(|file| format!("{:5} {}", count(file), file.name()));
    let list = list.collect::<Vec<_>>().join("\n");
    assert!(lines <= MOST_LINES, "{lines} lines of code:\n{list}");
    assert!(files.len() <= MOST_FILES, "{} files:\n{list}", files.len());
}

#[test]
fn no_file_is_too_short() {
    let mut files = sources("src");
    files.retain(|file| !file.is_test() && file.lines.len() < LEAST_LINES);
    let has_reason = |file: &Source| SHORT_FILES.iter().any(|(path, _)| file.name() == *path);
    let is_list = |file: &Source| file.path.ends_with("mod.rs") || file.path.ends_with("main.rs");
    let short = files
        .iter()
        .filter(|file| !is_list(file) && !has_reason(file));
    let short = short.map(|file| format!("{}: {} lines", file.name(), file.lines.len()));
    is_kept("a file is too short for a subject of its own", short);
    let is_short = |path: &str| files.iter().any(|file| file.name() == path);
    let needless = SHORT_FILES.iter().filter(|(path, _)| !is_short(path));
    let needless = needless.map(|(path, _)| (*path).to_owned());
    is_kept("an exception is not needed", needless);
}

#[test]
fn no_file_is_too_long() {
    let tests = sources("tests").into_iter();
    let lists = tests.map(|file| (file, MOST_LINES_OF_TESTS));
    let files = program().into_iter().map(|file| (file, MOST_LINES_OF_FILE));
    let long = files
        .chain(lists)
        .filter(|(file, most)| file.lines.len() > *most);
    let long = long.map(|(file, _)| format!("{}: {} lines", file.name(), file.lines.len()));
    is_kept("a file has more than one subject", long);
}

#[test]
fn no_function_is_too_long() {
    let mut long = Vec::new();
    for file in program() {
        let functions = file.functions().into_iter();
        let functions = functions.filter(|function| function.lines.len() > MOST_LINES_OF_FUNCTION);
        long.extend(functions.map(|function| {
            let (at, lines) = (function.at, function.lines.len());
            format!(
                "{}:{at}: {lines} lines: {}",
                file.name(),
                function.lines[0].1.trim()
            )
        }));
    }
    is_kept("a function is too long", long);
}

#[test]
fn the_traits_of_the_pump_are_small() {
    let files = program();
    let file = files
        .iter()
        .find(|file| file.path == Path::new("src/pump/end.rs"));
    let file = file.expect("src/pump/end.rs");
    for (start, most) in [("pub trait End", 7), ("pub trait Link", 4)] {
        let lines = file.block_of(start).expect("the trait");
        let methods = lines.iter().map(|(_, line)| line.trim());
        let methods = methods
            .filter(|line| line.starts_with("fn "))
            .map(str::to_owned);
        let methods: Vec<_> = methods.collect();
        if methods.len() > most {
            is_kept(&format!("{start} has more than {most} methods"), methods);
        }
    }
}
