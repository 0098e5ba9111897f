//! One page of a listing: prefixes, delimiters and markers, over any sorted names.
//!
//! Names are compared as bytes, which is the order of S3 and of Rust's `str`.

/// Where the page before this one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Behind this name. Other names of its group follow.
    Name(String),
    /// Behind this group of names: no name that begins with it is returned again.
    Group(String),
}

/// The request for a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    /// Names are grouped up to the first occurrence behind the prefix. Never empty.
    pub(crate) delimiter: Option<String>,
    pub(crate) after: Option<After>,
    /// Names and groups together.
    pub(crate) limit: usize,
}

impl Query {
    /// The first name that can be on the page.
    fn start(&self) -> String {
        let start = match &self.after {
            None => String::new(),
            Some(After::Name(last)) => last.clone(),
            Some(After::Group(last)) => behind(last),
        };
        start.max(self.prefix.clone())
    }

    /// The group a name belongs to, if it belongs to one.
    fn group_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let delimiter = self.delimiter.as_deref()?;
        let behind = name.get(self.prefix.len()..)?;
        let end = self.prefix.len() + behind.find(delimiter)? + delimiter.len();
        name.get(..end)
    }

    fn was_returned(&self, name: &str, group: Option<&str>) -> bool {
        match &self.after {
            None => false,
            Some(After::Name(last)) => name <= last.as_str(),
            Some(After::Group(last)) => name <= last.as_str() || group == Some(last),
        }
    }
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) groups: Vec<String>,
    /// Where the next page begins; `None` if this is the last.
    pub(crate) next: Option<After>,
}

/// A name that sorts behind nearly all names of a group, and behind no other name.
fn behind(group: &str) -> String {
    format!("{group}{}", char::MAX)
}

/// Fills a page. `from` returns the entries from a name on, sorted by name. Of a group only one entry is
/// read. Several entries may have the same name; a page never ends between them unless the caller's entries
/// have markers of their own.
pub(crate) fn page<T, E, I: Iterator<Item = Result<(String, T), E>>>(
    from: impl Fn(&str) -> Result<I, E>,
    query: &Query,
) -> Result<Page<T>, E> {
    let mut page = Page {
        items: Vec::new(),
        groups: Vec::new(),
        next: None,
    };
    let mut last: Option<After> = None;
    let mut entries = from(&query.start())?;
    while let Some(entry) = entries.next() {
        let (name, item) = entry?;
        if !name.starts_with(&query.prefix) {
            break;
        }
        let group = query.group_of(&name);
        let in_last_group = group.is_some() && page.groups.last().map(String::as_str) == group;
        if in_last_group || query.was_returned(&name, group) {
            continue;
        }
        if page.items.len() + page.groups.len() == query.limit {
            // A page of none is complete: S3 answers `max-keys=0` with "not truncated".
            page.next = last;
            break;
        }
        if let Some(group) = group {
            page.groups.push(group.to_owned());
            last = Some(After::Group(group.to_owned()));
            entries = from(&behind(group))?;
        } else {
            last = Some(After::Name(name));
            page.items.push(item);
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

    fn from(start: &str) -> Result<impl Iterator<Item = Result<(String, String), ()>> + use<>, ()> {
        let names = NAMES.into_iter().map(str::to_owned);
        let names: Vec<_> = names.filter(|name| name.as_str() >= start).collect();
        Ok(names.into_iter().map(|name| Ok((name.clone(), name))))
    }

    /// All pages of `NAMES`, one after the other.
    fn pages(prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<Vec<String>> {
        let mut query = Query {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            after: None,
            limit,
        };
        let mut pages = Vec::new();
        loop {
            let page = page(from, &query).unwrap();
            pages.push([page.items, page.groups].concat());
            match page.next {
                Some(next) => query.after = Some(next),
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
    fn a_name_inside_a_group_does_not_hide_the_rest_of_the_group() {
        for (case, after, want) in [
            (
                "a name",
                After::Name("b/1".into()),
                ["b/", "c/", "e/"].as_slice(),
            ),
            ("the group", After::Group("b/".into()), &["c/", "e/"]),
        ] {
            let query = Query {
                delimiter: Some("/".into()),
                after: Some(after),
                limit: 9,
                ..Query::default()
            };
            assert_eq!(page(from, &query).unwrap().groups, want, "{case}");
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
