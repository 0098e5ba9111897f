//! Where the client finds what it made, as it sees us. Pure.

use http::header::HOST;
use http::request::Parts;
use uuid::Uuid;

use super::options::Options;
use super::proxies::{Encrypted, ForwardedHeaders, Peer};
use super::query::encoded;
use s3layers::{Digest, RepositoryName};

/// A DNS name and a port, in bytes.
const LONGEST_HOST: usize = 260;

/// What locations begin with: `https://registry.example.com`, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// For others than the client of this request.
    pub(super) fn public(parts: &Parts, options: &Options) -> Self {
        let url = options.public_url.as_deref();
        url.map_or_else(
            || Base::of(parts, options),
            |url| Base(url.trim_end_matches('/').to_owned()),
        )
    }

    pub(super) fn of(parts: &Parts, options: &Options) -> Self {
        if options.relative_location {
            return Base(String::new());
        }
        let peer = parts.extensions.get::<Peer>();
        let is_from_proxy = peer.is_some_and(|peer| options.trusted_proxies.contains(peer.0));
        let forwarded = if is_from_proxy {
            ForwardedHeaders::of(&parts.headers)
        } else {
            ForwardedHeaders::default()
        };
        Base(seen_as(parts, forwarded).unwrap_or_default())
    }

    pub(super) fn blob(&self, name: &RepositoryName, digest: &Digest) -> String {
        format!("{}/v2/{name}/blobs/{digest}", self.0)
    }

    pub(super) fn manifest(&self, name: &RepositoryName, digest: &Digest) -> String {
        format!("{}/v2/{name}/manifests/{digest}", self.0)
    }

    /// It carries how far the upload is, so that a process that has it at hand need not ask.
    pub(super) fn upload(
        &self,
        name: &RepositoryName,
        uuid: Uuid,
        offset: u64,
        state: Option<&str>,
    ) -> String {
        let state = state.map(|state| format!("&state={}", encoded(state)));
        let state = state.unwrap_or_default();
        format!(
            "{}/v2/{name}/blobs/uploads/{uuid}?at={offset}{state}",
            self.0
        )
    }
}

/// Scheme and host as the client sees them.
fn seen_as(parts: &Parts, forwarded: ForwardedHeaders) -> Option<String> {
    let (uri, headers) = (&parts.uri, &parts.headers);
    let host = || headers.get(HOST)?.to_str().ok().map(ToOwned::to_owned);
    let host = forwarded
        .host
        .or_else(host)
        .or_else(|| uri.authority().map(ToString::to_string))
        .filter(|host| is_host(host))?;
    let encrypted = parts.extensions.get::<Encrypted>();
    let own = encrypted.map(|_| "https".to_owned());
    let scheme = forwarded
        .scheme
        .or(own)
        .or_else(|| uri.scheme_str().map(ToOwned::to_owned))
        .map(|scheme| scheme.to_ascii_lowercase())
        .filter(|scheme| matches!(scheme.as_str(), "http" | "https"));
    Some(format!("{}://{host}", scheme.as_deref().unwrap_or("http")))
}

/// Nothing that would end the host and begin something else.
fn is_host(host: &str) -> bool {
    (1..=LONGEST_HOST).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn base(headers: &[(&str, &str)], peer: Option<&str>) -> Base {
        let mut request = Request::get("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(Peer(peer.parse().unwrap()));
        }
        let relative = Options {
            relative_location: true,
            ..Options::default()
        };
        assert_eq!(Base::of(&parts, &relative).0, "");
        Base::of(&parts, &Options::default())
    }

    #[test]
    fn forwarding_headers_are_believed_of_trusted_proxies_only() {
        for headers in [
            &[("host", "a"), ("forwarded", "host=out;proto=https")][..],
            &[
                ("host", "a"),
                ("x-forwarded-host", "out"),
                ("x-forwarded-proto", "https"),
            ],
        ] {
            for (peer, want) in [
                (Some("127.0.0.1"), "https://out"),
                (Some("10.1.2.3"), "http://a"),
                (Some("203.0.113.1"), "http://a"),
                (None, "http://a"),
            ] {
                assert_eq!(base(headers, peer).0, want, "{headers:?} {peer:?}");
            }
        }
    }

    #[test]
    fn locations_begin_as_the_client_sees_the_registry() {
        for (headers, want) in [
            (&[("host", "a:5000")][..], "http://a:5000"),
            (
                &[
                    ("host", "in"),
                    ("forwarded", "for=x;host=\"out:5000\";proto=https, host=in"),
                ],
                "https://out:5000",
            ),
            (&[("host", "a"), ("forwarded", "proto=https")], "https://a"),
            (
                &[
                    ("host", "a"),
                    ("forwarded", "host=b"),
                    ("x-forwarded-host", "c"),
                    ("x-forwarded-proto", "https"),
                ],
                "http://a",
            ),
            (&[("host", "a"), ("forwarded", "host=\"b/c\"")], ""),
            (&[("host", "[::1]:5000")], "http://[::1]:5000"),
            (
                &[("host", "in:1"), ("x-forwarded-host", "out, in:1")],
                "http://out",
            ),
            (
                &[("host", "a"), ("x-forwarded-proto", "HTTPS")],
                "https://a",
            ),
            (
                &[("host", "a"), ("x-forwarded-proto", "javascript")],
                "http://a",
            ),
            (&[("host", "a/b")], ""),
            (&[("host", "user@a")], ""),
            (&[], ""),
        ] {
            assert_eq!(base(headers, Some("127.0.0.1")).0, want, "{headers:?}");
        }
    }
}
