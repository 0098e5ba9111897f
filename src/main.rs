//! The `s3layers` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3layers::cli::run()
}
