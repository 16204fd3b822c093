//! Compares tuplecat with other netcats and with the limit of the machine, over the loopback interface.
//! Each contest is one or more rows of a table; the limit programs are this program itself, started as separate processes.
#![allow(clippy::cast_precision_loss, reason = "results have three digits")]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod contest;
mod datagrams;
mod limit;
mod machine;
mod options;
mod pattern;
mod ports;
mod processes;
mod report;
mod tools;
mod work;
mod workers;

use options::{Options, Output};
use work::Setup;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == "limit" => limit::run(rest),
        _ => Options::read(words).and_then(|options| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let setup = Setup::new(options)?;
    match options.output {
        Output::Nothing => return Ok(()),
        Output::Usage => {
            print!("{}", options::USAGE);
            return Ok(());
        }
        Output::Names => {
            for contest in work::contests(&setup) {
                println!("{:20} {}", contest.name, contest.title);
            }
            return Ok(());
        }
        Output::Markdown | Output::Json => enter_namespace(),
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    raise_limits();
    let is_interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_interrupted))?;
    }
    let tools = tools::all(options.before.clone())?;
    let mut outcomes = Vec::new();
    for contest in work::contests(&setup) {
        if options.wants(&contest.name) && !is_interrupted.load(Ordering::Relaxed) {
            outcomes.extend(contest.execute(&tools));
        }
    }
    let machine = machine::description();
    match options.output {
        Output::Json => print!("{}", report::json(&machine, &outcomes)),
        _ => print!("{}", report::markdown(&machine, &tools, &outcomes)),
    }
    Ok(())
}

/// Restarts this program in a network namespace with only a loopback interface, if permitted.
fn enter_namespace() {
    const MARK: &str = "TUPLECAT_BENCH_NAMESPACE";
    let up = "ip link set lo up";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", script]).env(MARK, "1");
        command
    };
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let works = |mut command: Command| command.output().is_ok_and(|out| out.status.success());
    if std::env::var_os(MARK).is_none() && works(unshare(up)) {
        let script = format!("{up} && exec \"$0\" \"$@\"");
        let error = unshare(&script)
            .arg(program)
            .args(std::env::args_os().skip(1))
            .exec();
        eprintln!("staying in this network namespace: {error}");
    }
}

/// Raises the limit of open descriptors: ten thousand clients need as many, here and in the tools.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A failure shows in the rows of those clients.
    let _ = setrlimit(Resource::Nofile, limit);
}
