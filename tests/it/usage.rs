//! Command lines that are not valid: each error names the word at fault and the option or mode to use.
//! The expected texts are those of the real binary.

use pretty_assertions::assert_eq;

use crate::common::*;

/// Runs a command line that is not valid, and returns its error.
#[track_caller]
fn error(line: &str) -> String {
    tuplecat(line).bare().run().exits(2).err
}

/// Checks that each command line has this text in its error.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        let error = error(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn options_of_nc_have_equivalents() {
    check(&[
        (
            "-l 9000",
            "tip: type `tuplecat nc -l 9000`, or `tuplecat tcp-listen '*' 9000`",
        ),
        (
            "-zv localhost 80",
            "tip: type `tuplecat nc -zv localhost 80`, or `tuplecat tcp-connect --report events --probe localhost 80`",
        ),
        ("tcp-listen -l 9000", "use tcp-listen or udp-bind"),
        ("tcp-listen -p 9000", "for '-p' of nc, write PORT alone"),
        ("tcp-connect -u ::1 9", "use udp-bind or udp-sendto"),
        (
            "tcp-connect -w 5 ::1 9",
            "use --connect-timeout, --idle-timeout",
        ),
        ("udp-sendto -z ::1 9", "use tcp-connect --probe"),
        ("tcp-connect -X 5 ::1 9", "use --proxy"),
        (
            "tcp-connect -N ::1 9",
            "TCP sends a FIN at the end of input",
        ),
        ("tcp-listen -e sh 9000", "use --exec"),
        ("tcp-connect -s ::1 ::1 9", "use --source"),
        ("tcp-listen -c sh 9000", "use --shell"),
        ("udp-sendto -W 1 ::1 9", "use --count, or --replies"),
        ("tcp-listen -U path", "use unix-listen, unix-connect"),
    ]);
}

#[test]
fn the_most_similar_mode_is_the_only_suggestion() {
    for (line, mode) in [
        ("tcp-listn 9000", "tcp-listen"),
        ("upd-bind 9000", "udp-bind"),
        ("udp-sento ::1 9", "udp-sendto"),
        ("complete bash", "completions"),
    ] {
        let error = error(line);
        let tip = format!("tip: a similar subcommand exists: '{mode}'\n");
        assert!(error.contains(&tip), "{line}: {error}");
    }
    let tip = "tip: a mode comes first, such as 'tcp-connect HOST PORT'";
    check(&[("localhost", tip)]);
    let tip = "tip: type `tuplecat nc localhost 80`, or `tuplecat tcp-connect localhost 80`";
    check(&[("localhost 80", tip)]);
}

#[test]
fn an_option_that_needs_another_is_named() {
    for (line, option, needed) in [
        ("tcp-listen --prefix 9000", "--prefix", "--keep-open"),
        (
            "tcp-listen --max-clients=2 0",
            "--max-clients",
            "--keep-open",
        ),
        ("tcp-listen --stdin-to all 0", "--stdin-to", "--keep-open"),
        (
            "tcp-listen --client-timeout 1 0",
            "--client-timeout",
            "--keep-open",
        ),
        ("tcp-listen --out-dir d 0", "--out-dir", "--keep-open"),
        ("tcp-listen --broker 0", "--broker", "--keep-open"),
        ("udp-bind --max-children 2 0", "--max-children", "--exec"),
        ("tcp-connect --any ::1 9", "--any", "--probe"),
        (
            "tcp-connect --retry-on refused ::1 9",
            "--retry-on",
            "--retry-for",
        ),
        ("udp-sendto --retry-for 1 ::1 9", "--retry-for", "--send"),
        (
            "tcp-listen --events-payload 0",
            "--events-payload",
            "--events",
        ),
        ("tcp-listen --hex-width 8 0", "--hex-width", "--hex"),
        ("tcp-listen --hex-limit 8 0", "--hex-limit", "--hex"),
    ] {
        let error = error(line);
        let tip = format!("tip: '{option}' needs it\n");
        assert!(
            error.contains(&tip) && error.contains(needed),
            "{line}: {error}"
        );
    }
}

#[test]
fn exec_takes_the_endpoint_that_follows_it() {
    let tip = "tip: --exec takes all words that follow; write it last";
    check(&[
        ("tcp-listen --exec 9000", tip),
        ("tcp-connect --exec cat ::1 9", tip),
    ]);
}

#[test]
fn the_value_of_keepalive_follows_an_equals_sign() {
    let text = "the value of --keepalive follows '=', as in --keepalive=30,5,3";
    check(&[
        ("tcp-listen --keepalive 1,1,2 9000", text),
        ("tcp-listen 9000 --keepalive 1,1,2", text),
        ("tcp-connect --keepalive 1,1,2 ::1 9", text),
    ]);
    // After --exec the words belong to the program.
    let words = "tcp-connect 127.0.0.1 1 --exec true --keepalive 1,1,2";
    tuplecat(words).bare().run().exits(5);
}

#[test]
fn an_endpoint_has_a_space_or_a_colon() {
    let text = "write '127.0.0.1 9000' or '127.0.0.1:9000'";
    for mode in ["tcp-listen", "tcp-connect", "udp-bind", "udp-sendto"] {
        check(&[(&format!("{mode} 127.0.0.1/9000"), text)]);
    }
}

/// A shell replaces an asterisk without quotes by the names of files.
#[test]
fn too_many_words_may_come_from_an_asterisk() {
    let tip = "tip: write '*' in quotes, or the shell replaces it";
    check(&[("tcp-listen a b 9000", tip), ("udp-bind a b c 9000", tip)]);
    assert!(!error("tcp-connect a b 9000").contains("tip:"));
}

#[test]
fn help_and_version_are_commands_too() {
    let text = |line: &str| tuplecat(line).bare().run().exits(0).text();
    assert_eq!(text("version"), text("--version"));
    assert_eq!(text("help"), text("--help"));
    for mode in ["tcp-listen", "tl", "udp-sendto", "compare"] {
        assert_eq!(
            text(&format!("help {mode}")),
            text(&format!("{mode} --help"))
        );
    }
    check(&[("help nosuch", "unrecognized subcommand 'nosuch'")]);
}

#[test]
fn help_is_at_most_80_columns_wide() {
    for mode in ["", "tl", "tc", "ub", "us", "compare", "completions"] {
        for option in ["-h", "--help"] {
            let line = format!("{mode} {option}");
            let help = tuplecat(line.trim()).bare().env("COLUMNS", "200").run();
            let help = help.exits(0).text();
            let wide = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{line}");
        }
    }
}
