//! A listing that is believed only where it is in order, and that has the store's clock.

use std::time::SystemTime;

use futures_util::stream::{BoxStream, TryStreamExt as _};

use super::{CollectError, Pass};
use crate::error::Error;
use crate::s3::format::keys::Key;
use crate::s3::maintenance::inventory::pages;
use crate::s3::wire::{ListedObject, Page};

/// The objects below a prefix, a page at a time.
pub(super) struct Listing {
    pages: BoxStream<'static, Result<Page, Error>>,
    prefix: String,
    last: Option<Key>,
    began_at: Option<SystemTime>,
}

/// A page.
pub(super) struct ListedPage {
    pub(super) objects: Vec<ListedObject>,
    /// The store's clock at the first page of this listing.
    pub(super) began_at: SystemTime,
}

impl Listing {
    pub(super) fn of(pass: &Pass<'_>, prefix: String) -> Self {
        Listing {
            pages: pages(pass.store, prefix.clone()),
            prefix,
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
        let Some(page) = self.pages.try_next().await? else {
            return Ok(None);
        };
        for ListedObject { key, .. } in &page.objects {
            if self.last.as_ref().is_some_and(|last| key <= last) {
                let prefix = &self.prefix;
                return Err(CollectError::refused(format_args!(
                    "the store lists keys out of order, or twice: {key} below {prefix}"
                )));
            }
            self.last = Some(key.clone());
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
