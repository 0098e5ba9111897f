//! The names of all repositories, from one listing of their markers. Only those that were emptied
//! are looked into ([`names`]).

use std::pin::pin;

use futures_util::stream::{self, Stream, StreamExt as _};

use super::comparable;
use crate::contract::Page;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::s3::bucket::Store;
use crate::s3::names;
use crate::s3::wire::ListedObject;

/// How many emptied repositories are looked into at a time.
const LOOKS_AT_ONCE: usize = 8;
/// A page of markers that are listed to learn whether there are more repositories has this many, as
/// some may be emptied.
const LEAST_LISTED: usize = 100;

pub(super) async fn page(
    store: &Store,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RepositoryName>> {
    let prefix = store.keys.names();
    let mut from = after.map(|after| store.keys.names_after(&comparable(after)));
    let mut items = Vec::new();
    while items.len() <= limit {
        let left = (limit + 1 - items.len()).max(LEAST_LISTED);
        let (markers, goes_on) = store.api.list_after(&prefix, from.as_deref(), left).await?;
        let mut names = pin!(existing(store, &markers));
        while items.len() <= limit
            && let Some(name) = names.next().await
        {
            items.extend(name?);
        }
        match markers.last().filter(|_| goes_on) {
            Some(last) => from = Some(last.key.to_string()),
            None => break,
        }
    }
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { items, more })
}

/// The repositories of these markers, in order; `None` for each that has no entries.
fn existing(
    store: &Store,
    markers: &[ListedObject],
) -> impl Stream<Item = Result<Option<RepositoryName>>> {
    let looks = markers.iter().map(async |marker| {
        let Some(name) = store.keys.repository_of(marker.key.as_str()) else {
            return Ok::<_, Error>(None);
        };
        let exists = names::is_live(marker.size) || names::has_entries(store, &name).await?;
        Ok(exists.then_some(name))
    });
    stream::iter(looks).buffered(LOOKS_AT_ONCE)
}
