//! A network namespace of a test, with its own interfaces and addresses.
//! It needs unshare(1), nsenter(1), ip(8) and the right to create namespaces; without them the test is skipped with a notice.

use super::{Input, Launch, Running, is_installed, program, skip};

/// A network namespace. It exists until it is dropped.
pub(crate) struct Namespace(Running);

impl Namespace {
    /// Creates a namespace and runs lines of shell in it; returns `None` with a notice where that is not possible.
    pub(crate) fn new(setup: &str) -> Option<Self> {
        let tools = ["unshare", "nsenter", "ip"];
        if let Some(missing) = tools.iter().find(|tool| !is_installed(tool)) {
            skip(&format!("a network namespace takes {missing}"));
            return None;
        }
        let unshare = |script: &str| {
            let launch = program("unshare", "--map-root-user --net /bin/sh -ec");
            launch.arg(script)
        };
        let trial = unshare(setup).run();
        if trial.status != 0 {
            let reason = trial.err.trim();
            skip(&format!("there cannot be such a network here: {reason}"));
            return None;
        }
        let script = format!("{setup}\necho made\nexec cat");
        let holder = unshare(&script).stdin(Input::Held).start();
        holder.out().wait_for("made");
        Some(Self(holder))
    }

    /// Creates another network with the same owner, to move an interface to. It has only `lo`.
    pub(crate) fn beside(&self) -> Self {
        let holder =
            program("unshare", "--net /bin/sh -ec").arg("ip link set lo up; echo made; exec cat");
        let holder = holder.within(self).stdin(Input::Held).start();
        holder.out().wait_for("made");
        Self(holder)
    }

    /// Runs lines of shell inside.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) {
        let shell = program("/bin/sh", "-ec").arg(script).within(self);
        shell.run().exits(0);
    }

    /// Returns the process ID of the process that keeps the namespace.
    pub(crate) fn holder(&self) -> u32 {
        self.0.pid()
    }

    /// Returns the command that runs a program inside.
    pub(super) fn entrance(&self) -> Vec<String> {
        let pid = self.0.pid().to_string();
        ["nsenter", "--preserve-credentials", "-U", "-n", "-t", &pid]
            .map(str::to_owned)
            .to_vec()
    }

    /// Launches the program under test inside.
    pub(crate) fn tuplecat(&self, words: &str) -> Launch {
        super::tuplecat(words).within(self)
    }
}
