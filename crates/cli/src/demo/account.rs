//! What the demo cost: the requests by kind and the bytes, of each process and together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::child::Said;
use crate::failure::Failure;
use crate::output::{Output, grouped};
use s3layers::Usage;

/// The widest name of a row, and of a figure: five of them fit into 80 columns.
const NAME: usize = 23;
const FIGURE: usize = 11;

/// What each process asked of the store.
pub(super) struct Account {
    columns: Vec<Said>,
}

/// What all of them asked together.
#[derive(Serialize)]
pub(super) struct Total {
    requests: u64,
    requests_by_operation: BTreeMap<String, u64>,
    bytes_sent: u64,
    bytes_received: u64,
}

impl Account {
    /// Of the pushes, and of this process.
    pub(super) fn new(pushes: &[Said], here: Usage) -> Self {
        let mut columns = pushes.to_vec();
        columns.push(Said {
            requests_by_operation: here
                .requests_by_operation
                .into_iter()
                .map(|(kind, count)| (kind.to_owned(), count))
                .collect(),
            bytes_sent: here.bytes_sent,
            bytes_received: here.bytes_received,
            ..Said::default()
        });
        Account { columns }
    }

    pub(super) fn total(&self) -> Total {
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for column in &self.columns {
            for (kind, count) in &column.requests_by_operation {
                *kinds.entry(kind.clone()).or_default() += count;
            }
        }
        Total {
            requests: kinds.values().sum(),
            requests_by_operation: kinds,
            bytes_sent: self.columns.iter().map(|column| column.bytes_sent).sum(),
            bytes_received: self
                .columns
                .iter()
                .map(|column| column.bytes_received)
                .sum(),
        }
    }

    pub(super) fn print(&self, output: Output) -> Result<(), Failure> {
        output.say("")?;
        let processes = (1..self.columns.len()).map(|number| number.to_string());
        let names = processes.chain(["here".to_owned(), "together".to_owned()]);
        let names: String = names.map(|name| format!("{name:>FIGURE$}")).collect();
        output.say(format_args!("{:<NAME$}{names}", "process"))?;
        for kind in self.total().requests_by_operation.keys() {
            let count = |said: &Said| said.requests_by_operation.get(kind).copied();
            self.row(output, kind, |said| count(said).unwrap_or(0))?;
        }
        self.row(output, "requests", |said| {
            said.requests_by_operation.values().sum()
        })?;
        self.row(output, "bytes sent", |said| said.bytes_sent)?;
        self.row(output, "bytes received", |said| said.bytes_received)
    }

    fn row(
        &self,
        output: Output,
        name: &str,
        figure: impl Fn(&Said) -> u64,
    ) -> Result<(), Failure> {
        let figures: Vec<u64> = self.columns.iter().map(figure).collect();
        let together = figures.iter().sum();
        let figures = figures.into_iter().chain([together]);
        let figures: String = figures
            .map(|figure| format!("{:>FIGURE$}", grouped(figure)))
            .collect();
        output.say(format_args!("{name:<NAME$}{figures}"))
    }
}
