//! The cases of a suite: how each is run, how many failed, and why.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};

/// One thread, and a clock that jumps over every wait.
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// Runs cases on a few threads, and fails with the line of each that failed.
pub fn all<C: Sync>(
    what: &str,
    cases: &[C],
    describe: impl Fn(&C) -> String + Sync,
    run: impl Fn(&C) -> Result<(), String> + Sync,
) {
    let begun = std::time::Instant::now();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(case)));
                    let failure = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(failure)) => failure,
                        Err(panicked) => match panicked.downcast::<String>() {
                            Ok(text) => *text,
                            Err(_) => "it panicked".to_owned(),
                        },
                    };
                    let line = format!("{}: {failure}", describe(case));
                    failures.lock().unwrap().push(line);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (ran, seconds) = (cases.len(), begun.elapsed().as_secs_f64());
    println!(
        "{what}: {ran} cases in {seconds:.1} s, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// An error and all its causes, on a line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Whether every fault strikes every request.
pub fn is_full() -> bool {
    std::env::var("S3LAYERS_FAULTS").is_ok_and(|extent| extent == "full")
}
