//! The `s3layers` program.

use std::process::ExitCode;

/// It returns what is free to the system soon, which glibc's and musl's allocators do not after many
/// threads have allocated: `.ci/memory` measures that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    s3layers_cli::run()
}
