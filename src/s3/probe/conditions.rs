//! Whether a conditional write is refused when it has to be.

use bytes::Bytes;

use crate::error::Result;
use crate::s3::api::{Api, Condition, Put};
use crate::s3::keys::Key;

/// What conditional writes one after the other did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conditions {
    /// If-None-Match where an object is.
    pub(crate) refuses_present: bool,
    /// If-Match with the ETag of what is stored.
    pub(crate) replaces: bool,
    /// If-Match with the ETag of what was stored before.
    pub(crate) refuses_stale: bool,
    /// If-Match where nothing is.
    pub(crate) refuses_absent: bool,
}

impl Conditions {
    pub(crate) fn all_hold(self) -> bool {
        self.refuses_present && self.replaces && self.refuses_stale && self.refuses_absent
    }
}

/// Writes to two keys that are free. An object is left at `key`.
pub(crate) async fn conditions(api: &Api, key: &Key, absent: &Key) -> Result<Conditions> {
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    let Put::Written(first) = api.put_if(key, one.clone(), Condition::Absent).await? else {
        return Ok(Conditions::default());
    };
    let refuses_present = matches!(
        api.put_if(key, two.clone(), Condition::Absent).await?,
        Put::Held(_)
    );
    let replaces = matches!(
        api.put_if(key, two.clone(), Condition::Matches(&first))
            .await?,
        Put::Written(_)
    );
    let refuses_stale = matches!(
        api.put_if(key, one.clone(), Condition::Matches(&first))
            .await?,
        Put::Held(_)
    );
    // Older MinIO lets If-Match on an absent key succeed.
    let refuses_absent = matches!(
        api.put_if(absent, one, Condition::Matches(&first)).await?,
        Put::Gone
    );
    if !refuses_absent {
        api.delete(absent).await?;
    }
    Ok(Conditions {
        refuses_present,
        replaces,
        refuses_stale,
        refuses_absent,
    })
}
