//! `ls`: repositories, or what one has.

use clap::Args;
use futures_util::stream::StreamExt as _;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::place::Absent;
use super::table::{Cell, Column, Gives, IN_A_PIPE, Table, numbers, words};
use super::uploads::reason;
use super::{Context, human};
use s3layers::{
    Digest, LayerEntry, LayerId, LayerInfo, RepositoryName, RepositoryService as _, S3LayerService,
    clock,
};

mod repository;

/// List repositories, or what one has
///
/// Without a repository, the name of each is a line. With one, its tags, its manifests, its layers and
/// the configs of its images are listed. A manifest that no tag names is `untagged`. In a pipe, the
/// first field of each line is `tag`, `manifest`, `layer` or `config`. A tag has its name, the digest
/// of the manifest that it names, and a note; a manifest has digest, size, media type and a note; a
/// layer or config has digest, size, when it was created, and a note. A note is `untagged`, or why
/// something could not be read. With --layers, all layers of the store are listed, and configs with
/// them, with the repository that each was first published in.
#[derive(Debug, Args)]
#[command(after_long_help = IN_A_PIPE)]
pub(super) struct Ls {
    /// List this repository, such as library/alpine
    #[arg(value_name = "REPO")]
    repository: Option<RepositoryName>,
    /// List all layers of the store
    #[arg(long, conflicts_with = "repository")]
    layers: bool,
}

const ALL_LAYERS: [Column; 5] = [
    words("LAYER", Gives::Nothing),
    numbers("SIZE", Gives::Nothing),
    numbers("CREATED", Gives::Way(1)),
    words("FIRST IN", Gives::Room(10)),
    words("NOTE", Gives::NoThought),
];

/// Repositories that are asked for at a time.
const REPOSITORIES_AT_ONCE: usize = 1000;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Repository { name: &'a RepositoryName },
    Layer(Blob<'a>),
}

/// A layer or a config. What its record says is null where that could not be read.
#[derive(Serialize)]
struct Blob<'a> {
    digest: &'a Digest,
    also: &'a [LayerId],
    size: Option<u64>,
    created_at: Option<Timestamp>,
    /// The repository that it was first published in.
    repository: Option<&'a RepositoryName>,
    error: Option<&'a str>,
}

impl<'a> Blob<'a> {
    fn new(layer: &'a LayerEntry, error: Option<&'a str>) -> Self {
        let info = layer.info.as_ref().ok();
        Blob {
            digest: &layer.digest,
            also: info.map_or(&[], |info| &info.aliases),
            size: info.map(|info| info.size),
            created_at: info.map(|info| human::timestamp(info.created_at)),
            repository: info.map(|info| &info.name),
            error,
        }
    }

    /// Digest, size and age.
    fn cells(layer: &LayerEntry) -> Vec<Cell> {
        let info = layer.info.as_ref().ok();
        let created = |info: &LayerInfo| Cell::ago(info.created_at, clock::now());
        vec![
            Cell::id(&layer.digest),
            info.map_or_else(Cell::none, |info| Cell::size(info.size)),
            info.map_or_else(Cell::none, created),
        ]
    }
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
            Some(name) => repository::list(&service, name, context).await?,
            None if self.layers => layers(&service, context).await?,
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

async fn layers(service: &S3LayerService, context: &Context) -> Result<Count, Failure> {
    let mut table = Table::new(context.output, &ALL_LAYERS);
    let mut count = Count::default();
    let mut layers = service.layers();
    while let Some(layer) = layers.next().await {
        let layer = match layer {
            Ok(layer) => layer,
            Err(error) => {
                // What was found so far stands.
                table.end()?;
                return Err(error.into());
            }
        };
        let error = layer.info.as_ref().err().map(reason);
        let blob = Blob::new(&layer, error.as_deref());
        let mut cells = Blob::cells(&layer);
        cells.push(blob.repository.map_or_else(Cell::none, Cell::text));
        cells.push(Cell::text(error.as_deref().unwrap_or_default()));
        context.output.event(&Event::Layer(blob))?;
        table.row(cells)?;
        count.add(error.is_some());
    }
    table.end()?;
    if count.all == 0 {
        let place = &context.place;
        context.output.note(format_args!("{place} has no layers"));
    }
    Ok(count)
}
