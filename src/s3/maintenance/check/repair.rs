//! Repairs, from the bottom up: conditional writes of what follows from the rest.

use super::look::{self, Subject};
use super::plan::DefectKind;
use super::{Check, Found};
use crate::clock::Moment;
use crate::error::Result;
use crate::id::LayerId;
use crate::manifest;
use crate::name::RepositoryName;
use crate::s3::bucket::{live, presence};
use crate::s3::format::keys::Key;
use crate::s3::format::record::{Alias, Link};
use crate::s3::repositories;
use crate::s3::{names, publish};
use s3layers_tarsum::Digest;

/// Repairs what can be derived. Whether anything was tried.
pub(super) async fn all(check: &Check<'_>, found: &[Found]) -> Result<bool> {
    let each = found
        .iter()
        .flat_map(|(subject, kinds)| kinds.iter().map(move |kind| (*kind, subject)));
    let mut repairs: Vec<_> = each.filter(|(kind, _)| kind.is_derived()).collect();
    repairs.sort_by_key(|(kind, _)| *kind);
    for (kind, subject) in &repairs {
        let repaired = Box::pin(one(check, *kind, subject)).await;
        match repaired {
            // What it is derived from is damaged as well: it is left.
            Err(error) if error.is_unreadable() => {
                tracing::warn!(?kind, %error, "could not repair")
            }
            repaired => check.or_unchecked(subject, repaired)?,
        }
    }
    Ok(!repairs.is_empty())
}

async fn one(check: &Check<'_>, kind: DefectKind, subject: &Subject) -> Result<()> {
    let store = check.store;
    match (kind, subject) {
        (DefectKind::EtagChanged, Subject::Record(digest)) => {
            let layer = store.layer(&digest.clone().into()).await?;
            if let Some(layer) = layer
                && let Some(now) = look::with_proven_etags(check, &layer).await?
            {
                presence::record_etags(store, &now).await?;
            }
            Ok(())
        }
        (DefectKind::AliasMissing, Subject::Record(digest)) => {
            if let Some(live) = live::find_live(store, &digest.clone().into()).await? {
                for id in &live.layer.aliases {
                    publish::put_alias(store, &live.layer, id).await?;
                }
            }
            Ok(())
        }
        (DefectKind::AliasToNothing, Subject::Alias(key)) => {
            let Some(alias) = store.load::<Alias>(key).await? else {
                return Ok(());
            };
            // A push may have written the record since; a later one replaces the alias.
            match store.record(&alias.document.layer.id()).await? {
                None => store.remove(key, &alias.etag).await,
                Some(_) => Ok(()),
            }
        }
        (DefectKind::LinkWithoutRecord | DefectKind::LinkToRemovedLayer, Subject::Link(_, key)) => {
            record_from_link(check, key).await
        }
        (DefectKind::LayerNotLinked, Subject::Manifest(name, digest)) => {
            link_named_layers(check, name, digest).await
        }
        (DefectKind::ReferrerMissing, Subject::Manifest(name, digest)) => {
            repositories::restore_referrer(store, name, digest).await
        }
        (DefectKind::MarkerMissing, Subject::Marker(name)) => {
            names::entry(store, name, async { Ok(()) }).await
        }
        (DefectKind::StaleMarker, Subject::LiveMarker(name)) => {
            let removal = names::removal(store, name, async { Ok(false) });
            removal.await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Only where all of its bytes are there. A record that a collection has set to dead is written back to live, as by a push;
/// one that is purging stays.
async fn record_from_link(check: &Check<'_>, key: &Key) -> Result<()> {
    let store = check.store;
    let Some(link) = store.load::<Link>(key).await? else {
        return Ok(());
    };
    let layer = link.document.layer;
    let live_at = Moment::now();
    if presence::look(store, &layer).await? {
        let until = Some((live_at, store.times().look()));
        publish::publish(store, &layer, until).await?;
    }
    Ok(())
}

/// The links that a manifest needs, of layers that are there.
async fn link_named_layers(
    check: &Check<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<()> {
    let store = check.store;
    let Some(manifest) = repositories::manifest(store, name, digest).await? else {
        return Ok(());
    };
    for needed in manifest::needed(&manifest.bytes) {
        let id = LayerId::from(needed);
        let link = live::find_link(store, name, &id).await;
        let is_linked = matches!(link, Ok(Some(link)) if link.layer().has_id(&id));
        let own = if is_linked {
            None
        } else {
            store.own_id(&id).await?
        };
        let Some(own) = own else { continue };
        if look::is_unlinked(check, name, &own).await? {
            continue;
        }
        if let Some(live) = live::find_live(store, &own).await?
            && presence::look(store, &live.layer).await?
        {
            publish::link_found(store, name, &live, &id).await?;
        }
    }
    Ok(())
}
