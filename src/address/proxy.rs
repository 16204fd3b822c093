//! Proxies as users write them, and the way that leads through them: `SCHEME://[USER[:PASSWORD]@]HOST:PORT`.
//! A password is part of no text, not even of a debug form.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::{Endpoint, Host, Resolver, Source, Targets, parse_target};
use crate::exit::Failure;
use crate::tap::Via;

/// Proxy that connects to targets for this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name for the protocol.
    pub scheme: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// True if it looks up the names of targets.
    pub takes_names: bool,
    /// Its address.
    pub endpoint: Endpoint,
    /// The account there.
    pub login: Option<Login>,
}

/// Protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SOCKS 5 (RFC 1928).
    Socks5,
    /// SOCKS 4, or 4A with names.
    Socks4,
    /// HTTP CONNECT (RFC 9110, section 9.3.6).
    Http,
}

/// Schemes of URLs, each with its protocol, and true if the proxy looks up names.
const SCHEMES: [(&str, Protocol, bool); 5] = [
    ("socks5", Protocol::Socks5, false),
    ("socks5h", Protocol::Socks5, true),
    ("socks4", Protocol::Socks4, false),
    ("socks4a", Protocol::Socks4, true),
    ("http", Protocol::Http, true),
];

/// Account of a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: Vec<u8>,
    /// The password, if one was given.
    pub password: Option<Vec<u8>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// First hop on the way to a target: the address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The target, or the proxy in front of it.
    pub remote: SocketAddr,
    /// The rest of the way, from a proxy on.
    pub tunnel: Option<Tunnel>,
}

/// Way from a proxy to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// The name or the address of the target.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The same for reports.
    pub via: Via,
}

impl From<SocketAddr> for Hop {
    fn from(remote: SocketAddr) -> Self {
        let tunnel = None;
        Self { remote, tunnel }
    }
}

impl FromStr for Proxy {
    type Err = String;

    /// Parses a URL. In the user and the password, `%HH` is any byte (RFC 3986, section 2.1).
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once("://").unwrap_or_default();
        let scheme = SCHEMES.iter().find(|(scheme, ..)| *scheme == name);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        // A path has no meaning here, and is not a part of the port.
        let scheme = scheme.filter(|_| !place.contains('/'));
        let (Some(&(scheme, protocol, takes_names)), Ok(endpoint)) =
            (scheme, parse_target(&[place]))
        else {
            let names = SCHEMES.map(|(name, ..)| name).join(", ");
            return Err(format!(
                "expected SCHEME://[USER[:PASSWORD]@]HOST:PORT, where SCHEME is one of {names}"
            ));
        };
        let decode = |text: &str| percent_decode_str(text).collect();
        let login = login.map(|login| match login.split_once(':') {
            Some((user, password)) => (decode(user), Some(decode(password))),
            None => (decode(login), None),
        });
        Ok(Self {
            scheme,
            protocol,
            takes_names,
            endpoint,
            login: login.map(|(user, password)| Login { user, password }),
        })
    }
}

/// Variable of the environment with the password of the proxy.
const PASSWORD_VARIABLE: &str = "TUPLECAT_PROXY_PASSWORD";

/// The most bytes that are read of a file with a password.
const MAX_PASSWORD_FILE: u64 = 4096;

impl Proxy {
    /// Adds the password from the first line of a file, or from the environment, to a user without one.
    pub fn with_password(mut self, path: Option<&Path>) -> Result<Self, Failure> {
        let is_socks4 = self.protocol == Protocol::Socks4;
        if let Some(login) = self.login.as_mut().filter(|login| login.password.is_none()) {
            login.password = match path {
                Some(path) => Some(read_password(path)?),
                None if is_socks4 => None,
                None => env::var(PASSWORD_VARIABLE).ok().map(String::into_bytes),
            };
        }
        Ok(self)
    }
}

fn read_password(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map(|file| file.take(MAX_PASSWORD_FILE));
    let text = file.and_then(io::read_to_string).map_err(|error| {
        let act = format!("cannot read '{}' (--proxy-password)", path.display());
        Failure::local(act, &error)
    })?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.as_bytes().to_vec())
}

impl Resolver {
    /// Returns the name that a name server may be asked for on the way to a host.
    pub fn queried_name_on_way(
        self,
        host: &Host,
        proxy: Option<&Arc<Proxy>>,
        source: Option<&str>,
    ) -> Option<String> {
        let own = proxy.is_none_or(|proxy| !proxy.takes_names).then_some(host);
        let mut hosts = proxy
            .map(|proxy| &proxy.endpoint.host)
            .into_iter()
            .chain(own);
        hosts.find_map(|host| self.queried_name(host, source))
    }

    /// Returns the first hops to each of several ports: the addresses of the target, or those of the proxy for each of them.
    pub fn hops(
        self,
        targets: &Targets,
        proxy: Option<&Arc<Proxy>>,
        source: Source,
    ) -> Result<Vec<Vec<Hop>>, Failure> {
        let Some(proxy) = proxy else {
            let lists = self.target_lists(targets)?.into_iter();
            let direct = |list: Vec<_>| list.into_iter().map(Hop::from).collect();
            return lists
                .map(|list| Ok(direct(source.reachable(list)?)))
                .collect();
        };
        let proxies = source.reachable(self.targets(&proxy.endpoint)?)?;
        let lists: Vec<Vec<(String, u16)>> = match &targets.host {
            Host::Named(name) if proxy.takes_names && name.parse::<IpAddr>().is_err() => {
                let ports = self.ports(&targets.ports)?.into_iter();
                ports.map(|port| vec![(name.clone(), port)]).collect()
            }
            _ => {
                let place = |to: &SocketAddr| (to.ip().to_string(), to.port());
                let lists = self.target_lists(targets)?.into_iter();
                lists.map(|list| list.iter().map(place).collect()).collect()
            }
        };
        let hops = |(host, port): (String, u16)| {
            let proxies = proxies.iter();
            proxies.map(move |&remote| Hop {
                remote,
                tunnel: Some(Tunnel::new(proxy, remote, host.clone(), port)),
            })
        };
        let lists = lists.into_iter();
        Ok(lists
            .map(|list| list.into_iter().flat_map(hops).collect())
            .collect())
    }
}

impl Tunnel {
    fn new(proxy: &Arc<Proxy>, remote: SocketAddr, host: String, port: u16) -> Self {
        let target = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let via = Via {
            target,
            proxy: proxy.scheme,
            remote: remote.into(),
        };
        Self {
            proxy: Arc::clone(proxy),
            host,
            port,
            via,
        }
    }
}

/// Returns the text of a URL without the user and the password.
pub fn masked(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, place)) => format!("***@{place}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::address::Port;

    #[test]
    fn every_part_of_a_url() {
        for (scheme, protocol, takes_names) in SCHEMES {
            let proxy: Proxy = format!("{scheme}://gate.example:1080").parse().unwrap();
            let host = Host::Named("gate.example".to_owned());
            let port = Port::Number(1080);
            let expected = Proxy {
                scheme,
                protocol,
                takes_names,
                endpoint: Endpoint { host, port },
                login: None,
            };
            assert_eq!(proxy, expected);
        }
        let proxy: Proxy = "socks5://me%40x:a:b%2f@[::1]:1080/".parse().unwrap();
        let login = proxy.login.unwrap();
        assert_eq!(login.user, b"me@x");
        assert_eq!(login.password.as_deref(), Some(&b"a:b/"[..]));
        assert_eq!(proxy.endpoint.host, Host::Named("::1".to_owned()));
        let proxy: Proxy = "socks4://me@127.0.0.1:1080".parse().unwrap();
        assert_eq!(proxy.login.unwrap().password, None);
    }

    #[test]
    fn no_text_shows_an_account() {
        let proxy: Proxy = "http://me:pass@[::1]:3128".parse().unwrap();
        assert!(!format!("{proxy:?}").contains("pass"));
        assert_eq!(masked("http://me:p@ss@gate"), "***@gate");
        assert_eq!(masked("http://gate:1"), "http://gate:1");
        for text in [
            "",
            "gate:1080",
            "https://gate:1080",
            "socks5://me:pass@gate",
            "socks5://me:pass@:1080",
            "socks5://me:pass@gate:0",
            "http://gate:1080/path",
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert!(error.starts_with("expected SCHEME://"), "{text}: {error}");
        }
    }
}
