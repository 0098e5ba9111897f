//! The stores that are known, a row each: what they are expected to do, and who says so. An
//! examination ([`doctor`](crate::s3::doctor)) tells where a store is found to be otherwise.

use crate::s3::format::profile::{MAX_OBJECT_SIZE, R2_MAX_OBJECT_SIZE, StoreProfile};

/// A store, and what is known of it. `None` where nobody says, so either answer will do.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// How it is recognised.
    sign: Sign,
    conditional_writes: Option<bool>,
    crc64nvme: Option<bool>,
    checks_part_etags: Option<bool>,
    equal_parts: Option<bool>,
    batch_delete: Option<bool>,
    partial_complete: Option<bool>,
    /// In bytes.
    max_object_size: u64,
    /// It ends multipart uploads at some time, without a rule of the bucket.
    pub(crate) ends_uploads: bool,
    /// What cannot be asked.
    pub(crate) remarks: &'static [&'static str],
}

#[derive(Debug)]
enum Sign {
    /// What its `Server` header begins with.
    Server(&'static str),
    /// What its host names end with: emulators send the same header.
    Hosts(&'static [&'static str]),
}

const KNOWN: &[Known] = &[
    // Measured by an independent probe (`.ci/run probe`).
    Known {
        name: "the embedded store of s3layers",
        sign: Sign::Server("s3layers"),
        conditional_writes: Some(true),
        crc64nvme: Some(true),
        checks_part_etags: Some(true),
        equal_parts: Some(false),
        batch_delete: Some(true),
        partial_complete: Some(true),
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: false,
        remarks: &[],
    },
    // "How to prevent object overwrites with conditional writes" and "Checking object integrity in
    // Amazon S3" of its user guide: If-Match and If-None-Match on PutObject, full-object CRC64NVME.
    // <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
    Known {
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
    },
    // Measured, RELEASE.2026-02 (`tests/servers/`): a second Complete is `NoSuchUpload`. "S3 API
    // Compatibility" of its documentation: ListMultipartUploads wants the exact object name.
    // minio/docs#1216: uploads end after 24 hours.
    // <https://docs.min.io/enterprise/aistor-object-store/developers/s3-api-compatibility>
    // Measured, 2026-02-12: a Complete whose connection breaks can leave an upload without parts.
    Known {
        name: "MinIO",
        sign: Sign::Server("MinIO"),
        conditional_writes: Some(true),
        crc64nvme: Some(true),
        checks_part_etags: Some(true),
        equal_parts: Some(false),
        batch_delete: Some(true),
        partial_complete: Some(true),
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: true,
        remarks: &[
            "it removes multipart uploads 24 hours after they were begun, unless \
             `mc admin config set ALIAS api stale_uploads_expiry=168h` says otherwise",
        ],
    },
    // Measured, 2026.3 (`tests/servers/`): a second Complete is `NoSuchUpload`. An object is emptied
    // before it is overwritten, and stays so where the connection breaks just then.
    Known {
        name: "LocalStack",
        sign: Sign::Server("LocalStack"),
        conditional_writes: Some(true),
        crc64nvme: Some(true),
        checks_part_etags: Some(true),
        equal_parts: Some(false),
        batch_delete: Some(true),
        partial_complete: Some(true),
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: false,
        remarks: &[
            "it is for tests: what it stores is gone when it ends, and an overwrite that breaks off \
             can empty the object that was there",
        ],
    },
    // "Conditional operations" of its documentation: If-Match and If-None-Match on PutObject. "S3
    // API compatibility": CRC-64/NVME as a full-object checksum, DeleteObjects. "Upload objects":
    // parts of one size but the last; uploads end after 7 days.
    // <https://developers.cloudflare.com/r2/api/s3/conditional-operations/>
    // <https://developers.cloudflare.com/r2/api/s3/api/>
    // <https://developers.cloudflare.com/r2/objects/upload-objects/>
    Known {
        name: "Cloudflare R2",
        sign: Sign::Hosts(&[".r2.cloudflarestorage.com"]),
        conditional_writes: Some(true),
        crc64nvme: Some(true),
        checks_part_etags: None,
        equal_parts: Some(true),
        batch_delete: Some(true),
        partial_complete: None,
        max_object_size: R2_MAX_OBJECT_SIZE,
        ends_uploads: true,
        remarks: &[
            "it takes one write a second of one key",
            "it removes multipart uploads 7 days after they were begun, unless a rule says otherwise",
        ],
    },
    // "Request preconditions" of its documentation: writes go by x-goog-if-generation-match; ETags
    // are for reads. "Interoperability with other storage providers" and ClickHouse#49390: no
    // DeleteObjects. "XML API multipart uploads": parts of any sizes from 5 MiB.
    // <https://docs.cloud.google.com/storage/docs/request-preconditions>
    // <https://docs.cloud.google.com/storage/docs/multipart-uploads>
    Known {
        name: "Google Cloud Storage (XML API)",
        sign: Sign::Hosts(&["storage.googleapis.com"]),
        conditional_writes: Some(false),
        crc64nvme: Some(false),
        checks_part_etags: None,
        equal_parts: Some(false),
        batch_delete: Some(false),
        partial_complete: None,
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: false,
        remarks: &[],
    },
    // "S3 Compatibility status" of its reference manual: DeleteObjects, ListParts, no versions.
    // `src/api/s3/put.rs`: PutObject reads no condition.
    // <https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility/>
    Known {
        name: "Garage",
        sign: Sign::Server("Garage"),
        conditional_writes: Some(false),
        crc64nvme: None,
        checks_part_etags: None,
        equal_parts: Some(false),
        batch_delete: Some(true),
        partial_complete: None,
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: false,
        remarks: &[],
    },
    // ceph/s3-tests#583 and #218: conditional PUT is an extension of its own from before Amazon's,
    // and which release has which half is not said. "Ceph Object Gateway S3 API": DeleteObjects.
    // ceph/ceph#71127: CRC64NVME is known, as of the whole object.
    // <https://docs.ceph.com/en/tentacle/radosgw/s3/>
    Known {
        name: "Ceph",
        sign: Sign::Server("Ceph"),
        conditional_writes: None,
        crc64nvme: None,
        checks_part_etags: None,
        equal_parts: Some(false),
        batch_delete: Some(true),
        partial_complete: Some(false),
        max_object_size: MAX_OBJECT_SIZE,
        ends_uploads: false,
        remarks: &["a part that is sent again can race with Complete; an upload may be lost then"],
    },
];

/// The store that was asked at this host, and sent this `Server` header.
pub(crate) fn identify(host: Option<&str>, server: Option<&str>) -> Option<&'static Known> {
    let server = server.unwrap_or_default().to_ascii_lowercase();
    let host = host.unwrap_or_default().to_ascii_lowercase();
    let is_host = |known: &&Known| match known.sign {
        Sign::Server(_) => false,
        Sign::Hosts(ends) => ends.iter().any(|end| host.ends_with(end)),
    };
    let is_server = |known: &&Known| match known.sign {
        Sign::Server(sign) => server.starts_with(&sign.to_ascii_lowercase()),
        Sign::Hosts(_) => false,
    };
    let by_host = KNOWN.iter().find(is_host);
    by_host.or_else(|| KNOWN.iter().find(is_server))
}

/// What is relied on without asking.
pub(crate) fn expected(known: Option<&Known>) -> StoreProfile {
    StoreProfile {
        equal_parts: known.is_some_and(|known| known.equal_parts == Some(true)),
        max_object_size: known.map_or(MAX_OBJECT_SIZE, |known| known.max_object_size),
        ..StoreProfile::AWS
    }
}

impl Known {
    /// Where a store is not as this row says; a sentence each.
    pub(crate) fn differences(&self, found: &StoreProfile) -> Vec<String> {
        let rows = [
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
                "Complete without a part that was uploaded",
                self.partial_complete,
                found.partial_complete,
            ),
            ("DeleteObjects", self.batch_delete, found.batch_delete),
        ];
        let differing = rows
            .into_iter()
            .filter(|(_, known, found)| known.is_some_and(|known| known != *found));
        let told = differing.map(|(what, _, found)| match found {
            true => format!("{what}: found, and not expected of {}", self.name),
            false => format!("{what}: not found, and expected of {}", self.name),
        });
        told.collect()
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
            let found = identify(Some(host), Some(server)).map(|known| known.name);
            assert_eq!(found, want, "{host} {server}");
        }
        assert!(identify(None, None).is_none());
    }

    #[test]
    fn parts_of_r2_are_equal_without_asking() {
        let r2 = identify(Some("0123.r2.cloudflarestorage.com"), None);
        assert!(expected(r2).equal_parts);
        assert!(expected(r2).max_object_size < expected(None).max_object_size);
        assert_eq!(expected(None), StoreProfile::AWS);
    }

    #[test]
    fn differences_are_told_where_something_is_known() {
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
        assert_eq!(ceph.differences(&without), [""; 0], "nobody says");
    }
}
