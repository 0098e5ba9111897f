//! Test equipment: the bad habits of other stores, to be put on one at a time.

/// What this store does worse than S3, on purpose, so that a client can be tested against stores
/// that do the same. By default it has none. Not meant for anything but tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vices {
    /// `If-Match` and `If-None-Match` of writes are ignored (Garage; GCS through its XML API).
    pub ignore_conditions: bool,
    /// A write with `If-Match` to an absent key succeeds (older MinIO).
    pub if_match_absent_succeeds: bool,
    /// Checksums are neither verified nor stored nor told.
    pub ignore_checksums: bool,
    /// Complete takes whichever bytes were last sent under a part number.
    pub ignore_part_etags: bool,
    /// Complete refuses to leave out a part that was uploaded (Ceph RGW).
    pub complete_needs_all_parts: bool,
    /// ListMultipartUploads answers only for a prefix that is a whole key (MinIO).
    pub list_uploads_by_exact_key: bool,
    /// The second Complete of an upload answers `NoSuchUpload` (MinIO, LocalStack).
    pub second_complete_is_no_such_upload: bool,
    /// ETags are no MD5, nor anything else that a client could compute (AWS with KMS, Ceph).
    pub opaque_etags: bool,
    /// Listings give two entries a page, and ListParts those of a page in any order.
    pub small_unsorted_pages: bool,
}

impl Vices {
    /// No vices, to be added to: the struct cannot be built by name outside this crate.
    pub fn none() -> Self {
        Self::default()
    }

    /// The ETag that the client is told.
    pub(crate) fn etag(self, md5: String) -> String {
        match self.opaque_etags {
            true => format!("opaque-{}", md5.chars().rev().collect::<String>()),
            false => md5,
        }
    }

    /// How many entries a page holds.
    pub(crate) fn page_limit(self, asked: usize) -> usize {
        match self.small_unsorted_pages {
            true => asked.min(2),
            false => asked,
        }
    }
}
