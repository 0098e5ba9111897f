//! Credentials of a request. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// No credential is longer, in bytes.
const LONGEST: usize = 16 * 1024;

/// What `Authorization` says. It has no `Debug`, as it holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

impl Credentials {
    /// # Errors
    ///
    /// What is wrong with the header, without its value.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(Credentials::None),
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err("several Authorization headers, expected one"),
        };
        if value.len() > LONGEST {
            return Err("the Authorization header has more than 16 KiB");
        }
        let text = value
            .to_str()
            .map_err(|_| "the Authorization header is not text")?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Credentials::Bearer(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err("unknown scheme in the Authorization header, expected Basic or Bearer");
        }
        let malformed = "malformed Basic credentials, expected base64 of USER:PASSWORD";
        let bytes = BASE64_STANDARD.decode(rest).map_err(|_| malformed)?;
        let text = String::from_utf8(bytes).map_err(|_| malformed)?;
        let (user, password) = text.split_once(':').ok_or(malformed)?;
        Ok(Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn header_cases() {
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        for (values, want) in [
            (&[][..], Some(Credentials::None)),
            (&["Basic YTpi"], Some(basic("a", "b"))),
            (&["basic YTpiOmM="], Some(basic("a", "b:c"))),
            (&["Basic YQ=="], None),
            (&["Basic %%%"], None),
            (&["Basic"], None),
            (&["Basic /w=="], None),
            (
                &["Bearer x.y.z"],
                Some(Credentials::Bearer("x.y.z".to_owned())),
            ),
            (&["Digest x"], None),
            (&["Basic YTpi", "Bearer x"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert!(Credentials::of(&headers).ok() == want, "{values:?}");
        }
        let long = format!("Bearer {}", "x".repeat(LONGEST));
        let headers = HeaderMap::from_iter([(AUTHORIZATION, long.parse().unwrap())]);
        assert!(Credentials::of(&headers).is_err());
    }
}
