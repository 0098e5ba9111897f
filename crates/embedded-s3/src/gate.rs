//! Requests that are refused before their signature is looked at: ways in that S3 has, or had, and this
//! store does not. s3s would take them. Pure.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, Method};

use crate::refusal::Refusal;

/// The longest time that S3 lets a presigned URL live, in seconds.
const MAX_LIFETIME: u64 = 7 * 24 * 60 * 60;

/// Refuses signatures of version 2, presigned URLs that live longer than seven days, form POSTs (a web page
/// can send one to any store that its reader reaches), and STS, whose body would be read unverified.
pub(crate) fn check(head: &Parts) -> Result<(), Refusal> {
    let any = |name: HeaderName, is: fn(&str) -> bool| {
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .any(|value| is(value.trim()))
    };
    if head.method == Method::POST && any(CONTENT_TYPE, is_form) {
        return Err(Refusal::NotImplemented(
            "This store takes no form POST; use PUT.".into(),
        ));
    }
    if any(AUTHORIZATION, |value| value.contains("/sts/aws4_request")) {
        return Err(Refusal::NotImplemented("This store has no STS.".into()));
    }
    let mut is_v2 = any(AUTHORIZATION, |value| {
        !value.starts_with("AWS4-HMAC-SHA256")
    });
    let query = head.uri.query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        is_v2 |= name == "Signature";
        let seconds = value.parse::<u64>();
        if name == "X-Amz-Expires" && seconds.is_ok_and(|seconds| seconds > MAX_LIFETIME) {
            return Err(Refusal::LongPresigned);
        }
    }
    if is_v2 {
        return Err(Refusal::InvalidRequest(
            "The authorization mechanism you have provided is not supported. Please use \
             AWS4-HMAC-SHA256."
                .into(),
        ));
    }
    Ok(())
}

fn is_form(content_type: &str) -> bool {
    let form = "multipart/form-data";
    let begin = content_type.as_bytes().get(..form.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(form.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn ways_in() {
        let v4 = (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=k/d/r/s3/aws4_request, …",
        );
        for (case, method, uri, header, passes) in [
            ("header", "PUT", "/b/k", v4, true),
            ("anonymous", "GET", "/b/k", ("accept", "*/*"), true),
            (
                "v2 header",
                "PUT",
                "/b/k",
                ("authorization", "AWS k:s"),
                false,
            ),
            (
                "basic",
                "PUT",
                "/b/k",
                ("authorization", "Basic a2V5"),
                false,
            ),
            (
                "v2 query",
                "GET",
                "/b/k?AWSAccessKeyId=k&Signature=s&Expires=9",
                v4,
                false,
            ),
            ("v2 query, encoded", "GET", "/b/k?%53ignature=s", v4, false),
            (
                "week",
                "GET",
                "/b/k?X-Amz-Expires=604800",
                ("accept", "*/*"),
                true,
            ),
            (
                "more than a week",
                "GET",
                "/b/k?X-Amz-Expires=604801",
                ("accept", "*/*"),
                false,
            ),
            (
                "more, encoded",
                "GET",
                "/b/k?X-Amz-%45xpires=6%3048010",
                ("accept", "*/*"),
                false,
            ),
            (
                "form",
                "POST",
                "/b",
                ("content-type", "Multipart/Form-Data; boundary=x"),
                false,
            ),
            (
                "form by PUT",
                "PUT",
                "/b/k",
                ("content-type", "multipart/form-data"),
                true,
            ),
            (
                "xml",
                "POST",
                "/b?delete",
                ("content-type", "application/xml"),
                true,
            ),
            (
                "sts",
                "POST",
                "/",
                (
                    "authorization",
                    "AWS4-HMAC-SHA256 Credential=k/d/r/sts/aws4_request",
                ),
                false,
            ),
        ] {
            let request = http::Request::builder().method(method).uri(uri);
            let request = request.header(header.0, header.1).body(()).unwrap();
            let refused = check(&request.into_parts().0);
            assert_eq!(refused.is_ok(), passes, "{case}: {refused:?}");
        }
    }
}
