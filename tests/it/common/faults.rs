//! System calls that fail with a given error: a filter that a process has from its start (seccomp(2)).
//! A thread of its own installs the filter and starts the process, which inherits it.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};
use std::thread;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::{is_installed, program, skip};

/// A set of system calls, and the error that each of them returns every time.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Each with the value of its first argument, or `None` for any.
    calls: Vec<(i64, Option<u32>)>,
    error: Errno,
}

impl Faults {
    /// Makes these calls fail with this error, for any arguments.
    pub(crate) fn of(calls: &[i64], error: Errno) -> Self {
        let calls = calls.iter().map(|&call| (call, None)).collect();
        Self { calls, error }
    }

    /// Makes these calls fail too where the first argument is this descriptor.
    pub(crate) fn and_at(mut self, descriptor: u32, calls: &[i64]) -> Self {
        let calls = calls.iter().map(|&call| (call, Some(descriptor)));
        self.calls.extend(calls);
        self
    }

    fn program(&self) -> seccompiler::Result<BpfProgram> {
        let mut rules = BTreeMap::new();
        for &(call, descriptor) in &self.calls {
            let conditions = match descriptor {
                None => Vec::new(),
                Some(fd) => {
                    let (length, is) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
                    let condition = SeccompCondition::new(0, length, is, fd.into())?;
                    vec![SeccompRule::new(vec![condition])?]
                }
            };
            rules.insert(call, conditions);
        }
        let error = self.error.raw_os_error().unsigned_abs();
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(error),
            TargetArch::try_from(std::env::consts::ARCH)?,
        )?;
        Ok(BpfProgram::try_from(filter)?)
    }

    /// Starts a process with all these filters.
    pub(super) fn start(all: &[Self], command: &mut Command) -> io::Result<Child> {
        if all.is_empty() {
            return command.spawn();
        }
        let start = || {
            for faults in all {
                let installed = faults.program().and_then(|program| apply_filter(&program));
                installed.map_err(io::Error::other)?;
            }
            command.spawn()
        };
        thread::scope(|scope| scope.spawn(start).join()).unwrap()
    }
}

/// Returns true if strace(1) is installed and may trace; prints a notice if not.
pub(crate) fn has_strace() -> bool {
    let may_look = || {
        program("strace", "-D -f -qq -o /dev/null true")
            .run()
            .status
            == 0
    };
    let has = is_installed("strace") && may_look();
    if !has {
        skip("strace is not installed, or may not look");
    }
    has
}

/// Returns true if a filter can be installed; prints a notice if not.
pub(crate) fn has_faults() -> bool {
    let harmless = Faults::of(&[libc::SYS_reboot], Errno::PERM);
    let tried = Faults::start(&[harmless], &mut Command::new("true"));
    match tried {
        Ok(mut child) => child.wait().unwrap().success(),
        Err(error) => {
            skip(&format!("no filter of system calls: {error}"));
            false
        }
    }
}
