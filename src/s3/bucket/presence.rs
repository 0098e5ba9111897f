//! Whether the bytes of a layer are there.
//!
//! A record names objects, but a lifecycle rule, an operator or the store itself may have removed
//! them. A layer whose bytes are gone must not look present: clients would skip its upload, and it
//! would never be repaired. So every answer that says that a layer is present has looked at its
//! objects, or this process has within [`LIFETIME`](super::looks::LIFETIME).
//!
//! An object with another ETag, but the recorded size and CRC64NVME, is the right one: the bucket
//! was copied or encrypted with another key.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clock::Moment;
use crate::error::Result;
use crate::s3::bucket::Store;
use crate::s3::bucket::cache::Ticket;
use crate::s3::bucket::looks::Look;
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Content, Record, Segment, StoredLayer};
use crate::s3::wire::{ETag, ObjectInfo, Put};
use crate::telemetry::Event;

/// How long an object is waited for that another process may be completing.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first pause between two looks; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What an object is to a segment that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The object that was recorded, or the same bytes with this ETag.
    Same(ETag),
    /// An object of the right size, without a checksum.
    Unproven(ETag),
    /// Other bytes.
    Other(String),
}

/// Compares an object with a segment. Pure.
pub(crate) fn judge(segment: &Segment, head: &ObjectInfo) -> Judgement {
    let size = segment.object_size();
    if head.size != size {
        return Judgement::Other(format!("it has {} bytes instead of {size}", head.size));
    }
    if head.etag == segment.etag {
        return Judgement::Same(head.etag.clone());
    }
    match &head.crc64 {
        Some(_) if size != segment.sum.len() => Judgement::Unproven(head.etag.clone()),
        Some(crc64) if segment.sum.is(crc64) => Judgement::Same(head.etag.clone()),
        Some(_) => Judgement::Other("it has another checksum than was recorded".to_owned()),
        None => Judgement::Unproven(head.etag.clone()),
    }
}

/// When this process last saw this object, if it did a short time ago.
pub(crate) fn seen_at(store: &Store, key: &Key, etag: &ETag) -> Option<Moment> {
    let look = recent_look(store, key)?;
    (look.etag == *etag).then_some(look.at)
}

fn recent_look(store: &Store, key: &Key) -> Option<Look> {
    let look = store.looks.get(key)?;
    look.at.is_within(store.times().look()).then_some(look)
}

/// A request that will show whether an object is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looking {
    ticket: Ticket,
    pub(crate) since: Moment,
}

/// Before the request: what others learn meanwhile is not forgotten.
pub(crate) fn begin(store: &Store, key: &Key) -> Looking {
    Looking {
        ticket: store.looks.ticket(key),
        since: Moment::now(),
    }
}

/// This object was there, as of the request that was begun.
pub(crate) fn note(store: &Store, key: &Key, etag: &ETag, looking: Looking) {
    let look = Look {
        etag: etag.clone(),
        at: looking.since,
    };
    store.looks.insert(looking.ticket, key, look);
}

/// What is known of an object; asked once more where it is not right: one odd answer is no reason to give up
/// its bytes.
pub(crate) async fn head(
    store: &Store,
    key: &Key,
    is_right: impl Fn(&ObjectInfo) -> bool,
) -> Result<Option<ObjectInfo>> {
    match store.api.head(key).await? {
        Some(head) if !is_right(&head) => Ok(store.api.head(key).await?),
        head => Ok(head),
    }
}

/// As [`head`], of an object that another process may be completing: repeated for some seconds while it is absent.
pub(crate) async fn awaited(
    store: &Store,
    key: &Key,
    is_right: impl Fn(&ObjectInfo) -> bool,
) -> Result<Option<(ObjectInfo, Looking)>> {
    let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        let looking = self::begin(store, key);
        if let Some(head) = head(store, key, &is_right).await? {
            return Ok(Some((head, looking)));
        }
        if begun.elapsed() >= PATIENCE {
            return Ok(None);
        }
        sleep(pause).await;
        pause *= 2;
    }
}

/// As [`head`], of the object that should be there.
pub(crate) async fn judged(
    store: &Store,
    key: &Key,
    segment: &Segment,
) -> Result<Option<Judgement>> {
    let is_right = |head: &ObjectInfo| !matches!(judge(segment, head), Judgement::Other(_));
    let head = head(store, key, is_right).await?;
    Ok(head.map(|head| judge(segment, &head)))
}

/// An object turned out to be missing or another one.
pub(crate) fn lost(store: &Store, key: &Key) {
    store.looks.forget(key);
}

/// The layer with the ETags that its objects have now; `None` where one is missing or another one.
///
/// # Cost
///
/// For each object: none where this process looked within [`LIFETIME`](super::looks::LIFETIME), else 1 request.
async fn looked_at(store: &Store, layer: &StoredLayer) -> Result<Option<StoredLayer>> {
    let mut now = layer.clone();
    let Content::Segments(segments) = &mut now.content else {
        return Ok(Some(now));
    };
    for segment in segments {
        let key = store.keys.segment(layer.upload, &segment.name);
        // It was judged by its bytes then, which no other object under this key has.
        if let Some(look) = recent_look(store, &key) {
            segment.etag = look.etag;
            continue;
        }
        let looking = begin(store, &key);
        let Some(Judgement::Same(etag)) = judged(store, &key, segment).await? else {
            lost(store, &key);
            return Ok(None);
        };
        note(store, &key, &etag, looking);
        segment.etag = etag;
    }
    Ok(Some(now))
}

/// Checks that the bytes of a layer are present, without the cache: it decides that
/// an upload is not needed.
///
/// # Cost
///
/// 1 request for each object.
pub(crate) async fn look(store: &Store, layer: &StoredLayer) -> Result<bool> {
    for segment in layer.segments() {
        lost(store, &store.keys.segment(layer.upload, &segment.name));
    }
    Ok(looked_at(store, layer).await?.is_some())
}

/// The layer whose bytes are there: this one, or the one that replaced it, since an alias or a link
/// is not changed when the record that it repeats is replaced.
///
/// # Cost
///
/// For each object: none where this process looked within [`LIFETIME`](super::looks::LIFETIME), else 1 request; where the bytes are gone, 1 request for the record and as much for its
/// objects.
pub(crate) async fn present(store: &Store, layer: &StoredLayer) -> Result<Option<StoredLayer>> {
    if let Some(now) = looked_at(store, layer).await? {
        return Ok(Some(now));
    }
    match store.layer(&layer.id()).await? {
        // Its record may have the ETags that a copied bucket has now.
        Some(now) if now.upload != layer.upload || now.content != layer.content => {
            let now = looked_at(store, &now).await?;
            Ok(now.map(|now| now.with_aliases(&layer.aliases)))
        }
        _ => Ok(None),
    }
}

/// Records the ETags that the objects of a layer have now, where its record and link name the same
/// objects with others: the bucket was copied, or encrypted with another key.
///
/// # Cost
///
/// 2 requests.
pub(crate) async fn record_etags(store: &Store, layer: &StoredLayer) -> Result<()> {
    let key = store.keys.layer(&layer.id());
    let Some(loaded) = store.load::<Record>(&key).await? else {
        return Ok(());
    };
    let mut record = loaded.document;
    let is_present = record.state.is_present();
    if is_present && record.layer.has_same_content(layer) && record.layer.content != layer.content {
        record.layer.content = layer.content.clone();
        let put = store.put_over(&key, &record, Some(&loaded.etag)).await?;
        if let Put::Written(_) = put {
            store.api.telemetry().note(Event::RecordRepaired);
            tracing::info!(%key, "recorded the present ETags of a layer");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::s3::format::checksum::Crc64;
    use crate::s3::format::keys::SegmentName;

    #[test]
    fn objects_are_judged_by_their_heads() {
        let etag = |text: &str| serde_json::from_value::<ETag>(text.into()).unwrap();
        let segment = |object_size| Segment {
            name: SegmentName::Multipart(0),
            etag: etag("e"),
            sum: Crc64::of(b"layer"),
            object_size,
        };
        let object = |size, tag: &str, bytes: Option<&[u8]>| ObjectInfo {
            size,
            etag: etag(tag),
            crc64: bytes.map(|bytes| Crc64::of(bytes).to_base64()),
        };
        let other = |found: &Judgement| matches!(found, Judgement::Other(_));
        let same = |tag| move |found: &Judgement| *found == Judgement::Same(etag(tag));
        let unproven = |found: &Judgement| matches!(found, Judgement::Unproven(_));
        type Want<'a> = &'a dyn Fn(&Judgement) -> bool;
        #[rustfmt::skip]
        let cases: [(&str, Segment, ObjectInfo, Want<'_>); 8] = [
            ("as recorded", segment(None), object(5, "e", Some(b"layer")), &same("e")),
            ("no checksum", segment(None), object(5, "e", None), &same("e")),
            ("copied", segment(None), object(5, "f", Some(b"layer")), &same("f")),
            ("copied, no checksum", segment(None), object(5, "f", None), &unproven),
            ("short", segment(None), object(4, "e", Some(b"laye")), &other),
            ("other bytes", segment(None), object(5, "f", Some(b"other")), &other),
            ("a larger object", segment(Some(9)), object(9, "e", None), &same("e")),
            ("a larger object, copied", segment(Some(9)), object(9, "f", Some(b"layer")), &unproven),
        ];
        for (case, segment, head, is_right) in cases {
            let found = judge(&segment, &head);
            assert!(is_right(&found), "{case}: {found:?}");
        }
    }
}
