//! Listings, a page at a time.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt as _};

use crate::clock;
use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::format::keys::Keys;
use crate::s3::maintenance::inventory::plan::{Found, Groups, Seen};
use crate::s3::wire::Page;

/// The objects below a prefix. Ends after an error.
///
/// # Cost
///
/// One request for a thousand.
pub(crate) fn pages(store: Arc<Store>, prefix: String) -> impl Stream<Item = Result<Page>> {
    let first = Some(None);
    stream::try_unfold((store, prefix, first), async |(store, prefix, from)| {
        let Some(from) = from else {
            return Ok::<_, Error>(None);
        };
        let page = store.api.list(&prefix, from).await?;
        let next = page.next.clone().map(Some);
        Ok(Some((page, (store, prefix, next))))
    })
}

/// All uploads in the bucket, in the order of their UUIDs. Ends after an error. Where the store
/// lists without order, an upload may come in several pieces, of which one has its session.
pub(crate) fn found(store: Arc<Store>) -> impl Stream<Item = Result<Found>> {
    let keys = store.keys.clone();
    let pages = pages(store, keys.uploads());
    // A last one, for the upload that no other one follows.
    let pages = pages.map(Some).chain(stream::once(ready(None)));
    let uploads = pages.scan(Groups::default(), move |groups, page| {
        let found: Vec<Result<Found>> = match page {
            Some(Ok(page)) => {
                let seen = seen(&keys, &page);
                seen.filter_map(|seen| groups.take(seen)).map(Ok).collect()
            }
            Some(Err(error)) => {
                // What more it has is not known.
                *groups = Groups::default();
                vec![Err(error)]
            }
            None => groups.end().map(Ok).into_iter().collect(),
        };
        ready(Some(stream::iter(found)))
    });
    uploads.flatten()
}

/// The uploads in a page.
fn seen(keys: &Keys, page: &Page) -> impl Iterator<Item = Seen> {
    let now = clock::now();
    page.objects.iter().filter_map(move |object| {
        let uuid = keys.uuid_of(object.key.as_str())?;
        let is_session = object.key == keys.session(uuid);
        Some(Seen {
            uuid,
            key: object.key.clone(),
            age: page.age(object, now),
            written_at: object.modified,
            session: is_session.then(|| object.etag.clone()),
        })
    })
}
