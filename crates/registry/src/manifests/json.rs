//! Strict JSON: what two parsers could read differently is refused. Pure.
//!
//! Parsers disagree on duplicate keys (the first or the last one), on the case of keys (Go matches
//! `"Layers"` to `layers`), on invalid UTF-8 and on lone surrogates. A manifest that one client
//! reads as an image and another as an index would have a digest that means two things, so every
//! object at any depth is held to these rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most members of one object. Manifests have a handful; hundreds of thousands of tiny ones
/// take ten times their size in memory.
pub(super) const MEMBERS: usize = 4096;

/// A JSON object with known members. Other members are checked and dropped.
pub(super) trait Object: Default {
    /// The keys that [`member`](Self::member) knows.
    const KNOWN: &'static [&'static str];
    /// The object once all of it was read.
    type Whole;

    /// Reads the value of a known key.
    fn member<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;

    /// Checks that the required members were there.
    fn whole<E: Error>(self) -> Result<Self::Whole, E>;
}

/// Reads an object.
pub(super) fn object<'de, T: Object, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T::Whole, D::Error> {
    struct Reader<T>(PhantomData<T>);

    impl<'de, T: Object> Visitor<'de> for Reader<T> {
        type Value = T::Whole;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T::Whole, A::Error> {
            let (mut object, mut keys) = (T::default(), Keys::new(T::KNOWN));
            while let Some(key) = keys.next(&mut map)? {
                match key {
                    Some(known) => object.member(known, &mut map)?,
                    None => {
                        map.next_value::<Any>()?;
                    }
                }
            }
            object.whole()
        }
    }

    deserializer.deserialize_map(Reader::<T>(PhantomData))
}

/// A string, without a copy where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of one object that were read so far.
struct Keys<'de> {
    known: &'static [&'static str],
    seen: HashSet<Cow<'de, str>>,
}

impl<'de> Keys<'de> {
    fn new(known: &'static [&'static str]) -> Self {
        Keys {
            known,
            seen: HashSet::new(),
        }
    }

    /// The next key, `Some(None)` for one that is not known, `None` at the end.
    fn next<A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
    ) -> Result<Option<Option<&'static str>>, A::Error> {
        let Some(Text(key)) = map.next_key()? else {
            return Ok(None);
        };
        if self.seen.len() == MEMBERS {
            let message = format_args!("an object has more than {MEMBERS} members");
            return Err(A::Error::custom(message));
        }
        let same = self.known.iter().find(|known| is_same_to_go(known, &key));
        if let Some(known) = same.filter(|known| ***known != *key) {
            let message = format_args!("key {key:?} differs from {known:?} in case only");
            return Err(A::Error::custom(message));
        }
        if self.seen.contains(&key) {
            return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
        }
        self.seen.insert(key);
        Ok(Some(same.copied()))
    }
}

/// Whether Go's `encoding/json` takes `key` for the ASCII key `known`: it compares by simple case
/// folding, to which the long s is an s and the Kelvin sign a k.
fn is_same_to_go(known: &str, key: &str) -> bool {
    let fold = |c| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    known.chars().map(fold).eq(key.chars().map(fold))
}

/// Methods of a visitor that drop what they get.
macro_rules! dropped {
    ($($visit:ident($($kind:ty)?))*) => {
        $(fn $visit<E>(self, $(_: $kind)?) -> Result<Any, E> {
            Ok(Any)
        })*
    };
}

/// Any value, checked and dropped.
pub(super) struct Any;

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Any;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            dropped! {
                visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) visit_unit()
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
                while seq.next_element::<Any>()?.is_some() {}
                Ok(Any)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
                let mut keys = Keys::new(&[]);
                while keys.next(&mut map)?.is_some() {
                    map.next_value::<Any>()?;
                }
                Ok(Any)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// An object whose members are all strings.
#[derive(Default)]
pub(super) struct Strings(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strings, A::Error> {
                let mut strings = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if strings.contains_key(&key) {
                        return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
                    }
                    if strings.len() == MEMBERS {
                        let message = format_args!("an object has more than {MEMBERS} members");
                        return Err(A::Error::custom(message));
                    }
                    strings.insert(key, value);
                }
                Ok(Strings(strings))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Example(Option<u64>);

    impl Object for Example {
        const KNOWN: &'static [&'static str] = &["skip"];
        type Whole = Self;

        fn member<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
            self.0 = map.next_value()?;
            Ok(())
        }

        fn whole<E: Error>(self) -> Result<Self, E> {
            Ok(self)
        }
    }

    fn read(text: &str) -> Result<Example, String> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let example = object::<Example, _>(&mut deserializer);
        example.map_err(|error| error.to_string())
    }

    #[test]
    fn objects_that_two_parsers_would_read_differently_are_refused() {
        for (text, want) in [
            (r#"{"skip": 1}"#, Ok(Some(1))),
            (r#"{"sk\u0069p": 1}"#, Ok(Some(1))),
            (
                r#"{"skip": null, "x": {"a": [{"Skip": 1, "skip": 2}]}}"#,
                Ok(None),
            ),
            (
                r#"{"x": [1, -1, 1.5, true, null, "\ud83d\ude00"]}"#,
                Ok(None),
            ),
            (r#"{"skip": 1, "skip": 1}"#, Err("duplicate key \"skip\"")),
            (
                r#"{"skip": 1, "sk\u0069p": 1}"#,
                Err("duplicate key \"skip\""),
            ),
            (
                r#"{"x": [{"a": 1, "b": 1, "a": 1}]}"#,
                Err("duplicate key \"a\""),
            ),
            (r#"{"Skip": 1}"#, Err("key \"Skip\" differs from \"skip\"")),
            (r#"{"SKIP": 1}"#, Err("key \"SKIP\" differs from \"skip\"")),
            (r#"{"ſkip": 1}"#, Err("key \"ſkip\" differs from \"skip\"")),
            (
                "{\"s\u{212a}ip\": 1}",
                Err("key \"s\u{212a}ip\" differs from \"skip\""),
            ),
            (r#"{"x": "\ud800"}"#, Err("unexpected end of hex escape")),
            (r#"{"x": "\ud800x"}"#, Err("unexpected end of hex escape")),
            (r#"{"x": "\udc00"}"#, Err("lone leading surrogate")),
            (r#"{"\ud800\u0061": 1}"#, Err("lone leading surrogate")),
            ("[]", Err("invalid type")),
        ] {
            let got = read(text);
            match want {
                Ok(want) => assert_eq!(got, Ok(Example(want)), "{text}"),
                Err(want) => {
                    let error = got.unwrap_err();
                    assert!(error.starts_with(want), "{text}: {error}");
                }
            }
        }
    }

    #[test]
    fn an_object_has_a_bounded_number_of_members() {
        let text = |members| {
            let members: Vec<_> = (0..members).map(|at| format!("\"{at}\": \"\"")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(read(&text(MEMBERS)).is_ok());
        assert!(read(&text(MEMBERS + 1)).is_err());
        assert!(serde_json::from_str::<Strings>(&text(MEMBERS)).is_ok());
        assert!(serde_json::from_str::<Strings>(&text(MEMBERS + 1)).is_err());
    }

    #[test]
    fn strings_may_differ_in_case_only() {
        let strings: Strings = serde_json::from_str(r#"{"a": "1", "A": "2"}"#).unwrap();
        assert_eq!(strings.0.len(), 2);
        for text in [
            r#"{"a": "1", "a": "1"}"#,
            r#"{"a": 1}"#,
            r#"{"a": "\ud800"}"#,
        ] {
            assert!(serde_json::from_str::<Strings>(text).is_err(), "{text}");
        }
    }
}
