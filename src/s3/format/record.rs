//! The documents of a published layer: its record, which decides who stores a digest; aliases,
//! which repeat it under another id; and links, which repeat it under a repository. A pure schema.
//!
//! Each names the id that it is found under, so that a document at the wrong key is recognised.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;
use crate::s3::format::checksum::{BlockSums, Crc64};
use crate::s3::format::document::{Document, Inline};
pub(crate) use crate::s3::format::keys::SegmentName;
use crate::s3::wire::ETag;
use s3layers_tarsum::Digest;

/// A layer of at most so many bytes is stored within its documents.
pub(crate) const INLINE_LIMIT: u64 = 16 * 1024;

/// A published layer. Immutable: every process that commits the same upload writes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredLayer {
    /// The SHA-256 of the bytes.
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// The upload that stored it.
    pub(crate) upload: Uuid,
    pub(crate) content: Content,
    /// CRC64NVME of every block of 8 MiB. Empty where the bytes are inline.
    pub(crate) blocks: BlockSums,
    /// Other ids that were verified: another digest, a TarSum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) aliases: Vec<LayerId>,
    /// The repository that it was first published in.
    pub(crate) repository: RepositoryName,
    pub(crate) created_at: Timestamp,
}

/// Where the bytes of a layer are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Content {
    /// In this document.
    Inline(Inline),
    /// In these objects of the upload, one after the other.
    Segments(Vec<Segment>),
}

/// An object that holds some bytes of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) etag: ETag,
    /// Of the bytes that belong to the layer, and how many they are.
    pub(crate) sum: Crc64,
    /// The size of the object, where it has more bytes than belong to the layer: a store that
    /// completes a multipart upload only with all of its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) object_size: Option<u64>,
}

impl Segment {
    pub(crate) fn object_size(&self) -> u64 {
        self.object_size.unwrap_or(self.sum.len())
    }
}

impl StoredLayer {
    /// The same layer with further ids, which were verified. The first TarSum among them is the
    /// one that the layer reports.
    pub(crate) fn with_aliases(&self, ids: &[LayerId]) -> Self {
        let own = self.id();
        let others = self.aliases.iter().filter(|id| !ids.contains(id));
        let all = ids.iter().chain(others).filter(|id| **id != own);
        StoredLayer {
            aliases: all.cloned().collect(),
            ..self.clone()
        }
    }

    pub(crate) fn tar_sum(&self) -> Option<&TarSum> {
        self.aliases.iter().find_map(LayerId::as_tar_sum)
    }

    pub(crate) fn id(&self) -> LayerId {
        self.digest.clone().into()
    }

    /// Whether this is one of its ids.
    pub(crate) fn has_id(&self, id: &LayerId) -> bool {
        self.id() == *id || self.aliases.contains(id)
    }

    /// Whether both are stored in the same place.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        self.digest == other.digest
            && match (&self.content, &other.content) {
                (Content::Inline(_), Content::Inline(_)) => true,
                (Content::Segments(ours), Content::Segments(theirs)) => {
                    let (ours, theirs) = (ours.iter(), theirs.iter());
                    let has_same_names = ours.map(|s| &s.name).eq(theirs.map(|s| &s.name));
                    self.upload == other.upload && has_same_names
                }
                _ => false,
            }
    }

    /// The objects that hold its bytes.
    pub(crate) fn segments(&self) -> &[Segment] {
        match &self.content {
            Content::Inline(_) => &[],
            Content::Segments(segments) => segments,
        }
    }

    /// What contradicts itself in this document, if anything does: a size that its checksums belie
    /// would be an early end of file.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let bytes = match &self.content {
            Content::Inline(inline) => Some(inline.0.len() as u64),
            Content::Segments(segments) => segments
                .iter()
                .try_fold(0, |sum: u64, segment| sum.checked_add(segment.sum.len())),
        };
        let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
        let Some(bytes) = bytes else {
            return Some("more bytes than any object has".to_owned());
        };
        if bytes != self.size {
            return Some(format!("{} bytes, of which it has {bytes}", self.size));
        }
        if !self.blocks.fit(self.size) {
            return Some(format!("{} bytes without checksums of them all", self.size));
        }
        None
    }
}

/// How far the collection of a layer has come. Only the collector writes other states than `Live`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum RecordState {
    #[default]
    Live,
    /// Served as if live; a writer that meets it writes it back to live.
    Condemned { nonce: String },
    /// Absent; its data is kept for a while.
    Dead { nonce: String },
    /// Absent; its data is being removed.
    Purging { nonce: String },
}

impl RecordState {
    /// Whether the layer is there.
    pub(crate) fn is_present(&self) -> bool {
        matches!(self, RecordState::Live | RecordState::Condemned { .. })
    }
}

/// The record of a layer, under its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) state: RecordState,
    pub(crate) layer: StoredLayer,
}

impl Record {
    pub(crate) fn live(layer: StoredLayer) -> Self {
        Record {
            version: Self::VERSION,
            state: RecordState::Live,
            layer,
        }
    }
}

impl Document for Record {
    const WHAT: &'static str = "layer record";
    const VERSION: u32 = 1;
}

/// A copy of a record under another id; its `layer.digest` is that of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alias {
    pub(crate) version: u32,
    pub(crate) id: LayerId,
    pub(crate) layer: StoredLayer,
}

impl Document for Alias {
    const WHAT: &'static str = "layer alias";
    const VERSION: u32 = 1;
}

/// A layer is in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) version: u32,
    pub(crate) repository: RepositoryName,
    pub(crate) id: LayerId,
    pub(crate) state: EntryState,
    /// Fresh in every write, so that a removal never hits a later write of the same link.
    pub(crate) nonce: String,
    pub(crate) layer: StoredLayer,
}

/// How far the collection of a link or a manifest has come. Only the collector writes other states than `Live`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum EntryState {
    #[default]
    Live,
    /// Served as if live; a writer that meets it writes it back to live.
    Condemned { nonce: String },
}

impl EntryState {
    /// Whether a collection condemned it.
    pub(crate) const fn is_condemned(&self) -> bool {
        matches!(self, EntryState::Condemned { .. })
    }
}

impl Document for Link {
    const WHAT: &'static str = "layer link";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_parsed() {
        for (text, is_name) in [
            ("0", true),
            ("17", true),
            ("whole-00ff", true),
            ("", false),
            ("01", false),
            ("-1", false),
            ("+1", false),
            ("whole-", false),
            ("whole-../../profile", false),
            ("../profile", false),
        ] {
            let parsed = text.parse::<SegmentName>();
            assert_eq!(parsed.is_ok(), is_name, "{text:?}: {parsed:?}");
            if let Ok(name) = parsed {
                assert_eq!(name.to_string(), text);
            }
        }
    }
}
