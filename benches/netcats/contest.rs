//! A contest: all tools take turns within a round, so that a change in the speed of the machine affects all of them.
//! Ratios are computed within a round; the result is their median over the rounds.

use crate::machine::Watch;
use crate::tools::{Job, Kind, Task, Tool};

/// Share of a CPU that other processes may use during a run; above it the run is repeated.
const MAX_DISTURBANCE: f64 = 0.25;

/// Repetitions of one run, and of all runs of a contest: the result counts even on a machine that is always busy.
const RERUNS_PER_RUN: usize = 2;
const MAX_RERUNS: usize = 10;

/// A quantity that a contest measures.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// Name of the quantity, shown after the title of the contest; may be empty.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// The better one of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// Neither: the value is a ratio already.
    Neither,
}

/// The purpose of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Verify that every byte arrives, without regard to speed.
    Proof,
    /// Measure the speed.
    Timed,
}

/// Runs one tool; returns a value for each measure.
type Run = Box<dyn Fn(&Tool, Pass) -> anyhow::Result<Vec<f64>>>;

/// A comparison of tools at one job.
pub(crate) struct Contest {
    pub(crate) name: String,
    pub(crate) title: String,
    /// The checks of the result, for the table.
    pub(crate) proof: &'static str,
    /// Jobs that a tool must support to take part.
    pub(crate) jobs: &'static [Job],
    pub(crate) measures: Vec<Measure>,
    pub(crate) rounds: usize,
    pub(crate) run: Run,
}

/// The result of a contest for one measure.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) proof: &'static str,
    pub(crate) measure: Measure,
    pub(crate) entries: Vec<Entry>,
}

/// The result of one tool.
pub(crate) struct Entry {
    pub(crate) tool: &'static str,
    pub(crate) kind: Kind,
    /// One value for each round; `None` if the run failed.
    pub(crate) values: Vec<Option<f64>>,
    /// The latest error.
    pub(crate) trouble: Option<String>,
}

impl Contest {
    /// Runs the contest.
    pub(crate) fn execute(self, tools: &[Tool]) -> Vec<Outcome> {
        let offers = |tool: &&Tool, job: &Job| tool.line(*job, &Task::default()).is_some();
        let tools: Vec<&Tool> = tools
            .iter()
            .filter(|tool| self.jobs.iter().all(|job| offers(tool, job)))
            .collect();
        let mut reruns = MAX_RERUNS;
        let mut records: Vec<ToolRecord> = tools.iter().map(|tool| self.verify(tool)).collect();
        for round in 0..self.rounds {
            for place in 0..tools.len() {
                let place = (place + round) % tools.len();
                self.measure(tools[place], &mut records[place], &mut reruns);
            }
        }
        let outcome = |(at, measure): (usize, &Measure)| Outcome {
            name: self.name.clone(),
            title: self.title.clone(),
            proof: self.proof,
            measure: measure.clone(),
            entries: tools
                .iter()
                .zip(&records)
                .map(|(tool, record)| Entry {
                    tool: tool.name,
                    kind: tool.kind,
                    values: record.value(at),
                    trouble: record.trouble.clone(),
                })
                .collect(),
        };
        self.measures.iter().enumerate().map(outcome).collect()
    }

    /// Verifies that a tool does the job correctly.
    fn verify(&self, tool: &Tool) -> ToolRecord {
        eprintln!("{}: {}, checked", self.name, tool.name);
        let mut trouble = None;
        // On a busy machine a correct tool may lose a datagram once, but not repeatedly.
        for _ in 0..=RERUNS_PER_RUN {
            trouble = (self.run)(tool, Pass::Proof).err();
            if trouble.is_none() {
                break;
            }
        }
        ToolRecord {
            rounds: Vec::new(),
            failures: usize::from(trouble.is_some()) * MAX_FAILURES,
            trouble: trouble.map(|error| format!("{error:#}")),
        }
    }

    /// Measures one tool in one round.
    fn measure(&self, tool: &Tool, record: &mut ToolRecord, reruns: &mut usize) {
        if record.failures >= MAX_FAILURES {
            return record.rounds.push(None);
        }
        let mut best: Option<(f64, Vec<f64>)> = None;
        for _ in 0..=RERUNS_PER_RUN {
            let watch = Watch::start();
            match (self.run)(tool, Pass::Timed) {
                Ok(values) => {
                    let disturbance = watch.disturbance();
                    if best.as_ref().is_none_or(|(least, _)| disturbance < *least) {
                        best = Some((disturbance, values));
                    }
                    if disturbance < MAX_DISTURBANCE || *reruns == 0 {
                        break;
                    }
                    *reruns -= 1;
                }
                Err(error) => {
                    record.failures += 1;
                    record.trouble = Some(format!("{error:#}"));
                    break;
                }
            }
        }
        if let Some((disturbance, values)) = &best {
            eprintln!(
                "{}: {} {values:.3?} (others used {disturbance:.2} of a CPU)",
                self.name, tool.name
            );
        }
        record.rounds.push(best.map(|(_, values)| values));
    }
}

/// Failures after which a tool is excluded from further rounds.
const MAX_FAILURES: usize = 2;

/// Results and failures of a tool during the contest.
struct ToolRecord {
    rounds: Vec<Option<Vec<f64>>>,
    failures: usize,
    trouble: Option<String>,
}

impl ToolRecord {
    fn value(&self, at: usize) -> Vec<Option<f64>> {
        let value = |values: &Option<Vec<f64>>| values.as_ref()?.get(at).copied();
        self.rounds.iter().map(value).collect()
    }
}

impl Entry {
    /// The median over the rounds.
    pub(crate) fn median(&self) -> Option<f64> {
        median(self.values.iter().flatten().copied().collect())
    }
}

impl Outcome {
    /// Factor by which this project is better than the best of `others`: the median of the ratios of all rounds.
    pub(crate) fn lead(&self, others: Kind) -> Option<f64> {
        let ours = self.entries.iter().find(|entry| entry.kind == Kind::Ours)?;
        let ratios = ours.values.iter().enumerate().filter_map(|(round, ours)| {
            let rivals = self.entries.iter().filter(|entry| entry.kind == others);
            let values = rivals.filter_map(|entry| *entry.values.get(round)?);
            let ratio = |theirs: f64| match self.measure.better {
                Better::More => ours.map(|ours| ours / theirs),
                Better::Less => ours.map(|ours| theirs / ours),
                Better::Neither => None,
            };
            values.filter_map(ratio).min_by(f64::total_cmp)
        });
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
