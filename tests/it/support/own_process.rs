//! Tests that need the process for themselves.

use std::process::Command;

/// Set in a process that runs one test.
const VARIABLE: &str = "S3LAYERS_TEST_ALONE";

/// Whether this process runs nothing but this test. Otherwise another one is started, which does so
/// and has to succeed.
///
/// Who listens to the log needs that: which events are wanted at all is state of the whole process,
/// and other tests would set it at the same time.
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
