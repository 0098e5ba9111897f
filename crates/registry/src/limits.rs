//! Limits of a server.

use std::time::Duration;

/// Limits of a server. Those of a request are in [`Options`](super::Options).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections. Further ones wait to be accepted. Default: 10,000.
    pub connections: usize,
    /// Concurrent connections from one address, of IPv6 from one network of 64 bits; further ones are
    /// closed at once. Behind a proxy that is the proxy's. Default: no limit.
    pub connections_per_client: Option<usize>,
    /// How long a connection may be idle between two requests. Default: 620 seconds, since load
    /// balancers keep idle connections for up to 600 and fail a request that meets a closed one.
    pub idle_timeout: Duration,
    /// How long the head of a request may take, from its first byte; that of the first request from the
    /// connection on. Default: 60 seconds.
    pub header_timeout: Duration,
    /// How long a client may read nothing of its answer. Then its connection is closed. Default:
    /// 10 minutes, for a client that unpacks a layer while it reads.
    pub write_timeout: Duration,
    /// How long running requests may take after a shutdown began. In the last third of
    /// it uploads are aborted, and every byte that arrived is kept. Default: 8 seconds, since
    /// `docker stop` kills after 10.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            connections_per_client: None,
            idle_timeout: Duration::from_secs(620),
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(600),
            drain: Duration::from_secs(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_common_balancers_and_docker() {
        let Limits {
            idle_timeout,
            write_timeout,
            drain,
            ..
        } = Limits::default();
        // Balancers keep an idle connection for 600 seconds, and `docker stop` kills after 10.
        assert!(idle_timeout > Duration::from_secs(600));
        assert!(write_timeout >= Duration::from_secs(600));
        assert!(drain < Duration::from_secs(10));
    }
}
