//! Several ports of one host, written as `22,80,8000-8010`.
//! One port is a list too, so whoever asks after many asks after one in the same way.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{InvalidEndpoint, Port, invalid};

/// A list of ports, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub Vec<Item>);

/// One part of a list of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// One port.
    One(Port),
    /// All from the first to the last.
    Range(RangeInclusive<u16>),
}

impl Ports {
    /// The port, if there is only one.
    #[must_use]
    pub fn only(&self) -> Option<&Port> {
        match self.0.as_slice() {
            [Item::One(port)] => Some(port),
            _ => None,
        }
    }
}

impl FromStr for Ports {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let items: Result<Vec<Item>, _> = text.split(',').map(str::parse).collect();
        items.map(Self)
    }
}

impl FromStr for Item {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        // The names of services have dashes, too.
        let range = text
            .split_once('-')
            .filter(|(first, last)| is_number(first) && is_number(last));
        let Some((first, last)) = range else {
            return Ok(Self::One(nonzero(text)?));
        };
        let (Port::Number(first), Port::Number(last)) = (nonzero(first)?, nonzero(last)?) else {
            return invalid(format!("'{text}' is not a range of ports"));
        };
        if last < first {
            return invalid(format!("'{text}' is a range that ends before it begins"));
        }
        Ok(Self::Range(first..=last))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn nonzero(text: &str) -> Result<Port, InvalidEndpoint> {
    match text.parse()? {
        Port::Number(0) => {
            invalid("port 0 is no target: it only lets the kernel choose a port of this machine")
        }
        port => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

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
