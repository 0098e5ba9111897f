//! Reads and lists of what was just written, replaced and deleted.

use std::time::Duration;

use bytes::Bytes;

use super::ask::{Ask, Told, is_answer, reason};
use super::question::Question;
use crate::error::{Error, Result};
use crate::s3::format::keys::Key;
use crate::s3::probe::conditional_deletes;
use crate::s3::wire::{ApiError, ETag, Listing, Sought};

/// In the order of their bytes, which is neither that of an alphabet nor that of folders.
const NAMES: [&str; 6] = ["B", "a-b/x", "a.b", "a/1", "a/2", "a0"];
/// The same, with a slash as the delimiter.
const LEVEL_KEYS: [&str; 3] = ["B", "a.b", "a0"];
const LEVEL_PREFIXES: [&str; 2] = ["a-b/", "a/"];
/// How often a list is looked at that is not yet as it should be.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// More than any list here has pages.
const MAX_PAGES: usize = 20;

pub(super) async fn consistency(ask: &mut Ask<'_>) {
    reads(ask).await;
    lists(ask).await;
    let asked = changed_refused(ask).await;
    ask.end(Question::ChangedRefused, asked);
    let asked = stale_delete_refused(ask).await;
    ask.end(Question::StaleDeleteRefused, asked);
    let asked = batch_delete(ask).await;
    ask.end(Question::BatchDelete, asked);
}

async fn reads(ask: &mut Ask<'_>) {
    let key = ask.key("read");
    let asked = read_as(ask, &key, Some("written first")).await;
    ask.end(Question::ReadAfterWrite, asked);
    let asked = read_as(ask, &key, Some("written over it")).await;
    ask.end(Question::ReadAfterReplace, asked);
    let asked = read_as(ask, &key, None).await;
    ask.end(Question::ReadAfterDelete, asked);
}

/// Reads, which may fill a cache; then writes or deletes, and reads again.
async fn read_as(ask: &Ask<'_>, key: &Key, bytes: Option<&'static str>) -> Result<Told> {
    ask.api.get_small(key).await?;
    match bytes {
        Some(bytes) => {
            let bytes = [Bytes::from_static(bytes.as_bytes())];
            ask.api.put(key, &bytes, None, None).await?;
        }
        None => ask.api.delete(key).await?,
    }
    let found = ask.api.get_small(key).await?;
    Ok(match (bytes, found) {
        (Some(bytes), Some(found)) if found.bytes == bytes.as_bytes() => (true, "read".to_owned()),
        (Some(_), Some(_)) => (false, "the one before was read".to_owned()),
        (Some(_), None) => (false, "it was not found".to_owned()),
        (None, None) => (true, "not found".to_owned()),
        (None, Some(_)) => (false, "it was read".to_owned()),
    })
}

async fn lists(ask: &mut Ask<'_>) {
    let questions = [
        Question::ListAfterWrite,
        Question::ListAfterDelete,
        Question::ListOrder,
        Question::ListPages,
        Question::ListLevels,
    ];
    let prefix = ask.prefix("list/");
    let keys = NAMES.map(|name| ask.key(&format!("list/{name}")));
    // In an order in which no store would list them.
    for at in [3, 0, 5, 1, 4, 2] {
        let bytes = [Bytes::from_static(b"listed")];
        if let Err(error) = ask.api.put(&keys[at], &bytes, None, None).await {
            return ask.fail(&questions, error.into());
        }
    }
    let mut sorted = keys.to_vec();
    sorted.sort();
    let looked = look(ask, &prefix, |listed| is_all(listed, &sorted)).await;
    ask.end(
        Question::ListAfterWrite,
        looked.map(|looked| looked.told("listed")),
    );

    let order = walk(ask, &prefix, &Sought::default()).await;
    let order = order.map(|listing| match listing.keys.is_sorted() {
        true => (true, "in order".to_owned()),
        false => (false, names(&listing.keys, &prefix)),
    });
    ask.end(Question::ListOrder, order);
    let pages = pages(ask, &prefix, &sorted).await;
    ask.end(Question::ListPages, pages);
    let levels = levels(ask, &prefix).await;
    ask.end(Question::ListLevels, levels);

    let deleted = async {
        ask.api.delete(&keys[0]).await?;
        let is_gone = |listed: &[Key]| !listed.contains(&keys[0]);
        look(ask, &prefix, is_gone).await
    };
    let looked = deleted.await;
    ask.end(
        Question::ListAfterDelete,
        looked.map(|looked| looked.told("not listed")),
    );
}

/// How many looks it took until a list was as it should be; `None` where it never was.
struct Looked(Option<u32>);

impl Looked {
    fn told(&self, at_once: &str) -> Told {
        match self.0 {
            Some(1) => (true, at_once.to_owned()),
            Some(looks) => (false, format!("only at look {looks}")),
            None => (false, format!("not within {LOOKS} looks")),
        }
    }
}

async fn look(ask: &Ask<'_>, prefix: &str, is_right: impl Fn(&[Key]) -> bool) -> Result<Looked> {
    for look in 1..=LOOKS {
        let listed = walk(ask, prefix, &Sought::default()).await?;
        if is_right(&listed.keys) {
            return Ok(Looked(Some(look)));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(Looked(None))
}

/// All pages, by continuation.
async fn walk(ask: &Ask<'_>, prefix: &str, sought: &Sought) -> Result<Listing> {
    let mut all = Listing::default();
    let mut from = None;
    for _ in 0..MAX_PAGES {
        let sought = Sought {
            from,
            ..sought.clone()
        };
        let page = ask.api.list_as(prefix, &sought).await?;
        all.keys.extend(page.keys);
        all.prefixes.extend(page.prefixes);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    Ok(all)
}

fn is_all(listed: &[Key], sorted: &[Key]) -> bool {
    let mut listed = listed.to_vec();
    listed.sort();
    listed == sorted
}

async fn pages(ask: &Ask<'_>, prefix: &str, sorted: &[Key]) -> Result<Told> {
    let by_two = Sought {
        limit: Some(2),
        ..Sought::default()
    };
    let continued = walk(ask, prefix, &by_two).await?.keys;
    if continued != sorted {
        let listed = names(&continued, prefix);
        return Ok((false, format!("pages of two give {listed}")));
    }
    for (at, key) in sorted.iter().enumerate() {
        let after = Sought {
            after: Some(key.as_str().to_owned()),
            ..Sought::default()
        };
        let listed = walk(ask, prefix, &after).await?.keys;
        if listed != sorted[at + 1..] {
            let (after, listed) = (names(&sorted[at..=at], prefix), names(&listed, prefix));
            return Ok((false, format!("after {after} comes {listed}")));
        }
    }
    Ok((true, "by continuation and by start-after".to_owned()))
}

async fn levels(ask: &Ask<'_>, prefix: &str) -> Result<Told> {
    for limit in [None, Some(2)] {
        let level = Sought {
            delimiter: Some("/"),
            limit,
            ..Sought::default()
        };
        let listed = walk(ask, prefix, &level).await?;
        let keys = LEVEL_KEYS.map(|name| format!("{prefix}{name}"));
        let prefixes = LEVEL_PREFIXES.map(|name| format!("{prefix}{name}"));
        let has_keys = listed.keys.iter().map(Key::as_str).eq(keys.iter());
        if !has_keys || listed.prefixes != prefixes {
            let (keys, below) = (names(&listed.keys, prefix), listed.prefixes.len());
            return Ok((false, format!("{keys} and {below} of 2 prefixes")));
        }
    }
    Ok((true, "3 keys and 2 prefixes".to_owned()))
}

fn names(keys: &[Key], prefix: &str) -> String {
    let name = |key: &Key| {
        let key = key.as_str();
        key.strip_prefix(prefix).unwrap_or(key).to_owned()
    };
    match keys {
        [] => "nothing".to_owned(),
        keys => keys.iter().map(name).collect::<Vec<_>>().join(" "),
    }
}

/// Whether these are the bytes of a range.
pub(super) async fn range_is(
    ask: &Ask<'_>,
    key: &Key,
    etag: &ETag,
    from: u64,
    bytes: &[u8],
) -> Result<Told> {
    let range = from..from + bytes.len() as u64;
    let mut body = match ask.api.get_range(key, range, etag).await {
        Ok(body) => body,
        Err(ApiError::InvalidRange(error)) => {
            return Ok((false, reason(&error.into())));
        }
        Err(error) => return Err(error.into()),
    };
    let mut read = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => read.extend_from_slice(&piece),
            Err(error) => return Ok((false, format!("the body broke off: {error}"))),
        }
    }
    Ok(match read == bytes {
        true => (true, format!("{} bytes, the right ones", read.len())),
        false => (false, "other bytes".to_owned()),
    })
}

async fn changed_refused(ask: &Ask<'_>) -> Result<Told> {
    let key = ask.key("changed");
    let bytes = [Bytes::from_static(b"before")];
    let before = ask.api.put(&key, &bytes, None, None).await?;
    let bytes = [Bytes::from_static(b"behind")];
    let now = ask.api.put(&key, &bytes, None, None).await?;
    if let Err(error) = ask.api.get_range(&key, 1..4, &now).await {
        let error = Error::from(error);
        return match is_answer(&error) {
            true => Ok((false, format!("the right one: {}", reason(&error)))),
            false => Err(error),
        };
    }
    match ask.api.get_range(&key, 1..4, &before).await {
        Err(ApiError::Precondition(error)) => {
            let answer = error.answer().unwrap_or("refused");
            Ok((true, answer.to_owned()))
        }
        Err(ApiError::InvalidRange(error)) => Ok((false, reason(&error.into()))),
        Err(error) => Err(error.into()),
        Ok(_) => Ok((false, "it was read".to_owned())),
    }
}

async fn stale_delete_refused(ask: &Ask<'_>) -> Result<Told> {
    let is_refused = conditional_deletes(&ask.api, &ask.key("removed")).await?;
    let found = if is_refused {
        "refused"
    } else {
        "the condition is ignored or not known"
    };
    Ok((is_refused, found.to_owned()))
}

async fn batch_delete(ask: &Ask<'_>) -> Result<Told> {
    let keys = ["batch-1", "batch-2"].map(|name| ask.key(name));
    for key in &keys {
        let bytes = [Bytes::from_static(b"to be deleted")];
        ask.api.put(key, &bytes, None, None).await?;
    }
    if let Err(error) = ask.api.delete_all(&keys, true).await.map_err(Into::into) {
        return match is_answer(&error) {
            true => Ok((false, reason(&error))),
            false => Err(error),
        };
    }
    for key in &keys {
        if ask.api.get_small(key).await?.is_some() {
            return Ok((false, "accepted, and not deleted".to_owned()));
        }
    }
    Ok((true, "2 of 2".to_owned()))
}

/// A range of a small object, where there is no larger one to read from.
pub(super) async fn range_of_small(ask: &mut Ask<'_>) {
    if ask.answer_to(Question::RangeRead).is_some() {
        return;
    }
    let asked = async {
        let key = ask.key("range");
        let bytes = [Bytes::from_static(b"0123456789")];
        let etag = ask.api.put(&key, &bytes, None, None).await?;
        range_is(ask, &key, &etag, 3, b"345").await
    };
    let asked = asked.await;
    ask.end(Question::RangeRead, asked);
}
