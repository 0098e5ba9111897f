//! Layers of a repository: the link repeats the layer's record, so that it is all that is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::contract::Layer;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::bucket::live::{self, StandingLink};
use crate::s3::bucket::presence;
use crate::s3::bucket::{ROUNDS, Store, StoredDocument, check_link, contended};
use crate::s3::format::record::{Link, StoredLayer};
use crate::s3::publish;
use crate::s3::read::S3Layer;
use s3layers_tarsum::Digest;

pub(super) async fn layer(
    store: &Arc<Store>,
    name: &RepositoryName,
    id: &LayerId,
) -> Result<Box<dyn Layer>> {
    let link = live::find_link(store, name, id).await?;
    let link = link.ok_or_else(|| Error::LayerUnknown { id: id.clone() })?;
    let layer = link.into_layer().with_aliases(std::slice::from_ref(id));
    Ok(Box::new(S3Layer::new(Arc::clone(store), Arc::new(layer))))
}

/// The layer where its bytes are there, with a link that clients may rely on.
pub(super) async fn confirm(
    store: &Arc<Store>,
    name: &RepositoryName,
    id: &LayerId,
) -> Result<Option<Box<dyn Layer>>> {
    for _ in 0..ROUNDS {
        let Some(link) = live::find_link(store, name, id).await? else {
            return Ok(None);
        };
        let layer = link.layer().clone();
        if presence::present(store, &layer).await?.is_none() {
            return Ok(None);
        }
        if live::refresh(store, link, id).await? {
            let layer = Arc::new(layer.with_aliases(std::slice::from_ref(id)));
            return Ok(Some(Box::new(S3Layer::new(Arc::clone(store), layer))));
        }
    }
    Err(contended(&store.keys.link(name, id)))
}

/// # Cost
///
/// 1 request for the source, by another id than its SHA-256 2, 1 for the record, 1 for each data object that this process has not looked at lately, and 1 for
/// each link.
pub(super) async fn mount(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    from: Option<&RepositoryName>,
) -> Result<bool> {
    let found = match from {
        Some(from) => {
            let link = live::find_link(store, from, id).await?;
            link.map(StandingLink::into_layer)
        }
        None => store.layer(id).await?,
    };
    let Some(found) = found else {
        return Ok(false);
    };
    // A link protects its layer from a collection only if the record was live when it was written.
    let live = match live::find_live(store, &found.id()).await {
        Ok(Some(live)) => live,
        // An upload stores a damaged record again.
        Ok(None) | Err(Error::Damaged { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let live = live.with_aliases(&found.aliases);
    if presence::present(store, &live.layer).await?.is_none() {
        return Ok(false);
    }
    // An alias of a duplicate: the record that it repeats was published without this id.
    let live = live.with_aliases(std::slice::from_ref(id));
    let aliases = live.layer.aliases.clone();
    publish::link_under(store, name, &live, &aliases).await?;
    Ok(true)
}

/// Removes the links of a layer, unless it has one of the ids `kept`. Whether they are removed.
pub(super) async fn unlink(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    kept: &BTreeSet<Digest>,
) -> Result<bool> {
    let is_kept = |id: &LayerId| id.as_digest().is_some_and(|digest| kept.contains(digest));
    if is_kept(id) {
        return Ok(false);
    }
    let key = store.keys.link(name, id);
    let Some(StoredDocument { document, etag, .. }) = store.read::<Link>(&key).await? else {
        return Ok(false);
    };
    // One that is damaged can be removed; the other ids are not known then.
    if let Ok(link) = document
        && check_link(&key, name, id, &link).is_ok()
    {
        let layer = link.layer;
        let sha256 = layer.id();
        let ids = std::iter::once(&sha256).chain(&layer.aliases);
        if ids.clone().any(is_kept) {
            return Ok(false);
        }
        for other in ids.filter(|other| *other != id) {
            unlink_other(store, name, other, &layer).await?;
        }
    }
    // The one that was asked for goes last, so that a repeated call continues.
    store.remove(&key, &etag).await?;
    Ok(true)
}

/// Removes the link of a layer under another of its ids. A TarSum can be that of another layer.
async fn unlink_other(
    store: &Store,
    name: &RepositoryName,
    id: &LayerId,
    layer: &StoredLayer,
) -> Result<()> {
    let key = store.keys.link(name, id);
    let Some(StoredDocument { document, etag, .. }) = store.read::<Link>(&key).await? else {
        return Ok(());
    };
    match document {
        Ok(link) if link.layer.digest != layer.digest => Ok(()),
        _ => store.remove(&key, &etag).await,
    }
}
