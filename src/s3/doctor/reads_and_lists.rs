//! Reads, listings and removals of what was just written.

use std::time::Duration;

use super::check::{Bench, Check, NOT_THIS_STORE};
use super::topic::Severity;
use super::verdict::{Verdict, accepted, holds, is_answer, no};
use crate::error::Result;
use crate::s3::format::keys::Key;
use crate::s3::wire::Sought;

pub(super) const CHECKS: [Check; 9] = [
    Check {
        id: "read_after_write",
        text: "a new object is read at once",
        severity: Severity::Breaks,
        consequence: "a layer that was just pushed may not be found",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(read_after(bench, Some(b"first"))),
    },
    Check {
        id: "read_after_replace",
        text: "a replaced object is read at once",
        severity: Severity::Breaks,
        consequence: "a resume may read an old state and lose acknowledged bytes",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(read_after(bench, Some(b"second"))),
    },
    Check {
        id: "read_after_delete",
        text: "a deleted object is absent at once",
        severity: Severity::Breaks,
        consequence: "a deleted layer may be served, and a cancelled upload resumed",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(read_after(bench, None)),
    },
    Check {
        id: "list_after_write",
        text: "a new object is listed at once",
        severity: Severity::Costs,
        consequence: "a new tag or repository is missing from listings for a while",
        remedy: "sweep with an --older-than of days",
        needs: "",
        run: |bench| Box::pin(list_after_write(bench)),
    },
    Check {
        id: "list_pages",
        text: "pages of a listing are ordered and complete",
        severity: Severity::Breaks,
        consequence: "listings and sweeps of more than one page leave out objects",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(list_pages(bench)),
    },
    Check {
        id: "list_after_delete",
        text: "a deleted object is not listed",
        severity: Severity::Costs,
        consequence: "a deleted tag or repository stays in listings for a while",
        remedy: "",
        needs: "",
        run: |bench| Box::pin(list_after_delete(bench)),
    },
    Check {
        id: "range_read",
        text: "a range request returns that range",
        severity: Severity::Breaks,
        consequence: "no layer can be read",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(range_read(bench)),
    },
    Check {
        id: "conditional_delete",
        text: "delete by an old ETag: refused",
        severity: Severity::Note,
        consequence: "each deleted tag, manifest and link leaves a tombstone of some hundred bytes",
        remedy: "",
        needs: "",
        run: |bench| Box::pin(conditional_delete(bench)),
    },
    Check {
        id: "batch_delete",
        text: "one request deletes many objects",
        severity: Severity::Costs,
        consequence: "removing an upload takes a request for each object",
        remedy: "",
        needs: "",
        run: |bench| Box::pin(batch_delete(bench)),
    },
];

/// In the order of their bytes, which differs from that of an alphabet and that of folders.
const NAMES: [&str; 6] = ["B", "a-b/x", "a.b", "a/1", "a/2", "a0"];
/// How often a listing is read until it is as it should be.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// More than any listing here has pages.
const MAX_PAGES: usize = 20;

/// Reads, which may fill a cache; then writes or deletes, and reads again.
async fn read_after(bench: &mut Bench, bytes: Option<&'static [u8]>) -> Verdict {
    let key = bench.key("read");
    bench.api.get_small(&key).await?;
    match bytes {
        Some(bytes) => drop(bench.put(&key, bytes).await?),
        None => bench.api.delete(&key).await?,
    }
    let found = bench.api.get_small(&key).await?;
    let found = found.as_ref().map(|found| &found.bytes[..]);
    let detail = match found {
        Some(_) if found == bytes => return Ok("read".to_owned()),
        None if bytes.is_none() => return Ok("not found".to_owned()),
        Some(_) => "the previous object was read",
        None => "not found",
    };
    no(detail)
}

/// Writes the objects of a listing, in an order in which no store would list them.
async fn list_keys(bench: &mut Bench) -> Result<(String, [Key; 6])> {
    let keys = NAMES.map(|name| bench.key(&format!("list/{name}")));
    for at in [3, 0, 5, 1, 4, 2] {
        bench.put(&keys[at], b"listed").await?;
    }
    Ok((bench.prefix("list/"), keys))
}

async fn list_after_write(bench: &mut Bench) -> Verdict {
    let (prefix, keys) = list_keys(bench).await?;
    let is_all = |listed: &[Key]| keys.iter().all(|key| listed.contains(key));
    look(bench, &prefix, is_all).await
}

async fn list_after_delete(bench: &mut Bench) -> Verdict {
    let (prefix, keys) = list_keys(bench).await?;
    bench.api.delete(&keys[0]).await?;
    look(bench, &prefix, |listed| !listed.contains(&keys[0])).await
}

async fn look(bench: &Bench, prefix: &str, is_right: impl Fn(&[Key]) -> bool) -> Verdict {
    for look in 1..=LOOKS {
        let listed = walk(bench, prefix, Sought::default()).await?;
        if is_right(&listed) {
            return holds(look == 1, "at once", format!("only at look {look}"));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    no(format!("not within {LOOKS} looks"))
}

/// All pages, by continuation token.
async fn walk(bench: &Bench, prefix: &str, mut sought: Sought) -> Result<Vec<Key>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let page = bench.api.list_as(prefix, &sought).await?;
        all.extend(page.keys);
        sought.from = page.next;
        if sought.from.is_none() {
            break;
        }
    }
    Ok(all)
}

async fn list_pages(bench: &mut Bench) -> Verdict {
    let (prefix, keys) = list_keys(bench).await?;
    let by_two = Sought {
        limit: Some(2),
        ..Sought::default()
    };
    let listed = walk(bench, &prefix, by_two).await?;
    if listed != keys {
        let names = names(&listed, &prefix);
        return no(format!("pages of two are {names}"));
    }
    for (at, key) in keys.iter().enumerate() {
        let after = Sought {
            after: Some(key.as_str().to_owned()),
            ..Sought::default()
        };
        let listed = walk(bench, &prefix, after).await?;
        if listed != keys[at + 1..] {
            let listed = names(&listed, &prefix);
            return no(format!("after {} comes {listed}", NAMES[at]));
        }
    }
    Ok("by continuation token and by start-after".to_owned())
}

fn names(keys: &[Key], prefix: &str) -> String {
    let name = |key: &Key| key.as_str().trim_start_matches(prefix).to_owned();
    match keys {
        [] => "nothing".to_owned(),
        keys => keys.iter().map(name).collect::<Vec<_>>().join(" "),
    }
}

async fn range_read(bench: &mut Bench) -> Verdict {
    let key = bench.key("range");
    bench.put(&key, b"0123456789").await?;
    range_is(bench, &key, 3, b"345").await
}

/// Whether these are the bytes of a range.
pub(super) async fn range_is(bench: &Bench, key: &Key, from: u64, bytes: &[u8]) -> Verdict {
    let range = from..from + bytes.len() as u64;
    let mut body = accepted(bench.api.get_range(key, range, None).await)?;
    let mut read = Vec::new();
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => read.extend_from_slice(&chunk),
            Err(error) => return no(format!("the body ended early: {error}")),
        }
    }
    let expected = format!("{} bytes, as expected", read.len());
    holds(read == bytes, expected, "other bytes")
}

/// A DELETE with If-Match must be refused for an old ETag, and accepted for the current one.
async fn conditional_delete(bench: &mut Bench) -> Verdict {
    let key = bench.key("removed");
    let old = bench.put(&key, b"one").await?;
    let current = bench.put(&key, b"two").await?;
    for (etag, removes) in [(&old, false), (&current, true)] {
        match bench.api.delete_if(&key, etag).await {
            Ok(removed) if removed == removes => {}
            Err(error) if !is_answer(&error) => return Err(error.into()),
            // The store does not know the condition, or ignores it.
            _ => return no("the condition is ignored or unknown"),
        }
    }
    Ok("refused".to_owned())
}

async fn batch_delete(bench: &mut Bench) -> Verdict {
    let keys = ["batch-1", "batch-2"].map(|name| bench.key(name));
    for key in &keys {
        bench.put(key, b"to be deleted").await?;
    }
    accepted(bench.api.delete_all(&keys, true, None).await)?;
    for key in &keys {
        if bench.api.get_small(key).await?.is_some() {
            return no("accepted, but not deleted");
        }
    }
    Ok("2 of 2".to_owned())
}
