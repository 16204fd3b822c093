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
