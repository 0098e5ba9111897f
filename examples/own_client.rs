//! A service over an SDK client that the program has already, with settings of its own: they stay
//! as they are, and what the promises of this crate need is set request by request.
//!
//! `cargo run --example own_client`

use std::error::Error;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use embedded_s3::EmbeddedStore;
use s3layers::{LayerServiceExt, S3Config, S3LayerService};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = EmbeddedStore::in_memory();
    store.create_bucket("layers").await?;

    // A program would have its own; this one reaches the store inside the process.
    let keys = Credentials::new(
        store.access_key(),
        store.secret_key(),
        None,
        None,
        "example",
    );
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url("http://embedded")
        .force_path_style(true)
        .credentials_provider(keys)
        .retry_config(RetryConfig::standard().with_max_attempts(12))
        .http_client(store.http_client())
        .build();
    let client = Client::from_conf(config);

    let config = S3Config::new("layers").root("registry/eu").parallelism(4);
    let service = S3LayerService::connect(client.clone(), config).await?;
    let layer = service
        .push(&"library/demo".parse()?, &mut &b"some bytes"[..])
        .await?;
    println!("stored {}", layer.digest());

    // The same client sees what is in the bucket.
    let listed = client.list_objects_v2().bucket("layers").send().await?;
    for object in listed.contents() {
        println!(
            "{:>8}  {}",
            object.size().unwrap_or(0),
            object.key().unwrap_or("?")
        );
    }
    Ok(())
}
