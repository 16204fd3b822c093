//! The results as one Markdown table, or as JSON.
//! A ratio above 1 always means that tuplecat is better, even if a smaller value is.

use std::fmt::Write;

use crate::contest::{Better, Entry, Outcome};
use crate::tools::{Kind, Tool};

/// The columns with ratios.
const LEADS: [(Kind, &str); 4] = [
    (Kind::Peer, "÷ best peer"),
    (Kind::Tuned, "÷ tuned"),
    (Kind::Limit, "÷ limit"),
    (Kind::Before, "÷ before"),
];

/// Formats one table, with notes on failures.
pub(crate) fn markdown(machine: &str, tools: &[Tool], outcomes: &[Outcome]) -> String {
    let mut text = format!("{machine}\n\n");
    let leads = || {
        let is_there = |kind| tools.iter().any(|tool| tool.kind == kind);
        LEADS.iter().filter(move |(kind, _)| is_there(*kind))
    };
    let mut head = vec!["work", "unit"];
    head.extend(tools.iter().map(|tool| tool.name));
    head.extend(leads().map(|(_, title)| *title));
    head.push("checked");
    row(&mut text, &head);
    row(&mut text, &vec!["---"; head.len()]);
    let mut notes: Vec<String> = Vec::new();
    for outcome in outcomes {
        let mut cells = vec![outcome.work(), outcome.measure.unit.to_owned()];
        for tool in tools {
            let entry = outcome.entries.iter().find(|entry| entry.tool == tool.name);
            cells.push(entry.map_or("–".to_owned(), |entry| cell(entry, outcome, &mut notes)));
        }
        for (kind, _) in leads() {
            cells.push(outcome.lead(*kind).map_or("–".to_owned(), short));
        }
        cells.push(outcome.proof.to_owned());
        row(&mut text, &cells);
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for (number, note) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {note}", number + 1);
    }
    text
}

impl Outcome {
    fn work(&self) -> String {
        match self.measure.what {
            "" => self.title.clone(),
            what => format!("{}: {what}", self.title),
        }
    }
}

/// Formats a value, with the number of a note if the tool failed.
fn cell(entry: &Entry, outcome: &Outcome, notes: &mut Vec<String>) -> String {
    let value = entry.median().map_or("–".to_owned(), short);
    let Some(trouble) = &entry.trouble else {
        return value;
    };
    let note = format!("{}, {}: {trouble}", outcome.name, entry.tool);
    let number = notes
        .iter()
        .position(|old| *old == note)
        .unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
    format!("{value} [{}]", number + 1)
}

/// Formats three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn row(text: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        let _ = write!(text, "| {} ", cell.as_ref().replace('|', "/"));
    }
    text.push_str("|\n");
}

/// Formats the same as JSON, with every value.
pub(crate) fn json(machine: &str, outcomes: &[Outcome]) -> String {
    let rows: Vec<String> = outcomes.iter().map(json_row).collect();
    let machine = string(machine);
    format!(
        "{{\"machine\":{machine},\"rows\":[\n{}\n]}}\n",
        rows.join(",\n")
    )
}

fn json_row(outcome: &Outcome) -> String {
    let tools: Vec<String> = outcome.entries.iter().map(json_entry).collect();
    let leads: Vec<String> = LEADS
        .iter()
        .filter_map(|(kind, title)| {
            let lead = outcome.lead(*kind)?;
            Some(format!("{}:{lead}", string(title)))
        })
        .collect();
    let better = match outcome.measure.better {
        Better::More => "more",
        Better::Less => "less",
        Better::Neither => "neither",
    };
    format!(
        "{{\"name\":{},\"work\":{},\"unit\":{},\"better\":\"{better}\",\"checked\":{},\"leads\":{{{}}},\"tools\":{{{}}}}}",
        string(&outcome.name),
        string(&outcome.work()),
        string(outcome.measure.unit),
        string(outcome.proof),
        leads.join(","),
        tools.join(",")
    )
}

fn json_entry(entry: &Entry) -> String {
    let number = |value: Option<f64>| value.map_or("null".to_owned(), |value| value.to_string());
    let values: Vec<String> = entry.values.iter().map(|value| number(*value)).collect();
    format!(
        "{}:{{\"median\":{},\"rounds\":[{}],\"trouble\":{}}}",
        string(entry.tool),
        number(entry.median()),
        values.join(","),
        entry.trouble.as_deref().map_or("null".to_owned(), string)
    )
}

/// Quotes a JSON string (RFC 8259, 7).
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
