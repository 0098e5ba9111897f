//! One page of a listing: prefixes, delimiters and markers, over any sorted names.
//!
//! Names are compared as bytes, which is the order of S3 and of Rust's `str`.

/// A place in a listing, behind which a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Marker {
    /// Of an entry, or of the group that is listed in its place.
    pub(crate) name: String,
    /// Orders the entries of one name. Empty for a group, and where names are unique.
    pub(crate) id: String,
}

impl Marker {
    /// The place of a group, or of the only entry of this name.
    pub(crate) fn of_name(name: String) -> Self {
        Self {
            name,
            id: String::new(),
        }
    }
}

/// The request for a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    /// Names are grouped up to the first occurrence behind the prefix. Never empty.
    pub(crate) delimiter: Option<String>,
    pub(crate) after: Marker,
    /// Names and groups together.
    pub(crate) limit: usize,
}

impl Query {
    /// The group a name belongs to, if it belongs to one.
    fn group_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let delimiter = self.delimiter.as_deref()?;
        let behind = name.get(self.prefix.len()..)?;
        let end = self.prefix.len() + behind.find(delimiter)? + delimiter.len();
        name.get(..end)
    }
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<(Marker, T)>,
    pub(crate) groups: Vec<String>,
    /// Where the next page begins; `None` if this is the last.
    pub(crate) next: Option<Marker>,
}

/// A name that sorts behind nearly all names of a group, and behind no other name.
pub(crate) fn behind(group: &str) -> String {
    format!("{group}{}", char::MAX)
}

/// Fills a page. `from` returns the entries from a name on, in order. An entry is listed if its place, or that
/// of its group, is greater than the marker: S3 leaves out a group that the marker lies in. Of a group only
/// one entry is read.
pub(crate) fn page<T, E, I: Iterator<Item = Result<(Marker, T), E>>>(
    from: impl Fn(&str) -> Result<I, E>,
    query: &Query,
) -> Result<Page<T>, E> {
    let mut page = Page {
        items: Vec::new(),
        groups: Vec::new(),
        next: None,
    };
    let mut last = query.after.clone();
    let mut entries = from((&last.name).max(&query.prefix))?;
    while let Some(entry) = entries.next() {
        let (place, item) = entry?;
        if !place.name.starts_with(&query.prefix) {
            break;
        }
        let group = query.group_of(&place.name).map(str::to_owned);
        let jump = group.as_deref().map(behind);
        let jump = jump.filter(|next| place.name < *next);
        let label = group.clone().map_or_else(|| place.clone(), Marker::of_name);
        if label > last {
            if page.items.len() + page.groups.len() == query.limit {
                // A page of none is complete: S3 answers `max-keys=0` with "not truncated".
                page.next = (query.limit > 0).then_some(last);
                break;
            }
            match group {
                Some(group) => page.groups.push(group),
                None => page.items.push((place, item)),
            }
            last = label;
        }
        if let Some(next) = jump {
            entries = from(&next)?;
        }
    }
    Ok(page)
}

/// S3's `encoding-type=url`: what XML cannot hold is escaped, `/` stays.
pub(crate) fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    const NAMES: [&str; 8] = ["a", "b-x", "b/1", "b/2", "c/1", "d", "e//x", "é"];

    /// Those of the names that do not come before `start`.
    fn entries(
        names: &[&str],
        start: &str,
    ) -> Result<impl Iterator<Item = Result<(Marker, ()), ()>> + use<>, ()> {
        let names = names.iter().filter(|name| **name >= start);
        let places: Vec<_> = names.map(|name| Marker::of_name((*name).into())).collect();
        Ok(places.into_iter().map(|place| Ok((place, ()))))
    }

    fn from(start: &str) -> Result<impl Iterator<Item = Result<(Marker, ()), ()>> + use<>, ()> {
        entries(&NAMES, start)
    }

    /// The names and groups of a page.
    fn listed(page: Page<()>) -> Vec<String> {
        let names = page.items.into_iter().map(|(place, ())| place.name);
        names.chain(page.groups).collect()
    }

    /// All pages of `NAMES`, one after the other.
    fn pages(prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Vec<String>> {
        let mut query = Query {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            after: Marker::default(),
            limit,
        };
        let mut pages = Vec::new();
        loop {
            let page = page(from, &query).unwrap();
            let next = page.next.clone();
            pages.push(listed(page));
            match next {
                Some(next) => query.after = next,
                None => return pages,
            }
        }
    }

    #[test]
    fn page_cases() {
        for (case, prefix, delimiter, limit, want) in [
            (
                "all",
                "",
                None,
                9,
                vec![vec!["a", "b-x", "b/1", "b/2", "c/1", "d", "e//x", "é"]],
            ),
            ("prefix", "b", None, 9, vec![vec!["b-x", "b/1", "b/2"]]),
            ("prefix of nothing", "x", None, 9, vec![vec![]]),
            (
                "exactly full",
                "b",
                None,
                3,
                vec![vec!["b-x", "b/1", "b/2"]],
            ),
            (
                "two pages",
                "b",
                None,
                2,
                vec![vec!["b-x", "b/1"], vec!["b/2"]],
            ),
            (
                "groups",
                "",
                Some("/"),
                9,
                vec![vec!["a", "b-x", "d", "é", "b/", "c/", "e/"]],
            ),
            (
                "groups behind a prefix",
                "b/",
                Some("/"),
                9,
                vec![vec!["b/1", "b/2"]],
            ),
            (
                "groups, one at a time",
                "",
                Some("/"),
                1,
                vec![
                    vec!["a"],
                    vec!["b-x"],
                    vec!["b/"],
                    vec!["c/"],
                    vec!["d"],
                    vec!["e/"],
                    vec!["é"],
                ],
            ),
            (
                "a long delimiter",
                "",
                Some("//"),
                9,
                vec![vec!["a", "b-x", "b/1", "b/2", "c/1", "d", "é", "e//"]],
            ),
            ("a page of none", "", None, 0, vec![vec![]]),
        ] {
            assert_eq!(pages(prefix, delimiter, limit), want, "{case}");
        }
    }

    #[test]
    fn a_page_begins_behind_its_marker() {
        for (prefix, after, want) in [
            ("", "", ["a", "b-x", "d", "é", "b/", "c/", "e/"].as_slice()),
            ("", "b/", &["d", "é", "c/", "e/"]),
            ("", "b/1", &["d", "é", "c/", "e/"]),
            ("", "b/\u{10ffff}", &["d", "é", "c/", "e/"]),
            ("", "b", &["b-x", "d", "é", "b/", "c/", "e/"]),
            ("b/", "b/", &["b/1", "b/2"]),
            ("b/", "a", &["b/1", "b/2"]),
            ("b/", "b/1", &["b/2"]),
        ] {
            let query = Query {
                prefix: prefix.into(),
                delimiter: Some("/".into()),
                after: Marker::of_name(after.into()),
                limit: 9,
            };
            let page = page(from, &query).unwrap();
            let case = format!("{prefix:?}, {after:?}");
            assert_eq!(listed(page), want, "{case}");
        }
    }

    /// The last two names of the group sort behind the name that the skip begins at.
    #[test]
    fn a_group_is_listed_once_and_skipped_by_one_read() {
        let names = ["b/1", "b/2", "b/\u{10ffff}1", "b/\u{10ffff}2", "c"];
        for (after, want) in [("", ["c", "b/"].as_slice()), ("b/1", &["c"])] {
            let reads = std::cell::RefCell::new(Vec::new());
            let from = |start: &str| {
                reads.borrow_mut().push(start.to_owned());
                entries(&names, start)
            };
            let query = Query {
                delimiter: Some("/".into()),
                after: Marker::of_name(after.into()),
                limit: 9,
                ..Query::default()
            };
            let page = page(from, &query).unwrap();
            assert_eq!(listed(page), want, "{after:?}");
            assert_eq!(reads.take(), [after, "b/\u{10ffff}"], "{after:?}");
        }
    }

    #[test]
    fn url_encoding() {
        for (text, want) in [
            ("a/b-c_d.e~f", "a/b-c_d.e~f"),
            ("sp ace+%", "sp%20ace%2B%25"),
            ("ü\u{1}", "%C3%BC%01"),
        ] {
            assert_eq!(url_encode(text), want);
        }
    }
}
