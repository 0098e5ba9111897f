//! Lives of an upload, as tables: played by one process, or by one that goes wrong and another that
//! goes on. Each act is short, so that it can be played once for each of its requests.

use embedded_s3::EmbeddedStore;
use s3layers::{LayerService as _, RepositoryName};

use super::stores;
use super::wire::Wire;

mod acts;
mod content;
mod deeds;
mod left;
mod play;

pub use self::acts::{ACTS, Act, Step};
pub use self::deeds::Deed;
pub use self::left::{kept, leftovers};
pub use self::play::{Told, go_on, play, try_play};

/// A store with its bucket, and what an act finds there.
pub async fn stage(act: &Act) -> EmbeddedStore {
    let store = stores::in_memory().await;
    if act.duplicate {
        let service = stores::connect(&store, &Wire::over(store.http_client())).await;
        let first: RepositoryName = "library/first".parse().unwrap();
        let content = act.content();
        let mut upload = service.upload(&first, None).await.unwrap();
        upload.write_bytes(content.bytes).await.unwrap();
        upload.finish(act.size, &content.sha256).await.unwrap();
    }
    store
}
