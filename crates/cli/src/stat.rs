//! `stat`: what is known of one layer, and whether its bytes are there.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::output::grouped;
use super::place::Absent;
use super::wanted::Wanted;
use super::{Context, human};
use s3layers::{Digest, Error, LayerId, LayerObject, LayerStat, RepositoryName, clock};

/// Show what is stored of a layer
///
/// Asks the store whether the object that has its bytes is there, with the size, the ETag and,
/// where the store has one, the checksum that were recorded. The bytes are not read: `pull` does
/// that, and checks them all. Exits with 1 where the layer is unknown, or the object is not as it
/// was recorded.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// Show this layer: a digest, its beginning, or a TarSum
    id: Wanted,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// The layer.
    Layer {
        digest: &'a Digest,
        also: &'a [LayerId],
        size: u64,
        created_at: Timestamp,
        repository: &'a RepositoryName,
        objects: Vec<Object<'a>>,
        /// What is wrong with the object; null where nothing is.
        damage: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct Object<'a> {
    key: &'a str,
    etag: &'a str,
    size: u64,
}

impl<'a> From<&'a LayerObject> for Object<'a> {
    fn from(object: &'a LayerObject) -> Self {
        Object {
            key: &object.key,
            etag: &object.etag,
            size: object.size,
        }
    }
}

impl Stat {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let id = self.id.resolve(&service).await?;
        let stat = service.stat(&id).await?;
        let LayerStat { info, damage, .. } = &stat;
        for line in lines(&stat) {
            context.output.say(line)?;
        }
        context.output.event(&Event::Layer {
            digest: &info.digest,
            also: &info.aliases,
            size: info.size,
            created_at: human::timestamp(info.created_at),
            repository: &info.name,
            objects: info.objects.iter().map(Object::from).collect(),
            damage: damage.as_deref(),
        })?;
        match damage {
            None => Ok(()),
            Some(reason) => {
                let damaged = Failure::from(Error::Damaged {
                    key: info.digest.to_string(),
                    reason: reason.clone(),
                });
                Err(damaged
                    .context(format_args!("layer {} is damaged", info.digest))
                    .hint("push the same bytes to store them again"))
            }
        }
    }
}

fn lines(stat: &LayerStat) -> Vec<String> {
    let LayerStat { info, damage, .. } = stat;
    let also = info.aliases.iter().map(|id| format!("also     {id}"));
    let mut lines = vec![format!("digest   {}", info.digest)];
    lines.extend(also);
    lines.extend([
        format!(
            "size     {} ({} bytes)",
            human::size(info.size),
            grouped(info.size)
        ),
        format!(
            "created  {} ({:.0}), first in {}",
            human::ago(info.created_at, clock::now()),
            human::timestamp(info.created_at),
            info.name
        ),
    ]);
    if info.objects.is_empty() {
        lines.push("object   none: the record holds the bytes".to_owned());
    }
    for object in &info.objects {
        let size = grouped(object.size);
        lines.push(format!("object   {} ({size} bytes)", object.key));
        lines.push(format!("etag     {}", object.etag));
    }
    lines.push(match damage {
        None => "state    all bytes are there".to_owned(),
        Some(damage) => format!("state    DAMAGED: {damage}"),
    });
    lines
}
