//! Every key in the bucket: built here, parsed here, and nowhere else.
//!
//! Names, digests and UUIDs are typed, so no input can put a `..` or `//` into a key (MinIO
//! refuses such keys). A plus sign is avoided as well: it is where clients and stores disagree
//! about URL encoding, so `tarsum.v1+sha256` is laid out as `tarsum/v1/sha256`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{LayerId, TarSumVersion};
use crate::name::RepositoryName;
use crate::name::Tag;
use crate::s3::name_path;
use s3layers_tarsum::{Algorithm, Digest};

/// The key of an object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A key that a listing of our own prefix gave.
    pub(crate) fn from_listing(key: &str) -> Self {
        Key(key.to_owned())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Builds the keys below one root.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Empty, or ends with a slash.
    root: String,
}

impl Keys {
    /// `root` is without slashes at its ends; empty means the bucket itself.
    pub(crate) fn new(root: &str) -> Self {
        let root = if root.is_empty() {
            String::new()
        } else {
            format!("{root}/")
        };
        Keys { root }
    }

    fn key(&self, path: fmt::Arguments<'_>) -> Key {
        Key(format!("{}{path}", self.root))
    }

    pub(crate) fn profile(&self) -> Key {
        self.key(format_args!("profile"))
    }

    pub(crate) fn secret(&self) -> Key {
        self.key(format_args!("secret"))
    }

    /// An object of a probe, with a nonce.
    pub(crate) fn probe(&self, nonce: &str, name: &str) -> Key {
        self.key(format_args!("probe/{nonce}/{name}"))
    }

    /// An object with bytes of the upload with this UUID.
    pub(crate) fn segment(&self, uuid: Uuid, name: &SegmentName) -> Key {
        Key(format!("{}{name}", self.data_prefix(uuid)))
    }

    /// The object that multipart upload `number` of this upload is completed to.
    pub(crate) fn multipart(&self, uuid: Uuid, number: u32) -> Key {
        self.segment(uuid, &SegmentName::Multipart(number))
    }

    /// What the keys of all data objects of this upload begin with.
    pub(crate) fn data_prefix(&self, uuid: Uuid) -> String {
        let hex = &uuid.simple().to_string()[..2];
        format!("{}data/{hex}/{uuid}.", self.root)
    }

    pub(crate) fn session(&self, uuid: Uuid) -> Key {
        self.key(format_args!("uploads/{uuid}/session"))
    }

    pub(crate) fn tail(&self, uuid: Uuid, offset: u64, nonce: &str) -> Key {
        self.key(format_args!("uploads/{uuid}/tail/{offset}-{nonce}"))
    }

    /// The prefix of all uploads.
    pub(crate) fn uploads(&self) -> String {
        format!("{}uploads/", self.root)
    }

    /// The prefix of one upload.
    pub(crate) fn upload(&self, uuid: Uuid) -> String {
        format!("{}uploads/{uuid}/", self.root)
    }

    /// The upload that a key below [`uploads`](Self::uploads) belongs to.
    pub(crate) fn uuid_of(&self, key: &str) -> Option<Uuid> {
        let rest = key.strip_prefix(&self.root)?.strip_prefix("uploads/")?;
        let (uuid, _) = rest.split_once('/')?;
        // Only the form that we write, so that no two spellings name one upload.
        Uuid::parse_str(uuid)
            .ok()
            .filter(|parsed| parsed.to_string() == uuid)
    }

    /// The record of a digest, or the alias of another id.
    pub(crate) fn layer(&self, id: &LayerId) -> Key {
        let (algorithm, hex) = id_path(id);
        self.key(format_args!("layers/{algorithm}/{}/{hex}", &hex[..2]))
    }

    /// What the key of every layer begins with whose digest begins with these hex digits.
    pub(crate) fn layers(&self, algorithm: Algorithm, hex_prefix: &str) -> String {
        let root = &self.root;
        match hex_prefix.get(..2) {
            Some(two) => format!("{root}layers/{algorithm}/{two}/{hex_prefix}"),
            None => format!("{root}layers/{algorithm}/{hex_prefix}"),
        }
    }

    /// The layer whose record or alias has this key.
    pub(crate) fn id_of(&self, key: &str) -> Option<LayerId> {
        let path = key.strip_prefix(&self.root)?.strip_prefix("layers/")?;
        let (path, hex) = path.rsplit_once('/')?;
        let (algorithm, _) = path.rsplit_once('/')?;
        let tar_sum = algorithm.strip_prefix("tarsum/");
        let id = match tar_sum.and_then(|path| path.split_once('/')) {
            None => format!("{algorithm}:{hex}"),
            Some(("v0", algorithm)) => format!("tarsum+{algorithm}:{hex}"),
            Some((version, algorithm)) => format!("tarsum.{version}+{algorithm}:{hex}"),
        };
        let id = id.parse().ok()?;
        (self.layer(&id).as_str() == key).then_some(id)
    }

    /// The digest whose record or alias has this key.
    pub(crate) fn digest_of(&self, key: &str) -> Option<Digest> {
        match self.id_of(key)? {
            LayerId::Digest(digest) => Some(digest),
            LayerId::TarSum(_) => None,
        }
    }

    /// The marker of a repository.
    pub(crate) fn name(&self, name: &RepositoryName) -> Key {
        self.key(format_args!("names/{}", name_path::flat(name)))
    }

    /// The prefix of all that a repository has, with a slash at its end.
    pub(crate) fn repository(&self, name: &RepositoryName) -> String {
        format!("{}repositories/{}/", self.root, name_path::escaped(name))
    }

    fn below(&self, name: &RepositoryName, path: fmt::Arguments<'_>) -> Key {
        Key(format!("{}{path}", self.repository(name)))
    }

    /// The prefix of a repository's links by SHA-256, which every linked layer has.
    pub(crate) fn links(&self, name: &RepositoryName) -> String {
        format!("{}_layers/{OWN}/", self.repository(name))
    }

    /// The layer is linked under this repository.
    pub(crate) fn link(&self, name: &RepositoryName, id: &LayerId) -> Key {
        let (algorithm, hex) = id_path(id);
        self.below(name, format_args!("_layers/{algorithm}/{hex}"))
    }

    /// Which upload has declared this id in this repository.
    pub(crate) fn claim(&self, name: &RepositoryName, id: &LayerId) -> Key {
        let (algorithm, hex) = id_path(id);
        self.below(name, format_args!("_claims/{algorithm}/{hex}"))
    }
}

/// What a registry keeps beside layers.
impl Keys {
    pub(crate) fn manifest(&self, name: &RepositoryName, digest: &Digest) -> Key {
        let (algorithm, hex) = (digest.algorithm(), digest.hex());
        self.below(name, format_args!("_manifests/{algorithm}/{hex}"))
    }

    /// The prefix of a repository's manifests.
    pub(crate) fn manifests(&self, name: &RepositoryName) -> String {
        format!("{}_manifests/", self.repository(name))
    }

    pub(crate) fn tag(&self, name: &RepositoryName, tag: &Tag) -> Key {
        self.below(name, format_args!("_tags/{tag}"))
    }

    /// The prefix of a repository's tags.
    pub(crate) fn tags(&self, name: &RepositoryName) -> String {
        format!("{}_tags/", self.repository(name))
    }

    /// A manifest that refers to `subject`. `own` distinguishes them.
    pub(crate) fn referrer(&self, name: &RepositoryName, subject: &Digest, own: &str) -> Key {
        Key(format!("{}{own}", self.referrers(name, subject)))
    }

    /// The prefix of a subject's referrers.
    pub(crate) fn referrers(&self, name: &RepositoryName, subject: &Digest) -> String {
        let (algorithm, hex) = (subject.algorithm(), subject.hex());
        format!("{}_referrers/{algorithm}/{hex}/", self.repository(name))
    }

    /// The prefix of the markers of all repositories.
    pub(crate) fn names(&self) -> String {
        format!("{}names/", self.root)
    }

    /// The repository whose marker has this key.
    pub(crate) fn repository_of(&self, key: &str) -> Option<RepositoryName> {
        let flat = key.strip_prefix(&self.root)?.strip_prefix("names/")?;
        name_path::parse_flat(flat)
    }

    /// Sorts among the markers as `after`, which is printable ASCII, sorts among the names.
    pub(crate) fn names_after(&self, after: &str) -> String {
        format!("{}{}", self.names(), name_path::flat_after(after))
    }
}

/// What a key below `repositories/` belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// The link of a layer by its SHA-256.
    Link(Digest),
    /// A link by another id.
    OtherLink,
    Manifest(Digest),
    Tag(Tag),
    Referrer,
    Claim,
    Other,
}

/// What a collection lists and writes.
impl Keys {
    /// The prefix of all that repositories have.
    pub(crate) fn repositories(&self) -> String {
        format!("{}repositories/", self.root)
    }

    /// The repository of a key below [`repositories`](Self::repositories), and what it is there.
    pub(crate) fn entry_of(&self, key: &str) -> Option<(RepositoryName, EntryKind)> {
        let path = key
            .strip_prefix(&self.root)?
            .strip_prefix("repositories/")?;
        // No component of a name begins with an underscore.
        let (name, entry) = path.split_once("/_")?;
        let name = name_path::parse_escaped(name)?;
        let digest = |path: &str| path.replacen('/', ":", 1).parse::<Digest>().ok();
        let kind = match entry.split_once('/')? {
            ("layers", path) => match digest(path) {
                Some(digest) if digest.algorithm() == OWN => EntryKind::Link(digest),
                _ => EntryKind::OtherLink,
            },
            ("manifests", path) => digest(path).map_or(EntryKind::Other, EntryKind::Manifest),
            ("tags", tag) => tag.parse().map_or(EntryKind::Other, EntryKind::Tag),
            ("referrers", _) => EntryKind::Referrer,
            ("claims", _) => EntryKind::Claim,
            _ => EntryKind::Other,
        };
        Some((name, kind))
    }

    /// The digest in the key of a record, of a link by SHA-256 or of a manifest.
    pub(crate) fn digest_in(&self, key: &str) -> Option<Digest> {
        match self.entry_of(key) {
            Some((_, EntryKind::Link(digest) | EntryKind::Manifest(digest))) => Some(digest),
            Some(_) => None,
            None => self.digest_of(key),
        }
    }

    /// An object that a listing of [`repositories`](Self::repositories) must have. It belongs to no repository.
    pub(crate) fn canary(&self, nonce: &str) -> Key {
        self.key(format_args!("repositories/=canary/{nonce}"))
    }

    /// Layers that a collection has removed, and whose data it will remove.
    pub(crate) fn dead_batch(&self, nonce: &str) -> Key {
        Key(format!("{}{nonce}", self.dead_batches()))
    }

    pub(crate) fn dead_batches(&self) -> String {
        format!("{}gc/dead/", self.root)
    }

    /// Which digests the manifests of a repository name.
    pub(crate) fn manifest_names(&self, name: &RepositoryName) -> Key {
        let all = self.all_manifest_names();
        Key(format!("{all}{}", name_path::flat(name)))
    }

    /// The prefix of what the manifests of all repositories name.
    pub(crate) fn all_manifest_names(&self) -> String {
        format!("{}gc/names/", self.root)
    }

    /// Where the next check reads on.
    pub(crate) fn check_cursor(&self) -> Key {
        self.key(format_args!("gc/check"))
    }

    /// The prefix of all data objects.
    pub(crate) fn data(&self) -> String {
        format!("{}data/", self.root)
    }

    /// The upload that wrote a data object.
    pub(crate) fn upload_of_data(&self, key: &str) -> Option<Uuid> {
        let (_, name) = key.strip_prefix(&self.data())?.split_once('/')?;
        let (uuid, segment) = name.split_once('.')?;
        let uuid = Uuid::parse_str(uuid).ok()?;
        let segment: SegmentName = segment.parse().ok()?;
        (self.segment(uuid, &segment).as_str() == key).then_some(uuid)
    }

    /// The prefix of all records and aliases.
    pub(crate) fn all_layers(&self) -> String {
        format!("{}layers/", self.root)
    }

    /// What the last collection counted.
    pub(crate) fn last_collection(&self) -> Key {
        self.key(format_args!("gc/last"))
    }

    /// The prefix of all manifests that clients have deleted a short time ago.
    pub(crate) fn trash(&self) -> String {
        format!("{}gc/trash/", self.root)
    }

    /// The prefix of those of one repository.
    pub(crate) fn trash_of(&self, name: &RepositoryName) -> String {
        format!("{}{}/", self.trash(), name_path::flat(name))
    }

    /// The prefix of those with one digest.
    pub(crate) fn trash_of_digest(&self, name: &RepositoryName, digest: &Digest) -> String {
        let (algorithm, hex) = (digest.algorithm(), digest.hex());
        format!("{}{algorithm}-{hex}-", self.trash_of(name))
    }

    /// A manifest that was deleted; each deletion has a nonce.
    pub(crate) fn trashed(&self, name: &RepositoryName, digest: &Digest, nonce: &str) -> Key {
        Key(format!("{}{nonce}", self.trash_of_digest(name, digest)))
    }
}

/// What every layer is called by.
const OWN: Algorithm = Algorithm::Sha256;

fn id_path(id: &LayerId) -> (String, &str) {
    match id {
        LayerId::Digest(digest) => (digest.algorithm().to_string(), digest.hex()),
        LayerId::TarSum(tar_sum) => {
            let version = match tar_sum.version() {
                TarSumVersion::V0 => "v0",
                other => other.as_str(),
            };
            (
                format!("tarsum/{version}/{}", tar_sum.algorithm()),
                tar_sum.hex(),
            )
        }
    }
}

/// The last part of a data key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum SegmentName {
    /// Completed from the multipart upload with this number.
    Multipart(u32),
    /// Written by one PutObject, with a nonce of its own.
    Whole(String),
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentName::Multipart(number) => write!(f, "{number}"),
            SegmentName::Whole(nonce) => write!(f, "whole-{nonce}"),
        }
    }
}

impl FromStr for SegmentName {
    type Err = String;

    /// Accepts only what [`Display`](fmt::Display) writes, so that no document can lead to a key
    /// that is not a data key.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(nonce) = text.strip_prefix("whole-")
            && !nonce.is_empty()
            && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(SegmentName::Whole(nonce.to_owned()));
        }
        match text.parse::<u32>() {
            Ok(number) if number.to_string() == text => Ok(SegmentName::Multipart(number)),
            _ => Err(format!("no name of a segment: {text:?}")),
        }
    }
}

impl From<SegmentName> for String {
    fn from(name: SegmentName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for SegmentName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn key_cases() {
        let uuid = Uuid::parse_str("3f2504e0-4f89-41d3-9a0c-0305e82c3301").unwrap();
        let name = "library/alpine".parse().unwrap();
        let hex = "ab".repeat(32);
        let sha256: LayerId = format!("sha256:{hex}").parse().unwrap();
        let v1: LayerId = format!("tarsum.v1+sha256:{hex}").parse().unwrap();
        let v0: LayerId = format!("tarsum+sha256:{hex}").parse().unwrap();
        let keys = Keys::new("root/of");
        for (key, want) in [
            (keys.profile(), "root/of/profile".to_owned()),
            (
                keys.segment(uuid, &SegmentName::Multipart(2)),
                format!("root/of/data/3f/{uuid}.2"),
            ),
            (
                keys.segment(uuid, &SegmentName::Whole("0f".to_owned())),
                format!("root/of/data/3f/{uuid}.whole-0f"),
            ),
            (
                keys.session(uuid),
                format!("root/of/uploads/{uuid}/session"),
            ),
            (
                keys.tail(uuid, 7, "n"),
                format!("root/of/uploads/{uuid}/tail/7-n"),
            ),
            (
                keys.layer(&sha256),
                format!("root/of/layers/sha256/ab/{hex}"),
            ),
            (
                keys.layer(&v1),
                format!("root/of/layers/tarsum/v1/sha256/ab/{hex}"),
            ),
            (
                keys.layer(&v0),
                format!("root/of/layers/tarsum/v0/sha256/ab/{hex}"),
            ),
            (
                keys.link(&name, &sha256),
                format!("root/of/repositories/library/alpine/_layers/sha256/{hex}"),
            ),
            (
                keys.claim(&name, &v1),
                format!("root/of/repositories/library/alpine/_claims/tarsum/v1/sha256/{hex}"),
            ),
        ] {
            assert_eq!(key.as_str(), want);
        }
        let digest = sha256.as_digest();
        let (layer, link) = (keys.layer(&sha256), keys.link(&name, &sha256));
        assert!(link.as_str().starts_with(&keys.links(&name)));
        assert_eq!(keys.digest_in(link.as_str()).as_ref(), digest);
        assert_eq!(keys.digest_in(layer.as_str()).as_ref(), digest);
        assert_eq!(keys.digest_of(&format!("{layer}x")), None);
        assert_eq!(keys.digest_of(link.as_str()), None);
        assert_eq!(Keys::new("").profile().as_str(), "profile");
        for (hex_prefix, want) in [
            ("", "root/of/layers/sha256/"),
            ("a", "root/of/layers/sha256/a"),
            ("ab", "root/of/layers/sha256/ab/ab"),
            ("abc", "root/of/layers/sha256/ab/abc"),
        ] {
            assert_eq!(keys.layers(Algorithm::Sha256, hex_prefix), want);
        }
        assert_eq!(keys.digest_of(layer.as_str()).as_ref(), digest);
        assert_eq!(keys.digest_of(keys.layer(&v1).as_str()), None);
        for id in [&sha256, &v1, &v0] {
            assert_eq!(keys.id_of(keys.layer(id).as_str()).as_ref(), Some(id));
        }
        for other in [
            format!("root/of/layers/sha256/cd/{hex}"),
            format!("root/of/layers/sha256/a/{hex}"),
            format!("root/of/layers/tarsum/v1/sha256/cd/{hex}"),
            "root/of/layers/sha256/ab/junk".to_owned(),
            "root/of/layers/junk".to_owned(),
            format!("layers/sha256/ab/{hex}"),
        ] {
            assert_eq!(keys.id_of(&other), None, "{other}");
        }
        assert_eq!(keys.uuid_of(keys.tail(uuid, 7, "n").as_str()), Some(uuid));
        let data = keys.segment(uuid, &SegmentName::Multipart(2));
        assert_eq!(keys.upload_of_data(data.as_str()), Some(uuid));
        assert_eq!(keys.upload_of_data(&format!("{data}x")), None);
        assert_eq!(keys.uuid_of("root/of/uploads/junk/session"), None);
        assert_eq!(keys.uuid_of(&format!("uploads/{uuid}/session")), None);
    }

    #[test]
    fn keys_of_a_registry() {
        let name: RepositoryName = "a.b/c-d".parse().unwrap();
        let tag: Tag = "v1.0".parse().unwrap();
        let [one, other] = ["ab", "cd"].map(|hex| hex.repeat(32));
        let [digest, subject] =
            [&one, &other].map(|hex| format!("sha256:{hex}").parse::<Digest>().unwrap());
        let keys = Keys::new("root");
        for (key, want) in [
            (
                keys.manifest(&name, &digest),
                format!("root/repositories/a@b/c=d/_manifests/sha256/{one}"),
            ),
            (
                keys.tag(&name, &tag),
                "root/repositories/a@b/c=d/_tags/v1.0".to_owned(),
            ),
            (
                keys.referrer(&name, &subject, "own"),
                format!("root/repositories/a@b/c=d/_referrers/sha256/{other}/own"),
            ),
        ] {
            assert_eq!(key.as_str(), want);
        }
        for (key, want) in [
            (
                keys.link(&name, &digest.clone().into()),
                EntryKind::Link(digest.clone()),
            ),
            (
                keys.link(&name, &format!("sha512:{one}{other}").parse().unwrap()),
                EntryKind::OtherLink,
            ),
            (
                keys.manifest(&name, &digest),
                EntryKind::Manifest(digest.clone()),
            ),
            (keys.tag(&name, &tag), EntryKind::Tag(tag.clone())),
            (keys.referrer(&name, &subject, "own"), EntryKind::Referrer),
            (keys.claim(&name, &digest.clone().into()), EntryKind::Claim),
        ] {
            assert_eq!(keys.entry_of(key.as_str()), Some((name.clone(), want)));
        }
        assert_eq!(keys.entry_of(keys.canary("nonce").as_str()), None);
        let marker = keys.name(&name);
        assert_eq!(marker.as_str(), "root/names/a-b.c!d");
        assert_eq!(keys.repository_of(marker.as_str()), Some(name));
        assert_eq!(keys.repository_of("names/a"), None);
        assert_eq!(keys.repository_of("root/names/a/b"), None);
    }
}
