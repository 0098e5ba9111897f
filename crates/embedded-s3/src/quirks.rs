//! Test equipment: deviations from S3 that other stores have, each switched on alone.

/// Deviations from S3 that this store shows on purpose, so that a client can be tested against
/// stores that have them. All are off by default. For tests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quirks {
    /// `If-Match` and `If-None-Match` of writes are ignored (Garage; GCS through its XML API).
    pub ignore_conditions: bool,
    /// A write with `If-Match` to an absent key succeeds (older MinIO).
    pub if_match_absent_succeeds: bool,
    /// `If-Match` of a DELETE is ignored (MinIO).
    pub ignore_delete_conditions: bool,
    /// Checksums are not verified, stored or returned.
    pub ignore_checksums: bool,
    /// Complete ignores the ETags of the parts that it names.
    pub ignore_part_etags: bool,
    /// Complete refuses to leave out a part that was uploaded (Ceph RGW).
    pub complete_needs_all_parts: bool,
    /// ListMultipartUploads finds uploads only for a prefix that is a whole key (MinIO).
    pub list_uploads_by_exact_key: bool,
    /// The second Complete of an upload returns `NoSuchUpload` (MinIO, LocalStack).
    pub second_complete_is_no_such_upload: bool,
    /// ETags cannot be computed by a client (AWS with KMS, Ceph).
    pub opaque_etags: bool,
    /// Listings have two entries per page, and ListParts returns those of a page in any order.
    pub small_unsorted_pages: bool,
}

impl Quirks {
    /// No quirks. The struct cannot be written as a literal outside this crate.
    pub fn none() -> Self {
        Self::default()
    }

    /// The ETag that the client gets.
    pub(crate) fn etag(self, etag: String) -> String {
        if self.opaque_etags {
            format!("opaque-{}", etag.chars().rev().collect::<String>())
        } else {
            etag
        }
    }

    /// The number of entries on a page.
    pub(crate) fn page_limit(self, asked: usize) -> usize {
        if self.small_unsorted_pages {
            asked.min(2)
        } else {
            asked
        }
    }
}
