//! Combines a listing and a document. Pure.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::s3::bucket::presence::{Judgement, judge};
use crate::s3::format::keys::Key;
use crate::s3::format::record::Segment;
use crate::s3::session::Phase;
use crate::s3::wire::{ETag, ObjectInfo};

/// The objects below one upload, as they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) uuid: Uuid,
    /// How long ago its youngest object was written, by the store's clock.
    pub(crate) age: Duration,
    /// When that was.
    pub(crate) written_at: SystemTime,
    pub(crate) keys: Vec<Key>,
    pub(crate) session: ListedSession,
}

/// Whether an upload's session was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListedSession {
    Absent,
    /// With its ETag, if the store returns it.
    There(Option<ETag>),
}

/// Gathers objects, which come in the order of their keys, into uploads. Holds one at a time.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    open: Option<Found>,
}

impl Groups {
    /// Takes the next object, as an upload of its own. The upload before, where this one begins another.
    pub(crate) fn take(&mut self, next: Found) -> Option<Found> {
        let Some(open) = self.open.as_mut().filter(|open| open.uuid == next.uuid) else {
            return self.open.replace(next);
        };
        open.age = open.age.min(next.age);
        open.written_at = open.written_at.max(next.written_at);
        if next.session != ListedSession::Absent {
            open.session = next.session;
        }
        open.keys.extend(next.keys);
        None
    }

    /// The last upload.
    pub(crate) fn end(&mut self) -> Option<Found> {
        self.open.take()
    }
}

/// Where an upload is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadPhase {
    /// Takes bytes.
    Open,
    /// Is being committed, and takes no more bytes. A sweep commits it where its process has ended.
    Committing,
    /// Its bytes are assembled, and do not have an id that was claimed: it can be finished with
    /// another id, or cancelled.
    Rejected,
    /// Is being removed.
    Cancelled,
}

impl From<&Phase> for UploadPhase {
    fn from(phase: &Phase) -> Self {
        match phase {
            Phase::Open => UploadPhase::Open,
            Phase::Committing(_) => UploadPhase::Committing,
            Phase::Rejected(_) => UploadPhase::Rejected,
            Phase::Cancelled(_) => UploadPhase::Cancelled,
        }
    }
}

/// What is wrong with an object, by its HEAD. `None` where nothing is.
pub(super) fn damage(segment: &Segment, found: Option<ObjectInfo>) -> Option<String> {
    let Some(found) = found else {
        return Some("the object is missing".to_owned());
    };
    let is_other = found
        .crc64
        .as_ref()
        .is_some_and(|crc64| !segment.sum.is(crc64));
    let is_whole = segment.object_size.is_none();
    match judge(segment, &found) {
        Judgement::Same(_) if is_other && is_whole => {
            Some("the object has another checksum than was recorded".to_owned())
        }
        Judgement::Same(_) => None,
        Judgement::Unproven(_) => Some("the object was changed: it has another ETag".to_owned()),
        Judgement::Other(reason) => Some(reason),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An object of upload `uuid`, written `age` seconds ago at a hundred seconds.
    fn seen(uuid: u128, name: &str, age: u64) -> Found {
        let session = match name {
            "session" => ListedSession::There(serde_json::from_str("\"etag\"").ok()),
            _ => ListedSession::Absent,
        };
        Found {
            uuid: Uuid::from_u128(uuid),
            age: seconds(age),
            written_at: EPOCH + seconds(100 - age),
            keys: vec![Key::from_listing(name)],
            session,
        }
    }

    #[test]
    fn objects_are_gathered_into_uploads() {
        type Told = (u128, u64, usize, bool);
        for (case, objects, want) in [
            ("none", vec![], &[][..] as &[Told]),
            ("a session", vec![seen(1, "session", 9)], &[(1, 9, 1, true)]),
            (
                "the youngest object counts",
                vec![
                    seen(1, "session", 9),
                    seen(1, "tail/1", 5),
                    seen(1, "tail/2", 7),
                ],
                &[(1, 5, 3, true)],
            ),
            (
                "tails alone",
                vec![seen(1, "tail/1", 5), seen(2, "session", 3)],
                &[(1, 5, 1, false), (2, 3, 1, true)],
            ),
            (
                "a store that lists without order",
                vec![
                    seen(1, "tail/1", 5),
                    seen(2, "session", 3),
                    seen(1, "session", 9),
                ],
                &[(1, 5, 1, false), (2, 3, 1, true), (1, 9, 1, true)],
            ),
        ] {
            let mut groups = Groups::default();
            let mut found: Vec<_> = objects.into_iter().filter_map(|o| groups.take(o)).collect();
            found.extend(groups.end());
            let told = found.iter().map(|found| {
                let age = found.age.as_secs();
                assert_eq!(found.written_at, EPOCH + seconds(100 - age), "{case}");
                let has_session = found.session != ListedSession::Absent;
                (found.uuid.as_u128(), age, found.keys.len(), has_session)
            });
            assert_eq!(told.collect::<Vec<_>>(), want, "{case}");
        }
    }
}
