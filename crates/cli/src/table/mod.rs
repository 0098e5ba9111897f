//! Tables: columns that fit the window on a terminal; in a pipe a line for each row, its fields
//! separated by tabs, in full and exact, without a header.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use super::failure::Failure;
use super::human;
use super::output::Output;

mod plan;

use plan::Layout;
pub(super) use plan::{Cell, Column, Gives};

/// What a command that prints tables says of them.
pub(super) const IN_A_PIPE: &str = "\
On a terminal this is a table that fits the window: where that is narrow, ids are shortened and \
columns left out. In a pipe each line is a row of fields separated by tabs, without a header: ids \
in full, sizes in bytes, times as RFC 3339 has them, and a dash for what is not there.";

/// As wide as a terminal that does not say how wide it is.
const USUAL_WINDOW: usize = 80;
/// How many rows share the widths of their columns. The first ones wait for each other.
const ROWS_AT_ONCE: usize = 200;

/// A column of words.
pub(super) const fn words(title: &'static str, gives: Gives) -> Column {
    Column {
        title,
        to_the_right: false,
        gives,
    }
}

/// A column of numbers.
pub(super) const fn numbers(title: &'static str, gives: Gives) -> Column {
    Column {
        title,
        to_the_right: true,
        gives,
    }
}

impl Cell {
    fn new(raw: impl Display, text: impl Into<String>) -> Self {
        Cell {
            raw: raw.to_string(),
            text: text.into(),
            short: None,
        }
    }

    /// A text; what a terminal or a reader of fields would act on is left out of it.
    pub(super) fn text(text: impl Display) -> Self {
        let text = text.to_string();
        let text = text.replace(|c: char| c.is_control(), " ");
        match text.is_empty() {
            true => Cell::new("-", ""),
            false => Cell::new(&text, &*text),
        }
    }

    /// There is nothing to tell.
    pub(super) fn none() -> Self {
        Cell::text("-")
    }

    /// A digest or a TarSum.
    pub(super) fn id(id: impl Display) -> Self {
        /// Hex digits that two of a person's layers do not share.
        const ENOUGH: usize = 12;
        let id = id.to_string();
        let hex = id.rfind(':').map_or(0, |colon| colon + 1);
        Cell {
            short: id.get(..hex + ENOUGH).map(str::to_owned),
            ..Cell::text(id)
        }
    }

    /// A size in bytes.
    pub(super) fn size(bytes: u64) -> Self {
        Cell::new(bytes, human::size(bytes))
    }

    /// When something happened, told as how long ago that was.
    pub(super) fn ago(then: SystemTime, now: SystemTime) -> Self {
        Cell::new(human::timestamp(then), human::ago(then, now))
    }

    /// When something happened, which was so long ago by the clock that told it.
    pub(super) fn age(then: SystemTime, age: Duration) -> Self {
        Cell::new(human::timestamp(then), human::age(age))
    }
}

/// A table as it is printed, a few rows at a time.
pub(super) struct Table {
    output: Output,
    columns: &'static [Column],
    kind: Option<&'static str>,
    /// In characters; `None` where nobody looks.
    window: Option<usize>,
    rows: Vec<Vec<Cell>>,
    has_header: bool,
    left_out: Vec<&'static str>,
}

impl Table {
    pub(super) fn new(output: Output, columns: &'static [Column]) -> Self {
        Table {
            output,
            columns,
            kind: None,
            window: window(),
            rows: Vec::new(),
            has_header: false,
            left_out: Vec::new(),
        }
    }

    /// In a pipe, each line begins with this field: other tables follow.
    pub(super) fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The next row, a cell for each column. For people and pipes; `--json` is the caller's.
    pub(super) fn row(&mut self, cells: Vec<Cell>) -> Result<(), Failure> {
        if self.window.is_none() {
            let fields = cells.iter().map(|cell| cell.raw.as_str());
            let fields: Vec<_> = self.kind.into_iter().chain(fields).collect();
            return self.output.say(fields.join("\t"));
        }
        self.rows.push(cells);
        match self.rows.len() < ROWS_AT_ONCE {
            true => Ok(()),
            false => self.print(),
        }
    }

    /// Prints what is left.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.print()?;
        if !self.left_out.is_empty() {
            self.output.note(format_args!(
                "the window is too narrow for {}; --json tells all",
                self.left_out.join(" and ")
            ));
        }
        Ok(())
    }

    fn print(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.rows);
        let Some(window) = self.window.filter(|_| !rows.is_empty()) else {
            return Ok(());
        };
        let layout = Layout::of(self.columns, &rows, window);
        for (column, width) in self.columns.iter().zip(&layout.widths) {
            if width.is_none() && !self.left_out.contains(&column.title) {
                self.left_out.push(column.title);
            }
        }
        if !self.has_header {
            self.has_header = true;
            self.output.say(layout.header(self.columns))?;
        }
        for row in &rows {
            self.output.say(layout.row(self.columns, row))?;
        }
        Ok(())
    }
}

/// How wide the terminal is that stdout is; `None` where it is none.
fn window() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let told = std::env::var("COLUMNS").ok();
    let told = told.and_then(|columns| columns.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
        Some(usize::from(size.ws_col))
    };
    let window = told.or_else(asked).filter(|&columns| columns > 0);
    Some(window.unwrap_or(USUAL_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let hex = "0123456789ab".repeat(6);
        let then = SystemTime::UNIX_EPOCH;
        for (cell, raw, text, short) in [
            (
                Cell::text("a\tb\u{1b}[31m\n"),
                "a b [31m ",
                "a b [31m ",
                None,
            ),
            (Cell::text(""), "-", "", None),
            (Cell::none(), "-", "-", None),
            (Cell::size(1536), "1536", "1.5 KiB", None),
            (
                Cell::ago(then, then + Duration::from_secs(7200)),
                "1970-01-01T00:00:00Z",
                "2 h ago",
                None,
            ),
            (
                Cell::age(then, Duration::from_secs(7200)),
                "1970-01-01T00:00:00Z",
                "2 h",
                None,
            ),
            (
                Cell::id(format_args!("tarsum.v1+sha256:{hex}")),
                &*format!("tarsum.v1+sha256:{hex}"),
                &*format!("tarsum.v1+sha256:{hex}"),
                Some("tarsum.v1+sha256:0123456789ab"),
            ),
        ] {
            let told = (&*cell.raw, &*cell.text, cell.short.as_deref());
            assert_eq!(told, (raw, text, short));
        }
    }
}
