//! Archives of few bytes that take long to read: nobody waits for them but who sent them.

use std::time::Duration;

use bytes::Bytes;
use s3layers::{Error, LayerId, LayerService, LayerUpload, S3LayerService};

use crate::support::bytes::{KIB, MIB, ramp, sha256};
use crate::support::life::name;
use crate::support::stores::{self, PART};
use crate::tarsum::archive::new_sparse;

/// A hole that takes some seconds to hash.
const HOLE: usize = 3 << 30;
/// More than an upload may have in memory without a reservation.
const STORED: usize = 100 * KIB as usize;

/// A sparse file with few bytes and a large hole.
fn bomb() -> Bytes {
    new_sparse("bomb", HOLE + STORED, &[(0, STORED), (HOLE + STORED, 0)]).into()
}

/// An upload of the bomb, under a TarSum that it does not have, up to the refusal.
fn explode(mut upload: Box<dyn LayerUpload>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let bomb = bomb();
        upload.write_bytes(bomb.clone()).await.unwrap();
        let finished = upload.finish(bomb.len() as u64, &sha256(&bomb)).await;
        let finished = finished.map(drop).unwrap_err();
        assert!(
            matches!(finished, Error::InvalidTarSum { .. }),
            "{finished:?}"
        );
        upload.cancel().await.unwrap();
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
    let store = stores::in_memory().await;
    let service = stores::service(&store).await;
    let bomb = explode(declared(&service, 0).await);
    // It is on its way.
    tokio::task::yield_now().await;
    let bytes = ramp(1, MIB);
    for _ in 0..3 {
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload.finish(MIB, &sha256(&bytes)).await.unwrap();
    }
    assert!(!bomb.is_finished(), "the others waited");
    bomb.await.unwrap();
}

#[tokio::test]
async fn a_bomb_gives_back_the_memory_that_others_wait_for() {
    let store = stores::in_memory().await;
    let client = stores::client(&store, store.http_client());
    // Two parts, one for each of the bombs.
    let config = stores::config().memory_budget(2 * PART);
    let service = S3LayerService::connect(client, config).await.unwrap();
    let bombs = [
        explode(declared(&service, 1).await),
        explode(declared(&service, 2).await),
    ];
    let mut upload = service.upload(&name(), None).await.unwrap();
    // Nothing else moves: this thread does all of it.
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
        assert!(!bomb.is_finished(), "the other waited");
        bomb.await.unwrap();
    }
}
