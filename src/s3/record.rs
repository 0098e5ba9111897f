//! The layer record: where a layer's bytes are, how many, and what they are called. A pure schema;
//! an alias and a link are copies of it under other keys. Those under a TarSum name that TarSum, which
//! may have been verified later than the layer was published.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::api::ETag;
use super::checksum::BlockSums;
use super::document::Document;
use super::keys::Key;
use crate::digest::Digest;
use crate::id::{LayerId, TarSum};
use crate::name::RepositoryName;

/// A published layer. Immutable: whoever finishes the same upload writes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    /// The object that holds the bytes.
    pub(crate) data: Key,
    /// Its ETag, which every read demands.
    pub(crate) etag: ETag,
    /// In bytes.
    pub(crate) size: u64,
    /// The id that this record is found under.
    pub(crate) digest: Digest,
    /// Other ids that were verified: another digest, a TarSum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) also: Vec<LayerId>,
    /// The repository that it was first published in.
    pub(crate) name: RepositoryName,
    pub(crate) created_at: Timestamp,
    /// CRC64NVME of every block of [`BLOCK`] bytes. Empty where the layer
    /// was published by a reader that did not compute them.
    pub(crate) blocks: BlockSums,
}

impl Record {
    /// The same layer, as it is found by these ids too, which were verified. The first TarSum of
    /// them is the one that is told.
    pub(crate) fn known_as(&self, ids: &[LayerId]) -> Self {
        let others = self.also.iter().filter(|id| !ids.contains(id));
        Record {
            also: ids.iter().chain(others).cloned().collect(),
            ..self.clone()
        }
    }

    pub(crate) fn tar_sum(&self) -> Option<&TarSum> {
        self.also.iter().find_map(LayerId::as_tar_sum)
    }
}

impl Document for Record {
    const WHAT: &'static str = "layer record";
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}
