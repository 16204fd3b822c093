//! Endpoints as users write them, and the addresses they stand for.
//! Parsing needs no name service; only a [`Resolver`] asks it.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

pub mod access;
mod lookup;
pub mod proxy;
mod unix;

pub use lookup::{BindAddress, Names, Resolver, Source};
pub use unix::UnixName;

/// Address family that a user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Host and port as the user wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The machine or the interface.
    pub host: Host,
    /// The port on it.
    pub port: Port,
}

/// Host of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// None was written: this machine only.
    Unstated,
    /// `*`: every interface.
    Every,
    /// A name or a literal address, without brackets, with its scope if it has one.
    Named(String),
}

/// Port of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A port number; 0 lets the kernel choose.
    Number(u16),
    /// A service name, as in services(5).
    Service(String),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Service(name) => name.fmt(f),
        }
    }
}

/// Endpoints of one host to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The machine.
    pub host: Host,
    /// The ports on it.
    pub ports: Ports,
}

impl From<Endpoint> for Targets {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            host: endpoint.host,
            ports: Ports(vec![Item::One(endpoint.port)]),
        }
    }
}

/// List of ports, written as `22,80,8000-8010`; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub Vec<Item>);

/// Item in a list of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// One port.
    One(Port),
    /// All ports from the first to the last.
    Range(RangeInclusive<u16>),
}

impl Ports {
    /// The port, if there is only one.
    pub fn only(&self) -> Option<&Port> {
        match self.0.as_slice() {
            [Item::One(port)] => Some(port),
            _ => None,
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items: Result<Vec<Item>, _> = text.split(',').map(str::parse).collect();
        items.map(Self)
    }
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Service names may contain dashes, too.
        let range = text
            .split_once('-')
            .filter(|(first, last)| is_number(first) && is_number(last));
        let Some((first, last)) = range else {
            return Ok(Self::One(target_port(text)?));
        };
        match (target_port(first)?, target_port(last)?) {
            (Port::Number(first), Port::Number(last)) if first <= last => {
                Ok(Self::Range(first..=last))
            }
            _ => Err(format!("'{text}' is a range that ends before it begins")),
        }
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_number(text) {
            let number = text.parse().map(Self::Number);
            return number.map_err(|_| format!("port {text} is out of range (0 to 65535)"));
        }
        let is_name = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b":[]%*,".contains(&byte));
        is_name
            .then(|| Self::Service(text.to_owned()))
            .ok_or(format!(
                "'{text}' is not a port: expected a number from 0 to 65535 or a service name"
            ))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses a port to connect to.
fn target_port(text: &str) -> Result<Port, String> {
    match text.parse()? {
        Port::Number(0) => Err(
            "port 0 is no target: it only lets the kernel choose a port of this machine".to_owned(),
        ),
        port => Ok(port),
    }
}

/// Parses `[HOST] PORT`, `HOST:PORT`, `[V6]:PORT` or `:PORT`.
///
/// Errors: one clause that quotes the text and shows the right form, here and below.
pub fn parse_bind_point(words: &[&str]) -> Result<Endpoint, String> {
    let (host, port) = split(words)?;
    match (&host, port.parse()?) {
        (Host::Unstated, Port::Service(name)) if name.contains('.') => Err(format!(
            "'{name}' has no port: write '{name} PORT' or '{name}:PORT'"
        )),
        (_, port) => Ok(Endpoint { host, port }),
    }
}

/// Parses `HOST PORT`, `HOST:PORT` or `[V6]:PORT` of an endpoint to send to.
pub fn parse_target(words: &[&str]) -> Result<Endpoint, String> {
    let (host, text) = split(words)?;
    let port = text.parse()?;
    check_target(&host, Some(&port), text)?;
    let port = target_port(text)?;
    Ok(Endpoint { host, port })
}

/// Parses the same as [`parse_target`], with a list of ports in the place of the port.
pub fn parse_targets(words: &[&str]) -> Result<Targets, String> {
    let (host, text) = split(words)?;
    let ports: Ports = text.parse()?;
    check_target(&host, ports.only(), text)?;
    Ok(Targets { host, ports })
}

fn check_target(host: &Host, port: Option<&Port>, text: &str) -> Result<(), String> {
    Err(match (host, port) {
        (Host::Named(_), _) => return Ok(()),
        (Host::Every, _) => {
            "'*' is every interface of this machine; a target is one host".to_owned()
        }
        (Host::Unstated, Some(Port::Service(name))) => {
            format!("'{name}' has no port: write '{name} PORT'")
        }
        (Host::Unstated, _) => format!("port {text} of which host? write 'HOST {text}'"),
    })
}

/// Splits one or two words into the host and the text of the port.
fn split<'a>(words: &[&'a str]) -> Result<(Host, &'a str), String> {
    match *words {
        [host, port] => Ok((parse_host(host)?, port)),
        ["*"] => Err("'*' has no port: write '* PORT' or '*:PORT'".to_owned()),
        [word] if word.starts_with('[') => match word.rsplit_once("]:") {
            Some((host, port)) => Ok((parse_host(&format!("{host}]"))?, port)),
            None => Err(format!("'{word}' has no port: write '[IPV6]:PORT'")),
        },
        [word] => match word.rsplit_once(':') {
            None if word.contains('/') => Err(format!(
                "'{word}' is not an endpoint: write '{0}' or '{1}'",
                word.replacen('/', " ", 1),
                word.replacen('/', ":", 1)
            )),
            None => Ok((Host::Unstated, word)),
            Some((host, _)) if host.contains(':') => Err(explain_colons(word)),
            Some((_, "")) => Err(format!("'{word}' has no port after the colon")),
            Some(("", port)) => Ok((Host::Unstated, port)),
            Some((host, port)) => Ok((parse_host(host)?, port)),
        },
        _ => Err("expected HOST PORT, HOST:PORT or PORT".to_owned()),
    }
}

/// Parses a host: a name, an address, an IPv6 address with or without brackets, or `*`.
fn parse_host(text: &str) -> Result<Host, String> {
    let bare = text.strip_prefix('[').map(|inner| {
        let inner = inner.strip_suffix(']').filter(|inner| is_ipv6(inner));
        inner.ok_or(format!("'{text}' is not an IPv6 address in brackets"))
    });
    let bare = bare.unwrap_or(Ok(text))?;
    let is_odd = |letter: char| letter.is_whitespace() || letter.is_control();
    match bare {
        "" => Err("HOST is empty".to_owned()),
        "*" => Ok(Host::Every),
        _ if is_ipv6(bare) => Ok(Host::Named(bare.to_owned())),
        _ if text.contains(':') => Err(format!(
            "'{text}' is neither a name nor an IPv6 address: write HOST PORT or HOST:PORT"
        )),
        _ if text.contains(is_odd) => Err(format!("'{}' is not a host", text.escape_debug())),
        _ => Ok(Host::Named(text.to_owned())),
    }
}

/// Explains the right form of a word with several colons and no brackets.
fn explain_colons(word: &str) -> String {
    let split = word
        .rsplit_once(':')
        .filter(|(host, port)| is_ipv6(host) && port.parse::<Port>().is_ok());
    match split {
        Some((host, port)) if is_ipv6(word) => format!(
            "'{word}' can be read in two ways: write '[{host}]:{port}' if {port} is the port, '[{word}]:PORT' if it is not"
        ),
        Some((host, port)) => format!("'{word}' needs brackets: write '[{host}]:{port}'"),
        None if is_ipv6(word) => format!("'{word}' has no port: write '[{word}]:PORT'"),
        None => format!("'{word}' has too many colons: write 'HOST:PORT' or '[IPV6]:PORT'"),
    }
}

/// Returns true for a literal IPv6 address, with or without a scope.
fn is_ipv6(text: &str) -> bool {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    address.parse::<Ipv6Addr>().is_ok() && scope != Some("")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn named(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: Host::Named(host.to_owned()),
            port: Port::Number(port),
        }
    }

    #[test]
    fn every_spelling_of_an_endpoint() {
        for (words, endpoint) in [
            (&["127.0.0.1", "80"][..], named("127.0.0.1", 80)),
            (&["127.0.0.1:80"], named("127.0.0.1", 80)),
            (&["example.com:80"], named("example.com", 80)),
            (&["[::1]:80"], named("::1", 80)),
            (&["::1", "80"], named("::1", 80)),
            (&["[::1]", "80"], named("::1", 80)),
            (&["fe80::1%lo", "80"], named("fe80::1%lo", 80)),
            (&["[fe80::1%lo]:80"], named("fe80::1%lo", 80)),
            (&["::ffff:1.2.3.4", "80"], named("::ffff:1.2.3.4", 80)),
        ] {
            assert_eq!(parse_target(words), Ok(endpoint.clone()), "{words:?}");
            assert_eq!(parse_bind_point(words), Ok(endpoint), "{words:?}");
        }
    }

    #[test]
    fn a_list_of_ports_stands_where_a_port_stands() {
        for (words, host, ports) in [
            (&["::1", "22,80-81"][..], "::1", "22,80-81"),
            (&["[::1]:22,80-81"], "::1", "22,80-81"),
            (&["example.com:http,81"], "example.com", "http,81"),
            (&["localhost:80"], "localhost", "80"),
            (&["localhost", "http-alt"], "localhost", "http-alt"),
        ] {
            let targets = Targets {
                host: Host::Named(host.to_owned()),
                ports: ports.parse().unwrap(),
            };
            assert_eq!(parse_targets(words), Ok(targets), "{words:?}");
        }
        for words in [
            &["22,80"][..],
            &["::1:22,80"],
            &["*", "22,80"],
            &["host", "22,"],
            &["host:0,1"],
            &["host", "81-80"],
            &[":22,80"],
            &[],
        ] {
            assert!(parse_targets(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_bind_point_may_leave_the_host_out() {
        for (words, host, port) in [
            (&["80"][..], Host::Unstated, Port::Number(80)),
            (&[":0"], Host::Unstated, Port::Number(0)),
            (&["http"], Host::Unstated, Port::Service("http".to_owned())),
            (&["*", "0"], Host::Every, Port::Number(0)),
            (&["*:80"], Host::Every, Port::Number(80)),
        ] {
            assert_eq!(
                parse_bind_point(words),
                Ok(Endpoint { host, port }),
                "{words:?}"
            );
            assert!(parse_target(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_bad_endpoint_shows_the_right_form() {
        for (words, says) in [
            (&["::1:80"][..], "write '[::1]:80' if 80 is the port"),
            (&["::1:http"], "write '[::1]:http'"),
            (&["::1"], "write '[::1]:PORT'"),
            (&["[::1]"], "write '[IPV6]:PORT'"),
            (&["[::1]80"], "write '[IPV6]:PORT'"),
            (&["[1.2.3.4]:80"], "not an IPv6 address in brackets"),
            (&["a:b:c"], "too many colons"),
            (&["host:"], "no port after the colon"),
            (&["host:80", "90"], "neither a name nor an IPv6 address"),
            (&["host", "65536"], "port 65536 is out of range"),
            (&["host", ""], "'' is not a port"),
            (&["host", "8 0"], "'8 0' is not a port"),
            (&["", "80"], "HOST is empty"),
            (&["fe80::1%", "80"], "neither a name nor an IPv6 address"),
            (&["a b", "80"], "'a b' is not a host"),
            (&["*"], "'*' has no port"),
            (&["127.0.0.1"], "write '127.0.0.1 PORT'"),
            (&["127.0.0.1/80"], "write '127.0.0.1 80' or '127.0.0.1:80'"),
        ] {
            let target = parse_target(words);
            let bind = parse_bind_point(words);
            assert!(
                target.as_ref().is_err_and(|text| text.contains(says)),
                "{target:?}"
            );
            assert!(
                bind.as_ref().is_err_and(|text| text.contains(says)),
                "{bind:?}"
            );
        }
        assert!(parse_target(&["host", "0"]).is_err());
    }

    #[test]
    fn lists_and_ranges() {
        let number = |number| Item::One(Port::Number(number));
        let service = |name: &str| Item::One(Port::Service(name.to_owned()));
        for (text, items) in [
            ("22", vec![number(22)]),
            ("22,80", vec![number(22), number(80)]),
            ("1-2,9", vec![Item::Range(1..=2), number(9)]),
            ("65535-65535", vec![Item::Range(65_535..=65_535)]),
            ("ssh,http-alt", vec![service("ssh"), service("http-alt")]),
        ] {
            assert_eq!(text.parse(), Ok(Ports(items)), "{text}");
        }
        for text in [
            "", ",", "22,", "22,,80", "0", "0-5", "5-1", "1-65536", "1-2-3,", "-5",
        ] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_one_port_is_one_endpoint() {
        let only = |text: &str| text.parse::<Ports>().unwrap().only().cloned();
        assert_eq!(only("80"), Some(Port::Number(80)));
        assert_eq!(only("80-80"), None);
        assert_eq!(only("80,81"), None);
    }
}
