//! Which digests a manifest names: what a collection keeps for it. Pure.
//!
//! All strings count, at any depth and in keys too, after JSON unescaping: a digest in a member that
//! this version does not know is named as well.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use s3layers_tarsum::{Algorithm, Digest};

/// Every digest in the strings of a JSON document; in the whole text, if it is none.
pub(super) fn named(manifest: &[u8]) -> BTreeSet<Digest> {
    let mut names = BTreeSet::new();
    let mut json = serde_json::Deserializer::from_slice(manifest);
    let read = Names(&mut names).deserialize(&mut json);
    if read.and_then(|()| json.end()).is_err() {
        scan(&String::from_utf8_lossy(manifest), &mut names);
    }
    names
}

/// Adds every digest in a text, also within a reference such as `repository@sha256:…`.
fn scan(text: &str, names: &mut BTreeSet<Digest>) {
    for algorithm in Algorithm::ALL {
        let prefix = format!("{algorithm}:");
        let length = prefix.len() + algorithm.hex_len();
        for (at, _) in text.match_indices(&prefix) {
            let digest = text.get(at..at + length).map(str::parse);
            names.extend(digest.and_then(Result::ok));
        }
    }
}

struct Names<'a>(&'a mut BTreeSet<Digest>);

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        scan(text, self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Names(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Names(self.0))?.is_some() {
            map.next_value_seed(Names(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_every_string() {
        let [one, other] = ["ab", "cd"].map(|hex| hex.repeat(32));
        let long = "ef".repeat(64);
        for (case, text, want) in [
            (
                "a value",
                format!(r#"{{"digest": "sha256:{one}"}}"#),
                vec![&one],
            ),
            (
                "an escaped colon",
                format!(r#"{{"digest": "sha256\u003a{one}"}}"#),
                vec![&one],
            ),
            (
                "an escaped digit",
                format!(r#"["sha256:\u0061{}"]"#, &one[1..]),
                vec![&one],
            ),
            (
                "a key",
                format!(r#"{{"x": {{"sha256:{one}": 1}}}}"#),
                vec![&one],
            ),
            (
                "a reference",
                format!(r#"["a/b:t@sha256:{one}", true, null, 1.5, -1]"#),
                vec![&one],
            ),
            (
                "two in one",
                format!(r#"["sha256:{one},sha256:{other}"]"#),
                vec![&one, &other],
            ),
            (
                "a duplicate key",
                format!(r#"{{"a": "sha256:{one}", "a": "sha256:{other}"}}"#),
                vec![&one, &other],
            ),
            ("SHA-512", format!(r#"["sha512:{long}"]"#), vec![&long]),
            ("no JSON", format!("{{\"a\": sha256:{one}"), vec![&one]),
            (
                "beyond its end",
                format!(r#"{{}} "sha256:{one}""#),
                vec![&one],
            ),
            (
                "too deep",
                format!("{}\"sha256:{one}\"{}", "[".repeat(500), "]".repeat(500)),
                vec![&one],
            ),
            ("too short", format!(r#"["sha256:{}"]"#, &one[1..]), vec![]),
            (
                "upper case",
                format!(r#"["sha256:{}"]"#, one.to_uppercase()),
                vec![],
            ),
        ] {
            let names = named(text.as_bytes());
            let hex: Vec<_> = names.iter().map(Digest::hex).collect();
            assert_eq!(hex, want, "{case}");
        }
    }
}
