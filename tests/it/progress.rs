//! Progress of an upload: the bytes sent, the parts stored, and the offsets at which it can be closed
//! without sending a byte twice. And the search for layers by a prefix of their digest.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use s3layers::{Algorithm, Digest, LayerService as _, S3LayerService};
use tokio::io::AsyncWriteExt as _;

use crate::support::bytes::{ramp, sha256};
use crate::support::fault_client::{FaultClient, ListObjectsV2, On, UploadPart};
use crate::support::stores::{self, PART, name};

async fn wire() -> (FaultClient, S3LayerService) {
    let (store, wire) = stores::with_wire().await;
    let client = stores::client(&store, wire.http_client());
    let service = S3LayerService::connect(client, stores::config()).await;
    // The probe of the store sent parts too.
    wire.reset();
    (wire, service.unwrap())
}

#[tokio::test]
async fn flush_completes_when_whole_parts_are_stored() {
    let (wire, service) = wire().await;
    let gate = wire.hold(On::every(UploadPart));
    let bytes = ramp(1, 3 * PART + 100);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    {
        let mut flush = pin!(upload.flush());
        tokio::select! {
            biased;
            flushed = &mut flush => panic!("no part has arrived: {flushed:?}"),
            () = gate.reached_by(3) => {}
        }
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(flush.as_mut().poll(&mut context), Poll::Pending));
        gate.open();
        flush.await.unwrap();
    }
    assert_eq!(wire.count(UploadPart), 3);
    assert_eq!(
        upload.progress().bytes(),
        3 * PART,
        "the rest fills no part"
    );
    upload
        .finish(3 * PART + 100, &sha256(&bytes))
        .await
        .unwrap();
    assert_eq!(upload.progress().bytes(), 3 * PART + 100);
}

#[tokio::test]
async fn flush_reports_that_a_part_could_not_be_stored() {
    let (wire, service) = wire().await;
    wire.fault(On::every(UploadPart).status(403));
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(ramp(1, PART)).await.unwrap();
    let error = s3layers::Error::from_io(upload.flush().await.unwrap_err());
    assert!(error.is_permission(), "{error}");
}

#[tokio::test]
async fn each_byte_counts_once_despite_retries() {
    let (wire, service) = wire().await;
    let bytes = ramp(1, 4 * PART);
    for number in [1, 3] {
        wire.fault(On::nth(UploadPart, number).status(503));
    }
    wire.fault(On::nth(UploadPart, 2).lose_answer());
    let mut upload = service.upload(&name(), None).await.unwrap();
    let sent = upload.progress();
    let (first, rest) = (bytes.slice(..1_000_000), bytes.slice(1_000_000..));
    upload.write_bytes(first).await.unwrap();
    // The close stores the bytes that fill no part. They are sent again with their part.
    upload.close().await.unwrap();
    assert_eq!(sent.bytes(), 1_000_000);
    let mut upload = service.resume(&name(), None, upload.uuid()).await.unwrap();
    assert_eq!(upload.progress().bytes(), 1_000_000);
    upload.write_bytes(rest).await.unwrap();
    upload.flush().await.unwrap();
    assert!(wire.count(UploadPart) > 4, "some were repeated");
    assert_eq!(upload.progress().bytes(), 4 * PART);
    upload.finish(4 * PART, &sha256(&bytes)).await.unwrap();
}

#[tokio::test]
async fn upload_closed_at_a_boundary_sends_nothing_twice() {
    let (_, service) = wire().await;
    let bytes = ramp(1, 3 * PART);
    let before = service.usage().bytes_sent;
    let mut upload = service.upload(&name(), None).await.unwrap();
    for number in 1..=3 {
        let boundary = upload.next_boundary().unwrap();
        assert_eq!(boundary, number * PART);
        let from = usize::try_from(upload.offset()).unwrap();
        let piece = bytes.slice(from..usize::try_from(boundary).unwrap());
        upload.write_bytes(piece).await.unwrap();
        upload.close().await.unwrap();
        upload = service.resume(&name(), None, upload.uuid()).await.unwrap();
    }
    upload.finish(3 * PART, &sha256(&bytes)).await.unwrap();
    let beyond = service.usage().bytes_sent - before - 3 * PART;
    assert!(beyond < 20_000, "{beyond} bytes more than the layer has");
}

#[tokio::test]
async fn layers_are_found_by_a_prefix_of_their_digest() {
    let (wire, service) = wire().await;
    let mut digests = Vec::new();
    for seed in 0..40 {
        let bytes = ramp(seed, 10);
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(bytes).await.unwrap();
        upload.finish(10, &digest).await.unwrap();
        digests.push(digest);
    }
    digests.sort();
    let all = digests.clone();
    let begin = |hex: &str| -> Vec<Digest> {
        let begins = |digest: &&Digest| digest.hex().starts_with(hex);
        all.iter().filter(begins).cloned().collect()
    };
    let sha256 = Algorithm::Sha256;
    for length in [0, 1, 2, 3, 10, 64] {
        let hex = &digests[7].hex()[..length];
        wire.reset();
        let found = service.find(sha256, hex, 1000).await.unwrap();
        assert_eq!(found, begin(hex), "{hex}");
        assert_eq!((wire.log().len(), wire.count(ListObjectsV2)), (1, 1));
    }
    assert_eq!(service.find(sha256, "", 3).await.unwrap(), digests[..3]);
    assert_eq!(service.find(sha256, "zz", 3).await.unwrap(), []);
    let other = Algorithm::Sha512;
    assert_eq!(service.find(other, "", 3).await.unwrap(), []);
}
