//! A contest: every tool in turn, round after round, so that a change of the machine's mood meets them all.
//! Ratios are taken within a round, where they mean something, and only then summed up.

use crate::machine::Watch;
use crate::tools::{Job, Kind, Task, Tool};

/// A run during which other processes used more of a CPU than this is measured again.
const DISTURBED: f64 = 0.25;

/// How often a run is tried again, and how often in a whole contest: a machine that is always busy is taken as it is.
const RETRIES: usize = 2;
const PATIENCE: usize = 10;

/// One thing that a contest finds out.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    /// What it is, after the title of the contest; may be empty.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// Which of two values is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// It is a comparison already.
    Neither,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// To see that every byte arrives: whatever that costs.
    Proof,
    /// To see how fast.
    Timed,
}

/// How one tool does, with a value for each measure.
type Run = Box<dyn Fn(&Tool, Pass) -> anyhow::Result<Vec<f64>>>;

/// What is compared.
pub(crate) struct Contest {
    pub(crate) name: String,
    pub(crate) title: String,
    /// What of the result is checked.
    pub(crate) proof: &'static str,
    /// What a tool has to offer to take part.
    pub(crate) jobs: &'static [Job],
    pub(crate) measures: Vec<Measure>,
    pub(crate) rounds: usize,
    pub(crate) run: Run,
}

/// What a contest found out about one measure.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) proof: &'static str,
    pub(crate) measure: Measure,
    pub(crate) entries: Vec<Entry>,
}

/// What it found out about one tool.
pub(crate) struct Entry {
    pub(crate) tool: &'static str,
    pub(crate) kind: Kind,
    /// By round; `None` where it failed.
    pub(crate) values: Vec<Option<f64>>,
    /// What went wrong last.
    pub(crate) trouble: Option<String>,
}

impl Contest {
    /// Holds the contest.
    pub(crate) fn hold(self, tools: &[Tool]) -> Vec<Outcome> {
        let offers = |tool: &&Tool, job: &Job| tool.line(*job, &Task::default()).is_some();
        let tools: Vec<&Tool> = tools
            .iter()
            .filter(|tool| self.jobs.iter().all(|job| offers(tool, job)))
            .collect();
        let mut patience = PATIENCE;
        let mut records: Vec<Record> = tools.iter().map(|tool| self.prove(tool)).collect();
        for round in 0..self.rounds {
            for place in 0..tools.len() {
                let place = (place + round) % tools.len();
                self.take_part(tools[place], &mut records[place], &mut patience);
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

    /// Whether a tool does the job right.
    fn prove(&self, tool: &Tool) -> Record {
        eprintln!("{}: {}, checked", self.name, tool.name);
        let mut trouble = None;
        // A busy machine may make even a good tool lose a datagram, though not again and again.
        for _ in 0..=RETRIES {
            trouble = (self.run)(tool, Pass::Proof).err();
            if trouble.is_none() {
                break;
            }
        }
        Record {
            rounds: Vec::new(),
            failures: usize::from(trouble.is_some()) * GIVE_UP,
            trouble: trouble.map(|error| format!("{error:#}")),
        }
    }

    /// One round of one tool.
    fn take_part(&self, tool: &Tool, record: &mut Record, patience: &mut usize) {
        if record.failures >= GIVE_UP {
            return record.rounds.push(None);
        }
        let mut best: Option<(f64, Vec<f64>)> = None;
        for _ in 0..=RETRIES {
            let watch = Watch::start();
            match (self.run)(tool, Pass::Timed) {
                Ok(values) => {
                    let disturbance = watch.disturbance();
                    if best.as_ref().is_none_or(|(least, _)| disturbance < *least) {
                        best = Some((disturbance, values));
                    }
                    if disturbance < DISTURBED || *patience == 0 {
                        break;
                    }
                    *patience -= 1;
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

/// A tool that fails so often is left out of the rest.
const GIVE_UP: usize = 2;

/// What is known of a tool while the contest lasts.
struct Record {
    rounds: Vec<Option<Vec<f64>>>,
    failures: usize,
    trouble: Option<String>,
}

impl Record {
    fn value(&self, at: usize) -> Vec<Option<f64>> {
        let value = |values: &Option<Vec<f64>>| values.as_ref()?.get(at).copied();
        self.rounds.iter().map(value).collect()
    }
}

impl Entry {
    /// The value in the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        median(self.values.iter().flatten().copied().collect())
    }
}

impl Outcome {
    /// How many times better ours is than the best of `others`: the middle of the ratios of all rounds.
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
