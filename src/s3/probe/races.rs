//! Whether at most one of several conditional writes at once is carried out.

use bytes::Bytes;
use futures_util::future::join_all;

use super::Told;
use crate::error::Result;
use crate::s3::format::keys::Key;
use crate::s3::wire::{Api, Condition, Put};

/// How often, and how many writers at a time: a store that mixes up writers does not do it each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) rounds: usize,
    pub(crate) writers: usize,
}

/// Which condition the writers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// If-None-Match on a key that is free.
    Create,
    /// If-Match with the ETag of what is stored.
    Replace,
}

/// Races at keys that are free, one for each round. An object is left at each. Ends with the first
/// round that not exactly one writer has won.
pub(crate) async fn race(
    api: &Api,
    key: impl Fn(usize) -> Key,
    race: Race,
    Rounds { rounds, writers }: Rounds,
) -> Result<Told> {
    for round in 0..rounds {
        let key = key(round);
        let standing = match race {
            Race::Create => None,
            Race::Replace => {
                let bytes = [Bytes::from_static(b"the first")];
                Some(api.put(&key, &bytes, None, None).await?)
            }
        };
        let condition = standing.as_ref();
        let condition = condition.map_or(Condition::Absent, Condition::Matches);
        let writes = (0..writers).map(|writer| {
            let bytes = Bytes::from(format!("writer {writer} of round {round}"));
            api.put_if(&key, bytes, condition)
        });
        let mut winners = 0;
        for put in join_all(writes).await {
            winners += usize::from(matches!(put?, Put::Written(_)));
        }
        if winners != 1 {
            let found = format!("{winners} of {writers} were told that they won, in race {round}");
            return Ok((false, found));
        }
    }
    Ok((true, format!("1 of {writers} won, {rounds} times")))
}
