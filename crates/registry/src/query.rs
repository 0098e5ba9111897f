//! The query of a request, and percent-encoding. Pure.

use http::StatusCode;

use super::error::{Code, Refusal};

/// The parameters behind the `?`, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Refuses a name or value whose percent-encoding is invalid, with the code that the parameter
    /// has when its value is wrong.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        let pairs = text.unwrap_or_default().split('&');
        pairs
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                decoded(name)
                    .zip(decoded(value))
                    .ok_or_else(|| invalid(name, pair))
            })
            .collect::<Result<_, _>>()
            .map(Query)
    }

    /// The first value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of a name that may occur once. A proxy that authorizes a request and the registry
    /// could read different values of a repeated one.
    pub(super) fn only(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_none() {
            return Ok(value);
        }
        let message = format!("the query has several parameters {name}, expected one");
        Err(Refusal::new(code(name), message).with_status(StatusCode::BAD_REQUEST))
    }

    /// All values of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(have, _)| have == name);
        named.map(|(_, value)| value.as_str())
    }
}

/// The code of a request in which this parameter is wrong.
fn code(name: &str) -> Code {
    match name {
        "digest" | "mount" => Code::DigestInvalid,
        "from" => Code::NameInvalid,
        "tag" => Code::TagInvalid,
        "at" => Code::BlobUploadInvalid,
        "n" => Code::PaginationNumberInvalid,
        _ => Code::Unsupported,
    }
}

fn invalid(name: &str, pair: &str) -> Refusal {
    let message = format_args!(
        "query parameter {pair:?}: invalid percent-encoding, expected % and two hex digits of UTF-8"
    );
    Refusal::new(code(name), message).with_status(StatusCode::BAD_REQUEST)
}

/// `text` with its `%xx` resolved; `None` where that is not UTF-8, or not two hex digits. A `+`
/// stays one: no parameter here can hold a space, and clients send `application/x+json` as it is.
pub(super) fn decoded(text: &str) -> Option<String> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            byte => u32::from(byte),
        };
        bytes.push(u8::try_from(byte).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// `text` as the value of a parameter.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_cases() {
        for (text, want) in [
            ("sha256%3Aab", Some("sha256:ab")),
            ("sha256:ab", Some("sha256:ab")),
            ("application/a+json", Some("application/a+json")),
            ("application%2Fa%2bjson", Some("application/a+json")),
            ("%c3%a4", Some("ä")),
            ("%c3", None),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("", Some("")),
        ] {
            assert_eq!(decoded(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["latest", "a b&c=d?e#f%", "sha256:00", "ä+/"] {
            let there = encoded(text);
            assert_eq!(decoded(&there).as_deref(), Some(text), "{there}");
            assert!(!there.contains(['&', '=', '?', '#', ' ', '+']), "{there}");
        }
    }

    #[test]
    fn a_query_has_names_values_and_repeats() {
        let query = Query::parse(Some("tag=a&&n=5&tag=b&last")).unwrap();
        assert_eq!(query.get("n"), Some("5"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("last"), Some(""));
        assert_eq!(query.get("other"), None);
        assert_eq!(query.only("n").unwrap(), Some("5"));
        assert_eq!(query.only("other").unwrap(), None);
        assert_eq!(query.only("tag").unwrap_err().code(), Code::TagInvalid);
        assert_eq!(Query::parse(None).unwrap(), Query::default());
    }

    #[test]
    fn invalid_percent_encoding_is_refused_with_the_code_of_the_parameter() {
        for (query, code) in [
            ("digest=%zz", Code::DigestInvalid),
            ("n=1&mount=sha256%3", Code::DigestInvalid),
            ("from=%c3", Code::NameInvalid),
            ("tag=%", Code::TagInvalid),
            ("at=%zz", Code::BlobUploadInvalid),
            ("n=%zz", Code::PaginationNumberInvalid),
            ("last=%zz", Code::Unsupported),
            ("%zz=1", Code::Unsupported),
        ] {
            let refusal = Query::parse(Some(query)).unwrap_err();
            assert_eq!(refusal.code(), code, "{query}");
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{query}");
        }
    }
}
