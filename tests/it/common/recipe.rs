//! A recipe of the manual, about to run as it stands there: only hosts and ports are put in.
//! It is a display with a comment that has its name; whoever changes the page, changes what is tested.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{Launch, program};

/// The lines of a recipe.
pub(crate) struct Recipe(String);

/// The recipe of that name in tuplecat-recipes(7).
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
    /// Puts `to` in the place of `from`, which has to be there.
    #[track_caller]
    pub(crate) fn put(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "no '{from}' in:\n{}", self.0);
        Self(self.0.replace(from, to))
    }

    /// Puts an address in the place of a host and a port.
    #[track_caller]
    pub(crate) fn at(self, from: &str, address: SocketAddr) -> Self {
        self.put(from, &format!("{} {}", address.ip(), address.port()))
    }

    /// Lets a line of the test's own follow, with the recipe's status in `$?`.
    pub(crate) fn then(self, line: &str) -> Self {
        Self(self.0 + line)
    }

    /// The shell that runs it.
    pub(crate) fn launch(self) -> Launch {
        script(&self.0)
    }
}

/// A shell that runs these lines, and finds the program under test where it looks for programs.
pub(crate) fn script(lines: &str) -> Launch {
    let folder = Path::new(env!("CARGO_BIN_EXE_tuplecat")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    program("/bin/sh", "-c").arg(lines).env("PATH", &path)
}
