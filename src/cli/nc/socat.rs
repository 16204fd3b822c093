//! socat: its common addresses, one of which is standard input and output, a program, an echo, or the target of a relay.
//! An option of an address becomes an option of the mode; one that is not known is an error.

use std::ffi::OsString;

use super::Equivalent;
use super::flags::texts;

/// Addresses: the name in capitals, the mode, and the words that come with it.
#[rustfmt::skip]
const ADDRESSES: &[(&str, &str, &str)] = &[
    ("TCP-LISTEN", "tcp-listen", ""), ("TCP4-LISTEN", "tcp-listen", "-4"), ("TCP6-LISTEN", "tcp-listen", "-6"),
    ("TCP-L", "tcp-listen", ""), ("TCP", "tcp-connect", ""), ("TCP4", "tcp-connect", "-4"), ("TCP6", "tcp-connect", "-6"),
    ("TCP-CONNECT", "tcp-connect", ""), ("UDP-RECV", "udp-bind", ""), ("UDP-LISTEN", "udp-bind", "--lock-first --reply-to first"),
    ("UDP-SENDTO", "udp-sendto", ""), ("UDP", "udp-sendto", ""), ("UDP-CONNECT", "udp-sendto", ""), ("UDP4", "udp-sendto", "-4"),
    ("UDP-DATAGRAM", "udp-sendto", ""), ("UNIX-LISTEN", "unix-listen", ""), ("UNIX-CONNECT", "unix-connect", ""),
    ("UNIX", "unix-connect", ""), ("UNIX-RECV", "unix-bind", ""), ("UNIX-SENDTO", "unix-sendto", ""),
    ("ABSTRACT-LISTEN", "unix-listen", ""), ("ABSTRACT-CONNECT", "unix-connect", ""),
];

/// Options of addresses, and what becomes of them; `@` is the value.
#[rustfmt::skip]
const OPTIONS: &[(&str, &str)] = &[
    ("fork", "-k"), ("reuseaddr", ""), ("reuseport", "--reuse-port"), ("connect-timeout", "--connect-timeout @"),
    ("accept-timeout", "--accept-timeout @"), ("crnl", "-C"), ("crlf", "-C"), ("shut-none", "--on-stdin-eof keep"), ("rcvbuf", "--rcvbuf @"),
    ("sndbuf", "--sndbuf @"), ("tos", "--tos @"), ("ttl", "--ttl @"), ("range", "--allow @"), ("broadcast", "--broadcast"),
    ("keepalive", "--keepalive"), ("nodelay", "--nodelay on"), ("sourceport", "--source-port @"), ("max-children", "--max-clients @"),
    ("backlog", "--backlog @"), ("so-bindtodevice", "--interface @"), ("mss", "--mss @"), ("ip-add-membership", "--join @"),
    ("pf=ip4", "-4"), ("pf=ip6", "-6"),
];

/// An address: its name, its parameters, and its options.
struct Address<'a> {
    name: String,
    parameters: &'a str,
    options: Vec<&'a str>,
}

impl<'a> Address<'a> {
    fn new(text: &'a str) -> Self {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        // The command of a program may have commas.
        let is_command = ["EXEC", "SYSTEM"].contains(&name.to_ascii_uppercase().as_str());
        let mut parts = rest.split(',').filter(|part| !part.is_empty());
        let (parameters, options) = if is_command {
            (rest, Vec::new())
        } else {
            (parts.next().unwrap_or_default(), parts.collect())
        };
        let name = name.to_ascii_uppercase();
        Self {
            name,
            parameters,
            options,
        }
    }

    fn mode(&self) -> Option<(&'static str, &'static str)> {
        let known = ADDRESSES.iter().find(|(name, ..)| *name == self.name);
        known.map(|(_, mode, words)| (*mode, *words))
    }

    /// Returns the endpoint of its mode.
    fn endpoint(&self, mode: &str) -> Vec<String> {
        let unbracketed = |host: &str| host.trim_matches(['[', ']']).to_owned();
        let bind = self
            .options
            .iter()
            .find_map(|option| option.strip_prefix("bind="));
        match self.parameters.rsplit_once(':') {
            _ if self.name.starts_with("ABSTRACT") => vec![format!("@{}", self.parameters)],
            _ if mode.starts_with("unix") => vec![self.parameters.to_owned()],
            Some((host, port)) => vec![unbracketed(host), port.to_owned()],
            None => vec![unbracketed(bind.unwrap_or("*")), self.parameters.to_owned()],
        }
    }

    /// Adds the options.
    fn add_options(&self, mode: &str, line: &mut Equivalent) -> Result<(), String> {
        for option in &self.options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if name == "bind" {
                if !mode.ends_with("connect") && !mode.ends_with("sendto") {
                    continue;
                }
                let is_host = |host: &str| !host.contains(':') || host.ends_with(']');
                let split = value.rsplit_once(':').filter(|(host, _)| is_host(host));
                let (host, port) = split.unwrap_or((value, ""));
                line.add(["--source", host], "");
                if !port.is_empty() {
                    line.add(["--source-port", port], "");
                }
                continue;
            }
            let known = OPTIONS
                .iter()
                .find(|(known, _)| known == option || *known == name);
            let (_, words) =
                known.ok_or_else(|| format!("{}: '{option}' has no equivalent", self.name))?;
            let value = match name {
                "ip-add-membership" => value.replace(':', "%"),
                _ => value.to_owned(),
            };
            let words = words.split_whitespace();
            line.add(words.map(|word| word.replace('@', &value)), "");
        }
        Ok(())
    }
}

/// Options of the command line, and the two addresses.
#[derive(Default)]
struct Words<'a> {
    options: Vec<[&'a str; 2]>,
    addresses: Vec<Address<'a>>,
    /// Time to wait for the other direction (`-t`).
    time: Option<&'a str>,
    /// The only direction: `-u` from the first address to the second, `-U` back.
    way: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn read(mut words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut read = Self::default();
        while let Some(word) = words.next() {
            match word {
                "-u" | "-U" => read.way = Some(word),
                "-x" | "-v" => read.options.push(["-x", ""]),
                "-d" => read.options.push(["--report", "events"]),
                "-4" | "-6" => read.options.push([word, ""]),
                "-T" => {
                    let time = words.next().unwrap_or_default();
                    read.options.push(["--idle-timeout", time]);
                }
                "-t" => read.time = words.next(),
                _ if word.starts_with('-') && word.len() > 1 => {
                    return Err(format!("socat {word} has no equivalent"));
                }
                _ => read.addresses.push(Address::new(word)),
            }
        }
        read.options.dedup();
        Ok(read)
    }
}

/// Translates the arguments of socat.
pub(super) fn translate(words: &[OsString]) -> Result<Equivalent, String> {
    let words = Words::read(texts(words)?)?;
    let addresses = <[Address<'_>; 2]>::try_from(words.addresses);
    let [first, second] = addresses.map_err(|_| "socat takes two addresses")?;
    // A network address leads; of two, the one that listens is the first.
    let is_swapped = first.mode().is_none();
    let (network, local) = if is_swapped {
        (second, first)
    } else {
        (first, second)
    };
    let (mode, own) = network
        .mode()
        .ok_or("no network address of socat that is known")?;
    let mut line = Equivalent::new(mode, network.endpoint(mode));
    line.add(own.split_whitespace(), "");
    for words in &words.options {
        line.add(words.iter().copied().filter(|word| !word.is_empty()), "");
    }
    network.add_options(mode, &mut line)?;
    let sends = mode.ends_with("sendto");
    let time = words.way.map_or(words.time, |_| Some("0"));
    if let Some(time) = time.filter(|_| sends) {
        line.add(["--reply-timeout", time], "");
    }
    match network.name.as_str() {
        "UDP" | "UDP4" | "UDP-CONNECT" => line.add(["--connected"], "the socket is not connected"),
        "UDP-DATAGRAM" => line.add(["--from", "any"], "may accept replies of the target alone"),
        _ => {}
    }
    match (local.name.as_str(), local.mode(), words.way) {
        ("-" | "STDIO", None, Some(way)) if !sends && (way == "-u") == is_swapped => {
            line.add(["--send-only"], "what the peer sends is written");
        }
        ("-" | "STDIO", None, Some(_)) if !sends => line.add(["--recv-only"], "stdin is sent"),
        ("-" | "STDIO", None, _) => {}
        ("PIPE", None, _) if local.parameters.is_empty() => line.add(["--echo"], ""),
        ("EXEC", None, _) => line.run_program(local.parameters),
        ("SYSTEM", None, _) => line.add(["--shell", local.parameters], ""),
        (_, Some((target, _)), _) if mode.ends_with("listen") || mode.ends_with("bind") => {
            let path = local.endpoint(target).concat();
            let is_unix = target.starts_with("unix");
            let place = if is_unix { &path } else { local.parameters };
            line.add(["--to", place], "");
        }
        (name, ..) => return Err(format!("socat {name} has no equivalent here")),
    }
    Ok(line)
}
