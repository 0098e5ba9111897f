//! What a registry needs of its storage besides layers: which layers, manifests, tags and referrers
//! a repository has.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::{Layer, LayerService, LayerUpload};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use s3layers_tarsum::{Algorithm, Digest, is_lower_hex};

/// Keeps the repositories of a registry. A layer is linked in the repository that it was uploaded
/// to by the `finish` of its upload; all else comes by these methods.
///
/// What a method acknowledged survives the death of the process, and is seen by every call that
/// begins later, in any process. Every method may fail with
/// [`Storage`](crate::Error::Storage), and lack of permission is never read as absence.
#[async_trait]
pub trait RepositoryService: LayerService {
    /// The layer with this id, where it is linked in this repository. Its bytes are not looked for:
    /// see [`Layer::is_stored`].
    ///
    /// # Errors
    ///
    /// [`LayerUnknown`](crate::Error::LayerUnknown) where it is not linked here, whether or not it
    /// is stored.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn layer(&self, name: &RepositoryName, id: &LayerId) -> Result<Box<dyn Layer>>;

    /// The layer with this id, where it is linked in this repository and its bytes are stored, for a caller that reports
    /// it to a client. The client may rely on the answer: a collection leaves the layer here until its
    /// manifest can have come. `None` where it is absent.
    ///
    /// # Cancellation
    ///
    /// The link may be written again or not.
    async fn confirm_layer(
        &self,
        name: &RepositoryName,
        id: &LayerId,
    ) -> Result<Option<Box<dyn Layer>>> {
        match self.layer(name, id).await {
            Ok(layer) => Ok(layer.is_stored().await?.then_some(layer)),
            Err(Error::LayerUnknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Links a layer here that is stored already: one that is linked in `from`, or, without it,
    /// any. `false` where there is none, or its bytes are gone.
    ///
    /// # Cancellation
    ///
    /// The layer may be linked or not.
    async fn mount(
        &self,
        name: &RepositoryName,
        id: &LayerId,
        from: Option<&RepositoryName>,
    ) -> Result<bool>;

    /// Removes the link of a layer, so that it is unknown in this repository. Its bytes stay.
    /// `false` where it was not linked.
    ///
    /// # Cancellation
    ///
    /// The link may be removed or not.
    async fn unlink(&self, name: &RepositoryName, id: &LayerId) -> Result<bool>;

    /// Takes up an upload as [`resume`](LayerService::resume) does, for a caller who knows that
    /// it is at `offset`. Where this process was the last to write it, and left it there, the
    /// storage need not be asked: if another one has written since, `close`,
    /// `finish` or `cancel` returns [`UploadConflict`](crate::Error::UploadConflict). Otherwise it is
    /// the same as `resume`, and the upload may be at another offset.
    ///
    /// # Errors
    ///
    /// As `resume`.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn resume_at(
        &self,
        name: &RepositoryName,
        uuid: Uuid,
        offset: u64,
    ) -> Result<Box<dyn LayerUpload>> {
        let _ = offset;
        self.resume(name, None, uuid).await
    }

    /// Stores a manifest, and makes it a referrer of its subject. One with the same digest that is
    /// stored already stays, but for its media type.
    ///
    /// # Cancellation
    ///
    /// The manifest may be stored without being a referrer yet. Storing it again repairs that.
    async fn put_manifest(&self, name: &RepositoryName, manifest: &Manifest) -> Result<()>;

    /// As [`put_manifest`](Self::put_manifest), for a caller that confirmed `since` this moment that what the
    /// manifest names is here. No request that makes the manifest visible is signed more than 15 minutes later: a
    /// collection relies on that.
    ///
    /// # Errors
    ///
    /// One that can be retried, where that time is over.
    ///
    /// # Cancellation
    ///
    /// As `put_manifest`.
    async fn put_confirmed_manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        since: Moment,
    ) -> Result<()> {
        let _ = since;
        self.put_manifest(name, manifest).await
    }

    /// The manifest with this digest; its bytes have that digest.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Manifest>>;

    /// Removes a manifest, the tags that name it, and its entry among the referrers of its subject.
    /// `false` where there was none. The referrers of the manifest itself stay.
    ///
    /// # Cancellation
    ///
    /// Some tags may be removed already; removing it again removes the rest.
    async fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool>;

    /// Makes a tag name a manifest, and replaces the previous one. Concurrent calls all succeed, and the
    /// last one wins.
    ///
    /// # Cancellation
    ///
    /// The tag may name either.
    async fn put_tag(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<()>;

    /// The manifest that a tag names.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>>;

    /// Removes a tag, not its manifest. `false` where there was none.
    ///
    /// # Cancellation
    ///
    /// The tag may be removed or not.
    async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<bool>;

    /// At most `limit` tags that come after `after`, in the order of their bytes. `None` where
    /// there is no such repository: nothing was ever stored in it, or nothing is any more.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn tags(
        &self,
        name: &RepositoryName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Page<Tag>>>;

    /// At most `limit` manifests whose subject is `subject` and, if given, whose artifact type is
    /// `artifact_type`, in the order of their keys ([`Referrer::key`]), after `after`, and no more
    /// than weigh `weight` together ([`Referrer::weight`]), but for the first one, which comes in any
    /// case. Empty where there is none, or no such repository. A page can be shorter than that; one
    /// with `more` has an item.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&ReferrerKey>,
        limit: usize,
        weight: usize,
    ) -> Result<Page<Referrer>>;

    /// At most `limit` repositories that come after `after`, in the order of their bytes: those
    /// that hold a layer, a manifest or a tag.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn repositories(&self, after: Option<&str>, limit: usize)
    -> Result<Page<RepositoryName>>;

    /// Whether the storage answers, by one attempt: a failure is not retried.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    async fn ready(&self) -> Result<()>;
}

/// A manifest as it is stored. The caller that stores it has parsed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// As the client gave it.
    pub media_type: String,
    /// The manifest itself, byte for byte.
    pub bytes: Bytes,
    /// The manifest that this one refers to.
    pub subject: Option<Digest>,
    /// What the manifest is, where it says so: its `artifactType`, or its config's media type.
    pub artifact_type: Option<String>,
    /// The manifest's own annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest among the referrers of its subject: what a descriptor of it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest that refers.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// See [`Manifest::artifact_type`].
    pub artifact_type: Option<String>,
    /// See [`Manifest::annotations`].
    pub annotations: BTreeMap<String, String>,
}

/// The place of a referrer in a listing: by a hash of its artifact type, then by its digest. As text
/// `<8 hex digits>-<algorithm>-<hex>`, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReferrerKey {
    kind: String,
    digest: Digest,
}

/// How many hex digits of the SHA-256 of an artifact type are in a [`ReferrerKey`].
const KIND_LEN: usize = 8;

impl ReferrerKey {
    /// The place of the manifest `digest`.
    #[must_use]
    pub fn new(artifact_type: Option<&str>, digest: &Digest) -> Self {
        ReferrerKey {
            kind: Self::kind(artifact_type.unwrap_or_default()),
            digest: digest.clone(),
        }
    }

    /// The manifest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What the text of every key of this artifact type begins with.
    pub(crate) fn beginning(artifact_type: &str) -> String {
        format!("{}-", Self::kind(artifact_type))
    }

    fn kind(artifact_type: &str) -> String {
        let hash = Digest::of(Algorithm::Sha256, artifact_type.as_bytes());
        hash.hex().chars().take(KIND_LEN).collect()
    }
}

impl fmt::Display for ReferrerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, hex) = (self.digest.algorithm(), self.digest.hex());
        write!(f, "{}-{algorithm}-{hex}", self.kind)
    }
}

impl FromStr for ReferrerKey {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (kind, digest) = text.split_once('-').unwrap_or(("", text));
        match digest.replacen('-', ":", 1).parse() {
            Ok(digest) if kind.len() == KIND_LEN && is_lower_hex(kind) => Ok(ReferrerKey {
                kind: kind.to_owned(),
                digest,
            }),
            _ => Err(format!(
                "{text:?} is no place in a list of referrers, expected {KIND_LEN} hex digits, a dash, \
                 and a digest with a dash for its colon"
            )),
        }
    }
}

impl Ord for ReferrerKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for ReferrerKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Manifest> for Referrer {
    fn from(manifest: Manifest) -> Self {
        Referrer {
            digest: manifest.digest,
            media_type: manifest.media_type,
            size: manifest.bytes.len() as u64,
            artifact_type: manifest.artifact_type,
            annotations: manifest.annotations,
        }
    }
}

impl Referrer {
    /// Its place in a listing.
    #[must_use]
    pub fn key(&self) -> ReferrerKey {
        ReferrerKey::new(self.artifact_type.as_deref(), &self.digest)
    }

    /// What it weighs in memory: the bytes of its texts, of which a client may have sent megabytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let annotations = self.annotations.iter();
        let annotations: usize = annotations
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let artifact_type = self.artifact_type.as_ref().map_or(0, String::len);
        self.media_type.len() + artifact_type + annotations
    }
}

/// A page of a listing. The next one begins after its last item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}
