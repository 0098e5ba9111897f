//! `stat`: shows the record of a layer, and whether its bytes are stored.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::layer_ref::LayerRef;
use super::output::grouped;
use super::store_url::Absent;
use super::{Context, format};
use s3layers::{Digest, Error, LayerId, LayerStat, RepositoryName, clock};

/// Show the record of a layer and check its object
///
/// Compares size, ETag and checksum of the stored object with the record. Does not read the bytes:
/// `pull` reads and verifies them. Exits with 1 if the layer is unknown, or the object differs from
/// the record.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// Show this layer: a digest, its beginning, or a TarSum
    id: LayerRef,
}

/// The layer.
#[derive(Serialize)]
#[serde(tag = "event", rename = "layer")]
struct LayerEvent<'a> {
    digest: &'a Digest,
    aliases: &'a [LayerId],
    size: u64,
    created_at: Timestamp,
    repository: &'a RepositoryName,
    objects: Vec<Object<'a>>,
    /// What is wrong with the object; null if it is intact.
    damage: Option<&'a str>,
}

#[derive(Serialize)]
struct Object<'a> {
    key: &'a str,
    etag: &'a str,
    size: u64,
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
        let objects = info.objects.iter().map(|object| Object {
            key: &object.key,
            etag: &object.etag,
            size: object.size,
        });
        context.output.event(&LayerEvent {
            digest: &info.digest,
            aliases: &info.aliases,
            size: info.size,
            created_at: format::timestamp(info.created_at),
            repository: &info.name,
            objects: objects.collect(),
            damage: damage.as_deref(),
        })?;
        match damage {
            None => Ok(()),
            Some(reason) => {
                let damaged = Failure::from(Error::Damaged {
                    key: info.digest.to_string(),
                    reason: reason.clone(),
                });
                let check = context.command_line(&["check", "--read", "100%", "--repair"]);
                Err(damaged
                    .context(format_args!("layer {} is damaged", info.digest))
                    .hint("push the same bytes to store them again")
                    .hint(format!(
                        "if the bucket was copied, this shows whether they are right: {check}"
                    )))
            }
        }
    }
}

fn lines(stat: &LayerStat) -> Vec<String> {
    let LayerStat { info, damage, .. } = stat;
    let aliases = info.aliases.iter().map(|id| format!("alias    {id}"));
    let mut lines = vec![format!("digest   {}", info.digest)];
    lines.extend(aliases);
    lines.extend([
        format!(
            "size     {} ({} bytes)",
            format::size(info.size),
            grouped(info.size)
        ),
        format!(
            "created  {} ({:.0}), first in {}",
            format::ago(info.created_at, clock::now()),
            format::timestamp(info.created_at),
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
