//! The layers of the program, and their dependencies: a layer uses lower layers only.
//! Each folder and file in `src` is a layer; `main.rs` and `lib.rs` may use all.

use super::is_kept;
use super::source::{Source, program};

/// A layer, and the lower layers that it may use.
type Layer = (&'static str, &'static [&'static str]);

/// Returns the layers, from the lowest to the highest.
fn table() -> Vec<Layer> {
    vec![
        ("escape", &[]),
        ("sys", &["escape"]),
        ("flow", &[]),
        ("batch", &["flow"]),
        ("exit", &["sys"]),
        ("tap", &["batch", "escape", "exit", "flow", "sys"]),
        ("address", &["exit", "flow", "tap"]),
        ("framing", &["batch", "escape", "exit", "flow"]),
        ("pump", &["batch", "exit", "flow", "sys", "tap"]),
        (
            "link",
            &[
                "address", "batch", "exit", "flow", "framing", "pump", "sys", "tap",
            ],
        ),
        (
            "local",
            &[
                "batch", "escape", "exit", "flow", "framing", "pump", "sys", "tap",
            ],
        ),
        (
            "cli",
            &["address", "escape", "exit", "flow", "framing", "local"],
        ),
        ("socket", &["address", "cli", "exit", "flow", "sys", "tap"]),
        (
            "run",
            &[
                "address", "batch", "cli", "exit", "flow", "framing", "link", "local", "pump",
                "socket", "sys", "tap",
            ],
        ),
        (
            "modes",
            &[
                "address", "cli", "exit", "flow", "link", "local", "pump", "run", "socket", "sys",
                "tap",
            ],
        ),
    ]
}

/// Returns the entries of the table that are not lower than their layer.
fn arrows_up(table: &[Layer]) -> Vec<String> {
    let rows = table.iter().enumerate();
    let arrows = rows.flat_map(|(row, (layer, below))| {
        let is_below = move |used: &str| table[..row].iter().any(|(name, _)| *name == used);
        let arrows = below.iter().filter(move |used| !is_below(used));
        arrows.map(move |used| format!("{layer} -> {used}"))
    });
    arrows.collect()
}

/// Returns the places that use a layer without permission, and the files without a layer.
fn offences(table: &[Layer], files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let own = layer_of(file);
        if ["main", "lib"].contains(&own.as_str()) {
            continue;
        }
        let Some((_, below)) = table.iter().find(|(layer, _)| *layer == own) else {
            found.push(format!("{} is in no layer", file.name()));
            continue;
        };
        for (at, used) in uses(file) {
            if used != own && !below.contains(&used.as_str()) {
                found.push(format!("{}:{at}: {own} -> {used}", file.name()));
            }
        }
    }
    found
}

/// Returns the layer of a file: the folder below `src`, or the file itself.
fn layer_of(file: &Source) -> String {
    let path = file.path.with_extension("");
    let part = path.iter().nth(1).expect("a path below src");
    part.to_string_lossy().into_owned()
}

/// Returns the layers that the code names after `crate::`, alone or in braces, with their lines.
fn uses(file: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for (at, line) in file.code() {
        if is_inside {
            is_inside = line != "};";
            found.extend(name(line).map(|name| (at, name)));
        }
        for used in line.split("crate::").skip(1) {
            is_inside |= used == "{";
            found.extend(name(used).map(|name| (at, name)));
        }
    }
    found
}

/// Returns the first name of a path.
fn name(path: &str) -> Option<String> {
    let end = path.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    let name = &path[..end.unwrap_or(path.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

#[test]
fn no_arrow_goes_up_between_the_layers() {
    let (table, used) = (table(), program());
    is_kept("the table allows an arrow up", arrows_up(&table));
    is_kept(
        "a layer uses another one without permission",
        offences(&table, &used),
    );
}
