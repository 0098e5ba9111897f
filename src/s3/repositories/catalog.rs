//! Which repositories there are: a walk down the levels of their names, in the order of the names.
//!
//! A level is listed by delimiter: it gives the rooms of the repository whose level it is, and the
//! components that its name can go on with. Listing all keys would tell of many small repositories
//! in one request, but MinIO (2026-02) gives an empty page to a `start-after` within `a/` where
//! `a-b/` has more keys than fit a page.
//!
//! Keys come in another order than names: `a-b/` before `a/`, since `-` stands before the slash, and
//! the name `a` before `a-b`. What a page of a level gives too late is always the beginning of what
//! it gave before, so that is looked into on its own.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::future::try_join_all;

use super::comparable;
use crate::error::Result;
use crate::name::RepositoryName;
use crate::registry::store::Page;
use crate::s3::store::Store;

/// How many levels are listed at a time.
const AT_ONCE: usize = 8;

/// Whether what has this room is a repository. Claims alone make none.
fn is_content(room: &str) -> bool {
    matches!(room, "_layers" | "_manifests" | "_tags")
}

/// Whether this repository holds a layer, a manifest or a tag.
pub(super) async fn holds(store: &Store, name: &RepositoryName) -> Result<bool> {
    let prefix = format!("{}{name}/_", store.keys.repositories());
    let (rooms, _) = store.api.list_level(&prefix, None, None).await?;
    let rooms = rooms.iter().filter_map(|room| room.strip_prefix(&prefix));
    Ok(rooms
        .map(|room| format!("_{room}"))
        .any(|room| is_content(room.trim_end_matches('/'))))
}

pub(super) async fn page(
    store: &Store,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<RepositoryName>> {
    let mut walk = Walk::new(after);
    loop {
        let is_final = walk.final_names();
        if is_final > limit || walk.levels.is_empty() {
            break;
        }
        let levels = walk.next_levels((limit + 1 - is_final).min(AT_ONCE));
        let listed = levels.into_iter().map(|level| list(store, level));
        for (level, children, token) in try_join_all(listed).await? {
            walk.take(level, &children, token);
        }
    }
    let more = walk.found.len() > limit;
    let items = walk.found.into_iter().take(limit).collect();
    Ok(Page { items, more })
}

async fn list(store: &Store, level: Level) -> Result<(Level, Vec<String>, Option<String>)> {
    let prefix = format!("{}{}", store.keys.repositories(), level.path);
    let after = level.after.as_ref().map(|after| format!("{prefix}{after}"));
    let listed = store
        .api
        .list_level(&prefix, after.as_deref(), level.token.as_deref());
    let (prefixes, token) = listed.await?;
    let children = prefixes
        .iter()
        .filter_map(|path| path.strip_prefix(&prefix));
    let children = children.map(str::to_owned).collect();
    Ok((level, children, token))
}

/// A level, or the rest of it, that is still to be listed.
#[derive(Debug)]
struct Level {
    /// The beginning of all names in it: a name and a slash, or nothing.
    path: String,
    /// Children before this are not wanted.
    after: Option<String>,
    /// Where the rest begins.
    token: Option<String>,
}

/// What is known so far, and what is to be looked into.
#[derive(Debug)]
struct Walk {
    /// No name up to this is wanted.
    after: Option<String>,
    found: BTreeSet<RepositoryName>,
    /// By what no name in them comes before, and their path.
    levels: BTreeMap<(String, String), Level>,
    looked_into: HashSet<String>,
}

impl Walk {
    fn new(after: Option<&str>) -> Self {
        let mut walk = Walk {
            after: after.map(comparable),
            found: BTreeSet::new(),
            levels: BTreeMap::new(),
            looked_into: HashSet::new(),
        };
        walk.look_into("");
        walk
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.after.as_deref().is_none_or(|after| name > after)
    }

    /// How many of the names found have no other one to come before them.
    fn final_names(&self) -> usize {
        let Some(((bound, _), _)) = self.levels.first_key_value() else {
            return self.found.len();
        };
        let is_final = |name: &&RepositoryName| name.as_str() <= bound.as_str();
        self.found.iter().take_while(is_final).count()
    }

    fn next_levels(&mut self, count: usize) -> Vec<Level> {
        let next = std::iter::from_fn(|| self.levels.pop_first());
        next.take(count).map(|(_, level)| level).collect()
    }

    /// Plans to list the level of this name, unless nothing in it is wanted.
    fn look_into(&mut self, name: &str) {
        let path = match name {
            "" => String::new(),
            name => format!("{name}/"),
        };
        // `~` stands after every character of a name.
        if !self.is_wanted(&format!("{path}~")) || !self.looked_into.insert(name.to_owned()) {
            return;
        }
        // Of the component that the wanted names begin after, there may be more below.
        let after = self.after.as_deref().and_then(|after| {
            let rest = after.strip_prefix(&path)?;
            rest.split('/').next().map(str::to_owned)
        });
        let level = Level {
            path: path.clone(),
            after,
            token: None,
        };
        self.levels.insert((name.to_owned(), path), level);
    }

    /// Takes what a level gave: children, each with a slash at its end, in the order of that.
    fn take(&mut self, level: Level, children: &[String], token: Option<String>) {
        let path = level.path;
        let own = path.trim_end_matches('/');
        let mut last = None;
        for child in children {
            let child = child.trim_end_matches('/');
            last = Some(child);
            if child.starts_with('_') {
                if is_content(child)
                    && self.is_wanted(own)
                    && let Ok(name) = own.parse()
                {
                    self.found.insert(name);
                }
                continue;
            }
            // Also what it begins with, which may come later.
            let is_late = |end: &usize| matches!(child.as_bytes()[*end], b'-' | b'.');
            let late = (1..child.len()).filter(is_late).map(|end| &child[..end]);
            for child in late.chain([child]) {
                let name = format!("{path}{child}");
                if name.parse::<RepositoryName>().is_ok() {
                    self.look_into(&name);
                }
            }
        }
        let Some(token) = token else {
            return;
        };
        // Before its rooms have come, nothing is known of the repository itself.
        let bound = match last {
            Some(last) if path.is_empty() || last > "_~" => format!("{path}{last}"),
            _ => own.to_owned(),
        };
        let rest = Level {
            path: path.clone(),
            after: None,
            token: Some(token),
        };
        self.levels.insert((bound, path), rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level `path` among these repositories, as S3 lists it, `size` at a time.
    fn listed(names: &[&str], level: &Level, size: usize) -> (Vec<String>, Option<String>) {
        let rooms = names.iter().map(|name| format!("{name}/_tags/"));
        let below = rooms.filter_map(|room| Some(room.strip_prefix(&level.path)?.to_owned()));
        let children = below.filter_map(|rest| Some(format!("{}/", rest.split_once('/')?.0)));
        let children: BTreeSet<String> = children.collect();
        let from = level.token.as_ref().or(level.after.as_ref());
        let rest = children.into_iter().filter(|child| Some(child) > from);
        let mut page: Vec<_> = rest.take(size + 1).collect();
        let more = page.len() > size;
        page.truncate(size);
        let token = page.last().cloned().filter(|_| more);
        (page, token)
    }

    #[test]
    fn the_first_names_are_found_in_order_whatever_the_size_of_a_page() {
        let names = [
            "a", "a--b", "a-b", "a-b/c", "a-c", "a.b", "a/0", "a/1", "a/b", "a/b-c/d", "a/b/c",
            "a0", "a_b", "b-1", "b-2", "b-3", "b/c/d", "c",
        ];
        for size in 1..6 {
            for limit in 0..names.len() {
                for after in [
                    None,
                    Some("a"),
                    Some("a-"),
                    Some("a/b"),
                    Some("a/b/"),
                    Some("b-9"),
                ] {
                    let mut walk = Walk::new(after);
                    while walk.final_names() <= limit && !walk.levels.is_empty() {
                        for level in walk.next_levels(2) {
                            let (children, token) = listed(&names, &level, size);
                            walk.take(level, &children, token);
                        }
                    }
                    let got: Vec<_> = walk.found.iter().map(RepositoryName::as_str).collect();
                    let want = names.iter().filter(|name| after.is_none_or(|a| **name > a));
                    let want: Vec<_> = want.take(limit + 1).copied().collect();
                    let got: Vec<_> = got.into_iter().take(limit + 1).collect();
                    assert_eq!(got, want, "after {after:?}, {limit}, pages of {size}");
                }
            }
        }
    }
}
