//! ncat and nc.traditional: their flags where they differ, and the rules for them.
//! Their runs are not reproduced in each detail; what is different is said.

use std::ffi::OsString;

use super::Equivalent;
use super::flags::{Flags, REFUSED, Rule, Syntax, apply};

/// Long options without a letter of their own have one here: `S` TLS, `1` send-only, `2` recv-only, `3` no-shutdown, `a` allow, `D` deny,
/// `B` broker, `X` the type of a proxy, `P` proxy.
const NCAT: Syntax = Syntax {
    alone: "46bCBhklnStuUvz123",
    valued: "acDdegGimopPqswxX",
    #[rustfmt::skip]
    long: &[
        ("allow", 'a'), ("broker", 'B'), ("chat", 'b'), ("crlf", 'C'), ("delay", 'd'), ("deny", 'D'), ("exec", 'e'),
        ("hex-dump", 'x'), ("idle-timeout", 'i'), ("keep-open", 'k'), ("listen", 'l'), ("max-conns", 'm'), ("no-shutdown", '3'),
        ("nodns", 'n'), ("output", 'o'), ("proxy", 'P'), ("proxy-type", 'X'), ("recv-only", '2'), ("send-only", '1'),
        ("sh-exec", 'c'), ("source", 's'), ("source-port", 'p'), ("ssl", 'S'), ("telnet", 't'), ("udp", 'u'), ("unixsock", 'U'),
        ("verbose", 'v'), ("wait", 'w'), ("zero", 'z'),
    ],
};

const TRADITIONAL: Syntax = Syntax {
    alone: "bChklnrtuvz",
    valued: "cegGiopqsTw",
    long: &[],
};

#[rustfmt::skip]
const COMMON: &[Rule] = &[
    ("S", REFUSED, "--ssl: TLS is not supported"),
    ("t", REFUSED, "-t: answers to TELNET options are not supported"),
    ("g", REFUSED, "-g: source routes are not supported"),
    ("G", REFUSED, "-G: source routes are not supported"),
    ("v", "--report events", ""),
    ("4", "-4", ""),
    ("6", "-6", ""),
    ("n", "-n", ""),
    ("C", "-C", ""),
    ("s!l", "--source @s", ""),
    ("p!l", "--source-port @p", ""),
    ("z", "--probe", ""),
    ("T", "--tos @T", ""),
    ("u!l!z", "--connected", "the socket is not connected"),
    ("c", "--shell @c", ""),
];

#[rustfmt::skip]
const NCAT_RULES: &[Rule] = &[
    ("q", REFUSED, "-q: its versions disagree; --quit-after quits after the end of stdin"),
    ("o", REFUSED, "-o: both directions in one file are not supported; --pcap and --hex-file record them"),
    ("b", REFUSED, "--chat is not supported; --broker is"),
    ("w!l", "--connect-timeout @w", ""),
    ("i", "--idle-timeout @i", ""),
    ("d", "--delay @d", ""),
    ("k", "-k", ""),
    ("m", "--max-clients @m", ""),
    ("a", "--allow @a", ""),
    ("D", "--deny @D", ""),
    ("B!k", "-k --broker", ""),
    ("Bk", "--broker", ""),
    ("Pl", REFUSED, "--proxy: serving as a proxy is not supported"),
    ("P", "--proxy @P", ""),
    ("x", "--hex-file @x", ""),
    ("1!u", "--send-only", ""),
    ("1u", "--reply-timeout 0", ""),
    ("2", "--recv-only", ""),
    ("3!u", "--on-stdin-eof keep", ""),
];

#[rustfmt::skip]
const TRADITIONAL_RULES: &[Rule] = &[
    ("i", "--delay @i", ""),
    ("k", "--keepalive", ""),
    ("o", "--hex-file @o", ""),
    ("bu", "--broadcast", ""),
    ("q!u", "--quit-after @q", ""),
    ("qu!l", "--reply-timeout @q", ""),
    ("w!l!u", "--connect-timeout @w", ""),
    ("w!lu", "--reply-timeout @w", ""),
    ("wl!u", "--accept-timeout @w", ""),
    ("!q!u!z", "--on-stdin-eof keep", "sends a FIN at the end of stdin"),
    ("!u!z", "--on-peer-eof quit", "goes on sending when the peer has finished"),
];

/// Port of ncat where none is given.
const NCAT_PORT: &str = "31337";

/// Translates the arguments of ncat.
pub(super) fn ncat(words: &[OsString]) -> Result<Equivalent, String> {
    let mut flags = Flags::read(words, &NCAT)?;
    if let Some(place) = flags.value('P') {
        // By default ncat lets the proxy look names up.
        let scheme = match flags.value('X') {
            Some("socks4") => "socks4a",
            Some("socks5") => "socks5h",
            _ => "http",
        };
        let url = format!("{scheme}://{place}");
        flags.extend([('P', url.as_str())]);
    }
    let default = NCAT_PORT.to_owned();
    let endpoint = match (flags.operands.as_slice(), flags.has('l')) {
        ([path], _) if flags.has('U') => vec![path.clone()],
        ([], true) => vec!["*".to_owned(), default],
        ([port], true) if port.parse::<u16>().is_ok() => vec!["*".to_owned(), port.clone()],
        ([host], _) => vec![host.clone(), default],
        ([host, port], _) => vec![host.clone(), port.clone()],
        _ => return Err("ncat takes [HOST] [PORT]".to_owned()),
    };
    line(NCAT_RULES, &flags, &endpoint)
}

/// Translates the arguments of nc.traditional.
pub(super) fn traditional(words: &[OsString]) -> Result<Equivalent, String> {
    let flags = Flags::read(words, &TRADITIONAL)?;
    let value = |flag| flags.value(flag).map(str::to_owned);
    let endpoint = match (flags.operands.as_slice(), flags.has('l')) {
        ([], true) => vec![
            value('s').unwrap_or_else(|| "*".to_owned()),
            value('p').unwrap_or_else(|| "0".to_owned()),
        ],
        ([host, ports @ ..], false) if !ports.is_empty() => vec![host.clone(), ports.join(",")],
        _ => return Err("nc.traditional takes -l -p PORT, or HOST PORT".to_owned()),
    };
    line(TRADITIONAL_RULES, &flags, &endpoint)
}

fn line(rules: &[Rule], flags: &Flags, endpoint: &[String]) -> Result<Equivalent, String> {
    let mut line = apply(&[COMMON, rules].concat(), flags, endpoint)?;
    if let Some(command) = flags.value('e') {
        line.run_program(command);
    }
    Ok(line)
}
