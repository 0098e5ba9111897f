//! Which repositories there are: a walk over their keys that leaps over what it knows.
//!
//! Keys are listed a thousand at a time. Most repositories have few, so that a page tells of many
//! of them; the rest of one that has more is leapt over. Listing one level after the other by
//! delimiter would cost a request for each name.
//!
//! Keys come in another order than names: all of `a-b` comes before `a/_layers/…`, since `-` stands
//! before the slash, and `a` comes before `a-b`. A name that is met later than it should is always
//! the beginning of one that was met before, so these are looked for one by one.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::comparable;
use crate::error::Result;
use crate::name::RepositoryName;
use crate::registry::store::Page;
use crate::s3::keys::{Key, Keys};
use crate::s3::store::Store;

/// How many keys are listed at a time.
const KEYS: usize = 1000;
/// How many names are looked for at a time.
const LOOKS_AT_ONCE: usize = 8;
/// Stands after every character of a key of ours.
const AFTER_ALL: char = '~';

/// Whether what begins so makes a repository.
fn is_content(room: &str) -> bool {
    matches!(room, "_layers" | "_manifests" | "_tags")
}

/// Whether this repository holds a layer, a manifest or a tag.
pub(super) async fn holds(store: &Store, name: &RepositoryName) -> Result<bool> {
    let prefix = store.keys.own(name);
    let mut after = None;
    loop {
        let listed = store.api.list_after(&prefix, after.as_deref(), 1);
        let (keys, _) = listed.await?;
        let Some(key) = keys.first() else {
            return Ok(false);
        };
        match store.keys.repository_of(key.as_str()) {
            Some((_, room)) if is_content(room) => return Ok(true),
            // Claims, and what is none of ours.
            found => after = Some(behind(&store.keys, key, found.as_ref(), false)),
        }
    }
}

/// The last key to leap over, having met `key`: all that its repository has, or all in its room.
fn behind(keys: &Keys, key: &Key, found: Option<&(RepositoryName, &str)>, whole: bool) -> String {
    match found {
        Some((name, _)) if whole => format!("{}{AFTER_ALL}", keys.own(name)),
        Some((name, room)) => {
            let own = keys.own(name);
            format!("{}{room}/{AFTER_ALL}", own.trim_end_matches('_'))
        }
        None => key.as_str().to_owned(),
    }
}

/// The names that `name` begins with, and whose keys come after those of `name` all the same.
fn met_later(name: &RepositoryName) -> impl Iterator<Item = RepositoryName> {
    let text = name.as_str();
    let ends = (1..text.len()).filter(move |&end| {
        let begun = &text[..end];
        format!("{begun}/_") > format!("{text}/_")
    });
    ends.filter_map(move |end| text[..end].parse().ok())
}

pub(super) async fn page(
    store: &Store,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RepositoryName>> {
    let prefix = store.keys.repositories();
    let is_wanted = |name: &RepositoryName| after.is_none_or(|after| name.as_str() > after);
    // Every name that comes after `after` has its keys after it too.
    let mut from = after.map(|after| format!("{prefix}{}", comparable(after)));
    let mut found = BTreeSet::new();
    loop {
        let listed = store.api.list_after(&prefix, from.as_deref(), KEYS);
        let (keys, goes_on) = listed.await?;
        for key in &keys {
            if let Some((name, room)) = store.keys.repository_of(key.as_str())
                && is_content(room)
                && is_wanted(&name)
            {
                found.insert(name);
            }
        }
        let Some(last) = keys.last().filter(|_| goes_on) else {
            break;
        };
        if found.len() > limit {
            let later = found.iter().flat_map(met_later);
            let later: BTreeSet<_> = later
                .filter(|name| is_wanted(name) && !found.contains(name))
                .filter(|name| *last.as_str() < *format!("{}{AFTER_ALL}", store.keys.own(name)))
                .collect();
            found.extend(those_that_hold(store, later).await?);
            break;
        }
        let met = store.keys.repository_of(last.as_str());
        let is_known = |name| found.contains(name) || !is_wanted(name);
        let whole = met.as_ref().is_some_and(|(name, _)| is_known(name));
        from = Some(behind(&store.keys, last, met.as_ref(), whole));
    }
    let more = found.len() > limit;
    let items = found.into_iter().take(limit).collect();
    Ok(Page { items, more })
}

async fn those_that_hold(
    store: &Store,
    names: BTreeSet<RepositoryName>,
) -> Result<Vec<RepositoryName>> {
    let looks = names.into_iter().map(|name| async move {
        let holds = holds(store, &name).await?;
        Ok(holds.then_some(name))
    });
    let looks = stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE);
    looks
        .try_filter_map(async |name| Ok(name))
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_met_later_than_names_that_begin_with_them() {
        for (name, want) in [
            ("a", &[][..]),
            ("a/b", &[]),
            ("ab", &[]),
            ("a_b", &[]),
            ("a-b", &["a"]),
            ("a.b/c", &["a"]),
            ("a/0", &["a"]),
            ("a-b-c", &["a", "a-b"]),
            ("x/a--b", &["x/a"]),
        ] {
            let name = name.parse().unwrap();
            let later: Vec<_> = met_later(&name).map(|n| n.to_string()).collect();
            assert_eq!(later, want, "{name}");
        }
    }
}
