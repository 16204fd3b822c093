//! The source as text: its files, code lines, functions, blocks and doc comments.
//! rustfmt indents all of it, so a block ends at the first line with a closing brace and the indentation of its first line.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Clone)]
pub(crate) struct Source {
    /// Its path from the root of the project.
    pub(crate) path: PathBuf,
    /// Its lines, each with its number.
    pub(crate) lines: Vec<(usize, String)>,
}

/// A function.
pub(crate) struct Function<'a> {
    /// The number of its first line.
    pub(crate) at: usize,
    /// Its lines from `fn` to the closing brace.
    pub(crate) lines: &'a [(usize, String)],
}

/// Reads every Rust file below a directory of the project.
pub(crate) fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting = vec![root.join(directory)];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().to_owned();
            let lines = text.lines().map(str::to_owned);
            let lines = (1..).zip(lines).collect();
            found.push(Source { path, lines });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no source in {directory}");
    found
}

/// Reads the program without its unit tests.
pub(crate) fn program() -> Vec<Source> {
    let files = sources("src").into_iter().filter(|file| !file.is_test());
    files.map(|file| file.without_tests()).collect()
}

impl Source {
    /// Returns its path as text.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns true if it is in this folder, or is this file.
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Returns true for a file of unit tests: `tests.rs`, or a file in a folder `tests`.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.iter();
        parts.any(|part| part == "tests" || part == "tests.rs")
    }

    /// Returns the file without its modules marked `#[cfg(test)]`.
    fn without_tests(&self) -> Self {
        let mut lines = Vec::new();
        let mut rest = self.lines.as_slice();
        while let Some((line, others)) = rest.split_first() {
            rest = others;
            match rest.first() {
                Some((_, next)) if line.1.trim() == "#[cfg(test)]" && is_module(next) => {
                    rest = &rest[block(rest)..];
                }
                _ => lines.push(line.clone()),
            }
        }
        let path = self.path.clone();
        Self { path, lines }
    }

    /// Returns the trimmed lines that are neither blank nor comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter();
        let lines = lines.map(|(number, line)| (*number, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
    }

    /// Returns its functions and methods.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let starts = self.lines.iter().enumerate();
        let starts = starts.filter(|(_, (_, line))| is_function(line));
        let functions = starts.map(|(start, (at, _))| {
            let lines = &self.lines[start..];
            let lines = &lines[..block(lines)];
            Function { at: *at, lines }
        });
        functions.collect()
    }

    /// Returns the lines of the first block that begins with this text.
    pub(crate) fn block_of(&self, beginning: &str) -> Option<&[(usize, String)]> {
        let mut lines = self.lines.iter();
        let start = lines.position(|(_, line)| line.starts_with(beginning))?;
        let lines = &self.lines[start..];
        Some(&lines[..block(lines)])
    }

    /// Returns the first line of every doc comment, without the slashes.
    pub(crate) fn documentation(&self) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        let mut is_inside = false;
        for (number, line) in &self.lines {
            let line = line.trim();
            let text = ["/// ", "//! "].map(|mark| line.strip_prefix(mark));
            let text = text.into_iter().flatten().next();
            if let Some(text) = text
                && !is_inside
            {
                found.push((*number, text));
            }
            is_inside = text.is_some() || ["///", "//!"].contains(&line);
        }
        found
    }
}

fn is_module(line: &str) -> bool {
    line.split_whitespace().any(|word| word == "mod")
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let (before, name) = line.split_once("fn ").unwrap_or(("no", ""));
    let mut before = before.split_whitespace();
    let qualifiers = ["const", "async", "unsafe", "extern", "\"C\""];
    before
        .all(|word| word.starts_with("pub") || word.starts_with("in") || qualifiers.contains(&word))
        && name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
}

/// Returns the number of leading spaces.
pub(crate) fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Returns the number of lines of the item that begins in the first line: up to its closing brace, or to the semicolon in place of a body.
fn block(lines: &[(usize, String)]) -> usize {
    let margin = indent(&lines[0].1);
    let mut has_body = false;
    // Lines of a string may look like code, so only the brace alone ends a body.
    let mut is_end = |line: &str| {
        let was_body = has_body;
        has_body |= line.ends_with('{');
        if was_body {
            line.trim() == "}"
        } else {
            line.ends_with([';', '}'])
        }
    };
    let mut outer = (1..)
        .zip(lines)
        .filter(|(_, (_, line))| !line.is_empty() && indent(line) == margin);
    let last = outer.find(|(_, (_, line))| is_end(line));
    last.map_or(lines.len(), |(count, _)| count)
}
