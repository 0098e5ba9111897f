//! Pushes a layer and reads part of it back, on a store inside the process.
//!
//! `cargo run --example push`

use std::error::Error;
use std::io::SeekFrom;

use embedded_s3::EmbeddedStore;
use s3layers::{LayerService, LayerServiceExt, S3Config, S3LayerService};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::in_memory();
    store.create_bucket("layers").await?;
    let keys = (store.access_key(), store.secret_key());
    let client = s3layers::client_over(store.http_client(), "http://embedded", keys.0, keys.1);
    let service = S3LayerService::connect(client, S3Config::new("layers")).await?;

    let bytes: Vec<u8> = (0..40_000_000_u32).map(|i| (i / 251) as u8).collect();
    let layer = service
        .push(&"library/demo".parse()?, &mut bytes.as_slice())
        .await?;
    println!("stored {} of {} bytes", layer.digest(), layer.size());

    let id = layer.digest().clone().into();
    assert!(service.exists(&id).await?);
    let mut layer = service.fetch(&id).await?;
    // No request: the size is known.
    layer.seek(SeekFrom::End(-12)).await?;
    let mut end = Vec::new();
    layer.read_to_end(&mut end).await?;
    assert_eq!(end, bytes[bytes.len() - 12..]);
    println!("its last bytes are {end:?}");
    println!("all of it took {}", service.usage());
    Ok(())
}
