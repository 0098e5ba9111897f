//! Archives of few bytes that take long to read: only their sender waits for them. Here no sender waits: the
//! task ends with the runtime.

use std::time::Duration;

use bytes::Bytes;
use s3layers::{LayerId, LayerService, LayerUpload, S3LayerService};
use tokio::task::JoinHandle;

use crate::support::bytes::{KIB, MIB, ramp, sha256};
use crate::support::stores::{self, PART, name};
use crate::tarsum::archive::new_sparse;

/// A quarter of a second, or so; and so many of them that no other upload takes as long.
const HOLE: usize = 256 << 20;
const FILES: usize = 60;

/// Sparse files, less than 1 MiB in all, with 15 GiB of holes.
fn bomb() -> Bytes {
    let stored = 14 * KIB as usize;
    let size = HOLE + stored;
    new_sparse("bomb", size, &[(0, stored), (size, 0)])
        .repeat(FILES)
        .into()
}

/// Uploads the bomb, under a TarSum that it does not have, up to the refusal.
fn explode(mut upload: Box<dyn LayerUpload>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let bomb = bomb();
        upload.write_bytes(bomb.clone()).await.unwrap();
        let finished = upload.finish(bomb.len() as u64, &sha256(&bomb)).await;
        finished.map(drop).unwrap_err();
    })
}

async fn declared(service: &S3LayerService, nth: u8) -> Box<dyn LayerUpload> {
    let id = format!("tarsum.v1+sha256:{}", format!("{nth:02x}").repeat(32));
    let id: LayerId = id.parse().unwrap();
    service.upload(&name(), Some(&id)).await.unwrap()
}

/// One thread does all but what is meant to block.
#[tokio::test]
async fn a_bomb_holds_up_no_other_upload() {
    let (_, service) = stores::with_service().await;
    let mut upload = service.upload(&name(), None).await.unwrap();
    let bomb = explode(declared(&service, 0).await);
    // It is on its way.
    tokio::task::yield_now().await;
    let bytes = ramp(1, MIB);
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(MIB, &sha256(&bytes)).await.unwrap();
    assert!(!bomb.is_finished(), "the other upload waited");
}

#[tokio::test]
async fn a_bomb_gives_back_the_memory_that_others_wait_for() {
    let store = stores::in_memory().await;
    let client = stores::sdk_client(&store);
    // Two parts, one for each of the bombs.
    let config = stores::config().memory_budget(2 * PART);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let mut upload = service.upload(&name(), None).await.unwrap();
    let (first, second) = (declared(&service, 1).await, declared(&service, 2).await);
    let bombs = [explode(first), explode(second)];
    // This thread does all but the reading, so they have it now.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(4)).await;
    tokio::time::resume();
    let bytes = ramp(2, 200 * KIB);
    upload.write_bytes(bytes.clone()).await.unwrap();
    upload.finish(200 * KIB, &sha256(&bytes)).await.unwrap();
    for bomb in bombs {
        assert!(!bomb.is_finished(), "the other upload waited");
    }
}
