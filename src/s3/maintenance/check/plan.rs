//! What facts mean: the kinds of defects, what follows from each, and which layers are read this time. Pure.

use crate::error::Error;
use crate::s3::bucket::presence::{self, Judgement};
use crate::s3::format::record::Segment;
use crate::s3::wire::ObjectInfo;

/// What is wrong with one object or entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DefectKind {
    // In the order in which they are repaired: what others rely on comes first.
    /// A data object is absent.
    DataMissing,
    /// A data object has another size.
    DataOfOtherSize,
    /// A data object has other bytes, by its checksum.
    DataChanged,
    /// The bytes that were read do not have their checksums.
    DataRotten,
    /// A data object has another ETag, and the store does not report its checksum.
    DataUnproven,
    /// A data object has another ETag and the recorded checksum, as the store reports it or as it was read: it was copied,
    /// or encrypted with another key.
    EtagChanged,
    /// A record is damaged, or is that of another layer.
    RecordUnreadable,
    /// A layer is linked, and has no record.
    LinkWithoutRecord,
    /// A layer is linked, and a collection has removed it.
    LinkToRemovedLayer,
    /// A record lists an id by which the layer is not found.
    AliasMissing,
    /// An alias is damaged, or is that of another id.
    AliasUnreadable,
    /// An alias names a layer without a record.
    AliasToNothing,
    /// A link is damaged, or is that of another layer.
    LinkUnreadable,
    /// A link by another id, whose layer has no link by its SHA-256.
    LinkOfNoLayer,
    /// A manifest names a layer that is present, and not linked in its repository, or not by the id that it names.
    LayerNotLinked,
    /// A manifest names content that is not present.
    ContentMissing,
    /// A manifest is damaged, or does not have its digest.
    ManifestUnreadable,
    /// A listing of referrers lacks a manifest.
    ReferrerMissing,
    /// An entry among the referrers is damaged.
    ReferrerUnreadable,
    /// An entry among the referrers names an absent manifest.
    ReferrerToNothing,
    /// A manifest refers to a subject that is absent.
    SubjectMissing,
    /// A tag is damaged.
    TagUnreadable,
    /// A tag names an absent manifest.
    TagToNothing,
    /// The catalog does not show a repository.
    MarkerMissing,
    /// The catalog shows a repository that has no link, manifest or tag.
    StaleMarker,
    /// A session is damaged.
    SessionUnreadable,
    /// A document of the collection or of the trash is damaged.
    ListUnreadable,
    /// Bytes of an upload without a session.
    OrphanTail,
    /// A data object that no record, session or list of the collection names.
    OrphanData,
    /// A data object that only what could not be read may name.
    OrphanUnproven,
    /// A claim is damaged.
    ClaimUnreadable,
    /// A claim of an upload that has ended.
    StaleClaim,
    /// A document of a newer version, which this one cannot check.
    NewerVersion,
    /// An object under a key that this program does not write.
    UnknownObject,
}

/// What a defect means to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefectSeverity {
    /// Something that was stored cannot be read, found or proven.
    Damage,
    /// Something that was removed or given up, and left a trace. Nothing is lost by it.
    Leftover,
    /// It could not be checked.
    Unchecked,
}

impl DefectKind {
    /// What it means to users.
    pub fn severity(self) -> DefectSeverity {
        use DefectKind::*;
        match self {
            AliasToNothing | LinkOfNoLayer | ReferrerToNothing | SubjectMissing | OrphanTail
            | OrphanData | ClaimUnreadable | StaleClaim | StaleMarker | UnknownObject => {
                DefectSeverity::Leftover
            }
            NewerVersion | OrphanUnproven => DefectSeverity::Unchecked,
            _ => DefectSeverity::Damage,
        }
    }

    /// Whether the rest of the bucket has all that a repair needs, if that is whole.
    pub(super) fn is_derived(self) -> bool {
        use DefectKind::*;
        matches!(
            self,
            EtagChanged
                | LinkWithoutRecord
                | LinkToRemovedLayer
                | AliasMissing
                | AliasToNothing
                | LayerNotLinked
                | ReferrerMissing
                | MarkerMissing
                | StaleMarker
        )
    }
}

/// What a data object is to the segment that should be there.
pub(super) fn data(segment: &Segment, head: Option<ObjectInfo>) -> Option<DefectKind> {
    let Some(head) = head else {
        return Some(DefectKind::DataMissing);
    };
    if head.size != segment.object_size() {
        return Some(DefectKind::DataOfOtherSize);
    }
    match presence::judge(segment, &head) {
        Judgement::Same(etag) if etag == segment.etag => None,
        Judgement::Same(_) => Some(DefectKind::EtagChanged),
        Judgement::Unproven(_) => Some(DefectKind::DataUnproven),
        Judgement::Other(_) => Some(DefectKind::DataChanged),
    }
}

/// What the error of a document means; `None` where the request failed.
pub(super) fn document(error: &Error, damaged: DefectKind) -> Option<DefectKind> {
    match error {
        Error::Damaged { .. } => Some(damaged),
        Error::NewerVersion { .. } => Some(DefectKind::NewerVersion),
        _ => None,
    }
}

/// How much of all layers is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReadShare {
    /// Those of a part of the key space, above 0 and up to 1. So many runs read each layer once.
    Part(f64),
    /// Whole layers until so many bytes were read.
    Bytes(u64),
}

/// Which layers are read, by the first 32 bits of their digests, from where the run before ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    share: Option<ReadShare>,
    from: u64,
    read: u64,
    next: u64,
}

const END: u64 = 1 << 32;

impl Window {
    pub(super) fn new(share: Option<ReadShare>, from: u64) -> Self {
        let is_all = matches!(share, Some(ReadShare::Part(part)) if part >= 1.0);
        let from = if is_all { 0 } else { from % END };
        let next = match share {
            Some(ReadShare::Part(part)) => {
                let width = (part * END as f64).ceil() as u64;
                (from + width.max(1)).min(END)
            }
            // The end, unless the bytes are used up before.
            Some(ReadShare::Bytes(_)) => END,
            None => from,
        };
        Window {
            share,
            from,
            read: 0,
            next,
        }
    }

    /// Whether a layer of this size is read. They come in the order of their digests.
    pub(super) fn takes(&mut self, place: u64, size: u64) -> bool {
        if place < self.from || place >= self.next {
            return false;
        }
        if let Some(ReadShare::Bytes(bytes)) = self.share
            && self.read > 0
            && self.read + size > bytes
        {
            self.next = place;
            return false;
        }
        self.read += size;
        true
    }

    /// Where the next run begins.
    pub(super) fn next(&self) -> u64 {
        self.next % END
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_layers_in_as_many_runs() {
        let places: Vec<u64> = (0..1000).map(|n| n * (END / 1000)).collect();
        for runs in [1_u32, 3, 30] {
            let (mut from, mut seen) = (0, 0);
            for _ in 0..runs {
                let mut window = Window::new(Some(ReadShare::Part(1.0 / f64::from(runs))), from);
                seen += places
                    .iter()
                    .filter(|place| window.takes(**place, 1))
                    .count();
                from = window.next();
            }
            assert_eq!((seen, from), (places.len(), 0), "{runs} runs");
        }
    }

    #[test]
    fn share_of_one_is_every_layer() {
        let mut window = Window::new(Some(ReadShare::Part(1.0)), END / 2);
        assert!(window.takes(0, 1) && window.takes(END - 1, 1));
        assert_eq!(window.next(), 0);
    }

    #[test]
    fn bytes_are_a_limit_that_one_layer_may_exceed() {
        for (limit, want, next) in [(250, 2, 2), (1, 1, 1), (10_000, 10, 0)] {
            let mut window = Window::new(Some(ReadShare::Bytes(limit)), 0);
            let read = (0..10).filter(|place| window.takes(*place, 100)).count();
            assert_eq!((read, window.next()), (want, next), "{limit}");
        }
        let mut none = Window::new(None, 7);
        assert!(!none.takes(7, 1));
        assert_eq!(none.next(), 7);
    }
}
