//! How the name of a repository is written in a key. Pure.
//!
//! *Escaped*, below `repositories/`: `-` and `.` are written as `=` and `@`. No character of an
//! escaped name sorts before the slash. MinIO (2026-02-12) loses keys otherwise: with 1,100 keys
//! below `a-b/`, a listing that starts after a key of `a/` is empty and says that it is complete
//! (`tests/servers/listing.rs`).
//!
//! *Flat*, below `names/`: `-`, `.` and `/` are written as `!`, `-` and `.`. So a flat name is one
//! component of a key, which file systems and MinIO need where one name begins with another, and the
//! order of flat names is the order of names.

use crate::name::RepositoryName;

/// The name as it stands below `repositories/`.
pub(super) fn escaped(name: &RepositoryName) -> String {
    let escape = |c| match c {
        '-' => '=',
        '.' => '@',
        other => other,
    };
    name.as_str().chars().map(escape).collect()
}

/// The repository whose escaped name this is; `None` where it is none.
pub(super) fn parse_escaped(escaped: &str) -> Option<RepositoryName> {
    let unescape = |c| match c {
        '=' => Some('-'),
        '@' => Some('.'),
        '-' | '.' => None,
        other => Some(other),
    };
    let name: Option<String> = escaped.chars().map(unescape).collect();
    name?.parse().ok()
}

/// The name as it stands below `names/`.
pub(super) fn flat(name: &RepositoryName) -> String {
    name.as_str().chars().map(flatten).collect()
}

fn flatten(c: char) -> char {
    match c {
        '-' => '!',
        '.' => '-',
        '/' => '.',
        other => other,
    }
}

/// The repository whose flat name this is; `None` where it is none.
pub(super) fn parse_flat(flat: &str) -> Option<RepositoryName> {
    let unflatten = |c| match c {
        '!' => Some('-'),
        '-' => Some('.'),
        '.' => Some('/'),
        '/' => None,
        other => Some(other),
    };
    let name: Option<String> = flat.chars().map(unflatten).collect();
    name?.parse().ok()
}

/// Sorts among the flat names as `after` sorts among the names. `after` is printable ASCII.
pub(super) fn flat_after(after: &str) -> String {
    // What sorts before every character of a name: all names that begin so far come after it.
    after
        .chars()
        .take_while(|c| *c >= '-')
        .map(flatten)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// In the order of their bytes.
    const NAMES: [&str; 14] = [
        "a", "a--b", "a-b", "a-b/c", "a.b", "a.b/c", "a/0", "a/b", "a/b-c/d", "a/b.c", "a0",
        "a__b", "a_b", "b/c/d",
    ];

    fn names() -> Vec<RepositoryName> {
        NAMES.map(|name| name.parse().unwrap()).to_vec()
    }

    #[test]
    fn flat_names_sort_as_names_do_and_are_parsed_back() {
        let flat: Vec<_> = names().iter().map(flat).collect();
        assert!(flat.is_sorted(), "{flat:?}");
        let parsed: Vec<_> = flat.iter().map(|flat| parse_flat(flat).unwrap()).collect();
        assert_eq!(parsed, names());
        assert_eq!(flat[8], "a.b!c.d");
        for junk in ["", "a/b", "A", "a=b", "a!", ".a", "a..b", "a b", "a@b"] {
            assert_eq!(parse_flat(junk), None, "{junk:?}");
        }
    }

    #[test]
    fn escaped_names_differ_and_sort_nothing_before_the_slash() {
        let mut escaped: Vec<_> = names().iter().map(escaped).collect();
        assert_eq!(escaped[8], "a/b=c/d");
        assert_eq!(escaped[4], "a@b");
        assert!(escaped.iter().all(|name| name.chars().all(|c| c >= '/')));
        escaped.sort();
        escaped.dedup();
        assert_eq!(escaped.len(), NAMES.len());
    }

    #[test]
    fn page_begins_after_any_text() {
        let afters = [
            "", "!", "-", "A", "a", "a-", "a-b", "a+", "a.", "a/", "a/b-", "a//", "a~",
        ];
        for after in afters {
            let from = flat_after(after);
            for name in names() {
                let is_after = flat(&name) > from;
                assert_eq!(is_after, name.as_str() > after, "{name} after {after:?}");
            }
        }
    }
}
