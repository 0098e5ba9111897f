//! What a manifest says: its type, what it names, what it is about. Pure.

use bytes::Bytes;

use super::document::{Content, Descriptor, Document};
use crate::error::{Code, Refusal};
use s3layers::Digest;
use s3layers::Manifest;

/// The most descriptors in a manifest: each costs a request to the storage.
const DESCRIPTORS: usize = 4096;

/// The types that are taken.
const IMAGES: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEXES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// The manifests of OCI 1.1's release candidates, which have no `schemaVersion`.
const ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

/// A manifest, and what has to be stored already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParsedManifest {
    pub(super) manifest: Manifest,
    /// Each once.
    pub(super) named: Vec<(Kind, Content)>,
}

/// As what something is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Blob,
    Manifest,
    /// An entry of an index that is a manifest, by a type that we do not know, or a blob: BuildKit
    /// lists the layers of its cache and a description of them.
    Either,
    /// The manifest that this one refers to. It may be absent.
    Subject,
}

fn invalid(message: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::ManifestInvalid, message)
}

/// Reads a manifest that came as `content_type`. `digest` is that of its bytes.
pub(super) fn parse(
    bytes: &Bytes,
    content_type: Option<&str>,
    digest: Digest,
) -> Result<ParsedManifest, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(invalid)?;
    let document: Document = serde_json::from_str(text).map_err(invalid)?;
    let media_type = media_type(&document, content_type)?;
    check_form(&document, &media_type)?;
    let artifact_type = document.artifact_type.filter(|text| !text.is_empty());
    let config_type = document
        .config
        .as_ref()
        .and_then(|config| config.media_type.clone());
    let layers = document.layers.unwrap_or_default();
    let blobs = document.config.into_iter().chain(layers);
    let blobs = blobs.map(|blob| (Kind::Blob, blob));
    let entries = document.manifests.unwrap_or_default();
    let entries = entries.into_iter().map(|entry| (kind_of(&entry), entry));
    let subject = document.subject.map(|subject| subject.content);
    let mut named: Vec<_> = blobs
        .chain(entries)
        .filter(|(_, descriptor)| !is_kept_elsewhere(descriptor))
        .map(|(kind, descriptor)| (kind, descriptor.content))
        .chain(subject.clone().map(|subject| (Kind::Subject, subject)))
        .collect();
    named.sort_unstable();
    named.dedup();
    let annotations = document.annotations.unwrap_or_default();
    Ok(ParsedManifest {
        named,
        manifest: Manifest {
            digest,
            media_type,
            bytes: bytes.clone(),
            subject: subject.map(|subject| subject.digest),
            artifact_type: artifact_type.or(config_type),
            annotations: annotations.0,
        },
    })
}

/// The media type, from the header, the document, or the members of the document.
fn media_type(document: &Document, content_type: Option<&str>) -> Result<String, Refusal> {
    let content_type = content_type
        .and_then(|text| text.split(';').next())
        .map(str::trim)
        .filter(|text| !text.is_empty());
    match (content_type, document.media_type.as_deref()) {
        (Some(header), Some(written)) if header != written => Err(invalid(format_args!(
            "Content-Type is {header}, and mediaType is {written}; expected the same"
        ))),
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type.to_owned()),
        (None, None) if document.manifests.is_some() => Ok(INDEXES[0].to_owned()),
        (None, None) => Ok(IMAGES[0].to_owned()),
    }
}

/// Whether the document has the members of its type, and none of another: a document that can be
/// read as either would be a different thing to different clients.
fn check_form(document: &Document, media_type: &str) -> Result<(), Refusal> {
    let is_index = INDEXES.contains(&media_type);
    if media_type == ARTIFACT {
        return Err(invalid(format_args!(
            "{ARTIFACT} is not supported: it was withdrawn from OCI 1.1; expected an image manifest \
             with artifactType"
        )));
    }
    if !is_index && !IMAGES.contains(&media_type) {
        return Err(invalid(format_args!(
            "media type {media_type} is not supported, expected one of {}",
            [IMAGES, INDEXES].concat().join(", ")
        )));
    }
    if document.schema_version != Some(2) {
        let found = document.schema_version;
        let found = found.map_or_else(|| "missing".to_owned(), |version| version.to_string());
        return Err(invalid(format_args!(
            "schemaVersion is {found}, expected 2"
        )));
    }
    if document.fs_layers.is_some() {
        return Err(invalid("fsLayers belongs to schemaVersion 1"));
    }
    if is_index && (document.config.is_some() || document.layers.is_some()) {
        return Err(invalid("an index has no config and no layers"));
    }
    if !is_index && document.manifests.is_some() {
        return Err(invalid("an image has no manifests"));
    }
    if !is_index && document.config.is_none() {
        return Err(invalid("config is missing from an image"));
    }
    let lists = [&document.layers, &document.manifests];
    let descriptors: usize = lists.into_iter().flatten().map(Vec::len).sum();
    if descriptors > DESCRIPTORS {
        return Err(invalid(format_args!(
            "{descriptors} descriptors, expected at most {DESCRIPTORS}"
        )));
    }
    Ok(())
}

/// Of an entry of an index.
fn kind_of(entry: &Descriptor) -> Kind {
    match entry.media_type.as_deref() {
        Some(text) if !IMAGES.contains(&text) && !INDEXES.contains(&text) => Kind::Either,
        _ => Kind::Manifest,
    }
}

fn is_kept_elsewhere(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type.as_deref();
    media_type.is_some_and(s3layers::manifest::is_kept_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::document::{DescriptorMembers, Platform};
    use crate::manifests::json::Object as _;
    use s3layers::Algorithm;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    /// A type of layers that are kept elsewhere.
    const FAR: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    fn content(text: &str) -> Content {
        let size = text.len() as u64;
        Content {
            digest: digest(text),
            size,
        }
    }

    fn descriptor(text: &str, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest(text), "size": text.len()})
    }

    fn read(document: &Value, content_type: Option<&str>) -> Result<ParsedManifest, Refusal> {
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
        let mut named = vec![
            (Kind::Blob, content("config")),
            (Kind::Blob, content("one")),
            (Kind::Subject, content("subject")),
        ];
        named.sort_unstable();
        assert_eq!(parsed.named, named);
        let manifest = parsed.manifest;
        assert_eq!(manifest.media_type, IMAGES[0]);
        assert_eq!(manifest.subject, Some(digest("subject")));
        assert_eq!(manifest.annotations["a"], "b");
        assert_eq!(
            manifest.artifact_type.as_deref(),
            Some("application/vnd.oci.image.config.v1+json")
        );
    }

    fn index() -> Value {
        json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.x",
            "manifests": [
                descriptor("a", IMAGES[0]),
                descriptor("b", IMAGES[1]),
                descriptor("c", "application/vnd.buildkit.cacheconfig.v0"),
                descriptor("far", FAR),
            ],
        })
    }

    #[test]
    fn an_index() {
        let index = index();
        let parsed = read(&index, None).unwrap();
        assert_eq!(parsed.manifest.media_type, INDEXES[0]);
        let kinds: Vec<Kind> = parsed.named.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Manifest, Kind::Manifest, Kind::Either]);
        assert_eq!(parsed.named[2].1, content("c"));
        let artifact_type = parsed.manifest.artifact_type.as_deref();
        assert_eq!(artifact_type, Some("application/vnd.x"));
        let docker = read(&index, Some(INDEXES[1])).unwrap();
        assert_eq!(docker.manifest.media_type, INDEXES[1]);
    }

    /// A restore links what a manifest needs: nothing may be among it that the push did not have to have.
    #[test]
    fn what_is_needed_is_what_a_push_looks_for() {
        let with = |key: &str, value: Value| {
            let mut image = image();
            image[key] = value;
            image
        };
        for document in [
            image(),
            index(),
            with("blobs", json!([descriptor("other", "x")])),
            with("layers", Value::Null),
            with("manifests", Value::Null),
            with("config", descriptor("far", FAR)),
            with("config", json!({"digest": digest("no type"), "size": 1})),
        ] {
            let parsed = read(&document, None).unwrap();
            let looked_for: BTreeSet<Digest> = parsed
                .named
                .iter()
                .filter(|(kind, _)| *kind != Kind::Subject)
                .map(|(_, content)| content.digest.clone())
                .collect();
            let needed = s3layers::manifest::needed(&parsed.manifest.bytes);
            assert_eq!(needed, looked_for, "{document}");
        }
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
        let mut artifact = image();
        artifact.as_object_mut().unwrap().remove("schemaVersion");
        artifact["mediaType"] = json!(ARTIFACT);
        let mut mixed = image();
        mixed["fsLayers"] = json!([]);
        let mut large = image();
        large["config"]["size"] = json!(1_u64 << 63);
        let mut no_url = image();
        no_url["layers"][0]["urls"] = json!("https://example.com");
        let mut no_platform = json!({
            "schemaVersion": 2, "mediaType": INDEXES[0],
            "manifests": [descriptor("a", IMAGES[0])],
        });
        no_platform["manifests"][0]["platform"] = json!({"os": 1});
        let mut many = image();
        many["layers"] = (0..=DESCRIPTORS)
            .map(|at| descriptor(&at.to_string(), "x"))
            .collect();
        let mut old = image();
        old["schemaVersion"] = json!(1);
        for (case, document, content_type) in [
            ("no JSON", json!("x"), None),
            ("nothing in it", json!({}), None),
            ("schema 1", old, None),
            ("an artifact manifest", artifact, None),
            ("schema 1 and 2", mixed, None),
            ("a size beyond an int64", large, None),
            ("urls that are no list", no_url, None),
            ("a platform of another type", no_platform, None),
            ("too many descriptors", many, None),
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

    /// Go's clients would read each as the known key.
    #[test]
    fn a_key_that_differs_from_a_known_one_in_case_is_refused_at_every_level() {
        let mut index = json!({
            "schemaVersion": 2, "mediaType": INDEXES[0],
            "manifests": [descriptor("a", IMAGES[0])],
        });
        index["manifests"][0]["platform"] = json!({"os": "linux", "os.features": ["x"]});
        let mut image = image();
        image["layers"][0]["urls"] = json!(["https://example.com"]);
        image["layers"][0]["annotations"] = json!({"a": "b", "A": "b"});
        for (document, pointer, keys) in [
            (&image, "", Document::KNOWN),
            (&image, "/config", DescriptorMembers::KNOWN),
            (&image, "/layers/0", DescriptorMembers::KNOWN),
            (&image, "/subject", DescriptorMembers::KNOWN),
            (&index, "", Document::KNOWN),
            (&index, "/manifests/0", DescriptorMembers::KNOWN),
            (&index, "/manifests/0/platform", Platform::KNOWN),
        ] {
            read(document, None).unwrap();
            for key in keys {
                let mut document = document.clone();
                let upper = key.to_ascii_uppercase();
                document.pointer_mut(pointer).unwrap()[upper] = Value::Null;
                let refusal = read(&document, None).unwrap_err();
                assert_eq!(refusal.code(), Code::ManifestInvalid, "{pointer} {key}");
            }
        }
    }

    #[test]
    fn text_that_is_no_unicode_is_refused_anywhere() {
        for (case, wrong) in [
            ("invalid UTF-8", &b"\xff"[..]),
            ("an overlong slash", b"\xc0\xaf"),
            ("a surrogate in UTF-8", b"\xed\xa0\x80"),
            ("an escaped lone surrogate", b"\\ud800"),
        ] {
            for field in ["annotations", "custom"] {
                let mut image = image();
                image[field] = json!({"a": "HERE"});
                let text = image.to_string();
                let (before, after) = text.split_once("HERE").unwrap();
                let bytes = [before.as_bytes(), wrong, after.as_bytes()].concat();
                let refusal = parse(&bytes.into(), None, digest("")).unwrap_err();
                assert_eq!(refusal.code(), Code::ManifestInvalid, "{case} in {field}");
            }
        }
    }
}
