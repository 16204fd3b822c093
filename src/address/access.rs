//! Access rules of a socket that serves others: networks and hosts that are allowed or denied.
//! The first rule that matches decides; without a match a peer is admitted, unless there is a rule that allows others.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};

use crate::exit::{Exit, Failure};
use crate::tap::Reach;

/// Verdict of a rule on the peers that it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// They are admitted.
    #[default]
    Allowed,
    /// They are refused.
    Denied,
}

/// Networks that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Networks {
    /// A single network.
    One(IpNet),
    /// All addresses of a host, looked up at the start.
    Named(String),
    /// The networks and hosts in a file.
    Listed(PathBuf),
}

/// Access rules, applied to the address of each peer. By default they admit every peer.
#[derive(Clone, Debug, Default)]
pub struct Access {
    rules: Vec<(Verdict, IpNet)>,
    otherwise: Verdict,
}

impl Access {
    /// Takes rules in their order, reads the files that they name, and looks host names up by `resolve`.
    ///
    /// Errors: a file that cannot be read, an entry in it that is no network, with the number of the line, or those of `resolve`.
    pub fn new(given: &[(Verdict, Networks)], resolve: &Resolve) -> Result<Self, Failure> {
        let mut access = Self::default();
        for (verdict, networks) in given {
            if *verdict == Verdict::Allowed {
                access.otherwise = Verdict::Denied;
            }
            let networks = match networks {
                Networks::One(network) => vec![*network],
                Networks::Named(name) => addresses(name, resolve)?,
                Networks::Listed(path) => read_list(path, resolve)?,
            };
            let rules = networks.into_iter().map(|network| (*verdict, network));
            access.rules.extend(rules);
        }
        Ok(access)
    }

    /// Returns true if not every peer that reaches a socket of this reach is admitted by default: some are allowed, or all denied.
    pub fn is_restrictive(&self, reach: Reach, address: IpAddr) -> bool {
        let denies_all = |is_v4: bool| {
            let mut rules = self.rules.iter();
            rules.any(|(_, network)| network.prefix_len() == 0 && network.addr().is_ipv4() == is_v4)
        };
        self.otherwise == Verdict::Denied
            || denies_all(address.is_ipv4()) && (reach != Reach::DualStack || denies_all(true))
    }

    /// Returns true if a peer at `address` is admitted. An IPv4-mapped address counts as its IPv4 address (RFC 4291, 2.5.5.2).
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut rules = self.rules.iter();
        let rule = rules.find(|(_, network)| network.contains(&address));
        rule.map_or(self.otherwise, |&(verdict, _)| verdict) == Verdict::Allowed
    }
}

/// Parses a network, such as `192.0.2.0/24`, or a single address. A network of IPv4-mapped addresses is the IPv4 network.
///
/// Errors: one clause that shows the right form.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| NETWORK_FORM.to_owned())?,
    };
    let IpNet::V6(v6) = network else {
        return Ok(network);
    };
    let mapped = v6.addr().to_ipv4_mapped();
    let mapped = mapped.zip(v6.prefix_len().checked_sub(MAPPED_BITS));
    let mapped = mapped.and_then(|(address, len)| Ipv4Net::new(address, len).ok());
    Ok(mapped.map_or(network, IpNet::V4))
}

/// Parses an entry of the rules: a network, an address, or the name of a host.
///
/// Errors: as those of [`parse_network`].
pub fn parse_entry(text: &str) -> Result<Networks, String> {
    let is_letter = |letter: char| letter.is_ascii_alphabetic();
    let is_named = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    match parse_network(text) {
        Ok(network) => Ok(Networks::One(network)),
        Err(_) if text.chars().all(is_named) && text.contains(is_letter) => {
            Ok(Networks::Named(text.to_owned()))
        }
        Err(expected) => Err(expected),
    }
}

const NETWORK_FORM: &str =
    "expected an address, a network such as 192.0.2.0/24 or 2001:db8::/32, or a host name";

/// Length of the prefix that IPv4-mapped addresses share.
const MAPPED_BITS: u8 = 96;

/// Look-up of all addresses of a host.
pub type Resolve<'a> = dyn Fn(&str) -> Result<Vec<IpAddr>, Failure> + 'a;

fn addresses(name: &str, resolve: &Resolve) -> Result<Vec<IpNet>, Failure> {
    let found = resolve(name)?.into_iter();
    Ok(found.map(|ip| IpNet::from(ip.to_canonical())).collect())
}

/// Reads a list: entries between blanks, commas and line ends; a `#` begins a comment.
fn read_list(path: &Path, resolve: &Resolve) -> Result<Vec<IpNet>, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::local(format!("cannot read the list '{shown}'"), &error))?;
    let mut networks = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let entries = line.split(|letter: char| letter == ',' || letter.is_whitespace());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let place = format!("'{shown}', line {number}");
            let failed =
                |expected| Failure::new(Exit::Failed, format!("{place}: '{entry}': {expected}"));
            match parse_entry(entry).map_err(failed)? {
                Networks::One(network) => networks.push(network),
                Networks::Named(name) => {
                    let failed = |failure: Failure| {
                        Failure::new(failure.exit, format!("{place}: {failure}"))
                    };
                    networks.extend(addresses(&name, resolve).map_err(failed)?);
                }
                Networks::Listed(_) => {}
            }
        }
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use pretty_assertions::assert_eq;

    use super::*;

    fn unknown(name: &str) -> Result<Vec<IpAddr>, Failure> {
        Err(Failure::new(Exit::Unresolved, format!("no '{name}'")))
    }

    /// Rules as they would be given: `+` allows, `-` denies.
    fn access(rules: &[&str]) -> Access {
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| {
                let (sign, network) = rule.split_at(1);
                let verdict = match sign {
                    "+" => Verdict::Allowed,
                    _ => Verdict::Denied,
                };
                (verdict, Networks::One(parse_network(network).unwrap()))
            })
            .collect();
        Access::new(&rules, &unknown).unwrap()
    }

    fn admits(access: &Access, address: &str) -> bool {
        access.admits(address.parse().unwrap())
    }

    #[test]
    fn the_first_match_decides() {
        let access = access(&["-10.0.0.1", "+10.0.0.0/8", "-10.2.0.0/16"]);
        assert!(!admits(&access, "10.0.0.1"));
        assert!(admits(&access, "10.0.0.2"));
        assert!(admits(&access, "10.2.0.1"));
        assert!(!admits(&access, "192.0.2.1"));
    }

    #[test]
    fn without_a_match_any_allow_rule_refuses() {
        assert!(admits(&Access::default(), "192.0.2.1"));
        assert!(admits(&access(&["-10.0.0.0/8"]), "192.0.2.1"));
        assert!(!admits(&access(&["-10.0.0.0/8", "+::1"]), "192.0.2.1"));
    }

    #[test]
    fn a_mapped_address_counts_as_its_ipv4_address() {
        for network in ["127.0.0.0/8", "::ffff:127.0.0.0/104"] {
            let access = access(&[&format!("+{network}")]);
            assert!(admits(&access, "127.0.0.1"));
            assert!(admits(&access, "::ffff:127.0.0.1"));
            assert!(!admits(&access, "::1"));
        }
    }

    #[test]
    fn a_network_of_the_other_family_never_matches() {
        let access = access(&["+::/0"]);
        assert!(admits(&access, "2001:db8::1"));
        assert!(!admits(&access, "192.0.2.1"));
    }

    #[test]
    fn networks_have_their_usual_forms() {
        for (text, network) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.1.2.3/8"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/90", "::ffff:0.0.0.0/90"),
        ] {
            assert_eq!(
                parse_network(text).map(|network| network.to_string()),
                Ok(network.to_owned())
            );
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "localhost",
            "10.0.0.0/",
            "::1%lo",
        ] {
            assert!(parse_network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn blanks_commas_and_lines_separate_the_entries_of_a_list() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# ours\n\n 10.0.0.0/8,11.0.0.0/8 , 12.0.0.1\t12.0.0.2 # all\n::1\n")
            .unwrap();
        let listed = |path: &Path| {
            Access::new(
                &[(Verdict::Allowed, Networks::Listed(path.into()))],
                &unknown,
            )
        };
        let access = listed(file.path()).unwrap();
        for address in ["10.9.9.9", "11.0.0.1", "12.0.0.1", "12.0.0.2", "::1"] {
            assert!(admits(&access, address), "{address}");
        }
        assert!(!admits(&access, "192.0.2.1"));
        for (entry, message) in [
            ("ten", "line 5: no 'ten'"),
            ("1.2/8", "line 6: '1.2/8': expected"),
        ] {
            let before = std::fs::read_to_string(file.path()).unwrap();
            writeln!(file, "{entry}").unwrap();
            let failure = listed(file.path()).unwrap_err();
            assert!(failure.message.contains(message), "{failure}");
            std::fs::write(file.path(), before + "# 1\n").unwrap();
        }
        let failure = listed(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(
            failure.message,
            "cannot read the list '/nonexistent': no such file or directory"
        );
    }
}
