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
    /// ListMultipartUploads answers only for a prefix that is a whole key (MinIO).
    pub list_uploads_by_exact_key: bool,
    /// The second Complete of an upload answers `NoSuchUpload` (MinIO, LocalStack).
    pub second_complete_is_no_such_upload: bool,
}

impl Vices {
    /// No vices, to be added to: the struct cannot be built by name outside this crate.
    pub fn none() -> Self {
        Self::default()
    }
}
