//! An upload that is interrupted in one process and resumed in another: two services that share
//! only the bucket.
//!
//! `cargo run --example resume_elsewhere`

use std::error::Error;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{Algorithm, Digest, LayerService, S3Config, S3LayerService};

async fn connect(store: &EmbeddedStore) -> Result<S3LayerService, Box<dyn Error>> {
    let keys = (store.access_key(), store.secret_key());
    let client = s3layers::client_over(store.http_client(), "http://embedded", keys.0, keys.1);
    Ok(S3LayerService::connect(client, S3Config::new("layers")).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::in_memory();
    store.create_bucket("layers").await?;
    let name = "library/demo".parse()?;
    let layer: Bytes = (0..50_000_000_u32).map(|i| (i / 199) as u8).collect();

    let here = connect(&store).await?;
    let mut upload = here.upload(&name, None).await?;
    let uuid = upload.uuid();
    upload.write_bytes(layer.slice(..33_333_333)).await?;
    // The client is gone. Every byte that arrived is kept.
    upload.close().await?;
    drop((upload, here));

    let elsewhere = connect(&store).await?;
    let mut upload = elsewhere.resume(&name, None, uuid).await?;
    println!("upload {uuid} is resumed at byte {}", upload.offset());
    assert_eq!(upload.offset(), 33_333_333);
    upload.write_bytes(layer.slice(33_333_333..)).await?;
    let digest = Digest::of(Algorithm::Sha256, &layer);
    let stored = upload.finish(layer.len() as u64, &digest).await?;
    println!("stored {} of {} bytes", stored.digest(), stored.size());
    println!("the second process took {}", elsewhere.usage());
    Ok(())
}
