//! No secret in any event or `Debug`: a canary goes in as the secret key, and is looked for in all
//! that comes out.

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{LayerService, LayerServiceExt, S3LayerService};

use crate::support::log::Log;
use crate::support::own_process::in_own_process;
use crate::support::stores;

const CANARY: &str = "canary-7f3a91c04e";

#[tokio::test(flavor = "current_thread")]
async fn no_event_and_no_debug_shows_the_secret_key() {
    if !in_own_process("secrets::no_event_and_no_debug_shows_the_secret_key") {
        return;
    }
    let (log, _guard) = Log::begin();

    let right = EmbeddedStore::in_memory().with_keys("key", CANARY);
    let store = stores::with_bucket(right).await;
    let service = stores::service(&store).await;
    let name = "library/demo".parse().unwrap();
    let layer = service
        .push(&name, &mut vec![7; 6_000_000].as_slice())
        .await
        .unwrap();
    let mut upload = service.upload(&name, None).await.unwrap();
    upload
        .write_bytes(Bytes::from_static(b"bytes"))
        .await
        .unwrap();
    upload.cancel().await.unwrap();

    // Errors of refused requests do not contain it.
    let wrong = store.clone().with_keys("key", format!("{CANARY}-wrong"));
    let client = stores::client(&wrong, store.http_client());
    let refused = S3LayerService::connect(client, stores::config())
        .await
        .unwrap_err();
    assert!(format!("{refused:?}").contains("Permission"), "{refused:?}");

    let shown = format!("{store:?} {service:?} {refused:?} {:?}", layer.digest());
    let logged = log.text();
    assert!(
        logged.contains("UploadPart"),
        "the events were not seen at all"
    );
    for (what, text) in [("a Debug", &shown), ("an event", &logged)] {
        let found = text
            .find(CANARY)
            .map(|at| &text[at.saturating_sub(200)..at]);
        assert_eq!(found, None, "{what} shows the secret, after this");
    }
}
