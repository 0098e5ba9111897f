//! Tables. On a terminal the columns fit the window. In a pipe each row is one line of exact fields,
//! separated by tabs, without a header.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use super::failure::Failure;
use super::format;
use super::output::Output;
use s3layers::Error;

/// The part of a command's help that describes its tables.
pub(super) const HELP: &str = "\
On a terminal this is a table that fits the window: ids are shortened if it is narrow. In a pipe each \
line is a row of fields separated by tabs, without a header: ids in full, sizes in bytes, times in \
the form of RFC 3339, and a dash for a missing value. Where a command prints several tables, the first \
field says to which one a row belongs.";

/// The width of a terminal that does not report one.
const DEFAULT_WIDTH: u16 = 80;
/// Rows whose columns are aligned with each other; the first ones wait for the last one.
const CHUNK: usize = 200;
/// So much of a name in a first column is on one line, and all of a UUID.
const NAME: u16 = 36;
/// Before and after a cell.
const PADDING: (u16, u16) = (0, 2);
/// Hex digits of a short id.
const SHORT_ID: usize = 12;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    is_number: bool,
}

pub(super) const fn text(title: &'static str) -> Column {
    let is_number = false;
    Column { title, is_number }
}

pub(super) const fn number(title: &'static str) -> Column {
    let is_number = true;
    Column { title, is_number }
}

/// A value in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// For programs: never empty, and without tabs.
    pub(super) raw: String,
    /// For people.
    pub(super) text: String,
    /// A shorter text for a narrow window.
    short: Option<String>,
}

impl Cell {
    fn new(raw: impl Display, text: impl Into<String>) -> Self {
        Cell {
            raw: raw.to_string(),
            text: text.into(),
            short: None,
        }
    }

    /// A text without the characters that a terminal or a reader of fields would interpret.
    pub(super) fn text(text: impl Display) -> Self {
        let text = text.to_string().replace(|c: char| c.is_control(), " ");
        let raw = if text.is_empty() { "-" } else { &text };
        Cell::new(raw, text.clone())
    }

    /// A missing value.
    pub(super) fn none() -> Self {
        Cell::text("-")
    }

    /// A digest or a TarSum.
    pub(super) fn id(id: impl Display) -> Self {
        let cell = Cell::text(id);
        let hex = cell.text.rfind(':').map_or(0, |colon| colon + 1);
        Cell {
            short: cell.text.get(..hex + SHORT_ID).map(str::to_owned),
            ..cell
        }
    }

    /// A size in bytes.
    pub(super) fn size(bytes: u64) -> Self {
        Cell::new(bytes, format::size(bytes))
    }

    /// The time of an event, shown relative to `now`.
    pub(super) fn ago(then: SystemTime, now: SystemTime) -> Self {
        Cell::new(format::timestamp(then), format::ago(then, now))
    }

    /// The time of an event, shown as its age.
    pub(super) fn age(then: SystemTime, age: Duration) -> Self {
        Cell::new(format::timestamp(then), format::age(age))
    }
}

/// A table that is printed in chunks of rows.
pub(super) struct Table {
    output: Output,
    columns: &'static [Column],
    kind: Option<&'static str>,
    /// The width of the terminal; `None` in a pipe.
    width: Option<u16>,
    rows: Vec<Vec<Cell>>,
    has_header: bool,
}

impl Table {
    pub(super) fn new(output: Output, columns: &'static [Column]) -> Self {
        Table {
            output,
            columns,
            kind: None,
            width: width(),
            rows: Vec::new(),
            has_header: false,
        }
    }

    /// In a pipe, each line begins with this field: other tables follow.
    pub(super) fn of_kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Adds a row, a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) -> Result<(), Failure> {
        if self.width.is_none() {
            let fields = cells.iter().map(|cell| cell.raw.as_str());
            let fields: Vec<_> = self.kind.into_iter().chain(fields).collect();
            return self.output.say(fields.join("\t"));
        }
        self.rows.push(cells);
        if self.rows.len() < CHUNK {
            return Ok(());
        }
        self.print()
    }

    /// An entry of a listing. Its error follows the rows so far, which are valid.
    pub(super) fn entry<T>(&mut self, entry: Result<T, Error>) -> Result<T, Failure> {
        entry.or_else(|error| {
            self.print()?;
            Err(error.into())
        })
    }

    /// Prints the remaining rows.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.print()
    }

    fn print(&mut self) -> Result<(), Failure> {
        let rows = std::mem::take(&mut self.rows);
        let Some(width) = self.width.filter(|_| !rows.is_empty()) else {
            return Ok(());
        };
        let header = !std::mem::replace(&mut self.has_header, true);
        for line in layout(self.columns, header, &rows, width) {
            self.output.say(line)?;
        }
        Ok(())
    }
}

/// Ids are shortened if the rows do not fit otherwise; then cells are wrapped.
fn layout(columns: &[Column], header: bool, rows: &[Vec<Cell>], width: u16) -> Vec<String> {
    let lines = |is_short: bool| {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::TableStyle::new());
        if header {
            table.set_header(columns.iter().map(|column| column.title));
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| match &cell.short {
                Some(short) if is_short => short,
                _ => &cell.text,
            }));
        }
        if is_short {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        for (index, shown) in table.column_iter_mut().enumerate() {
            shown.set_padding(PADDING);
            let is_number = columns[index].is_number;
            if is_number {
                shown.set_cell_alignment(CellAlignment::Right);
            }
            let has_ids = rows.iter().any(|row| row[index].short.is_some());
            let is_narrow = |row: &Vec<Cell>| row[index].text.chars().count() <= NAME.into();
            if is_number || has_ids || (index == 0 && rows.iter().all(is_narrow)) {
                shown.set_constraint(ColumnConstraint::ContentWidth);
            } else if index == 0 {
                // A long name leaves space for the rest.
                let width = Width::Fixed(NAME + PADDING.1);
                shown.set_constraint(ColumnConstraint::Absolute(width));
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned());
        lines.collect::<Vec<_>>()
    };
    let full = lines(false);
    if full
        .iter()
        .all(|line| line.chars().count() <= usize::from(width))
    {
        full
    } else {
        lines(true)
    }
}

/// The width of the terminal that stdout is; `None` if it is none.
fn width() -> Option<u16> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = std::env::var("COLUMNS").ok();
    let set = columns.and_then(|columns| columns.parse().ok());
    let reported = || Some(rustix::termios::tcgetwinsize(&stdout).ok()?.ws_col);
    let width = set.or_else(reported).filter(|&width| width > 0);
    Some(width.unwrap_or(DEFAULT_WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells() {
        let hex = "0123456789ab".repeat(6);
        let id = format!("tarsum.v1+sha256:{hex}");
        let then = SystemTime::UNIX_EPOCH;
        let hours = Duration::from_secs(7200);
        for (cell, raw, text, short) in [
            (
                Cell::text("a\tb\u{1b}[31m\n"),
                "a b [31m ",
                "a b [31m ",
                None,
            ),
            (Cell::text(""), "-", "", None),
            (Cell::none(), "-", "-", None),
            (Cell::size(1536), "1536", "1.50 KiB", None),
            (
                Cell::ago(then, then + hours),
                "1970-01-01T00:00:00Z",
                "2h ago",
                None,
            ),
            (Cell::age(then, hours), "1970-01-01T00:00:00Z", "2h", None),
            (
                Cell::id(&id),
                &id,
                &id,
                Some("tarsum.v1+sha256:0123456789ab"),
            ),
        ] {
            let shown = (&*cell.raw, &*cell.text, cell.short.as_deref());
            assert_eq!(shown, (raw, text, short));
        }
    }

    #[test]
    fn table_fits_its_window() {
        let columns = [text("ID"), text("NAME"), number("SIZE"), text("NOTE")];
        let id = "sha256:0123456789abcdef";
        let row = vec![
            Cell::id(id),
            Cell::text("library/alpine"),
            Cell::size(1536),
            Cell::text(""),
        ];
        let rows = [row];
        assert_eq!(
            layout(&columns, true, &rows, 80),
            [
                "ID                       NAME                SIZE  NOTE",
                "sha256:0123456789abcdef  library/alpine  1.50 KiB",
            ]
        );
        for width in [45, 48, 60] {
            let lines = layout(&columns, true, &rows, width);
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width.into()), "{width}: {lines:#?}");
        }
        let long = vec![
            Cell::text("example/a-long-name-of-a-repository/of-a-team/and-service"),
            Cell::id(id),
            Cell::text("latest,1,1.2,1.2.3"),
            Cell::text("2h"),
        ];
        let trash = [text("REPOSITORY"), text("ID"), text("TAGS"), text("AGO")];
        let lines = layout(&trash, true, &[long], 80);
        assert!(lines[1].ends_with("latest,1,1.2,1  2h"), "{lines:#?}");
        let narrow = layout(&columns, true, &rows, 52);
        assert!(
            narrow[1].starts_with("sha256:0123456789ab  "),
            "{narrow:#?}"
        );
    }
}
