//! What a store can do, as data. Determined by the first connect or by [`doctor`](crate::s3::doctor),
//! and kept in the bucket. What stores are expected to do: `vendors`.

use serde::{Deserialize, Serialize};

use crate::s3::format::collection_times::CollectionTimes;
use crate::s3::format::document::Document;
use crate::s3::wire::ConditionForm;

/// 5 TiB: that of most stores. Amazon S3 has 50 TB since 2025-12.
pub(crate) const MAX_OBJECT_SIZE: u64 = 5 << 40;
/// 4.995 TiB.
///
/// <https://developers.cloudflare.com/r2/platform/limits/>
pub(crate) const R2_MAX_OBJECT_SIZE: u64 = (5 << 40) / 1000 * 999;

/// What a store can do, as far as our promises and costs depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreProfile {
    pub(crate) version: u32,
    /// A write with If-None-Match or If-Match is refused when the condition does not hold. Without
    /// this two writers cannot be distinguished, and the store is refused.
    pub conditional_writes: bool,
    /// `If-Match` takes an ETag without quotes only (Ceph RGW).
    pub bare_etags: bool,
    /// A DELETE with If-Match is refused when the condition does not hold. Without this a document is
    /// removed by writing a tombstone over it.
    pub conditional_deletes: bool,
    /// Parts and whole objects are held to the CRC64NVME sent with them. Without this a part is
    /// protected by the hash in its signature alone.
    pub crc64nvme: bool,
    /// Complete refuses a part whose ETag is not the one that was uploaded last. Without this, and
    /// without checksums, the object is read back before it is published.
    pub checks_part_etags: bool,
    /// All parts but the last must have one size (Cloudflare R2).
    pub equal_parts: bool,
    /// Complete can leave out parts that were uploaded. Without this (Ceph RGW), an object can have
    /// more bytes than belong to its layer.
    pub partial_complete: bool,
    /// The largest object, in bytes. A layer is not larger.
    pub max_object_size: u64,
    /// Several objects can be removed by one request (GCS cannot).
    pub batch_delete: bool,
    /// How long a collection waits. No probe finds it: an operator may write it.
    #[serde(default)]
    pub collection: CollectionTimes,
}

impl StoreProfile {
    /// Amazon S3, and what imitates it faithfully.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
    pub const AWS: StoreProfile = StoreProfile {
        version: Self::VERSION,
        conditional_writes: true,
        bare_etags: false,
        conditional_deletes: true,
        crc64nvme: true,
        checks_part_etags: true,
        equal_parts: false,
        partial_complete: true,
        max_object_size: MAX_OBJECT_SIZE,
        batch_delete: true,
        collection: CollectionTimes::DEFAULT,
    };

    /// Cloudflare R2: parts of one size. Its documentation lists CRC64NVME now; that it is held to
    /// is relied on only where [`doctor`](crate::doctor) or a first connect found it to be so.
    ///
    /// <https://developers.cloudflare.com/r2/objects/upload-objects/#multipart-upload-details>,
    /// <https://developers.cloudflare.com/r2/api/s3/api/>
    pub const R2: StoreProfile = StoreProfile {
        crc64nvme: false,
        equal_parts: true,
        max_object_size: R2_MAX_OBJECT_SIZE,
        ..StoreProfile::AWS
    };

    /// Whether an object has to be read and hashed before it is published. The checksum of an object
    /// that has more bytes than belong to the layer says nothing.
    pub(crate) fn needs_read_back(&self) -> bool {
        !(self.checks_part_etags || self.crc64nvme && self.partial_complete)
    }

    /// How conditions are sent.
    pub(crate) fn conditions(&self, single_writer: bool) -> ConditionForm {
        if single_writer || !self.conditional_writes {
            ConditionForm::Unsent
        } else if self.bare_etags {
            ConditionForm::Bare
        } else {
            ConditionForm::Quoted
        }
    }
}

impl Document for StoreProfile {
    const WHAT: &'static str = "store profile";
    const VERSION: u32 = 1;
}
