//! OpenBSD's nc as Debian ships it: the table from its flags to our options, and its operands.
//! A rule stands for each behaviour in which nc differs from a mode, and the run of `tuplecat nc` has the option for it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::Equivalent;
use super::flags::{Flags, REFUSED, Rule, apply, usage};

/// Beside the flags: `*` is every address, `0` is `-w 0`, `Q` is `-q 0`, and `,` is more than one port.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    ("S", REFUSED, "-S: TCP MD5 signatures are not supported"),
    ("V", REFUSED, "-V: routing tables are not supported; --mark marks packets for them (ip-rule(8))"),
    ("Z", REFUSED, "-Z: DCCP is not supported, and Linux has removed it"),
    ("F", REFUSED, "-F: passing the socket is not supported"),
    ("t", REFUSED, "-t: answers to TELNET options are not supported"),
    ("lz", REFUSED, "cannot use -z and -l"),
    ("k!l", REFUSED, "must use -l with -k"),
    ("46", REFUSED, "cannot use -4 and -6"),
    ("mu", REFUSED, "-m: the kernel drops packets by their time to live over TCP only"),
    ("mU", REFUSED, "-m: Unix sockets have no time to live"),
    ("xu", REFUSED, "no proxy support for UDP mode"),
    ("xl", REFUSED, "no proxy support for listen"),
    ("xU", REFUSED, "no proxy support for unix sockets"),
    ("xs", REFUSED, "no proxy support for local source address"),
    ("P!x", REFUSED, "-P is for a proxy (-x)"),
    ("X!x", REFUSED, "-X is for a proxy (-x)"),
    // Addresses and sockets.
    ("v", "--report events", ""),
    ("4!U", "-4", ""),
    ("6!U", "-6", ""),
    ("n!U", "-n", ""),
    ("s!l!U", "--source @s", ""),
    ("s!lUu", "--source @s", ""),
    ("s!lU!u", REFUSED, "-s: a Unix stream socket has no local name here"),
    ("zUu", REFUSED, "-z: datagrams of Unix sockets are not probed"),
    ("p!l", "--source-port @p", ""),
    ("*!4!6", "-4", "accepts IPv6 as well"),
    ("*", "", "a second listener at the same port fails, and shares nothing"),
    ("x", "--proxy @x", ""),
    ("D", "--so-debug", ""),
    ("I", "--rcvbuf @I", ""),
    ("O", "--sndbuf @O", ""),
    ("M", "--ttl @M", ""),
    ("m", "--min-ttl @m", ""),
    ("T", "--tos @T", ""),
    ("bu", "--broadcast", ""),
    ("b!u", "", "-b has no effect without -u"),
    // Tests of ports.
    ("z", "--probe", ""),
    ("z!uw", "--connect-timeout @w", ""),
    ("z!u!w", "", "a port that does not answer within 5 seconds is not open"),
    ("z,", "", "the status is 0 only if all ports are open"),
    ("zuw", "--reply-timeout @w", ""),
    ("zu!w", "--reply-timeout 3", ""),
    ("zu", "--send X", "sends an empty datagram; nc sends an X, several times with -v"),
    ("zu", "", "the status is 6 if the port is silent, which nc takes for open"),
    // Standard input, and its end.
    ("d!N!z", "--recv-only", ""),
    ("dNu!z", "--recv-only", ""),
    ("dN!u!z", "--send ''", ""),
    ("C!d!z", "-C", ""),
    ("i!d!z", "--in full-line --delay @i", ""),
    ("q!Q!d!u!z", "--quit-after @q", ""),
    ("Ql!d", "--on-stdin-eof quit", ""),
    ("N!q!d!u!z", "--on-stdin-eof shutdown", "if stdin is /dev/null, the FIN comes after the peer's"),
    ("NQ!l!d!u!z", "--on-stdin-eof shutdown", "if stdin is /dev/null, the FIN comes after the peer's"),
    ("!N!d!u!z", "--on-stdin-eof keep", "sends a FIN at the end of stdin, as nc does with -N"),
    // Connections.
    ("l!u", "--on-peer-eof quit", "goes on sending when the peer has finished"),
    ("!l!u!z", "--on-peer-eof wait", "leaves when the peer has finished and stdin gives nothing"),
    ("k!u", "-k", ""),
    ("k!u", "--max-clients 1", "serves all clients at the same time"),
    ("W!u!z", "--max-reads @W", ""),
    ("w!u!l!z", "--connect-timeout @w", ""),
    ("w!u!z", "--idle-timeout @w", ""),
    ("w!u!z", "--idle-ok", "--idle-timeout ends with status 6"),
    // Datagrams.
    ("u!z!U", "--datagram-size 16384", "sends at most 1472 bytes in a datagram"),
    ("u!zU", "--datagram-size 16384", "sends at most 8192 bytes in a datagram"),
    ("ul!k", "--lock-first --reply-to first", "serves every peer"),
    ("ulk", "--reply-to none", "sends stdin to the latest sender"),
    ("ulW", "--count @W", ""),
    ("ulq!Q", "--quit-after @q", ""),
    ("ulw", "--idle-timeout @w", ""),
    ("ulw", "--idle-ok", "--idle-timeout ends with status 6"),
    ("u!l!z!U", "--connected", "the socket is not connected"),
    ("u!lW", "--replies @W", ""),
    ("u!l0!z", "--reply-timeout 0", ""),
    ("u!lw!0!z", "--reply-timeout @w", ""),
    ("u!lw!0!z", "--idle-timeout @w --idle-ok", "stdin may stay open and silent"),
    ("u!lq!w!z", "--reply-timeout @q", ""),
    ("u!l!q!w!z", "--reply-timeout forever", "leaves after 1 s without a reply"),
];

/// Names of traffic classes that `--tos` does not have.
const CLASSES: [(&str, &str); 4] = [
    ("critical", "0xa0"),
    ("inetcontrol", "0xc0"),
    ("netcontrol", "0xe0"),
    ("lowcost", "0x02"),
];

/// Returns what does the same as nc with these flags, one run after the other.
///
/// Errors: the text that nc would print, or the reason why a flag is refused.
pub(super) fn translate(flags: &mut Flags) -> Result<Vec<Equivalent>, String> {
    let endpoints = endpoints(flags)?;
    for (flag, least) in [('i', 0), ('w', 0), ('q', i32::MIN)] {
        match flags.value(flag).map(str::parse::<i32>) {
            Some(Ok(0)) if flag == 'i' => flags.remove(flag),
            // Times are longer than nothing.
            Some(Ok(0)) if flag == 'w' => flags.extend([('0', ""), (flag, "1ms")]),
            Some(Ok(0)) => flags.extend([('Q', ""), ('N', "")]),
            Some(Ok(..0)) if least < 0 => flags.remove(flag),
            Some(Ok(1..)) if flag == 'q' => flags.extend([('N', "")]),
            Some(Ok(1..)) | None => {}
            _ => return Err(format!("-{flag}: expected a number of seconds")),
        }
    }
    if let Some(place) = flags.value('x') {
        let url = proxy(place, flags.value('X').unwrap_or("5"), flags.value('P'))?;
        flags.extend([('x', url.as_str())]);
    }
    let class = flags.value('T');
    if let Some((_, bits)) = CLASSES.iter().find(|(name, _)| class == Some(name)) {
        flags.extend([('T', *bits)]);
    }
    let lines = endpoints.iter();
    lines
        .map(|endpoint| apply(RULES, flags, endpoint))
        .collect()
}

/// Returns the URL of a proxy.
fn proxy(place: &str, protocol: &str, user: Option<&str>) -> Result<String, String> {
    let (scheme, port) = match protocol.to_ascii_lowercase().as_str() {
        "5" => ("socks5h", 1080),
        "4" => ("socks4", 1080),
        "connect" => ("http", 3128),
        _ => return Err("unsupported proxy protocol".to_owned()),
    };
    let user = match user {
        Some(_) if scheme != "http" => return Err("-P is for -X connect".to_owned()),
        Some(user) => format!("{user}@"),
        None => String::new(),
    };
    let behind_ip = place.rsplit(']').next().unwrap_or_default();
    let url = format!("{scheme}://{user}{place}");
    if behind_ip.contains(':') {
        return Ok(url);
    }
    Ok(format!("{url}:{port}"))
}

/// Returns the endpoint of each run.
fn endpoints(flags: &mut Flags) -> Result<Vec<Vec<String>>, String> {
    let [is_unix, listens, probes] = ['U', 'l', 'z'].map(|flag| flags.has(flag));
    let local = ['s', 'p'].map(|flag| flags.value(flag).map(str::to_owned));
    let operands = std::mem::take(&mut flags.operands);
    let missing = || "missing port number".to_owned();
    let (host, ports) = match (operands.as_slice(), &local) {
        ([path], _) if is_unix => return Ok(vec![vec![path.clone()]]),
        ([], [Some(path), _]) if is_unix && listens => return Ok(vec![vec![path.clone()]]),
        ([], _) if is_unix => return Err("missing socket pathname".to_owned()),
        _ if is_unix => return Err("cannot use port with -U".to_owned()),
        ([], [host, port]) if listens => (host.as_ref(), port.as_slice()),
        ([port], [None, None]) if listens => (None, std::slice::from_ref(port)),
        ([host, port], [None, None]) if listens => (Some(host), std::slice::from_ref(port)),
        ([_], _) => return Err(missing()),
        ([host, ports @ ..], _) if !listens => (Some(host), ports),
        _ => return Err(usage()),
    };
    if host.is_none() {
        flags.extend([('*', "")]);
    }
    let host = host.map_or("*", String::as_str);
    let ascending = || ports.iter().map(|port| ascending(port));
    let ports: Vec<String> = match (listens, probes && !flags.has('u')) {
        (true, _) => ports.to_vec(),
        (_, true) => vec![ascending().collect::<Vec<_>>().join(",")],
        _ => each_port(ports, flags.has('r')),
    };
    let are_several = |ports: &String| ports.contains(',') || range(ports).is_some();
    if ports.iter().any(are_several) {
        flags.extend([(',', "")]);
    }
    let ports = ports.into_iter();
    let endpoints: Vec<_> = ports.map(|port| vec![host.to_owned(), port]).collect();
    endpoints.first().ok_or_else(missing)?;
    Ok(endpoints)
}

/// Returns the ends of a range of ports, the lower one first.
fn range(port: &str) -> Option<(u16, u16)> {
    let (first, last) = port.split_once('-')?;
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    Some((last.min(first), last.max(first)))
}

/// Returns a range of ports with the lower one first, any other port as it is.
fn ascending(port: &str) -> String {
    let range = range(port).map(|(first, last)| format!("{first}-{last}"));
    range.unwrap_or_else(|| port.to_owned())
}

/// Returns the ports of lists and ranges, in order or not.
fn each_port(ports: &[String], at_random: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for port in ports {
        match range(port) {
            Some((first, last)) => all.extend((first..=last).map(|port| port.to_string())),
            None => all.push(port.clone()),
        }
    }
    if at_random {
        let order = RandomState::new();
        all.sort_by_cached_key(|port| order.hash_one(port));
    }
    all
}
