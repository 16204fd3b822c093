//! tuplecat at one end and a peer at the other, against that peer at both.
//! A user can often choose only one end; it should never be slower for having chosen this one.

use super::{Stage, stream};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::tools::{self, Job, Tool};

const CHUNK: usize = 1 << 20;

pub(super) fn contests(stage: &Stage) -> Vec<Contest> {
    let each = stage.clone();
    let measure = |what| Measure {
        what,
        unit: "× its own speed",
        better: Better::Neither,
    };
    vec![Contest {
        name: "mixed".to_owned(),
        title: "pipe → TCP → pipe, 1 MiB writes".to_owned(),
        proof: "count; hash of 64 MiB",
        jobs: &[Job::Send, Job::Receive],
        measures: vec![
            measure("tuplecat sends to it"),
            measure("it sends to tuplecat"),
        ],
        rounds: stage.rounds,
        run: Box::new(move |tool, pass| compare(&each, tool, pass)),
    }]
}

/// How many times as fast it is with one of ours at one end.
fn compare(stage: &Stage, tool: &Tool, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let ours = tools::ours();
    let speed = |sender: &Tool, receiver: &Tool| -> anyhow::Result<f64> {
        Ok(stream::carry(stage, sender, receiver, CHUNK, pass)?[0])
    };
    let alone = speed(tool, tool)?;
    Ok(vec![
        speed(&ours, tool)? / alone,
        speed(tool, &ours)? / alone,
    ])
}
