//! `tuplecat compare`: TCP and UDP side by side, on real sockets of this process, on loopback.
//! An experiment checks every statement; the status is 1 if one does not hold.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::Compare;
use crate::exit::{Exit, Failure, print};

mod experiments;
mod page;
mod scene;
mod speed;
mod unix;

use scene::Scene;

/// One difference, as both transports show it.
#[derive(Debug, Serialize)]
struct Step {
    title: String,
    /// Heads of the columns.
    #[serde(skip)]
    columns: [&'static str; 2],
    tcp: Vec<Statement>,
    udp: Vec<Statement>,
}

/// A statement, and whether it holds here.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Statement {
    text: String,
    holds: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    address: &'a str,
    holds: bool,
    steps: &'a [Step],
}

impl Step {
    fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            columns: ["TCP", "UDP"],
            tcp: Vec::new(),
            udp: Vec::new(),
        }
    }

    /// Adds a statement about TCP.
    fn tcp(&mut self, holds: bool, text: impl Into<String>) {
        let text = text.into();
        self.tcp.push(Statement { text, holds });
    }

    /// Adds a statement about UDP.
    fn udp(&mut self, holds: bool, text: impl Into<String>) {
        let text = text.into();
        self.udp.push(Statement { text, holds });
    }
}

pub(super) fn run(options: &Compare) -> Result<()> {
    let scene = Scene::new(options)?;
    let address = scene.ip.to_string();
    let steps = experiments::all(&scene).context("an experiment failed");
    let mut steps = steps.with_context(|| format!("cannot compare on {address}"))?;
    steps.push(unix::compare().context("an experiment with Unix sockets failed")?);
    steps.push(speed::measure(&scene).context("a measurement failed")?);

    let mut statements = steps
        .iter()
        .flat_map(|step| step.tcp.iter().chain(&step.udp));
    let holds = statements.all(|statement| statement.holds);
    let text = if options.json {
        let report = Report {
            address: &address,
            holds,
            steps: &steps,
        };
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        page::render(&address, &steps)
    };
    print(&text)?;
    if holds {
        return Ok(());
    }
    let text = "this kernel behaves otherwise: see the lines marked NOT SO HERE";
    Err(Failure::new(Exit::Failed, text).into())
}
