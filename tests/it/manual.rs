//! Man pages against the parser: every option, value, status and event is described, and nothing else.
//! A page is parsed as mdoc source: an `.It Fl` line names an option, and `Cm` words below it are its values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Arg, CommandFactory};
use pretty_assertions::assert_eq;
use tuplecat::cli::Cli;
use tuplecat::exit::Exit;

use crate::common::{is_installed, skip};

/// The place in a mode's page that lists the options of tuplecat(1).
const SHARED: &str = ".Ss Common options\n";

/// Options by their names, such as `-q, --quiet`, with the names of their values.
type Options = BTreeMap<String, Option<String>>;

/// The description of an option in a page.
struct Item {
    names: String,
    value: Option<String>,
    text: String,
}

#[test]
fn each_mode_has_a_page_and_each_page_a_mode() {
    let overview = page("tuplecat");
    let others = ["", "-compare", "-events", "-nc", "-recipes", "-sockets"];
    let mut expected = BTreeSet::from(others.map(|name| format!("tuplecat{name}")));
    for mode in modes() {
        expected.insert(page_name(&mode));
        let aliases: Vec<_> = mode.get_visible_aliases().collect();
        let alias = aliases.first().map(|alias| format!(" Pq alias Cm {alias}"));
        let heading = format!(".It Cm {}{}\n", mode.get_name(), alias.unwrap_or_default());
        assert!(overview.contains(&heading), "tuplecat(1): {heading}");
    }
    let files = fs::read_dir(root().join("man")).unwrap();
    let files = files.map(|entry| entry.unwrap().path().with_extension(""));
    let names = files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn pages_describe_exactly_the_existing_options() {
    for mode in modes() {
        let mut options = shared_options();
        options.retain(|names, _| is_of(&mode, names));
        for (names, value) in described_options(&page_name(&mode)) {
            let twice = options.insert(names.clone(), value);
            assert_eq!(twice, None, "{names} is described twice");
        }
        assert_eq!(options, options_of(&mode), "{}", page_name(&mode));
    }
}

#[test]
fn the_page_of_compare_describes_its_options() {
    let mut options = described_options("tuplecat-compare");
    options.insert("-h, --help".to_owned(), None);
    assert_eq!(options, options_of(&compare()));
}

#[test]
fn each_page_lists_the_options_of_every_mode() {
    let shared = shared_options();
    for mode in modes() {
        let own = shared.keys().filter(|names| is_of(&mode, names));
        let expected: BTreeSet<_> = own.flat_map(|names| names.split(", ")).collect();
        let text = page(&page_name(&mode));
        let (_, section) = text.split_once(SHARED).unwrap();
        let section = section.split(".Sh").next().unwrap();
        let listed = flags_in(section);
        let listed: BTreeSet<_> = listed.iter().map(String::as_str).collect();
        assert_eq!(listed, expected, "{}", page_name(&mode));
    }
}

#[test]
fn pages_list_every_value_of_an_option() {
    let overview = page("tuplecat");
    for mode in modes() {
        let text = page(&page_name(&mode));
        for item in items(&text).into_iter().chain(items(&overview)) {
            let option = mode.get_arguments().find(|arg| names(arg) == item.names);
            let described = words("Cm", &item.text);
            for value in option.map(Arg::get_possible_values).unwrap_or_default() {
                assert!(
                    described.contains(&value.get_name()),
                    "{}: {} {}",
                    page_name(&mode),
                    item.names,
                    value.get_name()
                );
            }
        }
    }
    let described = words("Cm", &overview);
    let completions = program().find_subcommand("completions").cloned().unwrap();
    for shell in completions
        .get_positionals()
        .flat_map(Arg::get_possible_values)
    {
        assert!(
            described.contains(&shell.get_name()),
            "{}",
            shell.get_name()
        );
    }
}

#[test]
fn no_page_names_an_option_that_does_not_exist() {
    let commands = modes().into_iter().chain([program(), compare()]);
    let known = commands.flat_map(|command| options_of(&command).into_keys().collect::<Vec<_>>());
    let known: Vec<_> = known.collect();
    let known: BTreeSet<_> = known.iter().flat_map(|names| names.split(", ")).collect();
    for (path, text) in pages() {
        // These flags are those of nc.
        let is_foreign = |flag: &str| {
            path.ends_with("tuplecat-nc.1") && (!flag.starts_with("--") || flag == "--translate")
        };
        let flags = flags_in(&text).into_iter();
        for flag in flags.filter(|flag| !is_foreign(flag)) {
            assert!(known.contains(flag.as_str()), "{}: {flag}", path.display());
        }
    }
}

#[test]
fn every_exit_status_is_described() {
    let statuses = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unresolved,
        Exit::CannotBind,
        Exit::Refused,
        Exit::TimedOut,
        Exit::Reset,
        Exit::Unexpected,
        Exit::DataLost,
        Exit::OutputClosed,
    ];
    let page = page("tuplecat");
    let (_, section) = page.split_once(".Sh EXIT STATUS").unwrap();
    let section = section.split(".Sh").next().unwrap();
    let tags = section.lines().filter_map(|line| line.strip_prefix(".It "));
    let tags: BTreeSet<_> = tags.flat_map(|tag| tag.split(" , ")).collect();
    let readme = read(&root().join("README.md"));
    for status in statuses.map(Exit::status) {
        assert!(
            tags.contains(status.to_string().as_str()),
            "tuplecat(1): {status}"
        );
        assert!(
            readme.contains(&format!("| {status} |")),
            "README.md: {status}"
        );
    }
}

#[test]
fn mandoc_has_no_complaint() {
    if !is_installed("mandoc") {
        return skip("mandoc is not installed");
    }
    for (path, _) in pages() {
        let mut lint = Command::new("mandoc");
        lint.args(["-T", "lint", "-W", "style"]).arg(&path);
        let lint = lint.output().unwrap();
        let lint = String::from_utf8_lossy(&lint.stdout);
        // mandoc knows installed pages only, and warns about some headings.
        let accepted = [
            ": STYLE: referenced manual",
            ": STYLE: possible typo in section",
            ": STYLE: trailing delimiter",
        ];
        let complaints = lint
            .lines()
            .filter(|line| !accepted.iter().any(|text| line.contains(text)));
        assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
    }
}

/// A macro removes quotation marks, so a command that is copied from the page would lack them.
#[test]
fn commands_keep_their_quotation_marks() {
    for (path, text) in pages() {
        let mut commands = text.lines().filter(|line| line.starts_with(".Dl"));
        assert_eq!(
            commands.find(|line| line.contains('"')),
            None,
            "{}",
            path.display()
        );
    }
}

/// The flags are those of nc's own help.
#[test]
fn the_page_of_nc_describes_each_flag() {
    let described: String = items(&page("tuplecat-nc"))
        .into_iter()
        .map(|item| item.names.replace(['-', ',', ' '], ""))
        .collect();
    let mut described: Vec<char> = described.chars().collect();
    described.sort_unstable();
    let help = Command::new(env!("CARGO_BIN_EXE_tuplecat"))
        .args(["nc", "-h"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stderr).unwrap();
    let flags = help.lines().filter_map(|line| line.strip_prefix("\t-"));
    let mut flags: Vec<char> = flags.filter_map(|line| line.chars().next()).collect();
    flags.sort_unstable();
    assert_eq!(described, flags);
}

/// An example that is too wide, or changed by mdoc, is broken when it is copied from the page.
#[test]
fn examples_are_rendered_unchanged() {
    if !is_installed("mandoc") {
        return skip("mandoc is not installed");
    }
    for (path, text) in pages() {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "ascii", "-O", "width=80"]).arg(&path);
        let page = String::from_utf8(mandoc.output().unwrap().stdout).unwrap();
        let mut page = page.lines();
        for example in examples(&text) {
            let first = example[0].as_str();
            let is_blank = |indent: &&str| indent.trim().is_empty();
            let indent = page.find_map(|line| line.strip_suffix(first).filter(is_blank));
            let indent = indent.unwrap_or_else(|| panic!("{}: {first}", path.display()));
            for line in &example[1..] {
                let rendered = page.next().unwrap_or_default();
                let rendered = rendered.strip_prefix(indent).unwrap_or(rendered);
                assert_eq!(rendered, line, "{}", path.display());
            }
            // Reports of the program have their own width.
            let is_report = |line: &&String| {
                let marks = ["tuplecat: ", " tcp ", " udp ", " unix ", " unix-dgram "];
                marks.iter().any(|mark| line.contains(mark))
            };
            for line in example.iter().filter(|line| !is_report(line)) {
                let width = indent.len() + line.len();
                assert!(width <= 80, "{}: {width}: {line}", path.display());
            }
        }
    }
}

/// Returns the lines of each display in the source of a page, without the escapes of mdoc.
fn examples(page: &str) -> Vec<Vec<String>> {
    let plain = |line: &str| {
        let line = line.replace(r"\&", "").replace(r"\(dq", "\"");
        line.replace(r"\e", r"\")
    };
    let (mut examples, mut is_inside) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with(".Bd -literal") {
            is_inside = true;
            examples.push(Vec::new());
        } else if line == ".Ed" {
            is_inside = false;
        } else if let Some(line) = line.strip_prefix(".Dl ") {
            examples.push(vec![plain(line)]);
        } else if is_inside && !line.starts_with(".\\\"") {
            examples.last_mut().unwrap().push(plain(line));
        }
    }
    examples
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(name: &str) -> String {
    read(&root().join("man").join(format!("{name}.1")))
}

fn pages() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join("man")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), read(&path))).collect()
}

fn page_name(mode: &clap::Command) -> String {
    format!("tuplecat-{}", mode.get_name())
}

fn program() -> clap::Command {
    let mut program = Cli::command();
    program.build();
    program
}

/// Returns the subcommands that move data.
fn modes() -> Vec<clap::Command> {
    let mut modes: Vec<_> = program().get_subcommands().cloned().collect();
    modes.retain(|mode| !["compare", "completions", "nc"].contains(&mode.get_name()));
    modes
}

fn compare() -> clap::Command {
    program().find_subcommand("compare").cloned().unwrap()
}

fn options_of(command: &clap::Command) -> Options {
    let options = command.get_arguments();
    let options = options.filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    options.map(|arg| (names(arg), value_name(arg))).collect()
}

fn names(arg: &Arg) -> String {
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let long = arg.get_long().map(|word| format!("--{word}"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn value_name(arg: &Arg) -> Option<String> {
    let name = arg.get_value_names()?.first()?;
    let takes_value = arg.get_action().takes_values();
    takes_value.then(|| name.to_lowercase())
}

/// Returns the options that tuplecat(1) describes, without those of the program itself.
fn shared_options() -> Options {
    let mut shared = described_options("tuplecat");
    for names in options_of(&program()).keys() {
        assert!(shared.contains_key(names), "tuplecat(1): {names}");
    }
    shared.remove("-V, --version");
    shared
}

/// Options of packets and IP addresses, which a Unix socket has not.
const OF_INET: [&str; 10] = [
    "-4",
    "-6",
    "-n, --numeric",
    "--pcap",
    "--ttl",
    "--tos",
    "--interface",
    "--mark",
    "--so-debug",
    "--reuse-port",
];

/// Returns true if an option of tuplecat(1) exists in a mode.
fn is_of(mode: &clap::Command, names: &str) -> bool {
    !mode.get_name().starts_with("unix") || !OF_INET.contains(&names)
}

fn described_options(name: &str) -> Options {
    let items = items(&page(name));
    let count = items.len();
    let options: Options = items
        .into_iter()
        .map(|item| (item.names, item.value))
        .collect();
    assert_eq!(count, options.len(), "{name}: an option is described twice");
    options
}

/// Returns the descriptions of options in a page. Each ends at the next, or with the section.
fn items(page: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        if line.starts_with(".It Fl") {
            is_inside = true;
            items.push(Item {
                names: flags_in(line).join(", "),
                value: words("Ar", line).first().map(ToString::to_string),
                text: String::new(),
            });
        } else if line.starts_with(".S") {
            is_inside = false;
        } else if let Some(item) = items.last_mut().filter(|_| is_inside) {
            item.text += line;
            item.text += "\n";
        }
    }
    items
}

fn flags_in(text: &str) -> Vec<String> {
    let flags = words("Fl", text).into_iter();
    flags.map(|flag| format!("-{flag}")).collect()
}

/// Returns the words under one macro, without punctuation.
fn words<'a>(wanted: &str, text: &'a str) -> Vec<&'a str> {
    let mut words = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix('.')) {
        let mut current = "";
        for word in line.split_whitespace() {
            // Macros have two letters, the first in upper case. Their arguments here are in lower case.
            match word.as_bytes() {
                [b'A'..=b'Z', b'a'..=b'z'] => current = word,
                [mark] if mark.is_ascii_punctuation() => {}
                _ if current == wanted => words.push(word),
                _ => {}
            }
        }
    }
    words
}

/// Collects the fields of an object in the schema of events, and of the objects in it.
fn fields(schema: &serde_json::Value, object: &serde_json::Value, found: &mut BTreeSet<String>) {
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        found.insert(name.clone());
        fields(schema, field, found);
        if let Some(place) = field["$ref"].as_str() {
            fields(schema, &schema["$defs"][&place["#/$defs/".len()..]], found);
        }
    }
}

#[test]
fn the_page_of_events_describes_each_event_and_field() {
    let text = read(&root().join("man/tuplecat-events.5"));
    let schema = read(&root().join("fixtures/events.schema.json"));
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let forms = schema["oneOf"].as_array().unwrap();
    let (mut events, mut named) = (BTreeSet::new(), BTreeSet::new());
    for form in forms {
        events.insert(form["title"].as_str().unwrap());
        fields(&schema, form, &mut named);
    }
    let tags: String = text
        .lines()
        .filter(|line| line.starts_with(".It "))
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(
        words("Cm", &tags).into_iter().collect::<BTreeSet<_>>(),
        events
    );
    let described: BTreeSet<_> = words("Va", &text).into_iter().map(str::to_owned).collect();
    assert_eq!(described, named);
}
