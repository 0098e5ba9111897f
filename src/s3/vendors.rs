//! The known stores, a row each: what they are expected to do, with the source. An examination
//! ([`doctor`](crate::s3::doctor)) reports where a store differs.

use crate::s3::format::profile::{MAX_OBJECT_SIZE, R2_MAX_OBJECT_SIZE, StoreProfile};
use crate::s3::wire::Listing;

/// A store and what is known of it. `None`: not known, so that either answer is as expected.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) name: &'static str,
    sign: Sign,
    conditional_writes: Option<bool>,
    crc64nvme: Option<bool>,
    checks_part_etags: Option<bool>,
    equal_parts: Option<bool>,
    batch_delete: Option<bool>,
    partial_complete: Option<bool>,
    /// In bytes.
    max_object_size: u64,
    /// It aborts multipart uploads at some time, without a rule of the bucket.
    pub(crate) ends_uploads: bool,
    /// Properties that cannot be checked.
    pub(crate) remarks: &'static [&'static str],
}

/// How a store is recognised.
#[derive(Debug)]
enum Sign {
    /// The prefix of its `Server` header.
    Server(&'static str),
    /// The suffixes of its host names: emulators send the same header.
    Hosts(&'static [&'static str]),
}

/// "How to prevent object overwrites with conditional writes" and "Checking object integrity in
/// Amazon S3" of its user guide: If-Match and If-None-Match on PutObject, full-object CRC64NVME.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
const AWS: Vendor = Vendor {
    name: "Amazon S3",
    sign: Sign::Hosts(&[".amazonaws.com", ".amazonaws.com.cn"]),
    conditional_writes: Some(true),
    crc64nvme: Some(true),
    checks_part_etags: Some(true),
    equal_parts: Some(false),
    batch_delete: Some(true),
    partial_complete: Some(true),
    max_object_size: MAX_OBJECT_SIZE,
    ends_uploads: false,
    remarks: &[],
};

static KNOWN: [Vendor; 7] = [
    AWS,
    // Measured by an independent probe (`.ci/run probe`).
    Vendor {
        name: "the embedded store of s3layers",
        sign: Sign::Server("s3layers"),
        ..AWS
    },
    // Measured, RELEASE.2026-02 (`tests/servers/`): a second Complete is `NoSuchUpload`. "S3 API
    // Compatibility" of its documentation: ListMultipartUploads needs the exact object name.
    // minio/docs#1216: uploads end after 24 hours.
    // <https://docs.min.io/enterprise/aistor-object-store/developers/s3-api-compatibility>
    // Measured, 2026-02-12: a Complete whose connection breaks can leave an upload without parts.
    Vendor {
        name: "MinIO",
        sign: Sign::Server("MinIO"),
        ends_uploads: true,
        remarks: &[
            "it removes multipart uploads 24 hours after they were begun; \
             `mc admin config set ALIAS api stale_uploads_expiry=168h` extends that",
        ],
        ..AWS
    },
    // Measured, 2026.3 (`tests/servers/`): a second Complete is `NoSuchUpload`. An object is emptied
    // before it is overwritten, and stays empty if the connection breaks at that moment.
    Vendor {
        name: "LocalStack",
        sign: Sign::Server("LocalStack"),
        remarks: &[
            "it is for tests: it keeps nothing when it ends, and an interrupted overwrite can empty \
             the object that was there",
        ],
        ..AWS
    },
    // "Conditional operations" of its documentation: If-Match and If-None-Match on PutObject. "S3
    // API compatibility": CRC-64/NVME as a full-object checksum, DeleteObjects. "Upload objects":
    // parts of one size but the last; uploads end after 7 days.
    // <https://developers.cloudflare.com/r2/api/s3/conditional-operations/>
    // <https://developers.cloudflare.com/r2/api/s3/api/>
    // <https://developers.cloudflare.com/r2/objects/upload-objects/>
    Vendor {
        name: "Cloudflare R2",
        sign: Sign::Hosts(&[".r2.cloudflarestorage.com"]),
        checks_part_etags: None,
        equal_parts: Some(true),
        partial_complete: None,
        max_object_size: R2_MAX_OBJECT_SIZE,
        ends_uploads: true,
        remarks: &[
            "it accepts one write per second to a key",
            "it removes multipart uploads 7 days after they were begun; a rule can change that",
        ],
        ..AWS
    },
    // "Request preconditions" of its documentation: writes use x-goog-if-generation-match; ETags
    // are for reads. "Interoperability with other storage providers" and ClickHouse#49390: no
    // DeleteObjects. "XML API multipart uploads": parts of any sizes from 5 MiB.
    // <https://docs.cloud.google.com/storage/docs/request-preconditions>
    // <https://docs.cloud.google.com/storage/docs/multipart-uploads>
    Vendor {
        name: "Google Cloud Storage (XML API)",
        sign: Sign::Hosts(&["storage.googleapis.com"]),
        conditional_writes: Some(false),
        crc64nvme: Some(false),
        checks_part_etags: None,
        batch_delete: Some(false),
        partial_complete: None,
        ..AWS
    },
    // ceph/s3-tests#583 and #218: conditional PUT is an extension of its own from before Amazon's,
    // and no document names the release of each half. "Ceph Object Gateway S3 API": DeleteObjects.
    // ceph/ceph#71127: CRC64NVME is known, as of the whole object.
    // <https://docs.ceph.com/en/tentacle/radosgw/s3/>
    Vendor {
        name: "Ceph",
        sign: Sign::Server("Ceph"),
        conditional_writes: None,
        crc64nvme: None,
        checks_part_etags: None,
        partial_complete: Some(false),
        remarks: &["a part that is sent again can race with Complete; an upload may be lost then"],
        ..AWS
    },
];

/// The store that answered with this listing.
pub(crate) fn of(listing: &Listing) -> Option<&'static Vendor> {
    identify(listing.host.as_deref(), listing.server.as_deref())
}

/// The store at this host, with this `Server` header.
fn identify(host: Option<&str>, server: Option<&str>) -> Option<&'static Vendor> {
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let is_host = |vendor: &&Vendor| match vendor.sign {
        Sign::Server(_) => false,
        Sign::Hosts(suffixes) => suffixes.iter().any(|suffix| host.ends_with(suffix)),
    };
    let is_server = |vendor: &&Vendor| match vendor.sign {
        Sign::Server(prefix) => server.starts_with(&prefix.to_ascii_lowercase()),
        Sign::Hosts(_) => false,
    };
    let by_host = KNOWN.iter().find(is_host);
    by_host.or_else(|| KNOWN.iter().find(is_server))
}

/// What is relied on without a check.
pub(crate) fn expected(vendor: Option<&Vendor>) -> StoreProfile {
    StoreProfile {
        equal_parts: vendor.is_some_and(|vendor| vendor.equal_parts == Some(true)),
        max_object_size: vendor.map_or(MAX_OBJECT_SIZE, |vendor| vendor.max_object_size),
        ..StoreProfile::AWS
    }
}

impl Vendor {
    /// Where a store differs from this row, one sentence each.
    pub(crate) fn differences(&self, found: &StoreProfile) -> Vec<String> {
        [
            (
                "conditional writes",
                self.conditional_writes,
                found.conditional_writes,
            ),
            ("checksums by CRC64NVME", self.crc64nvme, found.crc64nvme),
            (
                "checks of part ETags",
                self.checks_part_etags,
                found.checks_part_etags,
            ),
            (
                "parts of one size only",
                self.equal_parts,
                found.equal_parts,
            ),
            (
                "Complete without all parts",
                self.partial_complete,
                found.partial_complete,
            ),
            ("DeleteObjects", self.batch_delete, found.batch_delete),
        ]
        .into_iter()
        .filter(|(_, known, found)| known.is_some_and(|known| known != *found))
        .map(|(what, _, found)| {
            let (found, expected) = if found {
                ("found", "not expected")
            } else {
                ("not found", "expected")
            };
            format!("{what}: {found}, and {expected} of {}", self.name)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stores_by_host_and_header() {
        for (host, server, want) in [
            (
                "layers.s3.eu-west-1.amazonaws.com",
                "AmazonS3",
                Some("Amazon S3"),
            ),
            ("127.0.0.1", "AmazonS3", None),
            ("amazonaws.com.example", "AmazonS3", None),
            ("127.0.0.1", "MinIO", Some("MinIO")),
            ("127.0.0.1", "MinIO/RELEASE.2024", Some("MinIO")),
            (
                "0123.r2.cloudflarestorage.com",
                "cloudflare",
                Some("Cloudflare R2"),
            ),
            ("s3.example.org", "cloudflare", None),
            (
                "storage.googleapis.com",
                "UploadServer",
                Some("Google Cloud Storage (XML API)"),
            ),
            ("rgw", "Ceph Object Gateway (squid)", Some("Ceph")),
            ("127.0.0.1", "nginx", None),
            ("", "", None),
        ] {
            let found = identify(Some(host), Some(server)).map(|vendor| vendor.name);
            assert_eq!(found, want, "{host} {server}");
        }
        assert!(identify(None, None).is_none());
    }

    #[test]
    fn parts_of_r2_are_equal_without_a_check() {
        let r2 = identify(Some("0123.r2.cloudflarestorage.com"), None);
        assert!(expected(r2).equal_parts);
        assert!(expected(r2).max_object_size < expected(None).max_object_size);
        assert_eq!(expected(None), StoreProfile::AWS);
    }

    #[test]
    fn differences_are_reported_where_something_is_known() {
        let minio = identify(None, Some("MinIO")).unwrap();
        assert_eq!(minio.differences(&StoreProfile::AWS), [""; 0]);
        let found = StoreProfile {
            batch_delete: false,
            equal_parts: true,
            ..StoreProfile::AWS
        };
        assert_eq!(
            minio.differences(&found),
            [
                "parts of one size only: found, and not expected of MinIO",
                "DeleteObjects: not found, and expected of MinIO",
            ]
        );
        let ceph = identify(None, Some("Ceph")).unwrap();
        let without = StoreProfile {
            conditional_writes: false,
            partial_complete: false,
            ..StoreProfile::AWS
        };
        assert_eq!(ceph.differences(&without), [""; 0], "not known");
    }
}
