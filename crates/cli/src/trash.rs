//! `trash`: images that clients have deleted, while they can be restored.

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::format::counted;
use super::rm::Reference;
use super::store_url::Absent;
use super::sweep::age;
use super::table::{Cell, Column, HELP, Table, text};
use s3layers::{Digest, RepositoryName, RestoreError, S3LayerService, Tag};

const COLUMNS: [Column; 4] = [
    text("REPOSITORY"),
    text("DIGEST"),
    text("TAGS"),
    text("DELETED AGO"),
];

/// List, restore or forget deleted images
///
/// A manifest that a client deletes is kept with its tags. Collections free its layers 40 hours after it was
/// deleted, or later; then it cannot be restored any more, and a collection forgets it, after 132 hours at the
/// earliest. One whose layers stay is forgotten after 33 days.
#[derive(Debug, Args)]
pub(super) struct Trash {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List deleted images
    ///
    /// Also those whose layers were freed meanwhile, until a collection forgets them.
    #[command(after_long_help = HELP)]
    Ls {
        /// Only those of this repository
        #[arg(value_name = "REPO")]
        name: Option<RepositoryName>,
    },
    /// Bring back a deleted image, with its tags
    ///
    /// A tag that names another image by now stays as it is.
    Restore {
        /// Restore this image: REPO:TAG or REPO@DIGEST
        #[arg(value_name = "IMAGE")]
        image: Reference,
    },
    /// Forget deleted images: they cannot be restored any more
    ///
    /// Their bytes go with the next collections, as before.
    Empty {
        /// Forget those deleted this long ago: 24h, 30m, 0s
        #[arg(long, value_name = "AGE", default_value = "0s", value_parser = age)]
        older_than: Duration,
    },
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Deleted {
        repository: &'a RepositoryName,
        digest: &'a Digest,
        tags: &'a [Tag],
        age_seconds: u64,
        deleted_at: Option<Timestamp>,
    },
    Restored {
        repository: &'a RepositoryName,
        digest: &'a Digest,
        named: &'a [Digest],
        tags: &'a [Tag],
        taken_tags: &'a [Tag],
    },
    Emptied {
        images: u64,
    },
}

impl Trash {
    pub(super) fn only_prints(&self) -> bool {
        matches!(self.command, Command::Ls { .. })
    }

    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        match &self.command {
            Command::Ls { name } => list(context, &service, name.as_ref()).await,
            Command::Restore { image } => restore(context, &service, image).await,
            Command::Empty { older_than } => empty(context, &service, *older_than).await,
        }
    }
}

async fn list(
    context: &Context,
    service: &S3LayerService,
    name: Option<&RepositoryName>,
) -> Result<(), Failure> {
    let entries = service.trash(name).await?;
    match name {
        _ if !entries.is_empty() => {}
        None => context.output.note("the trash lists no image"),
        Some(name) => context
            .output
            .note(format_args!("nothing of {name} is listed in the trash")),
    }
    let mut table = Table::new(context.output, &COLUMNS);
    for entry in &entries {
        let tags: Vec<&str> = entry.tags.iter().map(|tag| tag.as_str()).collect();
        table.row(vec![
            Cell::text(&entry.name),
            Cell::id(&entry.digest),
            Cell::text(tags.join(",")),
            Cell::age(entry.deleted_at, entry.age),
        ])?;
        context.output.event(&Event::Deleted {
            repository: &entry.name,
            digest: &entry.digest,
            tags: &entry.tags,
            age_seconds: entry.age.as_secs(),
            deleted_at: Timestamp::try_from(entry.deleted_at).ok(),
        })?;
    }
    table.end()
}

async fn restore(
    context: &Context,
    service: &S3LayerService,
    image: &Reference,
) -> Result<(), Failure> {
    let restored = match service.restore(&image.name, &image.item).await {
        Ok(restored) => restored,
        Err(error) => {
            let failure = Failure::of(&error).context(format_args!("cannot restore {image}"));
            return Err(match error {
                RestoreError::Unknown => {
                    let list = context.command_line(&["trash", "ls"]);
                    failure.hint(format!("what can be restored: {list}"))
                }
                RestoreError::Gone { .. } => {
                    let check = context.command_line(&["check", "--read", "100%", "--repair"]);
                    failure.hint(format!(
                        "if the bucket was copied, repeat it after this, which shows what is right: {check}"
                    ))
                }
                _ => failure,
            });
        }
    };
    let name = &image.name;
    for digest in std::iter::once(&restored.digest).chain(&restored.named) {
        context.output.say(format_args!("{name}@{digest}"))?;
    }
    for tag in &restored.tags {
        context.output.say(format_args!("{name}:{tag}"))?;
    }
    for tag in &restored.taken_tags {
        context
            .output
            .note(format_args!("{name}:{tag} names another image and stays"));
    }
    context.output.event(&Event::Restored {
        repository: name,
        digest: &restored.digest,
        named: &restored.named,
        tags: &restored.tags,
        taken_tags: &restored.taken_tags,
    })
}

async fn empty(
    context: &Context,
    service: &S3LayerService,
    older_than: Duration,
) -> Result<(), Failure> {
    let images = service.empty_trash(older_than).await?;
    context
        .output
        .say(format_args!("forgotten: {}", counted(images, "image")))?;
    context.output.event(&Event::Emptied { images })
}
