//! Words: the openings of doc comments, and the names of constants and modules.
//! A name has one meaning in the whole program, which is its meaning in the field.

use std::collections::BTreeMap;

use super::source::{Source, indent, program, sources};
use super::{is_kept, words};

/// Words that a doc comment does not open with. It opens with the noun that the item is, or with a verb in the third person.
const OPENINGS: [&str; 16] = [
    "What", "Whether", "Who", "Whom", "Whose", "How", "When", "Where", "Why", "As", "If", "So",
    "Because", "Although", "Unless", "Until",
];

/// The share of doc comments that may open otherwise: one in this number.
const ONE_IN: usize = 20;

/// Names that no module has, since they are not nouns, or not terms of the field.
const RIDDLES: [&str; 32] = [
    "amount", "aside", "borders", "conduit", "crowd", "cutting", "detour", "figures", "halt",
    "hurry", "inbox", "label", "late", "many", "missed", "missing", "nursery", "outbox", "parcel",
    "part", "parting", "passed", "pieces", "pitch", "straight", "tend", "terms", "turn", "unseen",
    "unwinder", "ward", "wrong",
];

/// Checks the openings of the doc comments below a directory.
#[track_caller]
fn opens_plainly(directory: &str) {
    let (mut count, mut others) = (0, Vec::new());
    for file in sources(directory) {
        for (at, text) in file.documentation() {
            count += 1;
            if OPENINGS.contains(&words(text).next().unwrap_or_default()) {
                others.push(format!("{}:{at}: {text}", file.name()));
            }
        }
    }
    if others.len() * ONE_IN > count {
        let rule = format!("{} of {count} doc comments open otherwise", others.len());
        is_kept(&rule, others);
    }
}

#[test]
fn doc_comments_open_with_a_noun_or_a_verb() {
    opens_plainly("src");
}

#[test]
fn doc_comments_of_tests_open_with_a_noun_or_a_verb() {
    opens_plainly("tests");
}

/// Returns the constants of a file with their lines, except associated constants, which the name of their type qualifies.
fn constants(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, (at, line)) in file.lines.iter().enumerate() {
        let mut parts = line.split_whitespace();
        let first = parts.find(|part| !part.starts_with("pub"));
        let name = parts.next().and_then(|name| name.strip_suffix(':'));
        if first != Some("const") || name.is_none_or(|name| name == "_") {
            continue;
        }
        let outer = file.lines[..index]
            .iter()
            .rev()
            .find(|(_, outer)| !outer.is_empty() && indent(outer) < indent(line));
        let is_of_type = outer.is_some_and(|(_, outer)| {
            let first = words(outer).find(|word| !["", "pub", "crate", "super"].contains(word));
            ["impl", "trait"].contains(&first.unwrap_or_default())
        });
        if !is_of_type {
            found.extend(name.map(|name| (*at, name.to_owned())));
        }
    }
    found
}

#[test]
fn a_constant_has_one_meaning() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in program() {
        for (at, name) in constants(&file) {
            let place = format!("{}:{at}", file.name());
            places.entry(name).or_default().push(place);
        }
    }
    places.retain(|_, places| places.len() > 1);
    let several = places.iter();
    let several = several.map(|(name, places)| format!("{name}: {}", places.join(", ")));
    is_kept("a constant's name has several definitions", several);
}

#[test]
fn modules_are_named_by_nouns_of_the_field() {
    let riddles = sources("src").into_iter().filter(|file| {
        let path = file.path.with_extension("");
        let mut parts = path.iter();
        parts.any(|part| RIDDLES.iter().any(|riddle| part == *riddle))
    });
    is_kept(
        "a module's name is a riddle",
        riddles.map(|file| file.name()),
    );
}
