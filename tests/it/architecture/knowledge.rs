//! Knowledge of the parts: names that the pump does not use, events that every tap handles, and modules of a folder.
//! A new transport or option has one place, and a new event is a compile error in every tap.

use std::collections::BTreeSet;

use super::source::{Source, indent, program};
use super::{all, is_kept};

#[test]
fn the_pump_knows_neither_transports_nor_options_nor_standard_input() {
    let banned = [
        "tcp",
        "udp",
        "standard input",
        "standard output",
        "stdin",
        "stdout",
    ];
    let is_option = |line: &str| {
        let mut after = line.split("--").skip(1);
        after.any(|after| after.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    };
    let files = program().into_iter().filter(|file| file.is_in("src/pump"));
    let named = files.flat_map(|file| {
        let lines = file.lines.iter().filter(|(_, line)| {
            let text = line.to_lowercase();
            banned.iter().any(|word| text.contains(word)) || is_option(line)
        });
        let lines = lines.map(|(at, line)| format!("{}:{at}: {}", file.name(), line.trim()));
        lines.collect::<Vec<_>>()
    });
    is_kept("the pump names what it must not know", named);
}

/// A new event must be a compile error in every tap that matches on events.
#[test]
fn no_tap_swallows_an_event() {
    let mut arms = Vec::new();
    for file in program().iter().filter(|file| file.is_in("src/tap")) {
        for function in file.functions() {
            let begins = |beginnings: [&'static str; 2]| {
                let lines = function.lines.iter();
                lines.filter(move |(_, line)| {
                    let line = line.trim_start();
                    beginnings.iter().any(|text| line.starts_with(text))
                })
            };
            // The arms of one match have the same indentation.
            let margins = begins(["Event::", "| Event::"]).map(|(_, line)| indent(line));
            let margins: BTreeSet<_> = margins.collect();
            let rest = begins(["_ =>", "_ if"]).filter(|(_, line)| margins.contains(&indent(line)));
            arms.extend(rest.map(|(at, line)| format!("{}:{at}: {}", file.name(), line.trim())));
        }
    }
    is_kept("a tap has an arm for any other event", arms);
}

#[test]
fn a_folder_holds_its_own_mod_rs() {
    let files = all();
    let folders: BTreeSet<_> = files.iter().filter_map(|file| file.path.parent()).collect();
    let beside = files
        .iter()
        .filter(|file| folders.contains(file.path.with_extension("").as_path()));
    is_kept(
        "a file beside the folder of its modules",
        beside.map(Source::name),
    );
}
