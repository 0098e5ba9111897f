//! Whether a conditional write or removal is carried out when its condition holds, and refused when not.

use bytes::Bytes;

use super::{Told, is_answer};
use crate::error::Result;
use crate::s3::format::keys::Key;
use crate::s3::wire::{Api, ApiError, Condition, ConditionForm, ETag};

/// What conditional writes one after the other did. The first statement that does not hold ends the
/// questions: those after it are `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// If-None-Match where nothing is: written.
    pub(crate) creates: Option<Told>,
    /// If-None-Match where an object is: refused.
    pub(crate) refuses_present: Option<Told>,
    /// If-Match with the ETag of what is stored: written.
    pub(crate) replaces: Option<Told>,
    /// If-Match with the ETag of what was stored before: refused.
    pub(crate) refuses_stale: Option<Told>,
    /// If-Match where nothing is: refused.
    pub(crate) refuses_absent: Option<Told>,
    /// The form in which the right ETag was taken.
    pub(crate) form: ConditionForm,
}

impl Conditions {
    pub(crate) fn all_hold(&self) -> bool {
        // It is asked last.
        self.refuses_absent
            .as_ref()
            .is_some_and(|(holds, _)| *holds)
    }
}

/// Writes to two keys that are free. Objects may be left at both.
pub(crate) async fn conditions(api: &Api, key: &Key, absent: &Key) -> Result<Conditions> {
    let mut found = Conditions::default();
    ask(api, key, absent, &mut found).await?;
    Ok(found)
}

/// A refusal proves something only after the right request was seen to succeed.
async fn ask(api: &Api, key: &Key, absent: &Key, found: &mut Conditions) -> Result<()> {
    let created = write(api, key, "1", Condition::Absent).await?;
    found.creates = Some(created.is_written());
    let Written::Stored(first) = created else {
        return Ok(());
    };
    let again = write(api, key, "2", Condition::Absent).await?;
    if !note(&mut found.refuses_present, again.is_refused()) {
        return Ok(());
    }
    let mut replaced = write(api, key, "3", Condition::Matches(&first)).await?;
    let bare = api.with_conditions(ConditionForm::Bare);
    let mut api = api;
    if let Written::Refused(_) = replaced {
        let without_quotes = write(&bare, key, "4", Condition::Matches(&first)).await?;
        if let Written::Stored(_) = without_quotes {
            (api, replaced, found.form) = (&bare, without_quotes, ConditionForm::Bare);
        }
    }
    if !note(&mut found.replaces, replaced.is_written()) {
        return Ok(());
    }
    let stale = write(api, key, "5", Condition::Matches(&first)).await?;
    if !note(&mut found.refuses_stale, stale.is_refused()) {
        return Ok(());
    }
    // Older MinIO lets If-Match on an absent key succeed.
    let nowhere = write(api, absent, "6", Condition::Matches(&first)).await?;
    found.refuses_absent = Some(nowhere.is_refused());
    Ok(())
}

fn note(place: &mut Option<Told>, told: Told) -> bool {
    place.insert(told).0
}

/// How a conditional write ended.
enum Written {
    Stored(ETag),
    /// With this answer.
    Refused(String),
}

impl Written {
    fn is_written(&self) -> Told {
        match self {
            Written::Stored(_) => (true, "written".to_owned()),
            Written::Refused(answer) => (false, answer.clone()),
        }
    }

    fn is_refused(&self) -> Told {
        match self {
            Written::Stored(_) => (false, "written".to_owned()),
            Written::Refused(answer) => (true, answer.clone()),
        }
    }
}

/// Writes text that is written nowhere else.
async fn write(
    api: &Api,
    key: &Key,
    text: &'static str,
    condition: Condition<'_>,
) -> Result<Written> {
    let segments = [Bytes::from_static(text.as_bytes())];
    let refusal = match api.put(key, &segments, None, Some(condition)).await {
        Ok(etag) => return Ok(Written::Stored(etag)),
        Err(error) => error,
    };
    if !is_answer(&refusal) {
        return Err(refusal.into());
    }
    if !matches!(refusal, ApiError::NotImplemented(_)) {
        // An earlier attempt, whose answer was lost, may have been carried out.
        let found = api.get_small(key).await?;
        if let Some(found) = found.filter(|found| found.bytes == text.as_bytes()) {
            return Ok(Written::Stored(found.etag));
        }
    }
    let answer = refusal.storage().answer();
    Ok(Written::Refused(answer.unwrap_or("refused").to_owned()))
}

/// Whether a DELETE with If-Match is refused when the ETag is another one, and carried out when it is
/// right. Uses a key that is free, and leaves it so.
pub(crate) async fn conditional_deletes(api: &Api, key: &Key) -> Result<bool> {
    let put = async |bytes: &'static [u8]| {
        let bytes = [Bytes::from_static(bytes)];
        api.put(key, &bytes, None, None).await
    };
    let stale = put(b"one").await?;
    let present = put(b"two").await?;
    for (etag, removes) in [(&stale, false), (&present, true)] {
        let removed = match api.delete_if(key, etag).await {
            Ok(removed) => Some(removed),
            // The store does not know the condition.
            Err(error) if is_answer(&error) => None,
            Err(error) => return Err(error.into()),
        };
        if removed != Some(removes) {
            api.delete(key).await?;
            return Ok(false);
        }
    }
    Ok(api.get_small(key).await?.is_none())
}
