//! Listings, a page at a time.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};

use crate::clock;
use crate::error::{Error, Result};
use crate::s3::bucket::Store;
use crate::s3::format::keys::Keys;
use crate::s3::maintenance::inventory::plan::{Found, Groups, ListedSession};
use crate::s3::wire::Page;
use s3layers_tarsum::Digest;

/// The objects below a prefix. Ends after an error.
///
/// # Cost
///
/// One request for a thousand.
pub(crate) fn pages(store: &Arc<Store>, prefix: String) -> BoxStream<'static, Result<Page>> {
    let first = (Arc::clone(store), prefix, Some(None));
    let pages = stream::try_unfold(first, async |(store, prefix, from)| {
        let Some(from) = from else {
            return Ok::<_, Error>(None);
        };
        let page = store.api.list(&prefix, from).await?;
        let next = page.next.clone().map(Some);
        Ok(Some((page, (store, prefix, next))))
    });
    pages.boxed()
}

/// The digests in the keys of the documents below a prefix: of records, of links by SHA-256, of manifests. What is not
/// called as we would call it is none of ours.
pub(crate) fn digests(
    store: &Arc<Store>,
    prefix: String,
) -> impl Stream<Item = Result<Digest>> + use<> {
    let keys = store.keys.clone();
    let listed = pages(store, prefix).map_ok(move |page| {
        let present = page.present();
        let digests = present.filter_map(|object| keys.digest_in(object.key.as_str()));
        stream::iter(digests.map(Ok).collect::<Vec<_>>())
    });
    listed.try_flatten()
}

/// All uploads in the bucket, in the order of their UUIDs. Ends after an error. Where the store
/// lists without order, an upload may come in several pieces, of which one has its session.
pub(crate) fn found(store: Arc<Store>) -> impl Stream<Item = Result<Found>> {
    let keys = store.keys.clone();
    let pages = pages(&store, keys.uploads());
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

/// The objects in a page, each as an upload of its own.
fn seen(keys: &Keys, page: &Page) -> impl Iterator<Item = Found> {
    let now = clock::now();
    page.objects.iter().filter_map(move |object| {
        let uuid = keys.uuid_of(object.key.as_str())?;
        let session = if object.key == keys.session(uuid) {
            ListedSession::There(object.etag.clone())
        } else {
            ListedSession::Absent
        };
        Some(Found {
            uuid,
            age: page.age(object, now),
            written_at: object.modified,
            keys: vec![object.key.clone()],
            session,
        })
    })
}
