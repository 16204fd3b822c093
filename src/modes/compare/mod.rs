//! `tuplecat compare`: TCP and UDP side by side, on real sockets of this process, on loopback.
//! An experiment checks every statement; the status is 1 if one does not hold.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::cli::{Compare, Experiment};
use crate::exit::{Exit, Failure, print};

mod buffers;
mod endings;
mod exchange;
mod page;
mod scene;
mod servers;
mod speed;
mod tuples;
mod unix;

use scene::Scene;

/// One difference, as both transports show it.
#[derive(Clone, Debug, Serialize)]
struct Step {
    name: Experiment,
    title: String,
    /// Heads of the columns.
    #[serde(skip)]
    columns: [&'static str; 2],
    tcp: Vec<Statement>,
    udp: Vec<Statement>,
}

/// A statement, and whether it holds here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Statement {
    text: String,
    holds: bool,
}

impl Step {
    fn new(experiment: Experiment, title: impl Into<String>) -> Self {
        Self {
            name: experiment,
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
    if options.list {
        return list();
    }
    let scene = Scene::new(options)?;
    let address = scene.ip.to_string();
    let mut exchange = Vec::new();
    let mut steps = Vec::new();
    let is_plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
    let bold = anstyle::Effects::BOLD;
    let style = Style::new().effects(if is_plain { bold.remove(bold) } else { bold });
    let chosen = match options.experiments.as_slice() {
        [] => Experiment::value_variants(),
        named => named,
    };
    for (number, experiment) in (1..).zip(chosen) {
        let step = perform(&scene, *experiment, &mut exchange).context("an experiment failed");
        let step = step.with_context(|| format!("cannot compare on {address}"))?;
        if !options.json {
            if number == 1 {
                print(&format!("TCP and UDP side by side, on {address}\n"))?;
            } else if options.pause {
                scene.pause()?;
            }
            print(&page::render(number, &step, style))?;
        }
        steps.push(step);
    }
    let mut statements = steps
        .iter()
        .flat_map(|step| step.tcp.iter().chain(&step.udp));
    let holds = statements.all(|statement| statement.holds);
    if options.json {
        let report = json!({ "address": address, "holds": holds, "steps": steps });
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    if holds {
        return Ok(());
    }
    let text = "this kernel behaves otherwise: see the lines marked NOT SO HERE";
    Err(Failure::new(Exit::Failed, text).into())
}

/// Prints each experiment on a line, its name first.
fn list() -> Result<()> {
    let line = |experiment: &Experiment| {
        let value = experiment.to_possible_value()?;
        Some(format!("{:12}{}\n", value.get_name(), value.get_help()?))
    };
    let lines = Experiment::value_variants().iter().filter_map(line);
    Ok(print(&lines.collect::<String>())?)
}

/// Runs an experiment. Those that look at the same exchange share it.
fn perform(scene: &Scene, experiment: Experiment, exchange: &mut Vec<Step>) -> Result<Step> {
    match experiment {
        Experiment::Queue => buffers::queue(scene),
        Experiment::Buffers => buffers::buffers(scene),
        Experiment::Tuples => tuples::tuples(scene),
        Experiment::Servers => Ok(servers::servers(scene)),
        Experiment::TimeWait => endings::time_wait(scene),
        Experiment::Killed => endings::killed(scene),
        Experiment::Closed => endings::absent(scene),
        Experiment::Unix => Ok(unix::compare()?),
        Experiment::Speed => speed::measure(scene),
        _ => {
            if exchange.is_empty() {
                *exchange = exchange::run(scene)?;
            }
            let step = exchange.iter().find(|step| step.name == experiment);
            step.cloned().context("no such experiment")
        }
    }
}
