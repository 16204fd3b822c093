//! Names of Unix sockets as users write them: a path, or `@` and an abstract name (unix(7)).
//! A path is a file with an owner and permissions; an abstract name has neither, and ends with its socket.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use crate::flow::Address;

/// The most bytes of an abstract name (unix(7)).
const MAX_ABSTRACT: usize = 107;

/// The name of a Unix socket: the bytes of a path, or a zero byte and an abstract name, as the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixName(Vec<u8>);

impl UnixName {
    /// Returns the bytes in the form of a path, which begins with a zero byte if it is an abstract name.
    pub fn path(&self) -> &Path {
        OsStr::from_bytes(&self.0).as_ref()
    }

    /// Returns true for an abstract name, which is no file.
    pub fn is_abstract(&self) -> bool {
        self.0.first() == Some(&0)
    }

    /// Returns the name for reports.
    pub fn address(&self) -> Address {
        Address::unix(&self.0)
    }
}

impl FromStr for UnixName {
    type Err = String;

    /// Reads `PATH` or `@NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some("") => Err("expected a name after '@'".to_owned()),
            Some(name) if name.len() > MAX_ABSTRACT => {
                let len = name.len();
                Err(format!(
                    "an abstract name has at most {MAX_ABSTRACT} bytes, and this one {len}"
                ))
            }
            Some(name) => Ok(Self([&[0], name.as_bytes()].concat())),
            None if text.is_empty() => {
                Err("expected a path, or '@' and an abstract name".to_owned())
            }
            None => Ok(Self(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_abstract() {
        let read = |text: &str| {
            text.parse()
                .map(|name: UnixName| (name.address().to_string(), name.is_abstract()))
        };
        assert_eq!(read("/run/x"), Ok(("/run/x".to_owned(), false)));
        assert_eq!(read("x y"), Ok((r"./x\x20y".to_owned(), false)));
        assert_eq!(read("@x"), Ok(("@x".to_owned(), true)));
        for text in ["", "@", &format!("@{}", "x".repeat(108))] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
