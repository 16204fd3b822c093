//! The command line of the benchmark.
//! Every option has a default: `cargo bench` alone runs all contests.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
Usage: cargo bench [-- OPTIONS]

  --quick         2 short rounds: shows that it works, not the speed
  --rounds N      number of rounds (5)
  --only NAMES    only contests whose names begin so, separated by commas
  --list          print the names
  --json          print JSON instead of a Markdown table
  --before FILE   compare with another build of tuplecat as well
";

/// The parsed options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) is_quick: bool,
    pub(crate) rounds: usize,
    pub(crate) only: Vec<String>,
    pub(crate) output: Output,
    pub(crate) before: Option<PathBuf>,
}

/// The output of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Markdown,
    Json,
    Names,
    Usage,
    /// Nothing, because `cargo test` runs this program without a need for figures.
    Nothing,
}

impl Options {
    /// Parses the arguments after the program's name.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            is_quick: false,
            rounds: 5,
            only: Vec::new(),
            output: Output::Markdown,
            before: None,
        };
        let mut rounds = None;
        let mut is_bench = false;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                // Cargo passes it for `cargo bench`, but not for `cargo test`.
                "--bench" => is_bench = true,
                "--quick" => options.is_quick = true,
                "--rounds" => rounds = Some(value()?.parse().context("--rounds")?),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--json" => options.output = Output::Json,
                "--list" => options.output = Output::Names,
                "--help" | "-h" => options.output = Output::Usage,
                "--before" => options.before = Some(PathBuf::from(value()?).canonicalize()?),
                _ => bail!("unknown option {word}\n\n{USAGE}"),
            }
        }
        if !is_bench {
            options.output = Output::Nothing;
        }
        options.rounds = rounds.unwrap_or(if options.is_quick { 2 } else { 5 });
        Ok(options)
    }

    /// Returns true if the contest `name` is selected.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}
