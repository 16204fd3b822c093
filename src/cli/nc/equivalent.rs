//! Command line of this program that stands for one of another tool.
//! Each difference belongs to one option: the exact form has all of these options, and the short form names some in a comment.

use std::ffi::OsString;

/// Command line of one of our modes.
#[derive(Clone, Debug, Default)]
pub struct Equivalent {
    mode: &'static str,
    /// Options, and what is different without them; nothing for those that the short form needs. Without words it is a difference that no
    /// option removes.
    options: Vec<(Vec<String>, String)>,
    endpoint: Vec<String>,
    /// Words for the end of the line: `--exec` takes all of them.
    program: Vec<String>,
}

impl Equivalent {
    /// Returns a mode with its endpoint.
    pub(super) fn new<W: Into<String>>(
        mode: &'static str,
        endpoint: impl IntoIterator<Item = W>,
    ) -> Self {
        Self {
            mode,
            endpoint: endpoint.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds words; `difference` says what the short form does, which leaves them out.
    pub(super) fn add<W: Into<String>>(
        &mut self,
        words: impl IntoIterator<Item = W>,
        difference: impl Into<String>,
    ) {
        let words = words.into_iter().map(Into::into).collect();
        self.options.push((words, difference.into()));
    }

    /// Runs a program in the place of standard input and output. A server of programs is for this machine alone, unless the user
    /// says more.
    pub(super) fn run_program(&mut self, command: &str) {
        let words = ["--exec"].into_iter().chain(command.split_whitespace());
        self.program = words.map(str::to_owned).collect();
        if self.endpoint.first().is_some_and(|host| host == "*") {
            self.endpoint.remove(0);
            self.add(
                [""; 0],
                "serves this machine only; '*' and --allow CIDR serve others",
            );
        }
    }

    /// The words of the endpoint.
    pub fn endpoint(&self) -> &[String] {
        &self.endpoint
    }

    /// Returns the words of the exact form behind the program's name, without reports.
    pub fn words(&self) -> Vec<OsString> {
        let start = ["tuplecat", self.mode, "--report", "none"].map(OsString::from);
        let options = self.options.iter().flat_map(|(words, _)| words);
        let words = options.chain(&self.endpoint).chain(&self.program);
        start.into_iter().chain(words.map(Into::into)).collect()
    }

    /// Returns the short form, quoted for a shell, and a line for each difference.
    pub fn text(&self) -> String {
        let (needed, others): (Vec<_>, Vec<_>) =
            (self.options.iter()).partition(|(_, difference)| difference.is_empty());
        let options = needed.iter().flat_map(|(words, _)| words);
        let words = options.chain(&self.endpoint).chain(&self.program);
        let differences = others.iter().map(|(words, difference)| {
            let colon = if words.is_empty() { "" } else { ":" };
            format!("# {difference}{colon}{}\n", quoted(words))
        });
        let differences: String = differences.collect();
        format!("tuplecat {}{}\n{differences}", self.mode, quoted(words))
    }
}

/// Returns words as a shell reads them back, each behind a blank.
fn quoted<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    let quote = |word: &String| match word.as_str() {
        word if !word.is_empty() && word.bytes().all(is_plain) => format!(" {word}"),
        word => format!(" '{}'", word.replace('\'', r"'\''")),
    };
    words.into_iter().map(quote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_change_it() {
        for (word, shown) in [
            ("9000", " 9000"),
            ("*", " '*'"),
            ("", " ''"),
            ("it's", r" 'it'\''s'"),
            ("fe80::1%eth0", " fe80::1%eth0"),
            ("a b", " 'a b'"),
        ] {
            assert_eq!(quoted([&word.to_owned()]), shown);
        }
    }

    #[test]
    fn the_short_form_names_what_it_leaves_out() {
        let mut line = Equivalent::new("tcp-listen", ["*", "9"]);
        line.add(["-k"], "");
        line.add(["--max-clients", "1"], "serves many clients at once");
        line.add([""; 0], "is fast");
        let shown = "tuplecat tcp-listen -k '*' 9\n\
            # serves many clients at once: --max-clients 1\n# is fast\n";
        assert_eq!(line.text(), shown);
        let words = "tuplecat tcp-listen --report none -k --max-clients 1 * 9";
        assert_eq!(line.words(), words.split(' ').collect::<Vec<_>>());
    }
}
