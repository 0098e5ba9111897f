//! CRC64NVME finds accidents, and anyone can make two layers that share it. A layer that can be
//! fetched has the bytes of its digest all the same.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm::Crc64Nvme, checksum};
use s3layers::LayerService as _;
use tokio::io::AsyncReadExt as _;

use crate::support::bucket;
use crate::support::bytes::{assert_same, ramp, sha256};
use crate::support::fault_client::{On, PutObject, UploadPart};
use crate::support::stores::{self, PART, name};

/// Other bytes of the same length and the same CRC64NVME.
fn forge(bytes: &Bytes) -> Bytes {
    let mut forged = bytes.to_vec();
    forged[0] ^= 1;
    let last = forged.len() - 8;
    let differ = checksum(Crc64Nvme, &forged[..last]) ^ checksum(Crc64Nvme, &bytes[..last]);
    for (byte, change) in forged[last..].iter_mut().zip(differ.to_le_bytes()) {
        *byte ^= change;
    }
    assert_eq!(checksum(Crc64Nvme, &forged), checksum(Crc64Nvme, bytes));
    forged.into()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_under_the_key_of_a_layer_are_compared_with_it() {
    let (_, wire, service) = stores::connected().await;
    let bytes = ramp(1, 100_000);
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    // The bytes are stored, and the session that would name them is not written.
    wire.fault(On::every(PutObject).key_ends("/session").status(403));
    upload.write_bytes(forge(&bytes)).await.unwrap();
    assert!(upload.close().await.unwrap_err().is_permission());
    wire.clear_faults();
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload.write_bytes(bytes.clone()).await.unwrap();
    let mut layer = upload.finish(100_000, &sha256(&bytes)).await.unwrap();
    let mut got = Vec::new();
    layer.read_to_end(&mut got).await.unwrap();
    assert_same(&got, &bytes, "the layer");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_not_recorded_is_sent_again() {
    let (store, wire, service) = stores::connected().await;
    let bytes = ramp(2, 2 * PART + 1000);
    let (first, rest) = (bytes.slice(..PART as usize), bytes.slice(PART as usize..));
    let second = rest.slice(..PART as usize);
    let forged = [&first[..], &forge(&second)[..], &rest[PART as usize..]].concat();
    let mut upload = service.upload(&name(), None).await.unwrap();
    let uuid = upload.uuid();
    upload.write_bytes(first).await.unwrap();
    upload.close().await.unwrap();
    // The second part arrives, and the process dies before it is recorded.
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    upload.write_bytes(forge(&second)).await.unwrap();
    while wire.count(UploadPart) < 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop(upload);
    let mut upload = service.resume(&name(), None, uuid).await.unwrap();
    assert_eq!(upload.offset(), PART);
    upload.write_bytes(rest).await.unwrap();
    let size = bytes.len() as u64;
    let mut layer = upload.finish(size, &sha256(&bytes)).await.unwrap();
    assert_eq!(wire.count(UploadPart), 4, "the forged part was used");
    let mut got = Vec::new();
    layer.read_to_end(&mut got).await.unwrap();
    assert_same(&got, &bytes, "the layer");
    assert!(!service.exists(&sha256(&forged).into()).await.unwrap());
    // Each owner's parts are a segment of their own, and nothing else is left.
    service.wait_for_background().await;
    let client = stores::sdk_client(&store);
    let left = bucket::keys(&client).await;
    let data = |key: &&String| key.starts_with("data/");
    assert_eq!(left.iter().filter(data).count(), 2, "{left:?}");
    assert!(
        !left.iter().any(|key| key.starts_with("uploads/")),
        "{left:?}"
    );
    assert_eq!(bucket::multiparts(&client).await, [""; 0]);
}
