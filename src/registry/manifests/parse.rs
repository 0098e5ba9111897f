//! What a manifest says: its type, what it names, what it is about. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::digest::Digest;
use crate::registry::error::{Code, Refusal};
use crate::registry::store::Manifest;

/// The types that are taken.
const IMAGES: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEXES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Layers that may be kept elsewhere by what their type says.
const KEPT_ELSEWHERE: &[&str] = &[
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// A manifest, and what has to be stored already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) manifest: Manifest,
    pub(super) blobs: Vec<Digest>,
    pub(super) manifests: Vec<Digest>,
    /// Entries of an index that are manifests, by a type that we do not know, or blobs: BuildKit
    /// lists the layers of its cache and a description of them.
    pub(super) either: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: Digest,
    /// Nobody reads it here, but a descriptor without it is none.
    #[expect(dead_code, reason = "its presence and type are what is checked")]
    size: u64,
}

fn invalid(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::ManifestInvalid, message)
}

/// Reads a manifest that came as `content_type`. `digest` is that of its bytes.
pub(super) fn parse(
    bytes: &Bytes,
    content_type: Option<&str>,
    digest: Digest,
) -> Result<Parsed, Refusal> {
    let document: Document = serde_json::from_slice(bytes).map_err(invalid)?;
    if document.schema_version != 2 {
        return Err(invalid("schemaVersion is not 2"));
    }
    let content_type = content_type
        .and_then(|text| text.split(';').next())
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let media_type = match (content_type, document.media_type.as_deref()) {
        (Some(said), Some(written)) if said != written => {
            return Err(invalid(format_args!(
                "it came as {said}, and says that it is {written}"
            )));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
        (None, None) => match document.manifests {
            Some(_) => INDEXES[0].to_owned(),
            None => IMAGES[0].to_owned(),
        },
    };
    let is_index = INDEXES.contains(&media_type.as_str());
    if !is_index && !IMAGES.contains(&media_type.as_str()) {
        return Err(invalid(format_args!("{media_type} is not taken here")));
    }
    // One document that can be read as either would be a different thing to different clients.
    match is_index {
        true if document.config.is_some() || document.layers.is_some() => {
            return Err(invalid("an index has neither config nor layers"));
        }
        false if document.manifests.is_some() => {
            return Err(invalid("an image has no manifests"));
        }
        false if document.config.is_none() => return Err(invalid("an image has a config")),
        _ => {}
    }
    let artifact_type = document.artifact_type.filter(|text| !text.is_empty());
    let config_type = document
        .config
        .as_ref()
        .and_then(|config| config.media_type.clone());
    let layers = document.layers.unwrap_or_default();
    let blobs = document.config.into_iter().chain(layers);
    let entries = document.manifests.unwrap_or_default();
    let (manifests, either): (Vec<_>, Vec<_>) = entries.into_iter().partition(must_be_manifest);
    Ok(Parsed {
        blobs: distinct(blobs.filter(|blob| !is_kept_elsewhere(blob))),
        manifests: distinct(manifests),
        either: distinct(either.into_iter().filter(|one| !is_kept_elsewhere(one))),
        manifest: Manifest {
            digest,
            media_type,
            bytes: bytes.clone(),
            subject: document.subject.map(|subject| subject.digest),
            artifact_type: artifact_type.or(config_type),
            annotations: document.annotations.unwrap_or_default(),
        },
    })
}

/// Of an entry of an index.
fn must_be_manifest(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type.as_deref();
    media_type.is_none_or(|text| IMAGES.contains(&text) || INDEXES.contains(&text))
}

fn is_kept_elsewhere(descriptor: &Descriptor) -> bool {
    descriptor.media_type.as_deref().is_some_and(|media_type| {
        KEPT_ELSEWHERE
            .iter()
            .any(|prefix| media_type.starts_with(prefix))
    })
}

fn distinct(descriptors: impl IntoIterator<Item = Descriptor>) -> Vec<Digest> {
    let mut digests: Vec<Digest> = descriptors
        .into_iter()
        .map(|descriptor| descriptor.digest)
        .collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use serde_json::{Value, json};

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn descriptor(text: &str, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest(text), "size": text.len()})
    }

    fn read(document: &Value, content_type: Option<&str>) -> Result<Parsed, Refusal> {
        let bytes = Bytes::from(document.to_string());
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        parse(&bytes, content_type, digest)
    }

    fn image() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": IMAGES[0],
            "config": descriptor("config", "application/vnd.oci.image.config.v1+json"),
            "layers": [
                descriptor("one", "application/vnd.oci.image.layer.v1.tar+gzip"),
                descriptor("one", "application/vnd.oci.image.layer.v1.tar+gzip"),
                descriptor("far", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
                descriptor("off", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            ],
            "subject": descriptor("subject", IMAGES[0]),
            "annotations": {"a": "b"},
            "custom": {"x": [1]},
        })
    }

    #[test]
    fn an_image() {
        let parsed = read(&image(), Some(IMAGES[0])).unwrap();
        let mut blobs = vec![digest("config"), digest("one")];
        blobs.sort_unstable();
        assert_eq!(parsed.blobs, blobs);
        assert!(parsed.manifests.is_empty());
        let manifest = parsed.manifest;
        assert_eq!(manifest.media_type, IMAGES[0]);
        assert_eq!(manifest.subject, Some(digest("subject")));
        assert_eq!(manifest.annotations["a"], "b");
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.oci.image.config.v1+json")
        );
    }

    #[test]
    fn an_index() {
        let index = json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.x",
            "manifests": [
                descriptor("a", IMAGES[0]),
                descriptor("b", IMAGES[1]),
                descriptor("c", "application/vnd.buildkit.cacheconfig.v0"),
                descriptor("far", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
            ],
        });
        let parsed = read(&index, None).unwrap();
        assert_eq!(parsed.manifest.media_type, INDEXES[0]);
        assert_eq!(parsed.manifests.len(), 2);
        assert_eq!(parsed.either, [digest("c")]);
        assert!(parsed.blobs.is_empty());
        let artifact_type = parsed.manifest.artifact_type.as_deref();
        assert_eq!(artifact_type, Some("application/vnd.x"));
        let docker = read(&index, Some(INDEXES[1])).unwrap();
        assert_eq!(docker.manifest.media_type, INDEXES[1]);
    }

    #[test]
    fn a_type_of_the_body_that_has_none() {
        let mut image = image();
        image.as_object_mut().unwrap().remove("mediaType");
        for (content_type, want) in [
            (None, IMAGES[0]),
            (Some(IMAGES[1]), IMAGES[1]),
            (
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                IMAGES[0],
            ),
        ] {
            let parsed = read(&image, content_type).unwrap();
            assert_eq!(parsed.manifest.media_type, want);
        }
    }

    #[test]
    fn what_is_no_manifest() {
        let mut both = image();
        both["manifests"] = json!([]);
        let mut index = image();
        index["mediaType"] = json!(INDEXES[0]);
        let mut bad_digest = image();
        bad_digest["config"]["digest"] = json!("sha256:00");
        let mut no_size = image();
        no_size["config"].as_object_mut().unwrap().remove("size");
        let mut old = image();
        old["schemaVersion"] = json!(1);
        for (case, document, content_type) in [
            ("no JSON", json!("x"), None),
            ("nothing in it", json!({}), None),
            ("schema 1", old, None),
            ("both of it", both, None),
            ("an index with layers", index, None),
            ("a bad digest", bad_digest, None),
            ("no size", no_size, None),
            ("no config", json!({"schemaVersion": 2}), None),
            ("two types", image(), Some(IMAGES[1])),
            (
                "another type",
                json!({"schemaVersion": 2, "mediaType": "application/json"}),
                None,
            ),
        ] {
            let refusal = read(&document, content_type).unwrap_err();
            assert_eq!(refusal.code(), Code::ManifestInvalid, "{case}");
        }
    }
}
