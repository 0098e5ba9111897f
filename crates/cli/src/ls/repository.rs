//! The content of a repository: tags, manifests, layers and configs, in this order, so that it is known
//! which manifests are tagged and which layers are configs. Their digests and the rows of configs are
//! kept in memory.

use std::collections::HashSet;
use std::pin::pin;

use futures_util::stream::{self, StreamExt as _};
use serde::{Deserialize, Serialize};

use super::{Blob, Count};
use crate::Context;
use crate::failure::Failure;
use crate::table::{Cell, Column, Table, number, text};
use crate::uploads::reason;
use s3layers::{Digest, Manifest, RepositoryName, RepositoryService as _, S3LayerService, Tag};

const TAGS: [Column; 3] = [text("TAG"), text("MANIFEST"), text("NOTE")];
const MANIFESTS: [Column; 4] = [
    text("MANIFEST"),
    number("SIZE"),
    text("MEDIA TYPE"),
    text("NOTE"),
];
const LAYERS: [Column; 4] = blobs("LAYER");
const CONFIGS: [Column; 4] = blobs("CONFIG");

const fn blobs(title: &'static str) -> [Column; 4] {
    [text(title), number("SIZE"), number("CREATED"), text("NOTE")]
}

/// Tags of a page.
const TAGS_AT_ONCE: usize = 1000;
/// Tags that are read concurrently.
const READS_AT_ONCE: usize = 8;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Tag {
        tag: &'a str,
        manifest: Option<&'a Digest>,
        error: Option<&'a str>,
    },
    Manifest {
        digest: &'a Digest,
        size: Option<usize>,
        media_type: Option<&'a str>,
        artifact_type: Option<&'a str>,
        /// The manifest to which it refers.
        subject: Option<&'a Digest>,
        tagged: bool,
        error: Option<&'a str>,
    },
    Layer(Blob<'a>),
    Config(Blob<'a>),
}

/// Lists one repository.
pub(super) async fn list(
    service: &S3LayerService,
    name: &RepositoryName,
    context: &Context,
) -> Result<Count, Failure> {
    if service.tags(name, None, 1).await?.is_none() {
        let list = context.command_line(&["ls"]);
        let unknown = format!("there is no repository {name} in {}", context.store_url);
        return Err(Failure::new(unknown).hint(format!("to list repositories: {list}")));
    }
    let mut listing = Listing {
        service,
        name,
        context,
        count: Count::default(),
        tagged: HashSet::new(),
        configs: HashSet::new(),
    };
    listing.tags().await?;
    listing.manifests().await?;
    listing.layers().await?;
    Ok(listing.count)
}

struct Listing<'a> {
    service: &'a S3LayerService,
    name: &'a RepositoryName,
    context: &'a Context,
    count: Count,
    /// Digests of tagged manifests.
    tagged: HashSet<Digest>,
    /// Digests of the configs of manifests.
    configs: HashSet<Digest>,
}

impl Listing<'_> {
    fn table(&self, columns: &'static [Column], kind: &'static str) -> Table {
        Table::new(self.context.output, columns).of_kind(kind)
    }

    async fn tags(&mut self) -> Result<(), Failure> {
        let (service, name) = (self.service, self.name);
        let mut table = self.table(&TAGS, "tag");
        let mut last: Option<Tag> = None;
        loop {
            let after = last.as_ref().map(Tag::as_str);
            let Some(page) = service.tags(name, after, TAGS_AT_ONCE).await? else {
                break;
            };
            last = page.items.last().filter(|_| page.more).cloned();
            let read = async |tag: Tag| (service.tag(name, &tag).await, tag);
            let mut read = pin!(stream::iter(page.items).map(read).buffered(READS_AT_ONCE));
            while let Some((manifest, tag)) = read.next().await {
                let (manifest, error) = match manifest {
                    // It was removed after the listing.
                    Ok(None) => continue,
                    Ok(Some(manifest)) => (Some(manifest), None),
                    Err(error) => (None, Some(reason(&error))),
                };
                self.context.output.event(&Event::Tag {
                    tag: tag.as_str(),
                    manifest: manifest.as_ref(),
                    error: error.as_deref(),
                })?;
                table.row(vec![
                    Cell::text(tag),
                    manifest.as_ref().map_or_else(Cell::none, Cell::id),
                    Cell::text(error.as_deref().unwrap_or_default()),
                ])?;
                self.count.add(error.is_some());
                self.tagged.extend(manifest);
            }
            if last.is_none() {
                return table.end();
            }
        }
        table.end()
    }

    async fn manifests(&mut self) -> Result<(), Failure> {
        let mut table = self.table(&MANIFESTS, "manifest");
        let mut entries = self.service.manifests_of(self.name);
        while let Some(entry) = entries.next().await {
            let entry = table.entry(entry)?;
            let tagged = self.tagged.contains(&entry.digest);
            let manifest = entry.manifest.as_ref().ok();
            let error = entry.manifest.as_ref().err().map(reason);
            let media_type = manifest.map(|manifest| manifest.media_type.as_str());
            let size = manifest.map(|manifest| manifest.bytes.len());
            self.context.output.event(&Event::Manifest {
                digest: &entry.digest,
                size,
                media_type,
                artifact_type: manifest.and_then(|manifest| manifest.artifact_type.as_deref()),
                subject: manifest.and_then(|manifest| manifest.subject.as_ref()),
                tagged,
                error: error.as_deref(),
            })?;
            let note = if tagged { "" } else { "untagged" };
            table.row(vec![
                Cell::id(&entry.digest),
                size.map_or_else(Cell::none, |size| Cell::size(size as u64)),
                media_type.map_or_else(Cell::none, Cell::text),
                Cell::text(error.as_deref().unwrap_or(note)),
            ])?;
            self.count.add(error.is_some());
            self.configs.extend(manifest.and_then(config_of));
        }
        table.end()
    }

    async fn layers(&mut self) -> Result<(), Failure> {
        let mut table = self.table(&LAYERS, "layer");
        let mut configs = self.table(&CONFIGS, "config");
        let mut rows_of_configs = Vec::new();
        let mut layers = self.service.layers_of(self.name);
        let mut failure = None;
        while let Some(layer) = layers.next().await {
            let layer = match layer {
                Ok(layer) => layer,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let error = layer.info.as_ref().err().map(reason);
            let blob = Blob::new(&layer, error.as_deref());
            let mut cells = Blob::cells(&layer);
            cells.push(Cell::text(error.as_deref().unwrap_or_default()));
            self.count.add(error.is_some());
            if self.configs.contains(&layer.digest) {
                self.context.output.event(&Event::Config(blob))?;
                rows_of_configs.push(cells);
            } else {
                self.context.output.event(&Event::Layer(blob))?;
                table.row(cells)?;
            }
        }
        table.end()?;
        for cells in rows_of_configs {
            configs.row(cells)?;
        }
        configs.end()?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// The digest of a manifest's config.
fn config_of(manifest: &Manifest) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Image {
        config: Descriptor,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: Digest,
    }
    let image: Image = serde_json::from_slice(&manifest.bytes).ok()?;
    Some(image.config.digest)
}
