//! `check`: every kind of defect is found, what follows from the rest is repaired, and a bucket in order has none.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use s3layers::{
    CheckOptions, CheckReport, CheckVerdict, DefectKind, Digest, Error, LayerService as _,
    Manifest, ReadShare, RepositoryName, RepositoryService as _, TrashReference,
};

use super::site::{By, Image, Site, hours, manifest, push, push_by_sha512, push_layer};
use crate::support::bucket::{get, keys, sealed};
use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{GetObject, ListObjectsV2, On, PutObject};
use crate::support::stores::{BUCKET, name};

use DefectKind::*;

/// A bucket with one of everything. The layers of `large`, `small` and `other_id` differ.
struct Bucket {
    site: Site,
    client: Client,
    large: Image,
    index: Manifest,
    child: Manifest,
    subject: Manifest,
    referrer: Manifest,
    other_id: Digest,
}

impl Bucket {
    async fn new() -> Self {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let (large, small) = (Image::new(1, 100_000), Image::new(2, 1_000));
        push(&service, &name(), &large).await;
        push_layer(&service, &name(), &small).await;
        let child = small.manifest.clone();
        let digest = &child.digest;
        let index = of(&format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":1}}]}}"#
        ));
        let subject = of(r#"{"schemaVersion":2,"layers":[]}"#);
        let referrer = Manifest {
            subject: Some(subject.digest.clone()),
            ..of(r#"{"schemaVersion":2,"layers":[],"annotations":{"a":"b"}}"#)
        };
        let other_id = push_by_sha512(&service, &name(), &ramp(3, 50_000)).await;
        for manifest in [
            &child,
            &index,
            &subject,
            &referrer,
            &manifest(&other_id, 50_000),
        ] {
            service.put_manifest(&name(), manifest).await.unwrap();
        }
        let tag = "index".parse().unwrap();
        service.put_tag(&name(), &tag, &index.digest).await.unwrap();
        let declared = sha256(b"declared").into();
        let mut upload = service.upload(&name(), Some(&declared)).await.unwrap();
        upload.write_bytes(ramp(4, 50_000)).await.unwrap();
        upload.close().await.unwrap();
        Bucket {
            client: site.client(),
            site,
            large,
            index,
            child,
            subject,
            referrer,
            other_id,
        }
    }

    async fn check(&self, options: &CheckOptions) -> CheckReport {
        self.site.clock.advance(hours(2));
        let service = self.site.process().await;
        service.check(options).await.unwrap()
    }

    /// The only key with this in it.
    async fn key(&self, part: &str) -> String {
        let keys = keys(&self.client).await;
        let inner = format!("/{part}");
        let is_it = |key: &String| key.starts_with(part) || key.contains(&inner);
        let mut found = keys.into_iter().filter(is_it);
        let key = found.next().unwrap_or_else(|| panic!("no {part}"));
        assert_eq!(found.next(), None, "more than one {part}");
        key
    }

    async fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let put = self.client.put_object().bucket(BUCKET).key(key);
        put.body(bytes.into().into()).send().await.unwrap();
    }

    async fn delete(&self, part: &str) {
        let key = self.key(part).await;
        let delete = self.client.delete_object().bucket(BUCKET).key(key);
        delete.send().await.unwrap();
    }

    async fn flip(&self, part: &str) {
        let key = self.key(part).await;
        let mut bytes = get(&self.client, &key).await.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.put(&key, bytes).await;
    }

    /// Another document, with a right checksum of itself.
    async fn rewrite(&self, part: &str, change: impl Fn(&str) -> String) {
        let key = self.key(part).await;
        let bytes = get(&self.client, &key).await;
        let changed = change(std::str::from_utf8(&bytes).unwrap());
        self.put(&key, sealed(&changed)).await;
    }

    async fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.key(from).await, self.key(to).await);
        let bytes = get(&self.client, &from).await;
        self.put(&to, bytes).await;
    }

    fn record(&self) -> String {
        let hex = sha256(&self.large.layer).hex().to_owned();
        format!("layers/sha256/{}/{hex}", &hex[..2])
    }

    fn link(&self) -> String {
        format!("_layers/sha256/{}", sha256(&self.large.layer).hex())
    }

    fn manifest_key(manifest: &Manifest) -> String {
        format!("_manifests/sha256/{}", manifest.digest.hex())
    }

    /// The data object of the large layer.
    async fn data(&self) -> String {
        let record = get(&self.client, &self.record()).await;
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let upload = record["layer"]["upload"].as_str().unwrap();
        self.key(&format!("data/{}/{upload}", &upload[..2])).await
    }
}

fn of(text: &str) -> Manifest {
    let bytes = Bytes::from(text.to_owned());
    Manifest {
        digest: sha256(&bytes),
        bytes,
        ..manifest(&sha256(b""), 0)
    }
}

async fn delete_all(site: &Site, is_it: impl Fn(&str) -> bool) {
    let client = site.client();
    for key in keys(&client).await.iter().filter(|key| is_it(key)) {
        let delete = client.delete_object().bucket(BUCKET).key(key);
        delete.send().await.unwrap();
    }
}

fn options(repair: bool) -> CheckOptions {
    CheckOptions {
        repair,
        objects: true,
        read: Some(ReadShare::Part(1.0)),
        wait: Some(Duration::ZERO),
        ..CheckOptions::default()
    }
}

/// A document of a newer version.
const NEWER: &str = r#"{"version":99,"seal":""}"#;

fn newer(text: &str) -> String {
    text.replace(r#""version":1"#, r#""version":99"#)
}

/// A way to break the bucket.
#[derive(Clone, Copy, Debug)]
enum Seed {
    DataDeleted,
    DataTruncated,
    DataReplaced,
    DataReplacedWithoutChecksum,
    OtherEtag,
    OtherEtagWithoutChecksum,
    OtherBlockSums,
    RecordFlipped,
    RecordEmpty,
    RecordOfAnother,
    RecordDeleted,
    RecordDead,
    RecordOfNewerVersion,
    LinkDeleted,
    LinkFlipped,
    LinkOfNewerVersion,
    LinkOfAnother,
    OwnLinkDeleted,
    OwnLinkOfOneId,
    AliasDeleted,
    AliasFlipped,
    AliasOfNothing,
    ManifestFlipped,
    ManifestOfAnother,
    ManifestDeleted,
    ChildDeleted,
    TagFlipped,
    ReferrerDeleted,
    ReferrerFlipped,
    ReferringManifestDeleted,
    SubjectDeleted,
    MarkerDeleted,
    MarkerOfNothing,
    SessionFlipped,
    SessionDeleted,
    TailWithoutSession,
    ClaimFlipped,
    DeadBatchDamaged,
    DeadBatchOfNewerVersion,
    TrashDamaged,
    OrphanObject,
    JunkAmongData,
    JunkAmongLayers,
    JunkAmongRepositories,
}

impl Seed {
    async fn apply(self, bucket: &Bucket) {
        let (record, link) = (bucket.record(), bucket.link());
        let of = Bucket::manifest_key;
        let junk = "junk";
        match self {
            Seed::DataDeleted => bucket.delete(&bucket.data().await).await,
            Seed::DataTruncated => bucket.put(&bucket.data().await, ramp(1, 50_000)).await,
            Seed::DataReplaced => {
                let put = bucket.client.put_object().bucket(BUCKET);
                let put = put.key(bucket.data().await).body(ramp(9, 100_000).into());
                let put = put.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
                put.send().await.unwrap();
            }
            Seed::DataReplacedWithoutChecksum => {
                bucket.put(&bucket.data().await, ramp(9, 100_000)).await;
            }
            Seed::OtherEtag => {
                bucket
                    .rewrite(&record, |text| member(text, "etag", "x"))
                    .await
            }
            // As by a tool that stores no checksum.
            Seed::OtherEtagWithoutChecksum => {
                bucket.put(&bucket.data().await, ramp(1, 100_000)).await;
                bucket
                    .rewrite(&record, |text| member(text, "etag", "x"))
                    .await;
                bucket
                    .rewrite(&link, |text| member(text, "etag", "x"))
                    .await;
            }
            Seed::OtherBlockSums => {
                let sums = |text: &str| member(text, "blocks", "AAAAAAAAAAA=");
                bucket.rewrite(&record, sums).await;
            }
            Seed::RecordFlipped => bucket.flip(&record).await,
            Seed::RecordEmpty => bucket.put(&record, "").await,
            Seed::RecordOfAnother => {
                let small = sha256(&ramp(2, 1_000)).hex().to_owned();
                let from = format!("layers/sha256/{}/{small}", &small[..2]);
                bucket.copy(&from, &record).await;
            }
            Seed::RecordDeleted => bucket.delete(&record).await,
            Seed::RecordDead => {
                let dead = r#""state":{"dead":{"nonce":"0"}}"#;
                let set = |text: &str| text.replace(r#""state":"live""#, dead);
                bucket.rewrite(&record, set).await;
            }
            Seed::RecordOfNewerVersion => {
                bucket.rewrite(&record, newer).await;
            }
            Seed::LinkOfNewerVersion => bucket.rewrite(&link, newer).await,
            Seed::LinkDeleted => bucket.delete(&link).await,
            Seed::LinkFlipped => bucket.flip(&link).await,
            Seed::LinkOfAnother => {
                let small = sha256(&ramp(2, 1_000)).hex().to_owned();
                bucket.copy(&format!("_layers/sha256/{small}"), &link).await;
            }
            Seed::OwnLinkDeleted => {
                let own = sha256(&ramp(3, 50_000)).hex().to_owned();
                bucket.delete(&format!("_layers/sha256/{own}")).await;
            }
            Seed::OwnLinkOfOneId => {
                let own = sha256(&ramp(3, 50_000)).hex().to_owned();
                let id = format!(r#""{}""#, bucket.other_id);
                let forget = |text: &str| text.replace(&id, "");
                let key = format!("_layers/sha256/{own}");
                bucket.rewrite(&key, forget).await;
            }
            Seed::AliasDeleted => bucket.delete("layers/sha512/").await,
            Seed::AliasFlipped => bucket.flip("layers/sha512/").await,
            Seed::AliasOfNothing => {
                let other = sha256(b"nothing").to_string();
                let own = sha256(&ramp(3, 50_000)).to_string();
                let rename = |text: &str| text.replace(&own, &other);
                let key = format!("{}/", bucket.other_id.hex().get(..2).unwrap());
                bucket
                    .rewrite(&format!("layers/sha512/{key}"), rename)
                    .await;
            }
            Seed::ManifestFlipped => bucket.flip(&of(&bucket.large.manifest)).await,
            Seed::ManifestOfAnother => {
                bucket
                    .copy(&of(&bucket.subject), &of(&bucket.large.manifest))
                    .await;
            }
            Seed::ManifestDeleted => bucket.delete(&of(&bucket.large.manifest)).await,
            Seed::ChildDeleted => bucket.delete(&of(&bucket.child)).await,
            Seed::TagFlipped => bucket.flip("_tags/latest").await,
            Seed::ReferrerDeleted => bucket.delete("_referrers/").await,
            Seed::ReferrerFlipped => bucket.flip("_referrers/").await,
            Seed::ReferringManifestDeleted => bucket.delete(&of(&bucket.referrer)).await,
            Seed::SubjectDeleted => bucket.delete(&of(&bucket.subject)).await,
            Seed::MarkerDeleted => bucket.delete("names/").await,
            Seed::MarkerOfNothing => {
                let marker = get(&bucket.client, &bucket.key("names/").await).await;
                bucket.put("names/library.other", marker).await;
            }
            Seed::SessionFlipped => bucket.flip("session").await,
            Seed::SessionDeleted => bucket.delete("session").await,
            Seed::TailWithoutSession => {
                let uuid = uuid::Uuid::from_u128(1);
                bucket.put(&format!("uploads/{uuid}/tail/0-00"), junk).await;
            }
            Seed::ClaimFlipped => bucket.flip("_claims/").await,
            Seed::DeadBatchDamaged => bucket.put("gc/dead/0", junk).await,
            Seed::DeadBatchOfNewerVersion => bucket.put("gc/dead/0", sealed(NEWER)).await,
            Seed::TrashDamaged => bucket.put("gc/trash/x/0", junk).await,
            Seed::OrphanObject => {
                let uuid = uuid::Uuid::from_u128(1);
                bucket.put(&format!("data/00/{uuid}.0"), junk).await;
            }
            Seed::JunkAmongData => bucket.put("data/00/junk", junk).await,
            Seed::JunkAmongLayers => bucket.put("layers/junk", junk).await,
            Seed::JunkAmongRepositories => bucket.put("repositories/junk", junk).await,
        }
    }
}

/// The document with another value of this member, where it comes first.
fn member(text: &str, member: &str, value: &str) -> String {
    let start = format!(r#""{member}":""#);
    let (head, rest) = text.split_once(&start).unwrap();
    let (_, tail) = rest.split_once('"').unwrap();
    format!(r#"{head}{start}{value}"{tail}"#)
}

/// Each seed, what is found, how many images cannot be pulled, and how a check ends that repairs.
#[rustfmt::skip]
const SEEDS: [(Seed, &[DefectKind], usize, CheckVerdict); 44] = [
    (Seed::DataDeleted, &[DataMissing, ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::DataTruncated, &[DataOfOtherSize, ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::DataReplaced, &[DataChanged, ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::DataReplacedWithoutChecksum, &[DataRotten, ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::OtherEtag, &[EtagChanged], 0, CheckVerdict::Repaired),
    (Seed::OtherEtagWithoutChecksum, &[EtagChanged], 0, CheckVerdict::Repaired),
    (Seed::OtherBlockSums, &[DataRotten, ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::RecordFlipped, &[RecordUnreadable, LinkWithoutRecord], 0, CheckVerdict::Repaired),
    (Seed::RecordEmpty, &[RecordUnreadable, LinkWithoutRecord], 0, CheckVerdict::Repaired),
    (Seed::RecordOfAnother, &[RecordUnreadable, LinkWithoutRecord], 0, CheckVerdict::Repaired),
    (Seed::RecordDeleted, &[LinkWithoutRecord], 0, CheckVerdict::Repaired),
    (Seed::RecordDead, &[LinkToRemovedLayer], 0, CheckVerdict::Repaired),
    (Seed::RecordOfNewerVersion, &[NewerVersion], 0, CheckVerdict::Incomplete),
    (Seed::LinkDeleted, &[LayerNotLinked], 0, CheckVerdict::Repaired),
    (Seed::LinkFlipped, &[LinkUnreadable, LayerNotLinked], 0, CheckVerdict::Repaired),
    (Seed::LinkOfNewerVersion, &[NewerVersion], 0, CheckVerdict::Incomplete),
    (Seed::LinkOfAnother, &[LinkUnreadable, LayerNotLinked], 0, CheckVerdict::Repaired),
    (Seed::OwnLinkDeleted, &[LinkOfNoLayer, LayerNotLinked], 0, CheckVerdict::Repaired),
    (Seed::OwnLinkOfOneId, &[LayerNotLinked], 0, CheckVerdict::Repaired),
    (Seed::AliasDeleted, &[AliasMissing], 0, CheckVerdict::Repaired),
    (Seed::AliasFlipped, &[AliasMissing, AliasUnreadable], 0, CheckVerdict::Repaired),
    (Seed::AliasOfNothing, &[AliasToNothing], 0, CheckVerdict::Clean),
    (Seed::ManifestFlipped, &[ManifestUnreadable], 1, CheckVerdict::Damaged),
    (Seed::ManifestOfAnother, &[ManifestUnreadable], 1, CheckVerdict::Damaged),
    (Seed::ManifestDeleted, &[TagToNothing], 1, CheckVerdict::Damaged),
    (Seed::ChildDeleted, &[ContentMissing], 1, CheckVerdict::Damaged),
    (Seed::TagFlipped, &[TagUnreadable], 1, CheckVerdict::Damaged),
    (Seed::ReferrerDeleted, &[ReferrerMissing], 0, CheckVerdict::Repaired),
    (Seed::ReferrerFlipped, &[ReferrerMissing, ReferrerUnreadable], 0, CheckVerdict::Repaired),
    (Seed::ReferringManifestDeleted, &[ReferrerToNothing], 0, CheckVerdict::Clean),
    (Seed::SubjectDeleted, &[SubjectMissing], 0, CheckVerdict::Clean),
    (Seed::MarkerDeleted, &[MarkerMissing], 0, CheckVerdict::Repaired),
    (Seed::MarkerOfNothing, &[StaleMarker], 0, CheckVerdict::Clean),
    (Seed::SessionFlipped, &[SessionUnreadable], 0, CheckVerdict::Damaged),
    (Seed::SessionDeleted, &[OrphanData, StaleClaim], 0, CheckVerdict::Clean),
    (Seed::TailWithoutSession, &[OrphanTail], 0, CheckVerdict::Clean),
    (Seed::ClaimFlipped, &[ClaimUnreadable], 0, CheckVerdict::Clean),
    (Seed::DeadBatchDamaged, &[ListUnreadable], 0, CheckVerdict::Damaged),
    (Seed::DeadBatchOfNewerVersion, &[NewerVersion], 0, CheckVerdict::Incomplete),
    (Seed::TrashDamaged, &[ListUnreadable], 0, CheckVerdict::Damaged),
    (Seed::OrphanObject, &[OrphanData], 0, CheckVerdict::Clean),
    (Seed::JunkAmongData, &[UnknownObject], 0, CheckVerdict::Clean),
    (Seed::JunkAmongLayers, &[UnknownObject], 0, CheckVerdict::Clean),
    (Seed::JunkAmongRepositories, &[UnknownObject], 0, CheckVerdict::Clean),
];

fn kinds(checked: &CheckReport) -> Vec<DefectKind> {
    let kinds: BTreeSet<_> = checked.defects.iter().map(|defect| defect.kind).collect();
    kinds.into_iter().collect()
}

#[tokio::test]
async fn bucket_in_order_has_no_defects() {
    let bucket = Bucket::new().await;
    for objects in [false, true] {
        let options = CheckOptions {
            objects,
            ..options(true)
        };
        let checked = bucket.check(&options).await;
        assert_eq!(checked.defects, [], "{objects}");
        assert_eq!((checked.layers, checked.links), (3, 3));
        assert_eq!((checked.manifests, checked.tags), (6, 2));
        assert_eq!((checked.layers_read, checked.bytes_read), (3, 151_000));
        assert_eq!(checked.verdict(), CheckVerdict::Clean);
    }
}

#[tokio::test]
async fn every_seeded_defect_is_found_and_repaired_where_it_can_be() {
    for (seed, want, broken, verdict) in SEEDS {
        let bucket = Bucket::new().await;
        seed.apply(&bucket).await;
        let before = keys(&bucket.client).await;
        let found = bucket.check(&options(false)).await;
        assert_eq!(kinds(&found), want, "{seed:?}: {found:?}");
        // A check that does not repair writes its cursor alone.
        let after = keys(&bucket.client).await;
        let added: Vec<_> = after.difference(&before).collect();
        assert_eq!(added, ["gc/check"], "{seed:?}");
        let repaired = bucket.check(&options(true)).await;
        assert_eq!(kinds(&repaired), want, "{seed:?}");
        assert_eq!(repaired.verdict(), verdict, "{seed:?}: {repaired:?}");
        assert_eq!(repaired.broken.len(), broken, "{seed:?}: {repaired:?}");
        if verdict == CheckVerdict::Repaired {
            let again = bucket.check(&options(true)).await;
            assert_eq!(again.defects, [], "{seed:?}");
        }
    }
}

/// A read of a client would record the new ETag.
#[tokio::test]
async fn check_that_does_not_repair_changes_nothing() {
    for objects in [false, true] {
        let bucket = Bucket::new().await;
        Seed::OtherEtag.apply(&bucket).await;
        let record = bucket.key(&bucket.record()).await;
        let before = get(&bucket.client, &record).await;
        let checked = bucket
            .check(&CheckOptions {
                objects,
                ..options(false)
            })
            .await;
        assert_eq!(kinds(&checked), [EtagChanged], "{objects}");
        assert_eq!(checked.verdict(), CheckVerdict::Damaged, "{objects}");
        assert_eq!(get(&bucket.client, &record).await, before, "{objects}");
    }
}

/// Data that a record of a newer version names is no orphan.
#[tokio::test]
async fn data_is_no_orphan_where_a_record_cannot_be_read() {
    let bucket = Bucket::new().await;
    Seed::OrphanObject.apply(&bucket).await;
    Seed::RecordOfNewerVersion.apply(&bucket).await;
    delete_all(&bucket.site, |key| key.starts_with("repositories/")).await;
    let checked = bucket.check(&options(false)).await;
    assert_eq!(kinds(&checked), [StaleMarker, OrphanUnproven, NewerVersion]);
    assert_eq!(checked.verdict(), CheckVerdict::Incomplete);
}

/// Damage that is repaired leaves nothing unchecked, and no defect hides another.
#[tokio::test]
async fn several_defects_are_repaired_in_one_run() {
    let bucket = Bucket::new().await;
    for seed in [
        Seed::RecordFlipped,
        Seed::OrphanObject,
        Seed::AliasDeleted,
        Seed::ReferrerDeleted,
        Seed::MarkerDeleted,
        Seed::ClaimFlipped,
        Seed::JunkAmongData,
        Seed::TailWithoutSession,
    ] {
        seed.apply(&bucket).await;
    }
    let found = bucket.check(&options(false)).await;
    assert_eq!(found.verdict(), CheckVerdict::Incomplete);
    let all = [
        RecordUnreadable,
        LinkWithoutRecord,
        AliasMissing,
        ReferrerMissing,
        MarkerMissing,
    ];
    let left = [OrphanTail, OrphanData, ClaimUnreadable, UnknownObject];
    let repaired = bucket.check(&options(true)).await;
    assert_eq!(kinds(&repaired), [&all[..], &left].concat());
    for defect in &repaired.defects {
        assert_eq!(defect.is_repaired, all.contains(&defect.kind), "{defect:?}");
        // It has no session: the folder is what there is.
        let is_folder = defect.key.starts_with("uploads/") && defect.key.ends_with('/');
        assert_eq!(is_folder, defect.kind == OrphanTail, "{defect:?}");
    }
    assert_eq!(repaired.verdict(), CheckVerdict::Repaired);
    assert_eq!(kinds(&bucket.check(&options(true)).await), left);
}

/// Where the store has tombstones, one of a link says that a client removed the layer.
#[tokio::test]
async fn layer_that_a_client_removed_is_not_brought_back() {
    let site = Site::new(By::Tombstone).await;
    let service = site.process().await;
    let image = Image::new(1, 100_000);
    push(&service, &name(), &image).await;
    assert!(service.unlink(&name(), &image.id()).await.unwrap());
    site.clock.advance(hours(2));
    let checked = site.process().await.check(&options(true)).await.unwrap();
    assert_eq!(kinds(&checked), [ContentMissing]);
    assert_eq!(checked.verdict(), CheckVerdict::Damaged);
    let layer = site.process().await.layer(&name(), &image.id()).await;
    assert!(layer.is_err());
}

/// A client that knows the digest of a layer elsewhere must not get it by naming it where a push does not look.
#[tokio::test]
async fn what_a_push_need_not_have_is_linked_by_no_repair_and_no_restore() {
    let bucket = Bucket::new().await;
    let service = bucket.site.process().await;
    let own: RepositoryName = "library/other".parse().unwrap();
    let (digest, id) = (sha256(&bucket.large.layer), bucket.large.id());
    let kept_elsewhere = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    for (case, text) in [
        (
            "blobs",
            format!(r#"{{"schemaVersion":2,"layers":[],"blobs":[{{"digest":"{digest}"}}]}}"#),
        ),
        (
            "config",
            format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","mediaType":"{kept_elsewhere}"}},"layers":[]}}"#
            ),
        ),
    ] {
        let manifest = of(&text);
        service.put_manifest(&own, &manifest).await.unwrap();
        let checked = bucket.check(&options(true)).await;
        assert_eq!(kinds(&checked), [], "{case}");
        assert!(
            service
                .delete_manifest(&own, &manifest.digest)
                .await
                .unwrap()
        );
        let by_digest = TrashReference::Digest(manifest.digest.clone());
        service.restore(&own, &by_digest).await.unwrap();
        let found = service.layer(&own, &id).await.map(drop);
        assert!(
            matches!(found, Err(Error::LayerUnknown { .. })),
            "{case}: {found:?}"
        );
    }
}

/// Its layer is lost while it is being linked.
#[tokio::test]
async fn damage_that_has_become_worse_is_reported() {
    let bucket = Bucket::new().await;
    Seed::LinkDeleted.apply(&bucket).await;
    bucket.site.clock.advance(hours(2));
    let (service, faults) = bucket.site.process_over_faults().await;
    let linked = faults.hold(On::every(PutObject).key_contains("/_layers/"));
    let options = options(true);
    let lose = async {
        linked.reached_by(1).await;
        let data = bucket.data().await;
        bucket.delete(&data).await;
        bucket.delete(&bucket.record()).await;
        linked.open();
    };
    let (checked, ()) = tokio::join!(service.check(&options), lose);
    let checked = checked.unwrap();
    assert_eq!(kinds(&checked), [LayerNotLinked, ContentMissing]);
    assert_eq!(checked.verdict(), CheckVerdict::Damaged);
    assert_eq!(checked.broken.len(), 1, "{checked:?}");
}

#[tokio::test]
async fn missing_marker_is_found_beside_a_push_that_is_under_way() {
    let bucket = Bucket::new().await;
    Seed::MarkerDeleted.apply(&bucket).await;
    bucket.site.clock.advance(hours(2));
    let service = bucket.site.process().await;
    let id = sha256(b"not pushed yet").into();
    service.upload(&name(), Some(&id)).await.unwrap();
    let checked = service.check(&options(false)).await.unwrap();
    assert_eq!(kinds(&checked), [MarkerMissing]);
}

/// The upload is listed, and its layer is not any more.
#[tokio::test]
async fn data_of_an_upload_that_is_published_meanwhile_is_no_orphan() {
    let bucket = Bucket::new().await;
    let bytes = ramp(9, 50_000);
    let service = bucket.site.process().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let uuid = upload.uuid();
    upload.close().await.unwrap();
    bucket.site.clock.advance(hours(2));
    let (checker, faults) = bucket.site.process_over_faults().await;
    let records = faults.hold(On::every(GetObject).key_contains("layers/sha256/"));
    let options = options(false);
    let publish = async {
        records.reached_by(1).await;
        let mut upload = service.resume(&name(), None, uuid).await.unwrap();
        let digest = sha256(&bytes);
        upload.finish(bytes.len() as u64, &digest).await.unwrap();
        service.wait_for_background().await;
        records.open();
    };
    let (checked, ()) = tokio::join!(checker.check(&options), publish);
    assert_eq!(kinds(&checked.unwrap()), []);
}

#[tokio::test]
async fn cursor_of_a_newer_version_stays() {
    let bucket = Bucket::new().await;
    bucket.put("gc/check", sealed(NEWER)).await;
    let checked = bucket.check(&options(false)).await;
    assert_eq!(
        (checked.verdict(), checked.layers_read),
        (CheckVerdict::Clean, 3)
    );
    assert_eq!(get(&bucket.client, "gc/check").await, sealed(NEWER));
}

/// Two looks find the defect, the repair reads the link, and the last look fails.
#[tokio::test]
async fn defect_that_is_not_looked_at_after_the_repair_is_left() {
    let bucket = Bucket::new().await;
    Seed::RecordDeleted.apply(&bucket).await;
    bucket.site.clock.advance(hours(2));
    let (service, faults) = bucket.site.process_over_faults().await;
    let hex = sha256(&bucket.large.layer).hex().to_owned();
    let reads = On::every(GetObject)
        .key_ends(hex.leak())
        .key_contains("/_layers/");
    let repaired = faults.hold(On::every(PutObject).key_contains("layers/sha256/"));
    let options = options(true);
    let fail = async {
        repaired.reached_by(1).await;
        faults.fault(reads.status(500));
        repaired.open();
    };
    let (checked, ()) = tokio::join!(service.check(&options), fail);
    let checked = checked.unwrap();
    assert_eq!(kinds(&checked), [LinkWithoutRecord]);
    assert!(!checked.defects[0].is_repaired, "{checked:?}");
    assert_eq!(checked.verdict(), CheckVerdict::Incomplete);
}

/// The record of a layer that was first pushed by its SHA-256 does not know the id by which a manifest names it.
#[tokio::test]
async fn repaired_link_stays_for_a_manifest_that_names_another_id() {
    for lost in ["sha256", "sha512"] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        let image = Image::new(1, 100_000);
        push_layer(&service, &"library/first".parse().unwrap(), &image).await;
        let digest = push_by_sha512(&service, &name(), &image.layer).await;
        let manifest = manifest(&digest, 100_000);
        service.put_manifest(&name(), &manifest).await.unwrap();
        // A link of this age is written again.
        site.clock.advance(hours(48));
        let prefix = format!("repositories/library/demo/_layers/{lost}/");
        delete_all(&site, |key| key.starts_with(&prefix)).await;
        let service = site.process().await;
        let checked = service.check(&options(true)).await.unwrap();
        assert_eq!(checked.verdict(), CheckVerdict::Repaired, "{checked:?}");
        for _ in 0..5 {
            site.collect_after(hours(50)).await;
        }
        let id = digest.into();
        let layer = service.confirm_layer(&name(), &id).await.unwrap();
        assert!(layer.is_some(), "{lost}");
    }
}

#[tokio::test]
async fn alias_of_a_newer_version_stays() {
    for lost in [
        "",
        "layers/sha256/",
        "repositories/library/demo/_layers/sha256/",
    ] {
        let bucket = Bucket::new().await;
        bucket.rewrite("layers/sha512/", newer).await;
        let key = bucket.key("layers/sha512/").await;
        let before = get(&bucket.client, &key).await;
        delete_all(&bucket.site, |key| {
            !lost.is_empty() && key.starts_with(lost)
        })
        .await;
        let checked = bucket.check(&options(true)).await;
        assert!(kinds(&checked).contains(&NewerVersion), "{checked:?}");
        assert_eq!(checked.verdict(), CheckVerdict::Incomplete, "{lost}");
        assert_eq!(get(&bucket.client, &key).await, before, "{lost}");
    }
}

/// A push comes between the last look and the repair.
#[tokio::test]
async fn alias_of_a_layer_that_was_pushed_meanwhile_stays() {
    let site = Site::new(By::Delete).await;
    let bytes = ramp(3, 50_000);
    let digest = push_by_sha512(&site.process().await, &name(), &bytes).await;
    delete_all(&site, |key| !key.starts_with("layers/sha512/")).await;
    site.clock.advance(hours(2));
    let (checker, faults) = site.process_over_faults().await;
    let options = options(true);
    // Two looks, then the repair.
    let repair = faults.hold(On::nth(GetObject, 3).key_contains("layers/sha512/"));
    let pushed = async {
        repair.reached_by(1).await;
        push_by_sha512(&site.process().await, &name(), &bytes).await;
        repair.open();
    };
    let (checked, ()) = tokio::join!(checker.check(&options), pushed);
    assert_eq!(kinds(&checked.unwrap()), [AliasToNothing]);
    let service = site.process().await;
    assert!(service.exists(&digest.into()).await.unwrap());
}

/// An image and the index that needs it are named, with the tags that name them.
#[tokio::test]
async fn broken_images_are_named_with_their_tags() {
    let bucket = Bucket::new().await;
    let small = sha256(&ramp(2, 1_000)).hex().to_owned();
    bucket
        .delete(&format!("layers/sha256/{}/{small}", &small[..2]))
        .await;
    bucket.delete(&format!("_layers/sha256/{small}")).await;
    let checked = bucket.check(&options(false)).await;
    let mut broken: Vec<_> = checked.broken.iter().collect();
    broken.sort_by_key(|image| image.tags.len());
    assert_eq!(broken[0].digest.as_ref(), Some(&bucket.child.digest));
    assert_eq!(broken[1].digest.as_ref(), Some(&bucket.index.digest));
    assert_eq!(broken[1].tags, ["index".parse().unwrap()]);

    // The index cannot be read when it is looked for.
    let (service, faults) = bucket.site.process_over_faults().await;
    let index = bucket.index.digest.hex().to_owned();
    service.check(&options(false)).await.unwrap();
    let log = faults.log();
    let reads = log.iter().filter(|request| {
        request.operation == GetObject
            && request.key.contains("/_manifests/")
            && request.key.ends_with(&index)
    });
    let last = On::nth(GetObject, reads.count()).key_contains("/_manifests/");
    faults.fault(last.key_ends(index.leak()).status(403));
    let refused = service.check(&options(false)).await.unwrap_err();
    assert!(!refused.report.defects.is_empty(), "{refused}");
}

#[tokio::test]
async fn tags_of_broken_images_are_listed_once() {
    let mut listings = Vec::new();
    for broken in [1, 3] {
        let site = Site::new(By::Delete).await;
        let service = site.process().await;
        for seed in 0..3 {
            let image = Image::new(seed, 1_000);
            push(&service, &name(), &image).await;
            let tag = format!("t{seed}").parse().unwrap();
            let digest = &image.manifest.digest;
            service.put_tag(&name(), &tag, digest).await.unwrap();
            if seed < broken {
                let key = Bucket::manifest_key(&image.manifest);
                delete_all(&site, |other| other.ends_with(&key)).await;
            }
        }
        site.clock.advance(hours(2));
        let (service, faults) = site.process_over_faults().await;
        let checked = service.check(&options(false)).await.unwrap();
        assert_eq!(checked.broken.len(), broken as usize, "{checked:?}");
        let tags = checked.broken.iter().map(|image| image.tags.len());
        // The last one is `latest` as well.
        assert_eq!(tags.sum::<usize>(), [0, 1, 2, 4][broken as usize]);
        listings.push(faults.count(ListObjectsV2));
    }
    assert_eq!(listings[0], listings[1]);
}

/// The last listing fails, that of data.
#[tokio::test]
async fn late_error_keeps_the_report_of_what_was_found() {
    let bucket = Bucket::new().await;
    Seed::RecordDeleted.apply(&bucket).await;
    bucket.site.clock.advance(hours(2));
    let (service, faults) = bucket.site.process_over_faults().await;
    let keys = keys(&bucket.client).await;
    faults.fault(On::nth(ListObjectsV2, 8).status(403));
    let ended = service.check(&options(true)).await.unwrap_err();
    assert!(ended.error.is_permission(), "{ended}");
    assert_eq!(kinds(&ended.report), [LinkWithoutRecord]);
    assert!(!ended.report.defects[0].is_repaired);
    assert_eq!((ended.report.manifests, ended.report.tags), (6, 2));
    // The cursor alone is written.
    assert_eq!(self::keys(&bucket.client).await.len(), keys.len() + 1);
}

#[test]
fn check_of_more_defects_than_are_repaired_is_incomplete() {
    let mut checked = CheckReport::default();
    assert_eq!(checked.verdict(), CheckVerdict::Clean);
    checked.more_defective = 1;
    assert_eq!(checked.verdict(), CheckVerdict::Incomplete);
}

/// What a running push has written is no defect yet.
#[tokio::test]
async fn young_entries_are_not_judged() {
    let bucket = Bucket::new().await;
    Seed::RecordDeleted.apply(&bucket).await;
    Seed::OrphanObject.apply(&bucket).await;
    let service = bucket.site.process().await;
    let checked = service.check(&options(true)).await.unwrap();
    assert_eq!(checked.defects, []);
}

#[tokio::test]
async fn reads_continue_where_the_last_check_ended() {
    let bucket = Bucket::new().await;
    let options = CheckOptions {
        read: Some(ReadShare::Part(0.25)),
        ..options(false)
    };
    let mut read = 0;
    for _ in 0..4 {
        read += bucket.check(&options).await.layers_read;
    }
    assert_eq!(read, 3);
}

/// A request that fails leaves something unchecked; one that is not permitted ends the check.
#[tokio::test]
async fn missing_permission_is_no_damage() {
    let bucket = Bucket::new().await;
    bucket.site.clock.advance(hours(2));
    let (service, faults) = bucket.site.process_over_faults().await;
    for operation in [GetObject, ListObjectsV2] {
        faults.fault(On::nth(operation, 3).status(403));
        let ended = service.check(&options(false)).await.unwrap_err();
        assert!(ended.error.is_permission(), "{ended}");
        faults.clear_faults();
        faults.reset();
    }
}

/// Layers are read once each, links only listed.
#[tokio::test]
async fn structure_costs_a_request_for_each_layer_and_none_for_a_link() {
    let site = Site::new(By::Delete).await;
    let service = site.process().await;
    for seed in 0..20 {
        push(&service, &name(), &Image::new(seed, 20_000)).await;
    }
    site.clock.advance(hours(2));
    let (service, faults) = site.process_over_faults().await;
    faults.reset();
    let checked = service.check(&CheckOptions::default()).await.unwrap();
    assert_eq!((checked.defects, checked.layers), (vec![], 20));
    // Records, manifests, the marker, the cursor; a tag and its manifest.
    assert_eq!(faults.count(GetObject), 20 + 20 + 1 + 1 + 2);
    assert_eq!(
        faults.log().len() - faults.count(GetObject),
        faults.count(ListObjectsV2)
    );
}
