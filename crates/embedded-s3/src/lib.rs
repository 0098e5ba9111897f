//! An S3-compatible store inside the process, in memory or over a folder.
//!
//! It is the default store of the command line and of the tests of `s3layers`, so it is correct where
//! an S3 client looks: conditions, listings, multipart uploads, checksums, ranges, signatures.
//!
//! # A request
//!
//! `server` (a socket, within `limits`) or `connector` (the SDK in this process) passes a request to one
//! s3s service, which verifies the signature and parses it, unless `gate` refuses it first. `service`
//! converts between the types of s3s and ours. `receive` hashes a body and stores it as a blob that no
//! object names yet. Then `engine` commits: in one transaction of the `metadata` it reads the `tables`,
//! decides (`precondition`, `multipart` and `listing` are pure) and changes them. A read pins the blobs of
//! an object, and `send` streams them.
//!
//! # Invariants
//!
//! 1. Commits are serial, each decided over the result of all before it. Of concurrent writers with the
//!    same condition exactly one succeeds.
//! 2. A blob never changes. An object is a list of blobs, so Complete copies no byte, and a reader of an
//!    object that is replaced or deleted reads the old one to its end.
//! 3. In a folder nothing is acknowledged or visible before it is synced: first the blob, then the
//!    transaction that names it. A process that is killed loses nothing that was acknowledged, and
//!    leaves nothing partial (`folder`, `metadata`).
//! 4. The memory of a folder does not grow with its objects: 32 MiB of metadata are cached, and a request
//!    holds two batches of 1 MiB of its body, or one frame if that is larger. Only a folder without write
//!    permission whose last process was killed has a copy of its metadata in memory.
//! 5. One process has a folder open. A second one fails with an error that names the first. A folder
//!    without write permission can be open in many.
//! 6. A refused Complete leaves its upload unchanged.
//!
//! # Differences from S3
//!
//! The conformance probe that other stores were measured with (63 cases: conditions, races, paging,
//! checksums, presigned URLs, cut bodies …) passes in full on both backings. Beyond it:
//!
//! The bucket is in the path, or in a host below `localhost` or AWS's own. One pair of keys, no policies, no versions, no encryption with the
//! client's key, no tags, no object lock: a request that needs one of these is refused
//! (`NotImplemented`), ACLs and storage classes are ignored. A malformed `Range` is refused, where
//! S3 ignores it. Conditions are checked when the body has arrived, not before. A second Complete
//! returns 200 as long as the object of the first exists. The ETag of a part that is sent with a
//! CRC64NVME is not its MD5. DeleteObjects needs `Content-MD5` or a checksum header, as on S3, but the
//! value is not verified (the signed SHA-256 of its body is). Signatures of version 2, form POSTs and
//! STS are refused. On a full disk a write returns 507 (`InsufficientStorage`). A deletion writes
//! metadata too, and can be refused for the same reason.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = embedded_s3::EmbeddedStore::open("/var/lib/s3layers").await?;
//! store.create_bucket("layers").await?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
//! store.serve(listener, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "the clock of `s3layers`, which that list protects, is out of reach here"
)]
#![warn(unreachable_pub)]

mod blob;
mod checksum;
mod connector;
mod engine;
mod error;
mod folder;
mod gate;
mod limits;
mod listing;
mod metadata;
mod model;
mod multipart;
mod precondition;
mod private;
mod quirks;
mod receive;
mod refusal;
mod send;
mod server;
mod service;
mod space;
mod tables;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::auth::SecretKey;
use uuid::Uuid;

use self::blob::Blobs;
use self::connector::SharedHttpClient;
use self::engine::Engine;
use self::folder::Folder;
use self::metadata::Metadata;

pub use self::error::EmbeddedError;
pub use self::limits::Limits;
pub use self::quirks::Quirks;

/// The store. A clone is the same store.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    access_key: Arc<str>,
    secret_key: SecretKey,
    quirks: Quirks,
}

impl EmbeddedStore {
    /// An empty store that exists as long as its handles. Its keys are random, as those of a folder.
    pub fn in_memory() -> Self {
        Self::over(Engine::new(Metadata::in_memory(), Blobs::new(None), None))
    }

    /// The store in this folder, which is created if it is absent. Orphaned blobs are removed. The folder
    /// stays locked until the last handle is dropped and the last request has ended. A folder without
    /// write permission is opened for reading: writes are refused (`MethodNotAllowed`).
    ///
    /// # Errors
    ///
    /// [`Locked`](EmbeddedError::Locked) if it is open already,
    /// [`NotAStore`](EmbeddedError::NotAStore) if the folder holds something else,
    /// [`NoMetadata`](EmbeddedError::NoMetadata) if it holds a part of a store,
    /// [`NewerFormat`](EmbeddedError::NewerFormat) if a later version wrote it,
    /// [`OlderFormat`](EmbeddedError::OlderFormat) if an earlier version wrote it,
    /// [`Damaged`](EmbeddedError::Damaged) if its metadata cannot be read,
    /// [`Io`](EmbeddedError::Io) if the folder cannot be read or written.
    ///
    /// # Cancellation
    ///
    /// The folder is opened all the same, and closed at once.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, EmbeddedError> {
        Self::open_with(folder.as_ref(), Folder::open).await
    }

    /// The same, if there is a store in the folder: nothing is created.
    ///
    /// # Errors
    ///
    /// [`NoStore`](EmbeddedError::NoStore) if there is none; else as [`open`](Self::open).
    ///
    /// # Cancellation
    ///
    /// As [`open`](Self::open).
    pub async fn open_if_present(folder: impl AsRef<Path>) -> Result<Self, EmbeddedError> {
        Self::open_with(folder.as_ref(), Folder::open_if_present).await
    }

    async fn open_with(
        folder: &Path,
        open: fn(&Path) -> Result<folder::FolderParts, EmbeddedError>,
    ) -> Result<Self, EmbeddedError> {
        let folder = folder.to_owned();
        let (metadata, blobs, folder) =
            tokio::task::spawn_blocking(move || open(&folder))
                .await
                .map_err(|panicked| EmbeddedError::Serve(std::io::Error::other(panicked)))??;
        Ok(Self::over(Engine::new(metadata, blobs, Some(folder))))
    }

    fn over(engine: Engine) -> Self {
        Self {
            engine: Arc::new(engine),
            access_key: random_access_key().into(),
            secret_key: SecretKey::from(random_secret_key()),
            quirks: Quirks::none(),
        }
    }

    /// The bucket exists afterwards.
    ///
    /// # Errors
    ///
    /// [`Bucket`](EmbeddedError::Bucket) if S3 would not take the name, or it cannot be stored.
    ///
    /// # Cancellation
    ///
    /// The bucket exists afterwards or does not.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), EmbeddedError> {
        let error = |reason: String| EmbeddedError::Bucket {
            bucket: bucket.to_owned(),
            reason,
        };
        if !s3s::path::check_bucket_name(bucket) {
            return Err(error("it is not a name of a bucket".into()));
        }
        let created = self.engine.create_bucket(bucket.to_owned(), None).await;
        created.map_err(|refusal| {
            let refused = s3s::S3Error::from(refusal);
            error(refused.message().unwrap_or_default().to_owned())
        })
    }

    /// The access key that requests must be signed with.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret key that requests must be signed with. `Debug` does not show it.
    pub fn secret_key(&self) -> &str {
        self.secret_key.expose()
    }

    /// The same store, with these keys instead of random ones for requests through this handle.
    #[must_use]
    pub fn with_keys(self, access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        let access_key: String = access_key.into();
        let secret_key: String = secret_key.into();
        Self {
            access_key: access_key.into(),
            secret_key: SecretKey::from(secret_key),
            ..self
        }
    }

    /// The same store, with these deviations from S3 for requests through this handle. For tests only.
    #[must_use]
    pub fn with_quirks(self, quirks: Quirks) -> Self {
        Self { quirks, ..self }
    }

    /// Simulates a disk that is full after this many more bytes; `None` ends that. For tests only, and
    /// without effect on a store in memory.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.engine.limit_space(bytes);
    }

    /// An HTTP client for the AWS SDK that reaches this store inside the process, without a socket.
    /// Every endpoint is possible (`http://embedded` for instance), with path-style addressing and this
    /// store's keys. Dropping a request's future cancels the request, as closing a connection does.
    pub fn http_client(&self) -> SharedHttpClient {
        connector::in_process(self.service())
    }

    /// Serves any S3 client on this listener until `shutdown` resolves, within the usual [`Limits`].
    /// Then it takes no more requests, and lets those that run end, for ten seconds at most.
    ///
    /// # Errors
    ///
    /// [`Serve`](EmbeddedError::Serve) if the listener is not usable.
    ///
    /// # Cancellation
    ///
    /// Dropped, it cuts off all requests. What they acknowledged stays; the rest leaves nothing.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), EmbeddedError> {
        self.serve_with(listener, Limits::default(), shutdown).await
    }

    /// As [`serve`](Self::serve), within these limits.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    ///
    /// # Cancellation
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_with(
        &self,
        listener: tokio::net::TcpListener,
        limits: Limits,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), EmbeddedError> {
        server::serve(self.service(), listener, limits, shutdown).await
    }

    fn service(&self) -> service::HttpService {
        service::build(
            self.engine.clone(),
            self.quirks,
            &self.access_key,
            self.secret_key.clone(),
        )
    }
}

fn random_access_key() -> String {
    let mut key = Uuid::new_v4().simple().to_string().to_uppercase();
    // As long as those of AWS.
    key.truncate(20);
    key
}

/// Safe in a shell and in a URL.
fn random_secret_key() -> String {
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()];
    URL_SAFE_NO_PAD.encode(bytes.concat())
}
