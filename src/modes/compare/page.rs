//! Two columns of text, one for each transport, that fit into a terminal of 80 columns.
//! Layout only: what is said comes in, and what is not so is marked.

use super::{Statement, Step};

/// The width of the column of TCP, in characters: a 4-tuple of IPv4 and a number of two digits just fit.
const TCP: usize = 41;

/// The width of the column of UDP, in characters.
const UDP: usize = 35;

/// What stands before a statement that does not hold.
const DENIAL: &str = "NOT SO HERE: ";

/// The whole page.
pub(super) fn render(address: &str, steps: &[Step]) -> String {
    let mut page = format!("TCP and UDP side by side, on {address}\n");
    for (number, step) in steps.iter().enumerate() {
        page.extend(["\n", &(number + 1).to_string(), ". ", &step.title, "\n"]);
        row(&mut page, "TCP", "UDP");
        let (tcp, udp) = (column(&step.tcp, TCP), column(&step.udp, UDP));
        for line in 0..tcp.len().max(udp.len()) {
            let cell = |column: &[String]| column.get(line).cloned().unwrap_or_default();
            row(&mut page, &cell(&tcp), &cell(&udp));
        }
    }
    page
}

fn row(page: &mut String, left: &str, right: &str) {
    let line = format!("  {left:TCP$}  {right}");
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
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        } else if !line.is_empty() || lines.is_empty() && word.is_empty() {
            line.push(' ');
        }
        if line == " " {
            line.push(' ');
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

    #[test]
    fn columns_stand_side_by_side_and_what_is_not_so_is_marked() {
        let state = |text: &str, holds| Statement {
            text: text.to_owned(),
            holds,
        };
        let step = Step {
            title: "A test".to_owned(),
            tcp: vec![
                state("one", true),
                state(
                    "a statement that is too long for one line of a column",
                    true,
                ),
            ],
            udp: vec![state("two", false)],
        };
        let expected = "\
TCP and UDP side by side, on ::1

1. A test
  TCP                                        UDP
  one                                        NOT SO HERE: two
  a statement that is too long for one line
    of a column
";
        assert_eq!(render("::1", &[step]), expected);
    }
}
