//! The `s3layers` program.

use std::process::ExitCode;

/// Its threads return free memory to the system within seconds. Other allocators return it when the
/// program next allocates, or never: `.ci/memory` measures that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    s3layers_cli::run()
}
