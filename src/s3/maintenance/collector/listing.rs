//! A listing that is believed only where it is in order, and that has the store's clock.

use std::time::SystemTime;

use super::{CollectError, Pass};
use crate::s3::wire::ListedObject;

/// The objects below a prefix, a page at a time.
pub(super) struct Listing<'a, 'b> {
    pass: &'a Pass<'b>,
    prefix: String,
    /// Where the next page begins; `None` after the last.
    next: Option<Option<String>>,
    last: Option<String>,
    began_at: Option<SystemTime>,
}

/// A page.
pub(super) struct ListedPage {
    pub(super) objects: Vec<ListedObject>,
    /// The store's clock at the first page of this listing.
    pub(super) began_at: SystemTime,
}

impl<'a, 'b> Listing<'a, 'b> {
    pub(super) fn of(pass: &'a Pass<'b>, prefix: String) -> Self {
        Listing {
            pass,
            prefix,
            next: Some(None),
            last: None,
            began_at: None,
        }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    ///
    /// `Refused` where a key comes twice or out of order, or the store does not report its time.
    pub(super) async fn next(&mut self) -> Result<Option<ListedPage>, CollectError> {
        let Some(from) = self.next.take() else {
            return Ok(None);
        };
        let page = self.pass.store.api.list(&self.prefix, from).await?;
        self.next = page.next.clone().map(Some);
        for object in &page.objects {
            let key = object.key.as_str();
            if self.last.as_deref().is_some_and(|last| key <= last) {
                let prefix = &self.prefix;
                return Err(CollectError::refused(format_args!(
                    "the store lists keys out of order, or twice: {key} below {prefix}"
                )));
            }
            self.last = Some(key.to_owned());
        }
        let date = page.date.ok_or_else(|| {
            CollectError::refused("the store does not report its time with a listing")
        })?;
        Ok(Some(ListedPage {
            objects: page.objects,
            began_at: *self.began_at.get_or_insert(date),
        }))
    }
}
