//! `tuplecat compare`: TCP and UDP side by side, on real sockets of this process, on loopback.
//! Nothing is told from memory: each statement is checked by the experiment above it, and one that does not hold is the end with 1.

use anyhow::Context;
use serde::Serialize;

use crate::cli::Compare;
use crate::exit::{Exit, Failure, print};

mod absence;
mod experiments;
mod page;
mod scene;
mod speed;

use scene::Scene;

/// One difference, as both transports show it.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    title: String,
    tcp: Vec<Statement>,
    udp: Vec<Statement>,
}

/// Something that was tried, and whether it is so.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Statement {
    text: String,
    holds: bool,
}

/// Makes a statement of what was seen.
fn state(holds: bool, text: impl Into<String>) -> Statement {
    let text = text.into();
    Statement { text, holds }
}

#[derive(Serialize)]
struct Report<'a> {
    address: String,
    holds: bool,
    steps: &'a [Step],
}

pub(super) fn run(options: &Compare) -> anyhow::Result<()> {
    let scene = Scene::new(options)?;
    let steps = experiments::all(&scene);
    let mut steps = steps.with_context(|| format!("cannot compare on {}", scene.ip()))?;
    steps.push(speed::measure(&scene)?);

    let all = |step: &Step| {
        step.tcp
            .iter()
            .chain(&step.udp)
            .all(|statement| statement.holds)
    };
    let holds = steps.iter().all(all);
    let address = scene.ip().to_string();
    let text = if options.json {
        let report = Report {
            address,
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
    let text = "this kernel behaves otherwise than told: see the lines that are not so";
    Err(Failure::new(Exit::Failed, text).into())
}
