//! Removes all that an examination wrote.

use super::ask::Ask;
use super::question::{Answer, Question};
use crate::error::{Error, Result};
use crate::s3::wire::{ApiResult, Sought};

/// Where uploads are begun by requests that are repeated, or by [`probe`](crate::s3::probe).
const UPLOADS: [&str; 6] = ["may", "checksums", "parts", "replaced", "small", "aborted"];
/// A list that is never empty must not keep us for ever.
const ROUNDS: usize = 5;

/// Ends the uploads, deletes every object whose key was given out, and then what a list tells
/// besides.
///
/// # Errors
///
/// The first thing that could not be removed; all others were tried, unless the store does not
/// answer any more.
pub(super) async fn clean(ask: &Ask<'_>) -> Result<()> {
    let used = ask.used();
    let mut outcome = Ok(());
    if used.is_empty() {
        return outcome;
    }
    for (key, id) in ask.begun() {
        note(&mut outcome, ask.api.abort_multipart(&key, &id).await)?;
    }
    // Where that is forbidden, it is one of the findings.
    if ask.answer_to(Question::MayListUploads) != Some(Answer::No) {
        let uploads = UPLOADS.map(|name| ask.key(name));
        for key in uploads.iter().filter(|key| used.contains(key)) {
            note(&mut outcome, ask.api.abort_all(key).await)?;
        }
    }
    let batched = ask.answer_to(Question::BatchDelete) == Some(Answer::Yes);
    note(&mut outcome, ask.api.delete_all(&used, batched).await)?;
    for _ in 0..ROUNDS {
        // As above.
        let Ok(listed) = ask.api.list_as(&ask.prefix(""), &Sought::default()).await else {
            break;
        };
        if listed.keys.is_empty() {
            break;
        }
        note(&mut outcome, ask.api.delete_all(&listed.keys, false).await)?;
    }
    outcome
}

/// Keeps the first failure, and ends where the store is silent.
fn note(outcome: &mut Result<()>, next: ApiResult<()>) -> Result<()> {
    match next.map_err(Error::from) {
        Err(error) if error.is_retryable() => Err(error),
        Err(error) if outcome.is_ok() => {
            *outcome = Err(error);
            Ok(())
        }
        _ => Ok(()),
    }
}
