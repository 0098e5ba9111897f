//! Which images cannot be pulled because of what is left.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;

use super::look::Subject;
use super::plan::DefectKind;
use super::{BrokenImage, Check, Found};
use crate::error::Result;
use crate::manifest;
use crate::name::{RepositoryName, Tag};
use crate::s3::repositories;
use s3layers_tarsum::Digest;

/// # Cost
///
/// For each repository with a broken manifest, 1 request for each manifest, 1 for a thousand tags and manifests, and 1 for
/// each tag of a broken one. 1 for each tag to nothing.
pub(super) async fn images(check: &Check<'_>, left: &[Found]) -> Result<Vec<BrokenImage>> {
    use DefectKind::*;
    let mut images = Vec::new();
    let mut broken: BTreeMap<&RepositoryName, BTreeSet<Digest>> = BTreeMap::new();
    for (subject, kinds) in left {
        let is_broken = |kind: &DefectKind| {
            matches!(kind, ContentMissing | LayerNotLinked | ManifestUnreadable)
        };
        let (name, digest) = match subject {
            Subject::Manifest(name, digest) if kinds.iter().any(is_broken) => {
                (name, Some(digest.clone()))
            }
            Subject::Tag(name, tag) if kinds.contains(&TagToNothing) => {
                (name, repositories::tag(check.store, name, tag).await?)
            }
            Subject::Tag(name, tag) if kinds.contains(&TagUnreadable) => {
                images.push(BrokenImage {
                    name: name.clone(),
                    digest: None,
                    tags: vec![tag.clone()],
                });
                continue;
            }
            _ => continue,
        };
        broken.entry(name).or_default().extend(digest);
    }
    for (name, mut digests) in broken {
        add_indexes(check, name, &mut digests).await?;
        let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        for named in repositories::tags_of(check.store, name, &digests).await? {
            tags.entry(named.manifest).or_default().push(named.tag);
        }
        images.extend(digests.into_iter().map(|digest| BrokenImage {
            tags: tags.remove(&digest).unwrap_or_default(),
            name: name.clone(),
            digest: Some(digest),
        }));
    }
    Ok(images)
}

/// Adds the indexes that need one of these, at every depth.
async fn add_indexes(
    check: &Check<'_>,
    name: &RepositoryName,
    broken: &mut BTreeSet<Digest>,
) -> Result<()> {
    let mut indexes: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
    let mut digests = Box::pin(repositories::digests(check.store, name));
    while let Some(digest) = digests.try_next().await? {
        let manifest = match repositories::manifest(check.store, name, &digest).await {
            // It is broken already.
            Err(error) if error.is_unreadable() => continue,
            read => check.or_unchecked(&Subject::Manifest(name.clone(), digest.clone()), read)?,
        };
        let Some(manifest) = manifest else { continue };
        let children = manifest::children(&manifest.bytes);
        if !children.is_empty() {
            indexes.insert(digest, children);
        }
    }
    loop {
        let parents = indexes.iter().filter(|(digest, children)| {
            !broken.contains(digest) && children.iter().any(|child| broken.contains(child))
        });
        let parents: Vec<Digest> = parents.map(|(digest, _)| digest.clone()).collect();
        if parents.is_empty() {
            return Ok(());
        }
        broken.extend(parents);
    }
}
