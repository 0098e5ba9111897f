//! The `s3layers` program.

use std::process::ExitCode;

use tikv_jemalloc_ctl::{Access as _, AsName as _};

/// Its threads return free memory to the system within seconds. Other allocators return it when the
/// program next allocates, or never: `.ci/memory` measures that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long free memory may stay with the program, in milliseconds. The default of 10 s keeps as much
/// again as is in use; a tenth of a second faults in most of what the next part needs.
const DECAY: isize = 500;

fn main() -> ExitCode {
    // New threads take memory from other arenas than this one. A failure costs memory alone.
    for setting in [&b"arenas.dirty_decay_ms\0"[..], b"arena.0.dirty_decay_ms\0"] {
        let _ = setting.name().write(DECAY);
    }
    share_free_memory();
    s3layers_cli::run(share_free_memory)
}

/// Lets this thread take memory from the first arena. With one each, what a thread has freed is not
/// used by the others, which fault in new pages.
fn share_free_memory() {
    let _ = b"thread.arena\0".name().write(0_u32);
}
