//! A bucket that was copied object by object: its objects have other ETags than were recorded.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use bytes::Bytes;
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{
    CheckOptions, CheckReport, CheckVerdict, DefectKind, LayerService as _, LayerServiceExt as _,
    ReadShare,
};
use s3layers_registry::RepositoryService as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom};

use crate::support::bucket::{get, keys};
use crate::support::bytes::{KIB, assert_same, ramp, sha256};
use crate::support::stores::{self, BUCKET, PART, name};

/// A store whose ETags are no checksums, so that no copy has the ETag of its original.
async fn opaque() -> EmbeddedStore {
    let mut quirks = Quirks::none();
    quirks.opaque_etags = true;
    stores::in_memory().await.with_quirks(quirks)
}

/// With the checksum by which we know the bytes, or with none that helps.
async fn copy(from: &Client, to: &Client, checksum: ChecksumAlgorithm) {
    for key in keys(from).await {
        let put = to.put_object().bucket(BUCKET).key(&key);
        let put = put.checksum_algorithm(checksum.clone());
        let body = ByteStream::from(get(from, &key).await);
        put.body(body).send().await.unwrap();
    }
}

/// Layers within their documents, in one object, of one multipart upload, and of two.
async fn fill(store: &EmbeddedStore) -> Vec<Bytes> {
    let service = stores::service(store).await;
    let mut layers = vec![ramp(1, 3 * KIB), ramp(2, 100 * KIB), ramp(3, 2 * PART + 7)];
    for layer in &layers {
        service.push(&name(), &mut &layer[..]).await.unwrap();
    }
    let bytes = ramp(4, 2 * PART + 7);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    let first = bytes.slice(..PART as usize);
    upload.write_bytes(first).await.unwrap();
    upload.close().await.unwrap();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(PART as usize..PART as usize + 1))
        .await
        .unwrap();
    upload.flush().await.unwrap();
    drop(upload);
    let elsewhere = stores::service(store).await;
    let mut upload = elsewhere.resume(&name(), None, uuid).await.unwrap();
    upload
        .write_bytes(bytes.slice(PART as usize..))
        .await
        .unwrap();
    upload.finish(2 * PART + 7, &sha256(&bytes)).await.unwrap();
    service.wait_for_background().await;
    elsewhere.wait_for_background().await;
    layers.push(bytes);
    layers
}

/// A copy, and the layers of the original.
async fn copied(checksum: ChecksumAlgorithm) -> (EmbeddedStore, Vec<Bytes>) {
    let (original, copied) = (opaque().await, opaque().await);
    let layers = fill(&original).await;
    let [from, to] = [&original, &copied].map(stores::sdk_client);
    copy(&from, &to, checksum).await;
    (copied, layers)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_layer_of_a_copied_bucket_is_read_and_its_record_is_repaired() {
    let (copied, layers) = copied(ChecksumAlgorithm::Crc64Nvme).await;
    let client = stores::sdk_client(&copied);

    for (bytes, segments) in layers.iter().zip([0, 1, 1, 2]) {
        let id = sha256(bytes).into();
        let service = stores::service(&copied).await;
        let stat = service.stat(&id).await.unwrap();
        assert_eq!(stat.damage, None);
        assert_eq!(stat.info.objects.len(), segments);
        assert!(service.exists(&id).await.unwrap());
        let mut linked = service.layer(&name(), &id).await.unwrap();
        let mut got = Vec::new();
        linked.read_to_end(&mut got).await.unwrap();
        assert_same(&got, bytes, "by its link");
        got.clear();
        service.pull(&id, &mut got).await.unwrap();
        assert_same(&got, bytes, "by its record");

        service.wait_for_background().await;
        let stat = service.stat(&id).await.unwrap();
        for object in &stat.info.objects {
            let head = client.head_object().bucket(BUCKET).key(&object.key);
            let head = head.send().await.unwrap();
            let present = head.e_tag().unwrap().trim_matches('"');
            assert_eq!(object.etag, present, "the record of {}", object.key);
        }
    }
}

/// It was seen just before.
#[tokio::test(flavor = "multi_thread")]
async fn layer_whose_objects_get_other_etags_is_read_by_a_process_that_remembers_the_old_ones() {
    let store = opaque().await;
    let layers = fill(&store).await;
    let client = stores::sdk_client(&store);
    let service = stores::service(&store).await;
    for bytes in &layers {
        let id = sha256(bytes).into();
        let mut layer = service.fetch(&id).await.unwrap();
        assert!(layer.is_stored().await.unwrap());
        copy(&client, &client, ChecksumAlgorithm::Crc64Nvme).await;
        for at in [0, bytes.len() - 5] {
            layer.seek(SeekFrom::Start(at as u64)).await.unwrap();
            let mut got = [0; 5];
            layer.read_exact(&mut got).await.unwrap();
            assert_eq!(got, bytes[at..at + 5]);
        }
    }
}

/// Nothing but the bytes shows that they are right: a check finds that without a request for each object, and records the
/// ETags once it has read them.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_that_was_copied_without_checksums_is_served_once_it_was_read() {
    let (copied, layers) = copied(ChecksumAlgorithm::Crc32).await;
    let check = async |read, repair| {
        let service = stores::service(&copied).await;
        let options = CheckOptions {
            wait: Some(Duration::ZERO),
            read,
            repair,
            ..CheckOptions::default()
        };
        service.check(&options).await.unwrap()
    };
    let kinds = |checked: &CheckReport| {
        let kinds = checked.defects.iter().map(|defect| defect.kind);
        kinds.collect::<Vec<_>>()
    };
    let all = Some(ReadShare::Part(1.0));
    // An object that was stored at once has its old ETag.
    let found = check(None, false).await;
    assert_eq!(kinds(&found), [DefectKind::DataUnproven; 2]);
    let unread = check(None, true).await;
    assert_eq!(unread.verdict(), CheckVerdict::Damaged);
    let read = check(all, true).await;
    assert_eq!(kinds(&read), [DefectKind::EtagChanged; 2]);
    assert_eq!(read.verdict(), CheckVerdict::Repaired);
    assert_eq!(kinds(&check(all, false).await), []);
    for bytes in &layers {
        let service = stores::service(&copied).await;
        let mut linked = service.layer(&name(), &sha256(bytes).into()).await.unwrap();
        let mut got = Vec::new();
        linked.read_to_end(&mut got).await.unwrap();
        assert_same(&got, bytes, "by its link");
    }
}

/// The store's word is enough to record the ETags, and not for a check that is to read the bytes.
#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_copy_reads_what_it_is_to_read() {
    let (copied, layers) = copied(ChecksumAlgorithm::Crc64Nvme).await;
    let options = CheckOptions {
        wait: Some(Duration::ZERO),
        read: Some(ReadShare::Part(1.0)),
        repair: true,
        ..CheckOptions::default()
    };
    let service = stores::service(&copied).await;
    let checked = service.check(&options).await.unwrap();
    let all: usize = layers.iter().map(Bytes::len).sum();
    assert_eq!(checked.bytes_read, all as u64);
    assert_eq!(checked.verdict(), CheckVerdict::Repaired);
}

/// Each document of a copy is new. What is not judged for that is said, and is judged on request.
#[tokio::test(flavor = "multi_thread")]
async fn copy_that_lacks_layers_is_not_found_whole() {
    let (copied, layers) = copied(ChecksumAlgorithm::Crc64Nvme).await;
    let client = stores::sdk_client(&copied);
    for key in keys(&client).await {
        if key.starts_with("data/") || key.starts_with("layers/") {
            let delete = client.delete_object().bucket(BUCKET).key(key);
            delete.send().await.unwrap();
        }
    }
    let service = stores::service(&copied).await;
    let mut options = CheckOptions {
        wait: Some(Duration::ZERO),
        ..CheckOptions::default()
    };
    // The links and the marker of the repository.
    let young = service.check(&options).await.unwrap();
    assert_eq!(young.too_young, layers.len() as u64 + 1);
    assert!(young.defects.is_empty(), "{:?}", young.defects);

    options.min_age = Some(Duration::ZERO);
    let all = service.check(&options).await.unwrap();
    assert_eq!(all.too_young, 0);
    assert_eq!(all.verdict(), CheckVerdict::Damaged);
    let kinds: Vec<_> = all.defects.iter().map(|defect| defect.kind).collect();
    assert_eq!(kinds, vec![DefectKind::LinkWithoutRecord; layers.len()]);
}

/// Other bytes of the same size are not the object that was recorded.
#[tokio::test(flavor = "multi_thread")]
async fn object_that_was_replaced_is_no_copy() {
    let store = opaque().await;
    let service = stores::service(&store).await;
    let bytes = ramp(1, 2 * PART + 7);
    let layer = service.push(&name(), &mut &bytes[..]).await.unwrap();
    let id = layer.digest().clone().into();
    let key = service.stat(&id).await.unwrap().info.objects[0].key.clone();
    let client = stores::sdk_client(&store);
    let put = client.put_object().bucket(BUCKET).key(&key);
    let put = put.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme);
    let other = ByteStream::from(ramp(2, 2 * PART + 7));
    put.body(other).send().await.unwrap();
    let elsewhere = stores::service(&store).await;
    assert!(!elsewhere.exists(&id).await.unwrap());
    let mut got = Vec::new();
    assert!(elsewhere.pull(&id, &mut got).await.is_err());
    assert!(got.is_empty(), "other bytes were handed out");
}
