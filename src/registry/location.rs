//! Where the client finds what it made, as it sees us. Pure.

use http::request::Parts;
use http::{HeaderMap, Uri};
use uuid::Uuid;

use super::options::Options;
use crate::digest::Digest;
use crate::name::RepositoryName;

/// What locations begin with: `https://registry.example.com`, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    pub(super) fn of(parts: &Parts, options: &Options) -> Self {
        match options.relative_location {
            true => Base(String::new()),
            false => Base(seen_as(&parts.uri, &parts.headers).unwrap_or_default()),
        }
    }

    pub(super) fn blob(&self, name: &RepositoryName, digest: &Digest) -> String {
        format!("{}/v2/{name}/blobs/{digest}", self.0)
    }

    pub(super) fn manifest(&self, name: &RepositoryName, digest: &Digest) -> String {
        format!("{}/v2/{name}/manifests/{digest}", self.0)
    }

    /// It carries how far the upload is, so that a process that has it at hand need not ask.
    pub(super) fn upload(&self, name: &RepositoryName, uuid: Uuid, offset: u64) -> String {
        format!("{}/v2/{name}/blobs/uploads/{uuid}?at={offset}", self.0)
    }
}

/// Scheme and host as the client sees them. A proxy that adds to a list adds at its end, so the
/// first is what the client sent to the outermost.
fn seen_as(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        let first = value.split(',').next()?.trim();
        (!first.is_empty()).then(|| first.to_owned())
    };
    let host = header("x-forwarded-host")
        .or_else(|| header("host"))
        .or_else(|| uri.authority().map(ToString::to_string))
        .filter(|host| is_host(host))?;
    let scheme = header("x-forwarded-proto")
        .or_else(|| uri.scheme_str().map(ToOwned::to_owned))
        .map(|scheme| scheme.to_ascii_lowercase())
        .filter(|scheme| matches!(scheme.as_str(), "http" | "https"));
    Some(format!("{}://{host}", scheme.as_deref().unwrap_or("http")))
}

/// Nothing that would end the host and begin something else.
fn is_host(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn where_we_are_seen() {
        for (headers, want) in [
            (&[("host", "a:5000")][..], "http://a:5000"),
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
            let mut request = Request::get("/v2/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let base = Base::of(&parts, &Options::default());
            assert_eq!(base.0, want, "{headers:?}");
            let relative = Options {
                relative_location: true,
                ..Options::default()
            };
            assert_eq!(Base::of(&parts, &relative).0, "");
        }
    }
}
