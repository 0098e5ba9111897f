//! Tests that need a process of their own.

use std::process::Command;

/// Set in a process that runs one test.
const VARIABLE: &str = "S3LAYERS_TEST_ALONE";

/// Whether this process runs only this test. Otherwise starts another one that does, which has to succeed.
///
/// A test that captures the log needs that: the filter of events is state of the whole process, and
/// concurrent tests would set it.
pub fn in_own_process(test: &str) -> bool {
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let run = Command::new(program)
        .args(["--exact", test])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("1 passed"), "there is no {test}: {said}");
    false
}
