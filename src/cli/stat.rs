//! `stat`: what is known of one layer, and whether its bytes are there.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::output::grouped;
use super::place::Absent;
use super::wanted::Wanted;
use super::{Context, human};
use crate::clock;
use crate::digest::Digest;
use crate::error::Error;
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::s3::LayerStat;

/// Tell what is known of a layer
///
/// Asks the store whether the object that has its bytes is there, with the size, the ETag and,
/// where the store has one, the checksum that were recorded. The bytes are not read: `pull` does
/// that, and checks them all. Exits with 1 where the layer is unknown, or the object is not as it
/// was recorded.
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// The layer: sha256:…, sha512:…, the first digits of one, or a TarSum
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
        object: &'a str,
        etag: &'a str,
        /// What is wrong with the object; null where nothing is.
        damage: Option<&'a str>,
    },
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
            also: &info.also,
            size: info.size,
            created_at: human::timestamp(info.created_at),
            repository: &info.name,
            object: &info.data_key,
            etag: &info.etag,
            damage: damage.as_deref(),
        })?;
        match damage {
            None => Ok(()),
            Some(reason) => {
                let damaged = Failure::from(Error::Damaged {
                    key: info.data_key.clone(),
                    reason: reason.clone(),
                });
                Err(damaged
                    .context(format_args!("layer {} is damaged", info.digest))
                    .hint("a push of the same bytes, without --id, stores them anew"))
            }
        }
    }
}

fn lines(stat: &LayerStat) -> Vec<String> {
    let LayerStat { info, damage, .. } = stat;
    let also = info.also.iter().map(|id| format!("also     {id}"));
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
        format!("object   {}", info.data_key),
        format!("etag     {}", info.etag),
        match damage {
            None => "state    the object is there, as it was recorded".to_owned(),
            Some(damage) => format!("state    DAMAGED: {damage}"),
        },
    ]);
    lines
}
