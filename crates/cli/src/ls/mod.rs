//! `ls`: lists repositories, or the content of one.

use clap::Args;
use futures_util::stream::StreamExt as _;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::store_url::Absent;
use super::table::{Cell, Column, HELP, Table, number, text};
use super::uploads::reason;
use super::{Context, format};
use s3layers::{
    Digest, LayerEntry, LayerId, LayerInfo, RepositoryName, RepositoryService as _, S3LayerService,
    clock,
};

mod repository;

/// List repositories, or the content of one
///
/// Without a repository, prints the name of each. With one, prints its tags, manifests, layers and
/// configs. In a pipe, the first field of each line is `tag`, `manifest`, `layer` or `config`. A tag
/// has the fields name, digest of its manifest, and note; a manifest has digest, size, media type and
/// note; a layer or config has digest, size, time of creation and note. A note is `untagged`, or the
/// error of reading the entry. With --layers, prints all layers and configs of the store, each with
/// the repository in which it was first published.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct Ls {
    /// List this repository, such as library/alpine
    #[arg(value_name = "REPO")]
    repository: Option<RepositoryName>,
    /// List all layers of the store
    #[arg(long, conflicts_with = "repository")]
    layers: bool,
}

const ALL_LAYERS: [Column; 5] = [
    text("LAYER"),
    number("SIZE"),
    number("CREATED"),
    text("FIRST IN"),
    text("NOTE"),
];

/// Repositories of a page.
const REPOSITORIES_AT_ONCE: usize = 1000;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Repository { name: &'a RepositoryName },
    Layer(Blob<'a>),
}

/// A layer or a config. Fields of its record are null if that could not be read.
#[derive(Serialize)]
struct Blob<'a> {
    digest: &'a Digest,
    aliases: &'a [LayerId],
    size: Option<u64>,
    created_at: Option<Timestamp>,
    /// The repository in which it was first published.
    repository: Option<&'a RepositoryName>,
    error: Option<&'a str>,
}

impl<'a> Blob<'a> {
    fn new(layer: &'a LayerEntry, error: Option<&'a str>) -> Self {
        let info = layer.info.as_ref().ok();
        Blob {
            digest: &layer.digest,
            aliases: info.map_or(&[], |info| &info.aliases),
            size: info.map(|info| info.size),
            created_at: info.map(|info| format::timestamp(info.created_at)),
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

/// Entries that were listed, and those that could not be read.
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
        if last.is_none() && page.items.is_empty() {
            let note = format_args!("{} has no repositories", context.store_url);
            context.output.note(note);
        }
        last = page.items.last().filter(|_| page.more).cloned();
        if last.is_none() {
            return Ok(());
        }
    }
}

async fn layers(service: &S3LayerService, context: &Context) -> Result<Count, Failure> {
    let mut table = Table::new(context.output, &ALL_LAYERS);
    let mut count = Count::default();
    let mut layers = service.layers();
    while let Some(layer) = layers.next().await {
        let layer = table.entry(layer)?;
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
        let store_url = &context.store_url;
        context
            .output
            .note(format_args!("{store_url} has no layers"));
    }
    Ok(count)
}
