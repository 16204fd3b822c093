//! The values of options: parsers, and options that count in the order of the command line.
//! A parser returns the value, or one clause that names the expected form; clap adds the option and the text.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum};

use super::tcp::Keepalive;

/// A group of options whose values form one list, in the order of the command line across the options.
pub trait Sequence: Args {
    /// The value of every option of the group.
    type Value: Clone + Send + Sync + 'static;
    /// The ids of the options.
    const OPTIONS: &'static [&'static str];
}

/// The values of the options of `S`, in the order of the command line.
#[derive(Clone, Debug)]
pub struct Ordered<S: Sequence>(pub Vec<S::Value>);

impl<S: Sequence> FromArgMatches for Ordered<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut found = Vec::new();
        for option in S::OPTIONS {
            let places = matches.indices_of(option).into_iter().flatten();
            let values = matches.get_many::<S::Value>(option).into_iter().flatten();
            found.extend(places.zip(values.cloned()));
        }
        found.sort_by_key(|(place, _)| *place);
        Ok(Self(found.into_iter().map(|(_, value)| value).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<S: Sequence> Args for Ordered<S> {
    fn augment_args(command: Command) -> Command {
        S::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        S::augment_args_for_update(command)
    }
}

/// The longest time that is accepted: a longer one could overflow a point in time.
const MAX_DURATION: Duration = Duration::from_secs(1_000_000_000);

/// Parses a time of more than zero: seconds (`5`, `1.5`), or a number with a unit (`500ms`, `2m`).
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        time => Ok(time),
    }
}

/// Parses a time that may be zero.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    match time {
        Some(time) if time > MAX_DURATION => Err("longer than 30 years".to_owned()),
        Some(time) => Ok(time),
        None => Err("expected a time such as 5, 1.5, 500ms or 2m".to_owned()),
    }
}

/// Parses a value that may be one word as well, and names the word in the error.
pub(super) fn word_or<T>(
    text: &str,
    (word, value): (&str, T),
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    if text == word {
        return Ok(value);
    }
    parse(text).map_err(|error| format!("{error}, or '{word}'"))
}

/// Returns a parser of some of the values of an enum.
pub(super) fn some_of<E>(values: &[E]) -> impl TypedValueParser<Value = E> + use<E>
where
    E: ValueEnum + Clone + Send + Sync + 'static,
{
    let names = values.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names).try_map(|name| E::from_str(&name, false))
}

/// The number of decimal digits that always fit into 64 bits.
const SAFE_DIGITS: usize = 19;

/// Parses a number of bytes, at least 1; `64k` and `64KiB` are 65,536.
pub fn size(text: &str) -> Result<u64, String> {
    let is_safe = text.bytes().filter(u8::is_ascii_digit).count() <= SAFE_DIGITS;
    let size = match text.parse() {
        Ok(size) => Some(size),
        // With more digits the result of the library would wrap around.
        Err(_) if is_safe => parse_size::Config::new()
            .with_binary()
            .parse_size(text)
            .ok(),
        Err(_) => None,
    };
    match size {
        Some(0) => Err("must be at least 1".to_owned()),
        Some(size) => Ok(size),
        None => Err("expected a number of bytes such as 1500, 64k or 1.5M".to_owned()),
    }
}

/// The payload of the largest UDP datagram over IPv6, in bytes: 65,535 less the UDP header (RFC 768; RFC 8200, section 3).
const MAX_PAYLOAD: u64 = 65_527;

/// Parses the size of a datagram, in bytes, at least 1.
pub fn payload(text: &str) -> Result<usize, String> {
    match size(text)? {
        size if size > MAX_PAYLOAD => Err(format!("more than a datagram holds ({MAX_PAYLOAD})")),
        size => usize::try_from(size).map_err(|error| error.to_string()),
    }
}

/// Parses text in which `\n`, `\r`, `\t`, `\0`, `\xHH` and `\\` stand for one byte each.
pub fn text(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(byte) = rest.split_off_first() {
        bytes.push(match byte {
            b'\\' => escaped(&mut rest)?,
            byte => *byte,
        });
    }
    Ok(bytes)
}

/// Takes the rest of an escape sequence, after its backslash, from the front of `rest`.
fn escaped(rest: &mut &[u8]) -> Result<u8, String> {
    let Some(letter) = rest.split_off_first() else {
        return Err("incomplete escape sequence '\\' at the end".to_owned());
    };
    let byte = match letter {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'0' => Some(0),
        b'\\' => Some(b'\\'),
        b'x' => rest.split_off(..2).and_then(|digits| {
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            Some(byte[0])
        }),
        _ => None,
    };
    byte.ok_or_else(|| {
        let letter = letter.escape_ascii();
        format!(r"'\{letter}' is not one of \n \r \t \0 \xHH \\")
    })
}

/// Parses the name of a file that is created in one step.
pub fn named_file(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("it needs a name; --ready-fd 1 is standard output".to_owned()),
        name => Ok(name.into()),
    }
}

/// Parses a size that fits into a C int.
pub fn kernel_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        size if size > MAX_INT => Err("must be less than 2G".to_owned()),
        size => usize::try_from(size).map_err(|error| error.to_string()),
    }
}

/// Parses a local host: any text, without brackets.
pub(super) fn host(text: &str) -> Result<String, String> {
    match text.trim_matches(['[', ']']) {
        "" => Err("expected an address or a name".to_owned()),
        host => Ok(host.to_owned()),
    }
}

/// Parses a number, decimal or hexadecimal after `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` accepts a sign.
        Some(digits) if digits.starts_with('+') => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Parses the mark of a packet, 32 bits.
pub fn mark(text: &str) -> Result<u32, String> {
    number(text).ok_or_else(|| "expected a number such as 7 or 0x7".to_owned())
}

/// Parses the eight bits of the traffic class: a number, or a name of RFC 2474, 2597, 3246, 5865, 8622 or 1349.
pub fn type_of_service(text: &str) -> Result<u8, String> {
    let name = text.to_ascii_lowercase();
    let named = match name.as_bytes() {
        b"ef" => Some(46 << 2),
        b"va" => Some(44 << 2),
        b"le" | b"reliability" => Some(1 << 2),
        b"lowdelay" => Some(0x10),
        b"throughput" => Some(0x08),
        [b'c', b's', class @ b'0'..=b'7'] => Some((class - b'0') << 5),
        [b'a', b'f', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
            Some((class - b'0') << 5 | (drop - b'0') << 3)
        }
        _ => number(&name).and_then(|bits| u8::try_from(bits).ok()),
    };
    named.ok_or_else(|| {
        "expected ef, af11 to af43, cs0 to cs7, le, va, or a number from 0 to 255".to_owned()
    })
}

/// Parses the name of a network interface. The kernel would truncate a longer one.
pub(super) fn interface(text: &str) -> Result<String, String> {
    match text.len() {
        1..=15 => Ok(text.to_owned()),
        _ => Err("expected the name of an interface, 1 to 15 bytes".to_owned()),
    }
}

/// Parses `IDLE,INTERVAL,COUNT`, or an empty text for the system's settings.
pub(super) fn keepalive(text: &str) -> Result<Keepalive, String> {
    if text.is_empty() {
        return Ok(Keepalive::System);
    }
    let parts: Vec<&str> = text.split(',').collect();
    let [idle, interval, count] = parts[..] else {
        return Err("expected IDLE,INTERVAL,COUNT such as 30,5,3".to_owned());
    };
    Ok(Keepalive::Timed {
        idle: whole_seconds(idle)?,
        interval: whole_seconds(interval)?,
        count: match count.parse() {
            Ok(0) | Err(_) => return Err(format!("'{count}' is not a number of probes")),
            Ok(count) => count,
        },
    })
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = duration(text).map_err(|error| format!("'{text}': {error}"))?;
    match time.subsec_nanos() {
        0 => Ok(time),
        _ => Err(format!("'{text}' is not in whole seconds")),
    }
}

/// The largest C int.
pub(super) const MAX_INT: u64 = 0x7fff_ffff;

/// Returns a parser of the numbers from `least` to `most`, all of which `T` holds; `u64::MAX` is no limit.
pub(super) fn whole<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| match most {
            u64::MAX => format!("expected a whole number, {least} or more"),
            _ => format!("expected a whole number from {least} to {most}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn durations() {
        let millis = Duration::from_millis;
        for (text, time) in [
            ("5", millis(5000)),
            ("1.5", millis(1500)),
            (".5", millis(500)),
            ("1e3", millis(1_000_000)),
            ("500ms", millis(500)),
            ("1.5s", millis(1500)),
            ("2m", millis(120_000)),
            ("1h30m", millis(5_400_000)),
        ] {
            assert_eq!(duration(text), Ok(time), "{text}");
        }
        for text in [
            "", " ", "0", "0s", "-1", "nan", "inf", "1e12", "1e300", "5x", "1e-12", "five",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration_or_zero("0"), Ok(Duration::ZERO));
        assert_eq!(duration_or_zero("0ms"), Ok(Duration::ZERO));
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("1", 1),
            ("64k", 65_536),
            ("64K", 65_536),
            ("64KiB", 65_536),
            ("64kB", 65_536),
            ("1.5M", 1_572_864),
            ("2G", 1 << 31),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "k",
            "1x",
            "99999999999999999999",
            "18446744073709551642",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(kernel_size("2147483647"), Ok(2_147_483_647));
        assert!(kernel_size("2G").is_err());
    }

    #[test]
    fn payloads_fit_into_a_datagram() {
        assert_eq!(payload("65527"), Ok(65_527));
        assert!(payload("65528").is_err());
        assert!(payload("0").is_err());
    }

    #[test]
    fn bytes_as_text() {
        for (given, bytes) in [
            ("", &b""[..]),
            ("a b", b"a b"),
            (r"\r\n\t\0\\", b"\r\n\t\0\\"),
            (r"\x00\xfF\x0a1", b"\0\xff\n1"),
            ("\u{e9}", b"\xc3\xa9"),
        ] {
            assert_eq!(text(given), Ok(bytes.to_vec()), "{given}");
        }
        for given in [r"\", r"a\", r"\q", r"\x", r"\x1", r"\x1g", "\\\u{e9}"] {
            assert!(text(given).is_err(), "{given}");
        }
    }

    #[test]
    fn types_of_service() {
        for (text, bits) in [
            ("ef", 0xb8),
            ("EF", 0xb8),
            ("af11", 0x28),
            ("af43", 0x98),
            ("cs0", 0),
            ("cs1", 0x20),
            ("cs7", 0xe0),
            ("le", 0x04),
            ("va", 0xb0),
            ("lowdelay", 0x10),
            ("0x10", 0x10),
            ("0XfF", 255),
            ("184", 184),
        ] {
            assert_eq!(type_of_service(text), Ok(bits), "{text}");
        }
        for text in [
            "", "256", "0x100", "-1", "af44", "af51", "cs8", "0x", "0x+1", "efe",
        ] {
            assert!(type_of_service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keepalives() {
        let seconds = Duration::from_secs;
        assert_eq!(keepalive(""), Ok(Keepalive::System));
        let timed = Keepalive::Timed {
            idle: seconds(120),
            interval: seconds(5),
            count: 3,
        };
        assert_eq!(keepalive("2m,5,3"), Ok(timed));
        for text in ["1", "1,2", "1,2,0", "1,2,3,4", "0,1,1", "1.5,1,1", "1,1,x"] {
            assert!(keepalive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn interfaces_and_marks() {
        assert!(interface("").is_err());
        assert!(interface("a234567890123456").is_err());
        assert_eq!(interface("lo"), Ok("lo".to_owned()));
        assert_eq!(mark("0xffffffff"), Ok(u32::MAX));
        assert!(mark("-1").is_err());
    }

    #[test]
    fn whole_numbers_have_a_range() {
        let width = whole::<u8>(1, 255);
        assert_eq!((width("1"), width("255")), (Ok(1), Ok(255)));
        for text in [
            "",
            "0",
            "256",
            "-1",
            "1.5",
            "0x1",
            " 1",
            "99999999999999999999999",
        ] {
            let expected = "expected a whole number from 1 to 255".to_owned();
            assert_eq!(width(text), Err(expected), "{text}");
        }
        let count = whole::<u64>(1, u64::MAX);
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        let expected = "expected a whole number, 1 or more".to_owned();
        assert_eq!(count("18446744073709551616"), Err(expected));
    }
}
