//! `ls`: repositories, or what one has.

use std::pin::pin;

use clap::Args;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::place::Absent;
use super::table::{Cell, Column, Gives, IN_A_PIPE, Table, numbers, words};
use super::uploads::reason;
use super::{Context, human};
use crate::clock;
use crate::digest::Digest;
use crate::error::Result as Done;
use crate::id::LayerId;
use crate::name::{RepositoryName, Tag};
use crate::registry::store::RepositoryService as _;
use crate::s3::{LayerEntry, LayerInfo, S3LayerService};

/// List repositories, or the layers and tags of one
///
/// Without a repository, the name of each is a line. With one, its layers and its tags are listed;
/// in a pipe, lines of layers begin with the field `layer` and have digest, size, when it was
/// created, and what could not be read; lines of tags begin with `tag` and have the tag, the digest
/// of the manifest that it names, and what could not be read. With --layers, all layers of the
/// store are listed, with the repository that each was first published in.
#[derive(Debug, Args)]
#[command(after_long_help = IN_A_PIPE)]
pub(super) struct Ls {
    /// The repository, such as library/alpine
    #[arg(value_name = "REPO")]
    repository: Option<RepositoryName>,
    /// List all layers, whether or not a repository has them
    #[arg(long, conflicts_with = "repository")]
    layers: bool,
}

const LAYERS_OF: [Column; 4] = [
    words("LAYER", Gives::Nothing),
    numbers("SIZE", Gives::Nothing),
    numbers("CREATED", Gives::Way(1)),
    words("NOTE", Gives::NoThought),
];
const ALL_LAYERS: [Column; 5] = [
    words("LAYER", Gives::Nothing),
    numbers("SIZE", Gives::Nothing),
    numbers("CREATED", Gives::Way(1)),
    words("FIRST IN", Gives::Room(10)),
    words("NOTE", Gives::NoThought),
];
const TAGS: [Column; 3] = [
    words("TAG", Gives::Room(16)),
    words("MANIFEST", Gives::Nothing),
    words("NOTE", Gives::NoThought),
];

/// Repositories that are asked for at a time: each costs a request before any of them is printed.
const REPOSITORIES_AT_ONCE: usize = 100;
/// Tags that are listed at a time.
const TAGS_AT_ONCE: usize = 1000;
/// Tags that are read at a time.
const READS_AT_ONCE: usize = 8;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Repository {
        name: &'a RepositoryName,
    },
    /// What its record would tell is null where that could not be read.
    Layer {
        digest: &'a Digest,
        also: &'a [LayerId],
        size: Option<u64>,
        created_at: Option<Timestamp>,
        /// That it was first published in.
        repository: Option<&'a RepositoryName>,
        error: Option<&'a str>,
    },
    Tag {
        tag: &'a str,
        manifest: Option<&'a Digest>,
        error: Option<&'a str>,
    },
}

/// What was listed, and what of it could not be read.
#[derive(Clone, Copy, Default)]
struct Count {
    all: u64,
    unreadable: u64,
}

impl Count {
    fn add(&mut self, is_unreadable: bool) {
        self.all += 1;
        self.unreadable += u64::from(is_unreadable);
    }
}

impl Ls {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let count = match &self.repository {
            Some(name) => of_repository(&service, name, context).await?,
            None if self.layers => {
                let count = layers(service.layers(), None, context).await?;
                if count.all == 0 {
                    let place = &context.place;
                    context.output.note(format_args!("{place} has no layers"));
                }
                count
            }
            None => return repositories(&service, context).await,
        };
        match count.unreadable {
            0 => Ok(()),
            unreadable => Err(Failure::new(format!(
                "{unreadable} of {} could not be read",
                count.all
            ))),
        }
    }
}

async fn repositories(service: &S3LayerService, context: &Context) -> Result<(), Failure> {
    let mut last: Option<RepositoryName> = None;
    loop {
        let after = last.as_ref().map(RepositoryName::as_str);
        let page = service.repositories(after, REPOSITORIES_AT_ONCE).await?;
        for name in &page.items {
            context.output.say(name)?;
            context.output.event(&Event::Repository { name })?;
        }
        let is_empty = last.is_none() && page.items.is_empty();
        match page.items.into_iter().next_back() {
            Some(name) if page.more => last = Some(name),
            _ if is_empty => {
                let place = &context.place;
                context
                    .output
                    .note(format_args!("{place} has no repositories"));
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}

async fn of_repository(
    service: &S3LayerService,
    name: &RepositoryName,
    context: &Context,
) -> Result<Count, Failure> {
    // Of a repository that is not there, nothing is listed.
    if service.tags(name, None, 1).await?.is_none() {
        let list = context.command_line(&["ls"]);
        let unknown = format!("there is no repository {name} in {}", context.place);
        return Err(Failure::new(unknown).hint(format!("those that are there: {list}")));
    }
    let layers = layers(service.layers_of(name), Some("layer"), context).await?;
    let tags = tags(service, name, context).await?;
    let count = Count {
        all: layers.all + tags.all,
        unreadable: layers.unreadable + tags.unreadable,
    };
    if count.all == 0 {
        context.output.note(format_args!(
            "{name} has manifests, and neither layers nor tags"
        ));
    }
    Ok(count)
}

/// Lists layers, as those of one repository where they are of a `kind`.
async fn layers(
    mut layers: BoxStream<'static, Done<LayerEntry>>,
    kind: Option<&'static str>,
    context: &Context,
) -> Result<Count, Failure> {
    let mut table = match kind {
        Some(kind) => Table::new(context.output, &LAYERS_OF).of_kind(kind),
        None => Table::new(context.output, &ALL_LAYERS),
    };
    let mut count = Count::default();
    while let Some(layer) = layers.next().await {
        let layer = match layer {
            Ok(layer) => layer,
            Err(error) => {
                // What was found so far stands.
                table.end()?;
                return Err(error.into());
            }
        };
        let (info, error) = match &layer.info {
            Ok(info) => (Some(info), None),
            Err(error) => (None, Some(reason(error))),
        };
        context.output.event(&Event::Layer {
            digest: &layer.digest,
            also: info.map_or(&[], |info| &info.aliases),
            size: info.map(|info| info.size),
            created_at: info.map(|info| human::timestamp(info.created_at)),
            repository: info.map(|info| &info.name),
            error: error.as_deref(),
        })?;
        table.row(layer_row(
            &layer.digest,
            info,
            kind.is_none(),
            error.as_deref(),
        ))?;
        count.add(error.is_some());
    }
    table.end()?;
    Ok(count)
}

fn layer_row(
    digest: &Digest,
    info: Option<&LayerInfo>,
    with_repository: bool,
    error: Option<&str>,
) -> Vec<Cell> {
    let created = |info: &LayerInfo| Cell::ago(info.created_at, clock::now());
    let mut cells = vec![
        Cell::id(digest),
        info.map_or_else(Cell::none, |info| Cell::size(info.size)),
        info.map_or_else(Cell::none, created),
    ];
    if with_repository {
        cells.push(info.map_or_else(Cell::none, |info| Cell::text(&info.name)));
    }
    cells.push(Cell::text(error.unwrap_or_default()));
    cells
}

async fn tags(
    service: &S3LayerService,
    name: &RepositoryName,
    context: &Context,
) -> Result<Count, Failure> {
    let mut table = Table::new(context.output, &TAGS).of_kind("tag");
    let mut count = Count::default();
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
                // It was removed since it was listed.
                Ok(None) => continue,
                Ok(Some(manifest)) => (Some(manifest), None),
                Err(error) => (None, Some(reason(&error))),
            };
            context.output.event(&Event::Tag {
                tag: tag.as_str(),
                manifest: manifest.as_ref(),
                error: error.as_deref(),
            })?;
            table.row(vec![
                Cell::text(tag),
                manifest.map_or_else(Cell::none, Cell::id),
                Cell::text(error.as_deref().unwrap_or_default()),
            ])?;
            count.add(error.is_some());
        }
        if last.is_none() {
            break;
        }
    }
    table.end()?;
    Ok(count)
}
