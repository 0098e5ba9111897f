//! Conditional writes: one after the other, and several at once.

use bytes::Bytes;
use futures_util::future::join_all;

use super::ask::{Ask, Told};
use super::question::Question;
use crate::error::Result;
use crate::s3::api::{Condition, Put};
use crate::s3::keys::Key;
use crate::s3::probe;

/// Writers of one race.
const WRITERS: usize = 8;
/// Races of one kind: a store that mixes up writers does not do it each time.
const ROUNDS: usize = 2;

pub(super) async fn conditional_writes(ask: &mut Ask<'_>) {
    let (key, absent) = (ask.key("conditions"), ask.key("absent"));
    match probe::conditions(ask.api, &key, &absent).await {
        Ok(found) => {
            let refused = |is: bool| (is, if is { "refused" } else { "overwritten" }.to_owned());
            let taken = |is: bool| (is, if is { "replaced" } else { "refused" }.to_owned());
            let created = |is: bool| (is, if is { "refused" } else { "created" }.to_owned());
            ask.tell_whether(Question::CreateRefused, refused(found.refuses_present));
            ask.tell_whether(Question::ReplaceTaken, taken(found.replaces));
            ask.tell_whether(Question::StaleRefused, refused(found.refuses_stale));
            ask.tell_whether(Question::AbsentRefused, created(found.refuses_absent));
        }
        Err(error) => ask.fail(
            &[
                Question::CreateRefused,
                Question::ReplaceTaken,
                Question::StaleRefused,
                Question::AbsentRefused,
            ],
            error,
        ),
    }
    let raced = create_race(ask).await;
    ask.end(Question::CreateRace, raced);
    let raced = replace_race(ask).await;
    ask.end(Question::ReplaceRace, raced);
}

async fn create_race(ask: &Ask<'_>) -> Result<Told> {
    let mut winners = Vec::new();
    for round in 0..ROUNDS {
        let key = ask.key(&format!("create-race-{round}"));
        winners.push(race(ask, &key, round, Condition::Absent).await?);
    }
    Ok(told(&winners))
}

async fn replace_race(ask: &Ask<'_>) -> Result<Told> {
    let key = ask.key("replace-race");
    let mut winners = Vec::new();
    let bytes = [Bytes::from_static(b"the first")];
    let mut standing = ask.api.put(&key, &bytes, None, None).await?;
    for round in 0..ROUNDS {
        winners.push(race(ask, &key, round, Condition::Matches(&standing)).await?);
        match ask.api.get_small(&key).await? {
            Some(found) => standing = found.etag,
            None => return Ok((false, "the object was gone after the race".to_owned())),
        }
    }
    Ok(told(&winners))
}

/// How many of several writers were told that theirs is stored.
async fn race(ask: &Ask<'_>, key: &Key, round: usize, condition: Condition<'_>) -> Result<usize> {
    let writes = (0..WRITERS).map(|writer| {
        let bytes = Bytes::from(format!("writer {writer} of round {round}"));
        ask.api.put_if(key, bytes, condition)
    });
    let mut winners = 0;
    for put in join_all(writes).await {
        winners += usize::from(matches!(put?, Put::Written(_)));
    }
    Ok(winners)
}

fn told(winners: &[usize]) -> Told {
    match winners.iter().find(|&&winners| winners != 1) {
        None => (true, format!("1 of {WRITERS} won, each time")),
        Some(several) => (
            false,
            format!("{several} of {WRITERS} were told that they won"),
        ),
    }
}
