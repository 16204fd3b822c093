//! Completion scripts, in the shells that they are for: modes, options and values.
//! The tests drive bash and zsh through a terminal; fish prints its suggestions.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::common::*;

/// A line as typed, and the completed form of its last word.
type Line = (&'static str, &'static str);

/// Modes, options, values and files are completed in every shell.
const LINES: [Line; 7] = [
    ("tuplecat tcp-l", "tcp-listen"),
    ("tuplecat udp-s", "udp-sendto"),
    ("tuplecat tl --hex-f", "--hex-file"),
    ("tuplecat tcp-listen --on-stdin-eof sh", "shutdown"),
    ("tuplecat udp-bind --reply-to fi", "first"),
    ("tuplecat us --pcap some-f", "some-file"),
    ("tuplecat tl -k --out-dir some-d", "some-dir"),
];

/// The script for bash does not split words at an equals sign; the one for fish has no positional arguments.
const WITH_EQUALS: Line = ("tuplecat tc --on-peer-eof=wa", "--on-peer-eof=wait");
const POSITIONAL: Line = ("tuplecat completions fi", "fish");
const HOST: Line = ("tuplecat tcp-connect -q peer-o", "peer-one.example");

/// Returns the lines that a shell completes.
fn lines(more: &[Line]) -> Vec<Line> {
    [&LINES, more].concat()
}

/// Prepares a directory with the script for a shell, files to complete, and a known host.
fn prepared(shell: &str) -> Option<tempfile::TempDir> {
    if !is_installed(shell) {
        skip(&format!("{shell} is not installed"));
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| fs::write(directory.path().join(name), text).unwrap();
    let script = tuplecat("completions").arg(shell).run().exits(0);
    write("script", &script.out);
    write("some-file", b"");
    for name in ["some-dir", ".ssh"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    write(".ssh/known_hosts", b"peer-one.example ssh-ed25519 AAAA\n");
    Some(directory)
}

/// Returns a line with its last word completed.
fn complete(line: &str, word: &str) -> String {
    let (before, _) = line.rsplit_once(' ').unwrap();
    format!("{before} {word}")
}

/// Types each line and a tab at a terminal, and waits until it is complete.
fn drive(shell: &str, words: &str, setup: &str, home: &Path, lines: &[Line]) {
    let (mut person, process) = terminal();
    let screen = Capture::start(person.try_clone().unwrap());
    let duplicate = || Output::To(process.try_clone().unwrap().into());
    let launch = program(shell, words).env("TERM", "dumb");
    let launch = launch.env("HOME", home.to_str().unwrap());
    let launch = launch.stdout(duplicate()).stderr(duplicate());
    let _running = launch.stdin(Input::From(process.into())).start();
    writeln!(person, "cd '{}'; {setup}; echo set''up", home.display()).unwrap();
    screen.wait_for("setup");
    for (line, word) in lines {
        // Control-U clears the line.
        write!(person, "{line}\t").unwrap();
        screen.wait_for(&complete(line, word));
        write!(person, "\x15").unwrap();
    }
}

#[test]
fn bash_completes() {
    if let Some(home) = prepared("bash") {
        let setup = "PS1=; source ./script";
        let lines = lines(&[POSITIONAL]);
        drive("bash", "--norc --noprofile -i", setup, home.path(), &lines);
    }
}

#[test]
fn zsh_completes() {
    if let Some(home) = prepared("zsh") {
        let setup = "unset zle_bracketed_paste; PS1=; autoload -U compinit; compinit -D -u; \
                     source ./script; compdef _tuplecat tuplecat";
        let lines = lines(&[WITH_EQUALS, POSITIONAL, HOST]);
        drive("zsh", "-f -i", setup, home.path(), &lines);
    }
}

#[test]
fn fish_completes() {
    let Some(home) = prepared("fish") else {
        return;
    };
    for (line, word) in lines(&[WITH_EQUALS]) {
        let command = format!("cd $HOME; source ./script; complete -C '{line}'");
        let shell = program("fish", "--no-config -c").arg(&command);
        let done = shell.env("HOME", home.path().to_str().unwrap()).run();
        let text = done.exits(0).text();
        let mut offers = text.lines().filter_map(|line| line.split('\t').next());
        assert!(
            offers.any(|offer| offer.trim_end_matches('/') == word),
            "{line}:\n{text}"
        );
    }
}

/// A free text is not completed to a file name.
#[test]
fn free_text_is_not_completed() {
    let Some(home) = prepared("fish") else {
        return;
    };
    for line in ["tuplecat tl --send some", "tuplecat tc --timeout some"] {
        let command = format!("cd $HOME; source ./script; complete -C '{line}'");
        let shell = program("fish", "--no-config -c").arg(&command);
        let done = shell.env("HOME", home.path().to_str().unwrap()).run();
        assert_eq!(done.exits(0).text(), "", "{line}");
    }
}
