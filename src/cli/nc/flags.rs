//! Flags of a netcat, read as getopt(3) does, and the rules that turn them into options.
//! A table of flags with their help and a table of rules are all that is known of a tool.

use std::ffi::OsString;
use std::fmt::Write as _;

use super::Equivalent;

/// Letter of a flag, the name of its value if it takes one, and its help.
const FLAGS: [(char, &str, &str); 35] = [
    ('4', "", "IPv4 only"),
    ('6', "", "IPv6 only"),
    ('b', "", "Send to broadcast addresses (UDP)"),
    ('C', "", "End lines with CR LF"),
    ('D', "", "Set SO_DEBUG on the socket"),
    ('d', "", "Read nothing from stdin"),
    ('F', "", "Pass the connected socket to stdout, and exit"),
    ('h', "", "Print this help"),
    ('I', "length", "Size of the receive buffer"),
    (
        'i',
        "interval",
        "Seconds between lines sent, and between ports",
    ),
    ('k', "", "Accept another client when one has left (-l)"),
    ('l', "", "Listen for a connection"),
    ('M', "ttl", "Time to live of packets sent"),
    (
        'm',
        "minttl",
        "Least time to live of packets received (TCP)",
    ),
    ('N', "", "Send a FIN at the end of stdin"),
    ('n', "", "Resolve no names"),
    ('O', "length", "Size of the send buffer"),
    ('P', "proxyuser", "User name for the proxy"),
    ('p', "port", "Local port"),
    (
        'q',
        "seconds",
        "Quit so long after the end of stdin; implies -N",
    ),
    ('r', "", "Take the ports in random order"),
    ('S', "", "TCP MD5 signatures (not supported)"),
    ('s', "address", "Local address"),
    ('T', "keyword", "Traffic class"),
    ('t', "", "Refuse TELNET options"),
    ('U', "", "Unix sockets"),
    ('u', "", "UDP, or datagrams with -U"),
    ('V', "rtable", "Routing table (not supported)"),
    ('v', "", "Report connections and failures"),
    ('W', "recvlimit", "Exit after so many packets or reads"),
    (
        'w',
        "timeout",
        "Seconds to wait for a connection, and for traffic",
    ),
    ('X', "protocol", "Protocol of the proxy: 4, 5 or connect"),
    ('x', "proxy", "Connect through the proxy ADDRESS[:PORT]"),
    ('Z', "", "DCCP (not supported)"),
    ('z', "", "Test whether ports are open"),
];

/// Flags that take no value, those that do, and long names of flags, each with its letter.
pub(super) struct Syntax {
    pub(super) alone: &'static str,
    pub(super) valued: &'static str,
    pub(super) long: &'static [(&'static str, char)],
}

/// The syntax of OpenBSD's nc.
pub(super) const OPENBSD: Syntax = Syntax {
    alone: "46bCDdFhklNnrStUuvZz",
    valued: "IiMmOPpqsTVWwXx",
    long: &[],
};

/// Command line of a netcat.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: Vec<(char, String)>,
    pub(super) operands: Vec<String>,
}

impl Flags {
    /// Reads the words after the program's name.
    pub(super) fn read(words: &[OsString], syntax: &Syntax) -> Result<Self, String> {
        let mut flags = Self::default();
        let mut words = texts(words)?;
        while let Some(word) = words.next() {
            if word == "--" {
                flags.operands.extend(words.by_ref().map(str::to_owned));
            } else if let Some((name, value)) = long(word, syntax) {
                let known = syntax.long.iter().find(|(long, _)| *long == name);
                let (_, letter) = known.ok_or_else(|| wrong("invalid option", '-'))?;
                flags.take(*letter, value, &mut words, syntax)?;
            } else if word.len() > 1 && word.starts_with('-') {
                let mut rest = word[1..].chars();
                while let Some(letter) = rest.next() {
                    let attached = Some(rest.as_str()).filter(|rest| !rest.is_empty());
                    if flags.take(letter, attached, &mut words, syntax)? {
                        break;
                    }
                }
            } else {
                flags.operands.push(word.to_owned());
            }
        }
        Ok(flags)
    }

    /// Adds a flag, and returns true if it has taken a value: the attached one, or the next word.
    fn take<'a>(
        &mut self,
        letter: char,
        attached: Option<&'a str>,
        words: &mut impl Iterator<Item = &'a str>,
        syntax: &Syntax,
    ) -> Result<bool, String> {
        if syntax.alone.contains(letter) {
            self.extend([(letter, "")]);
            return Ok(false);
        }
        if !syntax.valued.contains(letter) {
            return Err(wrong("invalid option", letter));
        }
        let value = attached.or_else(|| words.next());
        let value = value.ok_or_else(|| wrong("option requires an argument", letter))?;
        self.extend([(letter, value)]);
        Ok(true)
    }

    /// Adds flags as if they were given last.
    pub(super) fn extend<'a>(&mut self, flags: impl IntoIterator<Item = (char, &'a str)>) {
        let flags = flags.into_iter();
        self.given
            .extend(flags.map(|(flag, value)| (flag, value.to_owned())));
    }

    /// Removes a flag.
    pub(super) fn remove(&mut self, letter: char) {
        self.given.retain(|(flag, _)| *flag != letter);
    }

    /// Returns true if a flag is given.
    pub fn has(&self, letter: char) -> bool {
        self.value(letter).is_some()
    }

    /// Returns the value of a flag, if it is given.
    pub(super) fn value(&self, letter: char) -> Option<&str> {
        let mut given = self.given.iter().rev();
        given
            .find(|(flag, _)| *flag == letter)
            .map(|(_, value)| value.as_str())
    }
}

/// Returns the name in a long option, and its value.
fn long<'a>(word: &'a str, syntax: &Syntax) -> Option<(&'a str, Option<&'a str>)> {
    let name = word.strip_prefix("--");
    let name = name.filter(|_| !syntax.long.is_empty())?;
    let split = name.split_once('=');
    Some(split.map_or((name, None), |(name, value)| (name, Some(value))))
}

/// Returns the words as texts.
pub(super) fn texts(words: &[OsString]) -> Result<impl Iterator<Item = &str>, String> {
    let words: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    Ok(words
        .ok_or("the arguments are not valid UTF-8")?
        .into_iter())
}

fn wrong(text: &str, letter: char) -> String {
    format!("{text} -- '{letter}'\n{}", usage())
}

/// Returns the line that names the flags.
pub(super) fn usage() -> String {
    let (alone, valued): (Vec<_>, Vec<_>) = FLAGS.into_iter().partition(|flag| flag.1.is_empty());
    let letters: String = alone.iter().map(|flag| flag.0).collect();
    let mut text = format!("usage: nc [-{letters}]");
    for (letter, value, _) in valued {
        // Writing to memory does not fail.
        let _ = write!(text, " [-{letter} {value}]");
    }
    text + " [destination] [port ...]"
}

/// Returns the help, a line for each flag.
pub(super) fn help() -> String {
    let mut text = format!(
        "tuplecat {}, as OpenBSD netcat\n{}\n",
        env!("CARGO_PKG_VERSION"),
        usage()
    );
    for (letter, value, help) in FLAGS {
        let flag = format!("-{letter} {value}");
        let _ = writeln!(text, "\t{flag:<15} {help}");
    }
    text + "Ports are numbers, service names or ranges (22-25).\n\
        nc --translate ARGUMENTS prints the command of tuplecat that does the same.\n"
}

/// Flags that are given (`ab`) or not (`!c`), the words, and the difference without them.
///
/// In the words `@w` is the value of `-w`, and `''` is an empty word. Without words it is a difference alone, and [`REFUSED`] makes it an
/// error.
pub(super) type Rule = (&'static str, &'static str, &'static str);

/// The words of a rule that is an error.
pub(super) const REFUSED: &str = "refused";

/// Returns a mode by its sockets, with the endpoint and the words of every rule that applies.
///
/// Errors: the text of the first rule that refuses.
pub(super) fn apply(
    rules: &[Rule],
    flags: &Flags,
    endpoint: &[String],
) -> Result<Equivalent, String> {
    let is_given = |letter| flags.has(letter);
    let mode = match (is_given('U'), is_given('u'), is_given('l')) {
        (false, false, true) => "tcp-listen",
        (false, false, false) => "tcp-connect",
        (false, true, true) => "udp-bind",
        (false, true, false) => "udp-sendto",
        (true, false, true) => "unix-listen",
        (true, false, false) => "unix-connect",
        (true, true, true) => "unix-bind",
        (true, true, false) => "unix-sendto",
    };
    let mut line = Equivalent::new(mode, endpoint);
    for (_, words, difference) in rules.iter().filter(|rule| holds(rule.0, flags)) {
        if *words == REFUSED {
            return Err((*difference).to_owned());
        }
        let words = words.split_whitespace().map(|word| match word {
            "''" => "",
            word => match word.strip_prefix('@').and_then(|flag| flag.chars().next()) {
                Some(flag) => flags.value(flag).unwrap_or_default(),
                None => word,
            },
        });
        line.add(words, *difference);
    }
    Ok(line)
}

/// Returns true if the flags are as a condition says.
fn holds(condition: &str, flags: &Flags) -> bool {
    let mut is_wanted = true;
    condition.chars().all(|letter| {
        let wanted = std::mem::replace(&mut is_wanted, letter != '!');
        letter == '!' || flags.has(letter) == wanted
    })
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn read(line: &str) -> Result<Flags, String> {
        let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        Flags::read(&words, &OPENBSD)
    }

    #[test]
    fn flags_stand_alone_together_and_last() {
        for line in [
            "-z -w 3 host 80",
            "-zw3 host 80",
            "host 80 -zw 3",
            "-w 9 host -zw3 80",
        ] {
            let flags = read(line).unwrap();
            assert_eq!(
                (flags.has('z'), flags.value('w')),
                (true, Some("3")),
                "{line}"
            );
            assert_eq!(flags.operands, ["host", "80"], "{line}");
        }
        assert_eq!(read("-l -- -9").unwrap().operands, ["-9"]);
        assert_eq!(read("-").unwrap().operands, ["-"]);
    }

    #[test]
    fn a_flag_that_nc_lacks_is_named() {
        for (line, text) in [
            ("-y", "invalid option -- 'y'\nusage: nc [-46bCDdFhkl"),
            ("-zw", "option requires an argument -- 'w'\nusage: nc ["),
            ("--probe", "invalid option -- '-'"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.starts_with(text), "{line}: {error}");
        }
    }
}
