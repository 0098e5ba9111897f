//! How often an attempt is repeated, and after how long. Pure: the caller has the clock and the
//! dice.
//!
//! Attempts are made here and not in the SDK: its retries hide whether a first attempt took
//! effect, which a conditional write has to know, and draw on one quota for the whole process
//! that does not refill with time.

use std::time::Duration;

/// The failure is returned after this many attempts and this long: a gateway restarts within it.
const MIN_ATTEMPTS: u32 = 8;
const MIN_ELAPSED: Duration = Duration::from_secs(30);
/// An attempt that began after this long is the last one. Not counted is how long it took: a large
/// part or a Complete may alone take longer until it is known to hang.
const MAX_ELAPSED: Duration = Duration::from_secs(90);
/// The first pause, at most. Doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The first pause after the store asked to slow down.
const FIRST_THROTTLED_PAUSE: Duration = Duration::from_millis(400);
/// No pause is longer.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt; `None` where there shall be none. `attempts` were
/// made, the last of them `elapsed` after the first; `jitter` is from 0 to 1 and spreads clients that failed together.
pub(crate) fn pause(
    attempts: u32,
    elapsed: Duration,
    throttled: bool,
    jitter: f64,
) -> Option<Duration> {
    let is_enough = attempts >= MIN_ATTEMPTS && elapsed >= MIN_ELAPSED;
    if is_enough || elapsed >= MAX_ELAPSED {
        return None;
    }
    let first = if throttled {
        FIRST_THROTTLED_PAUSE
    } else {
        FIRST_PAUSE
    };
    let ceiling = first
        .saturating_mul(1 << attempts.saturating_sub(1).min(16))
        .min(MAX_PAUSE);
    // At least a tenth, so that a fast failure does not burn all attempts within a moment.
    Some(ceiling.mul_f64(0.1 + 0.9 * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_end() {
        let none = Duration::ZERO;
        let ms = Duration::from_millis;
        for (attempts, elapsed, throttled, jitter, want) in [
            (1, none, false, 1.0, Some(ms(100))),
            (2, none, false, 1.0, Some(ms(200))),
            (4, none, false, 1.0, Some(ms(800))),
            (1, none, true, 1.0, Some(ms(400))),
            (7, none, true, 1.0, Some(ms(10_000))),
            (1, none, false, 0.0, Some(ms(10))),
            (8, none, false, 1.0, Some(ms(10_000))),
            (8, Duration::from_secs(30), false, 1.0, None),
            (7, Duration::from_secs(30), false, 0.0, Some(ms(640))),
            (2, Duration::from_secs(90), false, 1.0, None),
        ] {
            let got = pause(attempts, elapsed, throttled, jitter);
            assert_eq!(
                got.map(|d| d.as_millis()),
                want.map(|d| d.as_millis()),
                "{attempts}"
            );
        }
    }
}
