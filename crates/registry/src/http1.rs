//! What RFC 9112 requires of a server, and hyper leaves to it. Pure.

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{StatusCode, Version};

use super::error::{Code, Refusal};

/// Refuses a request whose host is ambiguous, or whose body has a transfer coding that is not
/// decoded here. The connection ends then: what follows on it may not be the next request.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    check_host(parts)?;
    check_transfer_encoding(parts)
}

/// RFC 9112, 3.2.
fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let message = match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.as_bytes().iter().all(is_of_host) => return Ok(()),
        (None, _) if parts.version < Version::HTTP_11 => return Ok(()),
        (None, _) => "the request has no Host header",
        (Some(_), None) => "Host is not a host name or address with an optional port",
        (Some(_), Some(_)) => "the request has several Host headers, expected one",
    };
    let refusal = Refusal::new(Code::Unsupported, message);
    Err(refusal
        .with_status(StatusCode::BAD_REQUEST)
        .closing_connection())
}

/// What a host and a port consist of (RFC 3986, 3.2.2).
fn is_of_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte)
}

/// RFC 9112, 6.1. Hyper decodes `chunked`, and refuses what does not end with it.
fn check_transfer_encoding(parts: &Parts) -> Result<(), Refusal> {
    let values = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_supported = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if is_supported {
        return Ok(());
    }
    let message = "the only transfer coding that is supported is chunked";
    let refusal = Refusal::new(Code::Unsupported, message);
    Err(refusal
        .with_status(StatusCode::NOT_IMPLEMENTED)
        .closing_connection())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn check_cases() {
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        for (version, headers, want) in [
            (new, &[("host", "a:5000")][..], None),
            (new, &[("host", "[::1]:5000")], None),
            (new, &[("host", "")], None),
            (new, &[("host", "a_b.example")], None),
            (new, &[], Some(400)),
            (old, &[], None),
            (new, &[("host", "a"), ("host", "b")], Some(400)),
            (new, &[("host", "a"), ("host", "a")], Some(400)),
            (old, &[("host", "a"), ("host", "a")], Some(400)),
            (new, &[("host", "a/b")], Some(400)),
            (new, &[("host", "u@a")], Some(400)),
            (
                new,
                &[("host", "a"), ("transfer-encoding", "Chunked")],
                None,
            ),
            (
                new,
                &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
                Some(501),
            ),
            (
                new,
                &[("host", "a"), ("transfer-encoding", "chunked, chunked")],
                Some(501),
            ),
            (
                new,
                &[
                    ("host", "a"),
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Some(501),
            ),
        ] {
            let mut request = Request::get("/v2/").version(version);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let got = check(&parts).err();
            let got = got.map(|refusal| refusal.status().as_u16());
            assert_eq!(got, want, "{version:?} {headers:?}");
        }
    }
}
