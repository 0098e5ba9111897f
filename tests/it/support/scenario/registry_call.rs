//! Calls of a registry other than uploads, as steps of a scenario.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use s3layers::{Error, LayerId, RepositoryName, S3LayerService, Tag};
use s3layers_registry::{Manifest, RepositoryService as _};
use tokio::io::AsyncReadExt as _;

use super::table::{Scenario, Step};
use crate::support::bytes::sha256;
use crate::support::stores::name;

/// One call of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryCall {
    /// Mounts the scenario's layer from the repository that has it.
    Mount,
    Unlink,
    /// Reads the scenario's layer from the repository.
    Layer,
    Put(Doc),
    Tag(Doc),
    /// Expects the tag to name this manifest, and the manifest to be unchanged.
    Look(Doc),
    /// Expects the signature among the referrers of the image.
    Referrers,
    Untag,
    Delete(Doc),
}

use RegistryCall::*;

/// A manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doc {
    Image,
    /// Its subject is the image.
    Signature,
}

impl Doc {
    fn manifest(self) -> Manifest {
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let (bytes, subject) = match self {
            Doc::Image => (Bytes::from_static(b"{\"an\":\"image\"}"), None),
            Doc::Signature => {
                let image = Doc::Image.manifest().digest;
                (format!("{{\"of\":\"{image}\"}}").into(), Some(image))
            }
        };
        Manifest {
            digest: sha256(&bytes),
            media_type,
            bytes,
            subject,
            artifact_type: None,
            annotations: [("key".to_owned(), "value".to_owned())].into(),
        }
    }

    /// Its key in the bucket, and those of its referrers.
    fn keys(self) -> Vec<String> {
        let hex = |doc: Doc| doc.manifest().digest.hex().to_owned();
        let mut keys = vec![format!("{}/_manifests/sha256/{}", root(), hex(self))];
        if self == Doc::Signature {
            let (image, own) = (hex(Doc::Image), hex(self));
            let referrers = format!("{}/_referrers/sha256/{image}", root());
            // The hash of no artifact type.
            keys.push(format!("{referrers}/e3b0c442-sha256-{own}"));
        }
        keys
    }
}

fn tag() -> Tag {
    "latest".parse().unwrap()
}

fn root() -> String {
    format!("repositories/{}", name())
}

/// Longer than any cache entry is used.
const A_WHILE: Duration = Duration::from_secs(10);

pub async fn run(
    service: &S3LayerService,
    scenario: &Scenario,
    call: RegistryCall,
) -> Result<(), Error> {
    let content = scenario.content();
    let id = LayerId::from(content.sha256);
    // Young entries of a cache would be used instead of the store.
    tokio::time::sleep(A_WHILE).await;
    match call {
        Mount => {
            let first: RepositoryName = "library/first".parse().unwrap();
            assert!(service.mount(&name(), &id, Some(&first)).await?);
        }
        Unlink => assert!(service.unlink(&name(), &id).await?),
        Layer => {
            let mut layer = service.layer(&name(), &id).await?;
            let mut got = Vec::new();
            layer.read_to_end(&mut got).await.map_err(Error::from_io)?;
            assert!(got == content.bytes, "{id} has other bytes");
        }
        Put(doc) => service.put_manifest(&name(), &doc.manifest()).await?,
        Tag(doc) => {
            let digest = doc.manifest().digest;
            service.put_tag(&name(), &tag(), &digest).await?;
        }
        Look(doc) => {
            let want = doc.manifest();
            let named = service.tag(&name(), &tag()).await?;
            assert_eq!(named.as_ref(), Some(&want.digest));
            let found = service.manifest(&name(), &want.digest).await?;
            assert_eq!(found, Some(want));
            let tags = service.tags(&name(), None, 10).await?.unwrap();
            assert_eq!(tags.items, [tag()]);
            let all = service.repositories(None, 10).await?;
            assert_eq!(all.items, [name()]);
        }
        Referrers => {
            let image = Doc::Image.manifest().digest;
            let page = service
                .referrers(&name(), &image, None, None, 10, usize::MAX)
                .await?;
            let digests: Vec<_> = page.items.into_iter().map(|one| one.digest).collect();
            assert_eq!(digests, [Doc::Signature.manifest().digest]);
        }
        Untag => assert!(service.delete_tag(&name(), &tag()).await?),
        Delete(doc) => {
            let digest = doc.manifest().digest;
            assert!(service.delete_manifest(&name(), &digest).await?);
        }
    }
    Ok(())
}

/// Whether the scenario's layer is linked in the end; `None` if no call decides it.
pub fn is_linked(scenario: &Scenario) -> Option<bool> {
    let mut linked = None;
    for step in scenario.steps {
        match step {
            Step::Call(Mount) => linked = Some(true),
            Step::Call(Unlink) => linked = Some(false),
            _ => {}
        }
    }
    linked
}

/// The keys of all manifests, tags and referrers in the end.
pub fn keys(scenario: &Scenario) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let tag_key = format!("{}/_tags/{}", root(), tag());
    let mut named = None;
    for step in scenario.steps {
        match step {
            Step::Call(Put(doc)) => keys.extend(doc.keys()),
            Step::Call(Tag(doc)) => named = Some(*doc),
            Step::Call(Untag) => named = None,
            Step::Call(Delete(doc)) => {
                let gone = doc.keys();
                keys.retain(|key| !gone.contains(key));
                named = named.filter(|named| named != doc);
            }
            _ => {}
        }
    }
    keys.extend(named.map(|_| tag_key));
    keys
}
