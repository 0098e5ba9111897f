//! What of the registry can be turned.

use std::time::Duration;

use super::cors::CorsOrigins;
use super::proxies::TrustedProxies;
use super::write_protection::WriteProtection;

/// How many requests are worked on at a time, unless something else is asked for. Each waits for a
/// few answers of the storage and holds little, so it is memory and connections that they cost:
/// tens of KiB and one or two connections each, while layers in flight have a budget of their own.
pub const DEFAULT_MAX_REQUESTS: usize = 512;

/// How a registry behaves. The defaults are what stock clients expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Answer GET of a blob with 307 to a URL of the storage that is good for so long, where the
    /// storage has such a thing. Default: the bytes are served from here.
    pub redirect: Option<Duration>,
    /// The URL of the registry in events. Default: as the client that caused the event sees it, which a
    /// client chooses by its `Host`.
    pub public_url: Option<String>,
    /// Write locations without scheme and host. Default: as the client sees the registry, by
    /// `Forwarded` or `X-Forwarded-Proto` and `X-Forwarded-Host` of a trusted proxy, else by
    /// `Host`.
    pub relative_location: bool,
    /// Proxies whose forwarding headers are believed. A [`Peer`](super::Peer) in the extensions of a request says
    /// where it came from. Default: loopback addresses.
    pub trusted_proxies: TrustedProxies,
    /// Origins whose scripts may use the registry in a browser. Default: none; then requests with an
    /// `Origin` are answered as any other, and browsers do not let scripts read the answers.
    pub cors_origins: Option<CorsOrigins>,
    /// Take an index or image that names what is not stored. What is stored must have the size that
    /// the manifest names in any case. Default: `false`. Layers that are not for distribution may
    /// always be absent.
    pub sparse: bool,
    /// Mount a layer without a source repository (`?mount=<digest>` without `from`) from any
    /// repository. Anyone who may push to one repository and knows the digest of a layer can then
    /// read that layer, from any repository, even after it was deleted there. Default: `false`,
    /// such a request begins an ordinary upload.
    pub automatic_mount: bool,
    /// Concurrent requests; one that receives or sends the bytes of a layer does not count. A
    /// quarter of them is kept for reads of blobs and manifests. Default: [`DEFAULT_MAX_REQUESTS`].
    pub max_requests: usize,
    /// Concurrent requests of one client, by its address (of IPv6, its network of 64 bits), as far as it is
    /// known; 429 above. Default: no limit.
    pub max_requests_per_client: Option<usize>,
    /// What is refused to everyone. Default: nothing.
    pub write_protection: WriteProtection,
    /// How long a request waits for its turn before it is answered with 429. Default: 10 seconds.
    pub patience: Duration,
    /// How long the body of a request may be idle. Then its upload is closed, with every byte that
    /// arrived, and the request answered with 408. Default: 10 minutes, since layers are also pushed
    /// while they are built.
    pub body_idle_timeout: Duration,
    /// What `OCI-Chunk-Min-Length` asks of clients that send chunks, in bytes. Smaller ones are
    /// taken as well, but each costs requests to the storage. Default: 5 MiB, S3's smallest part.
    pub chunk_min_length: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            redirect: None,
            public_url: None,
            relative_location: false,
            trusted_proxies: TrustedProxies::default(),
            cors_origins: None,
            sparse: false,
            automatic_mount: false,
            max_requests: DEFAULT_MAX_REQUESTS,
            max_requests_per_client: None,
            write_protection: WriteProtection::default(),
            patience: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(600),
            chunk_min_length: 5 * 1024 * 1024,
        }
    }
}
