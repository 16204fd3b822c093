//! A recipe of the manual, run exactly as it is printed there, except for hosts and ports.
//! A comment in the page names each recipe, so a change of the page changes the test.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Launch, program};

/// The lines of a recipe.
pub(crate) struct Recipe(String);

/// Reads the recipe with this name in tuplecat-recipes(7).
#[track_caller]
pub(crate) fn recipe(name: &str) -> Recipe {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/tuplecat-recipes.7");
    let page = fs::read_to_string(page).unwrap();
    let mark = format!(".\\\" recipe: {name}\n");
    let (_, text) = page
        .split_once(&mark)
        .unwrap_or_else(|| panic!("no recipe '{name}'"));
    let (text, _) = text.split_once(".Ed").unwrap();
    Recipe(text.replace(r"\e", r"\"))
}

impl Recipe {
    /// Replaces `from`, which must be there, by `to`.
    #[track_caller]
    pub(crate) fn put(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "no '{from}' in:\n{}", self.0);
        Self(self.0.replace(from, to))
    }

    /// Replaces a host and a port by an address.
    #[track_caller]
    pub(crate) fn at(self, from: &str, address: SocketAddr) -> Self {
        self.put(from, &format!("{} {}", address.ip(), address.port()))
    }

    /// Appends a line of shell, which finds the recipe's status in `$?`.
    pub(crate) fn then(self, line: &str) -> Self {
        Self(self.0 + line)
    }

    /// Launches the shell that runs it.
    pub(crate) fn launch(self) -> Launch {
        script(&self.0)
    }
}

/// Launches a shell that runs these lines, with the program under test in its search path.
pub(crate) fn script(lines: &str) -> Launch {
    let folder = Path::new(env!("CARGO_BIN_EXE_tuplecat")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    program("/bin/sh", "-c").arg(lines).env("PATH", &path)
}
