//! A test in a process of its own, for a change that holds for a whole process, such as a raised limit of descriptors.
//! The test binary runs again with that one test, and an environment variable makes it run the body.

use std::process::{Command, Stdio};

/// Set in the process that runs the body.
const IS_ALONE: &str = "TUPLECAT_TEST_IS_ALONE";

/// Runs the body of the test with this path, such as `many_clients::are_served`, in a process of its own.
#[track_caller]
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(IS_ALONE).is_some() {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", test])
        .env(IS_ALONE, "1");
    let done = command.stderr(Stdio::inherit()).output().unwrap();
    let output = String::from_utf8_lossy(&done.stdout);
    print!("{output}");
    assert!(done.status.success(), "{test} failed in its own process");
    assert!(output.contains("1 passed"), "there is no test {test}");
}
