//! Page of two columns, one for each transport, that fits into a terminal of 80 columns.
//! It is layout only, and marks the statements that do not hold.

use std::mem;

use anstyle::Style;

use super::{Statement, Step};

/// Width of the column of TCP, in characters: a 4-tuple of IPv4 and a number of two digits just fit.
const TCP_WIDTH: usize = 41;

/// Width of the column of UDP, in characters.
const UDP_WIDTH: usize = 35;

/// Mark of a statement that does not hold.
const DENIAL: &str = "NOT SO HERE: ";

/// Returns one step, with its heading in this style.
pub(super) fn render(number: usize, step: &Step, style: Style) -> String {
    let mut page = format!("\n{style}{number}. {}{style:#}\n", step.title);
    row(&mut page, step.columns[0], step.columns[1]);
    let (tcp, udp) = (column(&step.tcp, TCP_WIDTH), column(&step.udp, UDP_WIDTH));
    for line in 0..tcp.len().max(udp.len()) {
        let cell = |column: &[String]| column.get(line).cloned().unwrap_or_default();
        row(&mut page, &cell(&tcp), &cell(&udp));
    }
    page
}

fn row(page: &mut String, left: &str, right: &str) {
    let line = format!("  {:TCP_WIDTH$}  {right}", left.trim_end());
    page.push_str(line.trim_end());
    page.push('\n');
}

fn column(statements: &[Statement], width: usize) -> Vec<String> {
    let wrapped = |statement: &Statement| {
        let denial = if statement.holds { "" } else { DENIAL };
        wrap(&format!("{denial}{}", statement.text), width)
    };
    statements.iter().flat_map(wrapped).collect()
}

/// Breaks a statement into lines; those after its first are indented.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split_inclusive(' ') {
        let len = line.chars().count() + word.trim_end().chars().count();
        if len > width && !line.trim().is_empty() {
            lines.push(mem::replace(&mut line, "  ".to_owned()));
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::Experiment;

    #[test]
    fn columns_stand_side_by_side_and_what_is_not_so_is_marked() {
        let state = |text: &str, holds| Statement {
            text: text.to_owned(),
            holds,
        };
        let step = Step {
            name: Experiment::Calls,
            title: "A test".to_owned(),
            columns: ["TCP", "UDP"],
            tcp: vec![
                state("one", true),
                state(
                    "a statement that is too long for one line of a column",
                    true,
                ),
            ],
            udp: vec![state("two", false)],
        };
        let expected = "
1. A test
  TCP                                        UDP
  one                                        NOT SO HERE: two
  a statement that is too long for one line
    of a column
";
        assert_eq!(render(1, &step, Style::new()), expected);
    }
}
