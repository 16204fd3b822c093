//! Libraries of the program: each has one version, and a permissive licence.
//! The list is cargo's resolution of the lock file for this machine, without a network.

use std::collections::HashMap;
use std::process::Command;

/// Licences that allow the program to have any licence.
const LICENCES: [&str; 4] = ["MIT", "Apache-2.0", "Unicode-3.0", "Unlicense"];

/// Returns the packages that the program is built from: name, version, licence. The edges are those of cargo-tree(1).
fn packages(edges: &str) -> Vec<[String; 3]> {
    let words = "tree --offline --locked --prefix none --format {p}|{l} --edges";
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(words.split(' ')).arg(edges);
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut packages: Vec<_> = text.lines().map(package).collect();
    packages.sort();
    packages.dedup();
    assert!(packages.len() > 20, "{packages:?}");
    packages
}

/// Parses `NAME vVERSION …|LICENCE`, with a star for a package that has occurred before.
fn package(line: &str) -> [String; 3] {
    let (package, licence) = line.split_once('|').unwrap();
    let mut words = package.split(' ');
    let licence = licence.trim_end_matches(" (*)");
    [words.next().unwrap(), words.next().unwrap(), licence].map(str::to_owned)
}

/// Macros run in the compiler and are no part of the program.
#[test]
fn every_library_has_one_version() {
    let mut versions: HashMap<String, Vec<String>> = HashMap::new();
    for [name, version, _] in packages("normal,no-proc-macro") {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:?}");
}

#[test]
fn every_licence_is_one_of_the_permissive() {
    // One of the alternatives is enough, and all its parts must be allowed.
    let is_allowed = |licence: &str| {
        licence.split(" AND ").all(|part| {
            // Older packages have a slash in the place of the word.
            let part = part.trim_matches(['(', ')']).replace('/', " OR ");
            part.split(" OR ").any(|choice| LICENCES.contains(&choice))
        })
    };
    for [name, _, licence] in packages("normal") {
        assert!(is_allowed(&licence), "{name}: '{licence}'");
    }
    assert!(!is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-3.0-only"));
}
