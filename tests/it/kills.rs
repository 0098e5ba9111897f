//! The program is killed at some instant, by SIGKILL, while it pushes or serves: what it has
//! acknowledged is there, the next process resumes, the layer comes back right, and after a sweep
//! nothing else is left.
//!
//! Each kill has a seed, which says how far the program comes; a failure prints it.
//! `S3LAYERS_KILLS=300` kills as often; `S3LAYERS_KILL=push:7` repeats one.

use std::time::Duration;

use crate::support::cases;
use crate::support::cli_fixture::CliFixture;
use crate::support::killed::{self, Kill};

type Life = fn(&CliFixture, Option<Kill>) -> Result<Duration, String>;

fn seeds(what: &str) -> Vec<u64> {
    if let Ok(asked) = std::env::var("S3LAYERS_KILL") {
        let (who, seed) = asked.split_once(':').expect("S3LAYERS_KILL=push:SEED");
        return if who == what {
            vec![seed.parse().unwrap()]
        } else {
            Vec::new()
        };
    }
    let kills = std::env::var("S3LAYERS_KILLS").map_or(12, |kills| kills.parse().unwrap());
    (0..kills).collect()
}

fn all(what: &str, live: Life) {
    let fixture = || CliFixture::new(env!("CARGO_BIN_EXE_s3layers"));
    // Several run at a time, and take longer then.
    let span = live(&fixture(), None).unwrap() * 2;
    cases::all(
        &format!("kills of {what}"),
        &seeds(what),
        |seed| format!("S3LAYERS_KILL={what}:{seed}"),
        |&seed| live(&fixture(), Some(Kill { seed, span })).map(drop),
    );
}

#[test]
fn a_push_can_be_killed_at_any_instant() {
    all("push", killed::push);
}

#[test]
fn a_registry_can_be_killed_at_any_instant() {
    all("serve", killed::serve);
}
