//! What a collection keeps below `gc/`. None of it decides what is removed: it saves work, or brings
//! back what a client has deleted. A pure schema.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::{RepositoryName, Tag};
use crate::s3::format::document::{Document, Inline};
use crate::s3::format::keys::SegmentName;
use s3layers_tarsum::Digest;

/// Layers whose records were about to be set to dead. A push can replace such a record, and nothing
/// else would name the old data then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadBatch {
    pub(crate) version: u32,
    pub(crate) layers: Vec<DeadLayer>,
}

/// A layer by its data objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLayer {
    pub(crate) digest: Digest,
    pub(crate) upload: Uuid,
    pub(crate) segments: Vec<SegmentName>,
}

impl Document for DeadBatch {
    const WHAT: &'static str = "list of dead layers";
    const VERSION: u32 = 1;
}

/// Which digests the manifests of a repository name, so that they are read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestNames {
    pub(crate) version: u32,
    pub(crate) repository: RepositoryName,
    /// By the digest of the manifest: its ETag in listings, and what it names.
    pub(crate) manifests: BTreeMap<String, (String, BTreeSet<Digest>)>,
}

impl Document for ManifestNames {
    const WHAT: &'static str = "list of what manifests name";
    const VERSION: u32 = 1;
}

/// What the last collection counted, less what it removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LastCollection {
    pub(crate) version: u32,
    pub(crate) links: u64,
    pub(crate) manifests: u64,
}

impl Document for LastCollection {
    const WHAT: &'static str = "count of the last collection";
    const VERSION: u32 = 1;
}

/// A manifest that a client has deleted, with its tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrashedManifest {
    pub(crate) version: u32,
    pub(crate) repository: RepositoryName,
    pub(crate) digest: Digest,
    /// By the clock of the process that deleted it.
    pub(crate) deleted_at: Timestamp,
    pub(crate) tags: BTreeSet<Tag>,
    pub(crate) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) bytes: Inline,
}

impl Document for TrashedManifest {
    const WHAT: &'static str = "deleted manifest";
    const VERSION: u32 = 1;
}
