//! tuplecat at one end and a peer at the other, compared with that peer at both ends.
//! A user can often choose only one end; tuplecat there should never be slower.

use super::{Setup, stream};
use crate::contest::{Better, Contest, Measure, Pass};
use crate::tools::{self, Job, Tool};

const CHUNK: usize = 1 << 20;

pub(super) fn contests(setup: &Setup) -> Vec<Contest> {
    let each = setup.clone();
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
        rounds: setup.rounds,
        run: Box::new(move |tool, pass| compare(&each, tool, pass)),
    }]
}

/// Speed with tuplecat at one end, divided by the speed of the tool alone.
fn compare(setup: &Setup, tool: &Tool, pass: Pass) -> anyhow::Result<Vec<f64>> {
    let ours = tools::ours();
    let speed = |sender: &Tool, receiver: &Tool| -> anyhow::Result<f64> {
        Ok(stream::transfer(setup, sender, receiver, CHUNK, pass)?[0])
    };
    let alone = speed(tool, tool)?;
    Ok(vec![
        speed(&ours, tool)? / alone,
        speed(tool, &ours)? / alone,
    ])
}
