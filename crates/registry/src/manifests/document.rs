//! The members of a manifest that are read, and the form of those that others read.

use serde::de::{Deserialize, Deserializer, Error, MapAccess};

use super::json::{Any, Object, Strings, object};
use s3layers::Digest;

/// What a descriptor names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Content {
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

#[derive(Default)]
pub(super) struct Document {
    pub(super) schema_version: Option<u32>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    pub(super) annotations: Option<Strings>,
    /// Of schema 1.
    pub(super) fs_layers: Option<Any>,
}

impl Object for Document {
    const KNOWN: &'static [&'static str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "fsLayers",
    ];
    type Whole = Self;

    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "schemaVersion" => self.schema_version = map.next_value()?,
            "mediaType" => self.media_type = map.next_value()?,
            "artifactType" => self.artifact_type = map.next_value()?,
            "config" => self.config = map.next_value()?,
            "layers" => self.layers = map.next_value()?,
            "manifests" => self.manifests = map.next_value()?,
            "subject" => self.subject = map.next_value()?,
            "annotations" => self.annotations = map.next_value()?,
            _ => self.fs_layers = map.next_value()?,
        }
        Ok(())
    }

    fn whole<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object::<Document, _>(deserializer)
    }
}

pub(super) struct Descriptor {
    pub(super) media_type: Option<String>,
    pub(super) content: Content,
}

#[derive(Default)]
pub(super) struct DescriptorMembers {
    media_type: Option<String>,
    digest: Option<Digest>,
    size: Option<u64>,
}

impl Object for DescriptorMembers {
    const KNOWN: &'static [&'static str] = &[
        "mediaType",
        "digest",
        "size",
        "artifactType",
        "data",
        "urls",
        "annotations",
        "platform",
    ];
    type Whole = Descriptor;

    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "mediaType" => self.media_type = map.next_value()?,
            "digest" => self.digest = map.next_value()?,
            "size" => self.size = map.next_value()?,
            // Of the others only the type matters: clients fail on another one.
            "artifactType" | "data" => {
                map.next_value::<Option<String>>()?;
            }
            "urls" => {
                map.next_value::<Option<Vec<String>>>()?;
            }
            "annotations" => {
                map.next_value::<Option<Strings>>()?;
            }
            _ => {
                map.next_value::<Option<Platform>>()?;
            }
        }
        Ok(())
    }

    fn whole<E: Error>(self) -> Result<Descriptor, E> {
        let digest = self.digest.ok_or_else(|| E::missing_field("digest"))?;
        let size = self.size.ok_or_else(|| E::missing_field("size"))?;
        // Go's clients hold it in an int64.
        if i64::try_from(size).is_err() {
            return Err(E::custom(format_args!("size {size} exceeds {}", i64::MAX)));
        }
        Ok(Descriptor {
            media_type: self.media_type,
            content: Content { digest, size },
        })
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object::<DescriptorMembers, _>(deserializer)
    }
}

/// Where an entry of an index runs. Only its form matters here.
#[derive(Default)]
pub(super) struct Platform;

impl Object for Platform {
    const KNOWN: &'static [&'static str] = &[
        "architecture",
        "os",
        "os.version",
        "os.features",
        "variant",
        "features",
    ];
    type Whole = Self;

    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "os.features" | "features" => {
                map.next_value::<Option<Vec<String>>>()?;
            }
            _ => {
                map.next_value::<Option<String>>()?;
            }
        }
        Ok(())
    }

    fn whole<E>(self) -> Result<Self, E> {
        Ok(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object::<Platform, _>(deserializer)
    }
}
