//! `du`: how many bytes each repository has, and shares with others.

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::format::counted;
use super::store_url::Absent;
use super::table::{Cell, Column, HELP, Table, number, text};

const REPOSITORIES: [Column; 3] = [number("BYTES"), number("OWN"), text("REPOSITORY")];
const LAYERS: [Column; 3] = [number("BYTES"), number("LAYERS"), text("WHICH")];

/// Show how many bytes each repository uses
///
/// OWN are layers that no other repository has: deleting the repository would free them. The last
/// lines are layers that no image needs, which collections free, and those that a collection has
/// removed, whose bytes are kept a while.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct Du {}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Repository {
        repository: &'a str,
        layers: u64,
        bytes: u64,
        own_bytes: u64,
    },
    Total {
        layers: u64,
        bytes: u64,
        unused_layers: u64,
        unused_bytes: u64,
        removed_layers: u64,
        removed_bytes: u64,
        tombstones: u64,
    },
}

impl Du {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let output = context.output;
        let counting = output.counting("counting", &service);
        let usage = service.space().await;
        drop(counting);
        let usage = usage?;
        let mut repositories = Table::new(output, &REPOSITORIES).of_kind("repository");
        for one in &usage.repositories {
            repositories.row(vec![
                Cell::size(one.bytes),
                Cell::size(one.own_bytes),
                Cell::text(&one.name),
            ])?;
            output.event(&Event::Repository {
                repository: one.name.as_str(),
                layers: one.layers,
                bytes: one.bytes,
                own_bytes: one.own_bytes,
            })?;
        }
        repositories.end()?;
        let mut layers = Table::new(output, &LAYERS).of_kind("total");
        for (which, count, bytes) in [
            ("all", usage.layers, usage.bytes),
            (
                "that no image needs",
                usage.unused_layers,
                usage.unused_bytes,
            ),
            (
                "removed, not free yet",
                usage.removed_layers,
                usage.removed_bytes,
            ),
        ] {
            layers.row(vec![
                Cell::size(bytes),
                Cell::text(count),
                Cell::text(which),
            ])?;
        }
        layers.end()?;
        output.note(counted(usage.tombstones, "tombstone"));
        output.event(&Event::Total {
            layers: usage.layers,
            bytes: usage.bytes,
            unused_layers: usage.unused_layers,
            unused_bytes: usage.unused_bytes,
            removed_layers: usage.removed_layers,
            removed_bytes: usage.removed_bytes,
            tombstones: usage.tombstones,
        })
    }
}
