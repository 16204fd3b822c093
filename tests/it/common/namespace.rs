//! A network of a test's own: a namespace with the interfaces and addresses that it sets up, seen by nobody else.
//! It takes unshare(1), nsenter(1) and ip(8), and the right to make namespaces; a test says so where it has to do without.

use super::{Input, Launch, Running, is_installed, program, skip};

/// A network namespace, which is there as long as it is kept.
pub(crate) struct Namespace(Running);

impl Namespace {
    /// A namespace in which these lines of shell have been run; `None`, with a notice, where there cannot be one.
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

    /// One more network with the same owner, which an interface of this one can be moved to; it begins with nothing but `lo`.
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

    /// The number of the process that holds it.
    pub(crate) fn holder(&self) -> u32 {
        self.0.pid()
    }

    /// The words that run a program inside.
    pub(super) fn entrance(&self) -> Vec<String> {
        let pid = self.0.pid().to_string();
        ["nsenter", "--preserve-credentials", "-U", "-n", "-t", &pid]
            .map(str::to_owned)
            .to_vec()
    }

    /// The program under test, inside.
    pub(crate) fn tuplecat(&self, words: &str) -> Launch {
        super::tuplecat(words).within(self)
    }
}
