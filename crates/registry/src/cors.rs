//! Cross-origin requests of browsers (the CORS protocol of the Fetch standard).

use std::fmt;
use std::str::FromStr;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::bare;
use super::body::ResponseBody;

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What clients send.
const REQUEST_HEADERS: &str =
    "Accept, Authorization, Content-Range, Content-Type, If-None-Match, If-Range, Range";
/// What a script may read besides what browsers always show.
const RESPONSE_HEADERS: &str = "Content-Length, Content-Range, Docker-Content-Digest, \
     Docker-Distribution-Api-Version, Docker-Upload-UUID, ETag, Link, Location, \
     OCI-Chunk-Min-Length, OCI-Filters-Applied, OCI-Subject, OCI-Tag, Range, Retry-After, \
     WWW-Authenticate";
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: &str = "600";

/// Origins whose scripts may use the registry: `*`, or a list such as
/// `https://ui.example.com,http://localhost:8080`.
///
/// Scripts of a listed origin may send credentials; with `*` they may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigins(Vec<HeaderValue>);

/// A text that is not a list of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin such as https://ui.example.com, or * alone")]
pub struct InvalidOrigin(String);

impl CorsOrigins {
    fn is_any(&self) -> bool {
        self.0 == ["*"]
    }

    fn contains(&self, origin: &HeaderValue) -> bool {
        self.is_any() || self.0.contains(origin)
    }
}

impl FromStr for CorsOrigins {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text.trim() == "*" {
            return Ok(CorsOrigins(vec![HeaderValue::from_static("*")]));
        }
        let origins = text.split(',').map(|origin| {
            let origin = origin.trim();
            is_origin(origin)
                .then(|| HeaderValue::from_str(origin).ok())
                .flatten()
                .ok_or_else(|| InvalidOrigin(origin.to_owned()))
        });
        origins.collect::<Result<_, _>>().map(CorsOrigins)
    }
}

/// Scheme, host and port, as browsers write them.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    // A path, a user or an upper-case letter never equals what a browser sends.
    text == format!("{scheme}://{authority}").to_ascii_lowercase() && !text.contains('@')
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.0.iter().flat_map(HeaderValue::to_str).collect();
        f.write_str(&origins.join(","))
    }
}

/// What a response has to say to a browser.
pub(super) struct Cors {
    origin: Option<HeaderValue>,
    is_any: bool,
    is_preflight: bool,
}

impl Cors {
    /// `None` where no origin may use the registry.
    pub(super) fn of(parts: &Parts, origins: Option<&CorsOrigins>) -> Option<Self> {
        let origins = origins?;
        let origin = parts.headers.get(ORIGIN);
        let is_options = parts.method == Method::OPTIONS;
        Some(Cors {
            origin: origin.filter(|origin| origins.contains(origin)).cloned(),
            is_any: origins.is_any(),
            is_preflight: is_options && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        })
    }

    /// The answer to a preflight request of an origin that may use the registry. It is the same for
    /// all paths.
    pub(super) fn preflight(&self) -> Option<Response<ResponseBody>> {
        if !self.is_preflight || self.origin.is_none() {
            return None;
        }
        let mut response = bare(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }

    /// Adds what every response has, refusals included: a script could not read them otherwise.
    pub(super) fn allow(self, headers: &mut HeaderMap) {
        if !self.is_any {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else {
            return;
        };
        let exposed = HeaderValue::from_static(RESPONSE_HEADERS);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if self.is_any {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        for text in [
            "*",
            "https://ui.example.com",
            "http://localhost:8080,https://ui.example.com",
            "http://[::1]:8080",
        ] {
            let origins: CorsOrigins = text.parse().unwrap();
            assert_eq!(origins.to_string(), text);
        }
        for text in [
            "",
            "ui.example.com",
            "https://ui.example.com/",
            "https://UI.example.com",
            "https://user@ui.example.com",
            "https://a,*",
            "null",
            "https://a,,https://b",
        ] {
            assert!(text.parse::<CorsOrigins>().is_err(), "{text}");
        }
    }
}
