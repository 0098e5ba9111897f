//! Since when each repository has had an open upload.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::listing::Listing;
use super::{CollectError, Pass, at_once};
use crate::name::RepositoryName;
use crate::s3::session::owned::OwnedSession;
use crate::s3::session::{Phase, Session};

/// The repositories that have an open upload, and when the oldest of it began, by the clock of the
/// process that began it.
#[derive(Debug, Default)]
pub(super) struct OpenUploads {
    began: HashMap<RepositoryName, Timestamp>,
    /// A session could not be read: any repository may have an upload.
    is_incomplete: bool,
}

impl OpenUploads {
    /// How long before `now`, by the store's clock, the oldest one of a repository began. `skew`: how far
    /// a clock of a process may be off.
    pub(super) fn began(
        &self,
        name: &RepositoryName,
        now: SystemTime,
        skew: Duration,
    ) -> Option<Duration> {
        if self.is_incomplete {
            return Some(Duration::MAX / 2);
        }
        let began = SystemTime::try_from(*self.began.get(name)?).ok()?;
        Some(now.duration_since(began).unwrap_or_default() + skew)
    }

    fn add(&mut self, name: RepositoryName, begun_at: Timestamp) {
        let began = self.began.entry(name).or_insert(begun_at);
        *began = (*began).min(begun_at);
    }
}

/// `None` where it was cancelled.
fn open_since(session: &Session) -> Option<(RepositoryName, Timestamp)> {
    let is_open = !matches!(session.phase, Phase::Cancelled(_));
    is_open.then(|| (session.repository.clone(), session.begun_at))
}

/// # Cost
///
/// 1 request for a thousand objects below `uploads/`, and 1 for each session.
pub(super) async fn open(pass: &Pass<'_>) -> Result<OpenUploads, CollectError> {
    let (store, keys) = (pass.store, &pass.store.keys);
    let mut open = OpenUploads::default();
    let mut listing = Listing::of(pass, keys.uploads());
    while let Some(page) = listing.next().await? {
        let uuids = page.objects.iter().filter_map(|object| {
            let uuid = keys.uuid_of(object.key.as_str())?;
            (object.key == keys.session(uuid)).then_some(uuid)
        });
        let reads = uuids.map(async |uuid| match OwnedSession::load(store, uuid).await {
            Ok(session) => Ok(session.and_then(|session| open_since(session.get()).map(Ok))),
            Err(error) if error.is_unreadable() => {
                pass.skip(format_args!("all links, for upload {uuid}: {error}"));
                Ok(Some(Err(())))
            }
            Err(error) => Err(error.into()),
        });
        for session in at_once(reads).await?.into_iter().flatten() {
            match session {
                Ok((name, begun_at)) => open.add(name, begun_at),
                Err(()) => open.is_incomplete = true,
            }
        }
    }
    Ok(open)
}
