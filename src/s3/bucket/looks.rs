//! The data objects that this process has looked at.

use std::time::Duration;

use super::cache::{Cache, Weigh};
use crate::clock::Moment;
use crate::s3::format::collection_times::CollectionTimes;
use crate::s3::wire::ETag;

/// How long a look is remembered at most; [`CollectionTimes`] says how long it is relied on.
///
/// [`CollectionTimes`]: crate::s3::format::collection_times::CollectionTimes
pub(super) const LIFETIME: Duration = Duration::from_secs(CollectionTimes::DEFAULT.look);
/// What all looks weigh, in bytes: some 7,000 objects.
const CAPACITY: u64 = 4 * 1024 * 1024;

/// An object was there, with the recorded size and this ETag.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(super) etag: ETag,
    pub(super) at: Moment,
}

/// The looks of this process, by data key. A read that finds the object missing or changed removes
/// its entry.
pub(crate) type Looks = Cache<Look>;

impl Weigh for Look {
    fn weight(&self) -> u64 {
        96
    }
}

pub(crate) fn no_looks() -> Looks {
    Cache::new(LIFETIME, CAPACITY)
}
