//! Edits the session of an upload in the bucket, without the library.

use aws_sdk_s3::primitives::ByteStream;
use embedded_s3::EmbeddedStore;
use uuid::Uuid;

use super::bucket::{get, sealed};
use super::stores::{self, BUCKET};

/// Rewrites the document and puts its own checksum right.
pub async fn edit(store: &EmbeddedStore, uuid: Uuid, change: impl FnOnce(&str) -> String) {
    let client = stores::sdk_client(store);
    let key = format!("uploads/{uuid}/session");
    let bytes = get(&client, &key).await;
    let sealed = sealed(&change(std::str::from_utf8(&bytes).unwrap()));
    let put = client.put_object().bucket(BUCKET).key(&key);
    let put = put.body(ByteStream::from(sealed.into_bytes())).send().await;
    put.unwrap();
}
