//! Endpoints as users write them, and the addresses they stand for.
//! What is written is checked without asking anybody; only a [`Resolver`] asks the name service.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

pub mod access;
mod lookup;
mod ports;

pub use lookup::{BindAddress, Names, Resolver, Source};
pub use ports::{Item, Ports};

/// The addresses a user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What the user wrote to name one end of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The machine or the interface.
    pub host: Host,
    /// The port on it.
    pub port: Port,
}

/// The host of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// None was written: this machine only.
    Unstated,
    /// `*`: every interface.
    Every,
    /// A name or a literal address, without brackets, with its scope if it has one.
    Named(String),
}

/// The port of an [`Endpoint`].
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

/// Endpoints to speak to, of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The machine.
    pub host: Host,
    /// The ports on it.
    pub ports: Ports,
}

/// Why a text names no endpoint, in one clause with the text and the right form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint(String);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidEndpoint {}

fn invalid<T>(message: impl Into<String>) -> Result<T, InvalidEndpoint> {
    Err(InvalidEndpoint(message.into()))
}

impl FromStr for Port {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(number) => Ok(Self::Number(number)),
                Err(_) => invalid(format!("port {text} is out of range (0 to 65535)")),
            };
        }
        let is_name = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b":[]%*,".contains(&byte));
        if is_name {
            Ok(Self::Service(text.to_owned()))
        } else {
            invalid(format!(
                "'{text}' is not a port: expected a number from 0 to 65535 or a service name"
            ))
        }
    }
}

/// Reads `[HOST] PORT`, `HOST:PORT`, `[V6]:PORT` or `:PORT`.
pub fn parse_bind_point(words: &[&str]) -> Result<Endpoint, InvalidEndpoint> {
    let endpoint = parse(words)?;
    if let (Host::Unstated, Port::Service(name)) = (&endpoint.host, &endpoint.port)
        && name.contains('.')
    {
        return invalid(format!(
            "'{name}' has no port: write '{name} PORT' or '{name}:PORT'"
        ));
    }
    Ok(endpoint)
}

/// Reads `HOST PORT`, `HOST:PORT` or `[V6]:PORT`, of an endpoint to speak to.
pub fn parse_target(words: &[&str]) -> Result<Endpoint, InvalidEndpoint> {
    let endpoint = parse(words)?;
    match (&endpoint.host, &endpoint.port) {
        (Host::Unstated, Port::Service(name)) => {
            invalid(format!("'{name}' has no port: write '{name} PORT'"))
        }
        (Host::Unstated, port) => {
            invalid(format!("port {port} of which host? write 'HOST {port}'"))
        }
        (Host::Every, _) => invalid("'*' is every interface of this machine; a target is one host"),
        (_, Port::Number(0)) => {
            invalid("port 0 is no target: it only lets the kernel choose a port of this machine")
        }
        _ => Ok(endpoint),
    }
}

/// Reads the same as [`parse_target`], and a list of ports in the place of the port.
pub fn parse_targets(words: &[&str]) -> Result<Targets, InvalidEndpoint> {
    let (host, ports) = match words {
        [host, ports] => (Some(*host), *ports),
        [word] => (None, word.rsplit_once(':').map_or("", |(_, ports)| ports)),
        _ => (None, ""),
    };
    let several = ports
        .parse::<Ports>()
        .ok()
        .filter(|ports| ports.only().is_none());
    let Some(ports) = several else {
        // A list with a fault in it is told of as a list.
        if ports.contains(',') {
            ports.parse::<Ports>()?;
        }
        let Endpoint { host, .. } = parse_target(words)?;
        let ports = ports.parse()?;
        return Ok(Targets { host, ports });
    };
    let Endpoint { host, .. } = match (host, words) {
        (Some(host), _) => parse_target(&[host, "1"])?,
        (None, [word]) => {
            let host = word.rsplit_once(':').map_or("", |(host, _)| host);
            parse_target(&[&format!("{host}:1")])?
        }
        (None, _) => parse_target(words)?,
    };
    Ok(Targets { host, ports })
}

fn parse(words: &[&str]) -> Result<Endpoint, InvalidEndpoint> {
    match words {
        [host, port] => Ok(Endpoint {
            host: parse_host(host)?,
            port: port.parse()?,
        }),
        [word] => parse_word(word),
        _ => invalid("expected HOST PORT, HOST:PORT or PORT"),
    }
}

/// A host as its own word: a name, an address, an IPv6 address with or without brackets, or `*`.
fn parse_host(text: &str) -> Result<Host, InvalidEndpoint> {
    match text {
        "" => return invalid("HOST is empty"),
        "*" => return Ok(Host::Every),
        _ => {}
    }
    if let Some(inner) = text.strip_prefix('[') {
        return match inner.strip_suffix(']') {
            Some(inner) if is_ipv6(inner) => Ok(Host::Named(inner.to_owned())),
            _ => invalid(format!("'{text}' is not an IPv6 address in brackets")),
        };
    }
    if is_ipv6(text) {
        return Ok(Host::Named(text.to_owned()));
    }
    if text.contains(':') {
        return invalid(format!(
            "'{text}' is neither a name nor an IPv6 address: write HOST PORT or HOST:PORT"
        ));
    }
    if text
        .chars()
        .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        return invalid(format!("'{}' is not a host", text.escape_debug()));
    }
    Ok(Host::Named(text.to_owned()))
}

/// Host and port in one word, or a port alone.
fn parse_word(word: &str) -> Result<Endpoint, InvalidEndpoint> {
    if word == "*" {
        return invalid("'*' has no port: write '* PORT' or '*:PORT'");
    }
    if word.starts_with('[') {
        return match word.rsplit_once("]:") {
            Some((host, port)) => parse(&[&format!("{host}]"), port]),
            None => invalid(format!("'{word}' has no port: write '[IPV6]:PORT'")),
        };
    }
    match word.rsplit_once(':') {
        None => Ok(Endpoint {
            host: Host::Unstated,
            port: word.parse()?,
        }),
        Some((host, _)) if host.contains(':') => invalid(explain_colons(word)),
        Some((_, "")) => invalid(format!("'{word}' has no port after the colon")),
        Some(("", port)) => Ok(Endpoint {
            host: Host::Unstated,
            port: port.parse()?,
        }),
        Some((host, port)) => parse(&[host, port]),
    }
}

/// What to say of a word with several colons and no brackets.
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

/// Whether a text is a literal IPv6 address, its scope aside.
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
    fn a_bad_endpoint_is_told_the_right_form() {
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
        ] {
            let target = parse_target(words).map_err(|error| error.to_string());
            let bind = parse_bind_point(words).map_err(|error| error.to_string());
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
}
