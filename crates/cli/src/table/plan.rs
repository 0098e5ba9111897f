//! How a table stands in a window: which columns, and how wide. Pure.
//!
//! Where all does not fit, in this order: ids are shortened, columns that can be missed are left
//! out, and one is cut. What does not fit then goes beyond the window.

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) to_the_right: bool,
    pub(crate) gives: Gives,
}

/// What a column does where the window is too narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    /// It keeps its width; its ids may be shortened.
    Nothing,
    /// It is left out; the highest number goes first.
    Way(u8),
    /// It is cut, to this many characters at least.
    Room(usize),
    /// It is the last one, and goes on in the next line of the window.
    NoThought,
}

/// What stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// For programs: never empty, nor with a tab in it.
    pub(crate) raw: String,
    /// For people.
    pub(crate) text: String,
    /// What an id is shortened to.
    pub(crate) short: Option<String>,
}

impl Cell {
    fn shown(&self, is_short: bool) -> &str {
        match &self.short {
            Some(short) if is_short => short,
            _ => &self.text,
        }
    }
}

/// How wide each column is; `None` where it is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) is_short: bool,
    pub(super) widths: Vec<Option<usize>>,
}

const GAP: usize = 2;
/// What stands for the rest of a cell that is cut.
const CUT: char = '…';

fn length(text: &str) -> usize {
    text.chars().count()
}

impl Layout {
    /// The layout of these rows in a window of so many characters.
    pub(super) fn of(columns: &[Column], rows: &[Vec<Cell>], window: usize) -> Self {
        let mut layout = Layout::natural(columns, rows, false);
        if layout.is_within(columns, window) {
            return layout;
        }
        layout = Layout::natural(columns, rows, true);
        while !layout.is_within(columns, window) {
            let kept = columns.iter().enumerate();
            let kept = kept.filter(|(index, _)| layout.widths[*index].is_some());
            let next = kept.filter_map(|(index, column)| match column.gives {
                Gives::Way(rank) => Some((rank, index)),
                _ => None,
            });
            match next.max() {
                Some((_, index)) => layout.widths[index] = None,
                None => break,
            }
        }
        let beyond = layout.width(columns).saturating_sub(window);
        for (column, width) in columns.iter().zip(&mut layout.widths) {
            if let (Gives::Room(least), Some(width)) = (column.gives, width) {
                *width = width.saturating_sub(beyond).max(least.min(*width));
            }
        }
        layout
    }

    /// As wide as the widest cell of each column.
    fn natural(columns: &[Column], rows: &[Vec<Cell>], is_short: bool) -> Self {
        let widths = columns.iter().enumerate().map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| length(cell.shown(is_short))).max();
            let widest = widest.unwrap_or(0);
            Some(match column.gives {
                // A column of exceptions needs no title where there is none.
                Gives::NoThought if widest == 0 => 0,
                _ => widest.max(length(column.title)),
            })
        });
        Layout {
            is_short,
            widths: widths.collect(),
        }
    }

    fn is_within(&self, columns: &[Column], window: usize) -> bool {
        self.width(columns) <= window
    }

    /// Of all columns that have to fit.
    fn width(&self, columns: &[Column]) -> usize {
        let fixed = columns.iter().zip(&self.widths);
        let fixed = fixed.filter(|(column, _)| column.gives != Gives::NoThought);
        let widths = fixed
            .filter_map(|(_, width)| *width)
            .map(|width| width + GAP);
        widths.sum::<usize>().saturating_sub(GAP)
    }

    pub(super) fn header(&self, columns: &[Column]) -> String {
        let widths = self.widths.iter();
        let titles = columns
            .iter()
            .zip(widths)
            .map(|(column, width)| match width {
                Some(0) => "",
                _ => column.title,
            });
        self.line(columns, titles)
    }

    pub(super) fn row(&self, columns: &[Column], cells: &[Cell]) -> String {
        self.line(columns, cells.iter().map(|cell| cell.shown(self.is_short)))
    }

    fn line<'a>(&self, columns: &[Column], texts: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for ((column, width), text) in columns.iter().zip(&self.widths).zip(texts) {
            let Some(width) = *width else {
                continue;
            };
            if !line.is_empty() {
                line.push_str(&" ".repeat(GAP));
            }
            let is_cut = matches!(column.gives, Gives::Room(_)) && length(text) > width;
            let kept = if is_cut {
                width.saturating_sub(1)
            } else {
                usize::MAX
            };
            let mut text: String = text.chars().take(kept).collect();
            text.extend(is_cut.then_some(CUT));
            line.push_str(&match column.to_the_right {
                true => format!("{text:>width$}"),
                false => format!("{text:<width$}"),
            });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(title: &'static str, gives: Gives) -> Column {
        Column {
            title,
            to_the_right: false,
            gives,
        }
    }

    const COLUMNS: [Column; 5] = [
        column("ID", Gives::Nothing),
        column("NAME", Gives::Room(6)),
        Column {
            to_the_right: true,
            ..column("SIZE", Gives::Way(1))
        },
        column("AGE", Gives::Way(2)),
        column("NOTE", Gives::NoThought),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let cell = |text: &str| Cell {
            raw: text.to_owned(),
            text: text.to_owned(),
            short: None,
        };
        let id = Cell {
            short: Some("sha256:01".to_owned()),
            ..cell("sha256:0123456789")
        };
        let rest = ["library/alpine", "1.4 MiB", "3 h", "a note that is long"];
        vec![[vec![id], rest.map(cell).to_vec()].concat()]
    }

    #[test]
    fn a_table_fits_its_window() {
        let rows = rows();
        for (window, header, row) in [
            (
                47,
                "ID                 NAME               SIZE  AGE  NOTE",
                "sha256:0123456789  library/alpine  1.4 MiB  3 h  a note that is long",
            ),
            (
                46,
                "ID         NAME               SIZE  AGE  NOTE",
                "sha256:01  library/alpine  1.4 MiB  3 h  a note that is long",
            ),
            (
                38,
                "ID         NAME               SIZE  NOTE",
                "sha256:01  library/alpine  1.4 MiB  a note that is long",
            ),
            (
                33,
                "ID         NAME            NOTE",
                "sha256:01  library/alpine  a note that is long",
            ),
            (
                20,
                "ID         NAME       NOTE",
                "sha256:01  library/…  a note that is long",
            ),
            (
                1,
                "ID         NAME    NOTE",
                "sha256:01  libra…  a note that is long",
            ),
        ] {
            let layout = Layout::of(&COLUMNS, &rows, window);
            assert_eq!(layout.header(&COLUMNS), header, "{window}");
            assert_eq!(layout.row(&COLUMNS, &rows[0]), row, "{window}");
            if window >= 20 {
                let fixed = row.strip_suffix("  a note that is long");
                assert!(
                    fixed.is_some_and(|fixed| length(fixed) <= window),
                    "{window}"
                );
            }
        }
    }

    #[test]
    fn an_empty_table_is_as_wide_as_its_titles() {
        let layout = Layout::of(&COLUMNS, &[], 80);
        assert_eq!(layout.header(&COLUMNS), "ID  NAME  SIZE  AGE");
    }
}
