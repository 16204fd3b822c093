//! `nc --translate`: the command that does the same, quoted, and what is different.
//! The table of README.md is tested against it.

use pretty_assertions::assert_eq;

use super::*;

/// Returns the lines of a translation.
#[track_caller]
fn translated(words: &str) -> Vec<String> {
    let done = tuplecat("nc --translate").args(words).run().exits(0);
    assert_eq!(done.err, "");
    done.text().lines().map(str::to_owned).collect()
}

#[test]
fn the_command_is_followed_by_its_differences() {
    let lines = translated("-l 9000");
    let expected = [
        "tuplecat tcp-listen '*' 9000",
        "# accepts IPv6 as well: -4",
        "# a second listener at the same port fails, and shares nothing",
        "# sends a FIN at the end of stdin, as nc does with -N: --on-stdin-eof keep",
        "# goes on sending when the peer has finished: --on-peer-eof quit",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn flags_become_options() {
    for (words, command) in [
        ("-N host 80", "tcp-connect host 80"),
        ("nc -N host 80", "tcp-connect host 80"),
        ("-lk -p 80", "tcp-listen -k '*' 80"),
        ("-4l -s ::1 -p 80", "tcp-listen -4 ::1 80"),
        (
            "-zv host 20-30 80",
            "tcp-connect --report events --probe host 20-30,80",
        ),
        (
            "-uz host 53",
            "udp-sendto --probe --reply-timeout 3 host 53",
        ),
        ("-q 3 host 80", "tcp-connect --quit-after 3 host 80"),
        (
            "-T lowcost -w 3 host 80",
            "tcp-connect --tos 0x02 --connect-timeout 3 --idle-timeout 3 host 80",
        ),
        (
            "-x proxy host 80",
            "tcp-connect --proxy socks5h://proxy:1080 host 80",
        ),
        (
            "-X 4 -x proxy:9 host 80",
            "tcp-connect --proxy socks4://proxy:9 host 80",
        ),
        (
            "-Xconnect -Pme -x [::1] host 80",
            "tcp-connect --proxy 'http://me@[::1]:3128' host 80",
        ),
        ("-U path", "unix-connect path"),
        ("-lU @name", "unix-listen @name"),
    ] {
        assert_eq!(
            translated(words)[0],
            format!("tuplecat {command}"),
            "{words}"
        );
    }
    // Without -z each port has a run of its own.
    let lines = translated("-N host 2-3 x11");
    let commands = lines.iter().filter(|line| line.starts_with("tuplecat "));
    let expected = ["2", "3", "x11"].map(|port| format!("tuplecat tcp-connect host {port}"));
    assert_eq!(
        commands.collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[test]
fn other_tools_are_translated() {
    for (words, command) in [
        ("ncat -l 9000", "tcp-listen '*' 9000"),
        (
            "ncat -lk --allow 10.0.0.0/8 9000",
            "tcp-listen -k --allow 10.0.0.0/8 '*' 9000",
        ),
        (
            "ncat --sh-exec=date -l 9000",
            "tcp-listen --shell date '*' 9000",
        ),
        ("ncat host", "tcp-connect host 31337"),
        (
            "ncat -u --send-only host 9",
            "udp-sendto --reply-timeout 0 host 9",
        ),
        (
            "ncat --proxy p:1 --proxy-type socks4 host 9",
            "tcp-connect --proxy socks4a://p:1 host 9",
        ),
        ("nc.traditional -l -p 9000", "tcp-listen '*' 9000"),
        (
            "nc.traditional -q 1 -w 3 host 9",
            "tcp-connect --quit-after 1 --connect-timeout 3 host 9",
        ),
        (
            "nc.traditional -l -p 9000 -e /bin/sh",
            "tcp-listen 9000 --exec /bin/sh",
        ),
        (
            "socat -v TCP-LISTEN:8080,fork TCP:db:5432",
            "tcp-listen -x -k --to db:5432 '*' 8080",
        ),
        (
            "socat TCP4-LISTEN:1,reuseaddr,bind=127.0.0.1 -",
            "tcp-listen -4 127.0.0.1 1",
        ),
        ("socat - UNIX-CONNECT:/run/x", "unix-connect /run/x"),
        ("socat ABSTRACT-LISTEN:x,fork STDIO", "unix-listen -k @x"),
        (
            "socat TCP-LISTEN:80,fork UNIX:/run/x",
            "tcp-listen -k --to /run/x '*' 80",
        ),
        (
            "socat - TCP:[::1]:80,bind=::2",
            "tcp-connect --source ::2 ::1 80",
        ),
        ("socat EXEC:cat TCP:h:1", "tcp-connect h 1 --exec cat"),
        ("socat - UDP-SENDTO:h:1", "udp-sendto h 1"),
    ] {
        assert_eq!(
            translated(words)[0],
            format!("tuplecat {command}"),
            "{words}"
        );
    }
    for (words, text) in [
        ("ncat --ssl h 1", "nc: --ssl: TLS is not supported"),
        ("ncat -l --chat", "nc: --chat is not supported"),
        ("ncat --nosuch h 1", "nc: invalid option -- '-'"),
        ("nc.traditional -g 1 h 1", "nc: -g: source routes"),
        ("socat -", "nc: socat takes two addresses"),
        ("socat - PTY", "nc: no network address of socat"),
        (
            "socat - TCP:h:1,nosuch",
            "nc: TCP: 'nosuch' has no equivalent",
        ),
        (
            "socat TCP:h:1 TCP:h:2",
            "nc: socat TCP has no equivalent here",
        ),
        ("socat -r file - TCP:h:1", "nc: socat -r has no equivalent"),
    ] {
        let done = tuplecat("nc --translate").args(words).run().exits(1);
        assert!(done.err.starts_with(text), "{words}: {}", done.err);
    }
}

/// Splits the command of a cell, without a redirection; its quotes stand around whole words.
fn words_of(cell: &str) -> Vec<String> {
    let cell = cell.trim().trim_start_matches('`');
    let (cell, _) = cell.split_once('`').unwrap_or((cell, ""));
    let (cell, _) = cell.split_once([' ', '\t']).map_or((cell, ""), |_| {
        cell.split_once(" > ")
            .or(cell.split_once(" < "))
            .unwrap_or((cell, ""))
    });
    cell.split_whitespace()
        .map(|word| word.trim_matches('\'').to_owned())
        .collect()
}

/// Each command of the table is translated into the last one, but for details that the translation names.
#[test]
fn the_table_of_the_readme_is_true() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, table) = readme
        .split_once("| | nc | ncat | socat | tuplecat |\n")
        .unwrap();
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        let (own, others) = cells[1..].split_last().unwrap();
        for cell in others.iter().filter(|cell| !cell.trim().is_empty()) {
            let lines = translated(&words_of(cell).join(" "));
            let (found, wanted) = (words_of(&lines[0]), words_of(own));
            let details: Vec<_> = lines[1..]
                .iter()
                .filter_map(|line| line.rsplit_once(": "))
                .flat_map(|(_, words)| words_of(words))
                .collect();
            let is_detail = |word: &String| found.contains(word) || details.contains(word);
            let is_same = found.iter().all(|word| wanted.contains(word));
            assert!(is_same && wanted.iter().all(is_detail), "{cell}: {lines:?}");
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
