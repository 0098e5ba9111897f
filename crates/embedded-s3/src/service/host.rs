//! Where a request names its bucket: in the path, or in the host as AWS's own clients do.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// Domains below which the first labels are a bucket.
pub(super) struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match bucket(host) {
            Some(bucket) => VirtualHost::new(host).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// `BUCKET.s3.REGION.amazonaws.com`, and `BUCKET.localhost`, which every machine resolves to itself.
fn bucket(host: &str) -> Option<&str> {
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    let bucket = match name.rsplit_once(".s3.") {
        Some((bucket, domain)) => Some(bucket).filter(|_| domain.ends_with("amazonaws.com")),
        None => name.strip_suffix(".localhost"),
    };
    bucket.filter(|bucket| !bucket.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_in_hosts() {
        for (host, want) in [
            ("layers.s3.eu-west-1.amazonaws.com", Some("layers")),
            ("a.b.s3.us-east-1.amazonaws.com:443", Some("a.b")),
            ("layers.s3.amazonaws.com", Some("layers")),
            ("layers.localhost:9000", Some("layers")),
            ("s3.eu-west-1.amazonaws.com", None),
            ("layers.s3.example.com", None),
            ("localhost:9000", None),
            ("127.0.0.1:9000", None),
            ("[::1]:9000", None),
            ("embedded", None),
        ] {
            assert_eq!(bucket(host), want, "{host}");
        }
    }
}
