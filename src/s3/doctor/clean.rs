//! Removes all that an examination wrote.

use super::ask::Ask;
use crate::error::Result;
use crate::s3::api::Sought;
use crate::s3::keys::Key;

/// Where multipart uploads are begun: MinIO lists those of a whole key only.
const UPLOADS: [&str; 6] = ["may", "checksums", "parts", "replaced", "small", "aborted"];
/// Where objects may be that a list does not tell.
const OBJECTS: [&str; 8] = [
    "may",
    "conditions",
    "absent",
    "checksums",
    "parts",
    "read",
    "replaced",
    "small",
];
/// A list that is never empty must not keep us for ever.
const ROUNDS: usize = 5;

/// Ends the uploads, then deletes the objects: one at a time, as batches may be what the store
/// cannot do.
///
/// # Errors
///
/// The first thing that could not be removed; all others were tried.
pub(super) async fn clean(ask: &Ask<'_>) -> Result<()> {
    let mut outcome = Ok(());
    for name in UPLOADS {
        keep_first(&mut outcome, end_uploads(ask, &ask.key(name)).await);
    }
    for name in OBJECTS {
        let deleted = ask.api.delete(&ask.key(name)).await;
        keep_first(&mut outcome, deleted.map_err(Into::into));
    }
    for _ in 0..ROUNDS {
        match ask.api.list_as(&ask.prefix(), &Sought::default()).await {
            Ok(listed) if listed.keys.is_empty() => break,
            Ok(listed) => {
                for key in &listed.keys {
                    let deleted = ask.api.delete(key).await;
                    keep_first(&mut outcome, deleted.map_err(Into::into));
                }
            }
            Err(error) => {
                keep_first(&mut outcome, Err(error.into()));
                break;
            }
        }
    }
    outcome
}

async fn end_uploads(ask: &Ask<'_>, key: &Key) -> Result<()> {
    for id in ask.api.multiparts_at(key).await? {
        ask.api.abort_multipart(key, &id).await?;
    }
    Ok(())
}

fn keep_first(outcome: &mut Result<()>, next: Result<()>) {
    if outcome.is_ok() {
        *outcome = next;
    }
}
