//! Bars at the foot of a terminal, one for each layer under way, and lines that are written above
//! them.
//!
//! There is one stderr, so there is one set of bars: whoever writes to it, or to a stdout that may
//! be the same terminal, does so by [`above`] or [`stderr`], which take the bars away for that
//! moment.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use indicatif::{
    HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};
use tokio::task::AbortHandle;

/// How often a bar is drawn where nothing moves, so that its rate falls.
const TICK: Duration = Duration::from_millis(200);
/// What takes longer than this does not move at the moment.
const FORESEEABLE: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// The width of a terminal that does not tell it, in columns.
const USUAL_COLUMNS: usize = 80;
/// The bar itself is as wide as there is room for, between these, in columns.
const BAR: std::ops::RangeInclusive<usize> = 10..=40;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Does what writes to the terminal, with the bars out of the way.
pub(super) fn above<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// Stderr, above the bars.
pub(super) fn stderr() -> impl Write {
    AboveBars
}

struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar, or nothing at all. It goes away when it is dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    label: String,
    following: Option<AbortHandle>,
    input: Input,
}

/// Says how many bytes of an input were read, once it is being read.
type Input = Arc<OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>>;

impl Bar {
    /// Nothing, for where nobody looks.
    pub(super) fn hidden() -> Self {
        Bar {
            bar: ProgressBar::hidden(),
            label: String::new(),
            following: None,
            input: Input::default(),
        }
    }

    /// A bar of something of this size in bytes, where it is known, of which `position` bytes are
    /// done before. The label tells it from others.
    pub(super) fn new(label: &str, size: Option<u64>, position: u64) -> Self {
        // Nothing is drawn before it has its place among the others.
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        let label: String = label
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let name = label.clone();
        let input = Input::default();
        let reads = Arc::clone(&input);
        let write = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            let read = reads.get().map(|read| read());
            let _ = out.write_str(&Shown::of(&name, state, read).line(columns()));
        };
        // It is a template.
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            bar.set_style(style.with_key("line", write));
        }
        // What was done before says nothing of the rate.
        bar.update(|state| state.set_pos(position));
        bar.reset_eta();
        let bar = BARS.add(bar);
        bar.enable_steady_tick(TICK);
        Bar {
            bar,
            label,
            following: None,
            input,
        }
    }

    /// From now on the bar of something of unknown size also shows how many bytes were read: the
    /// first ones are sent only when there are enough of them.
    pub(super) fn follow_input(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.input.set(Box::new(read));
    }

    /// From now on as many bytes are done as this says.
    pub(super) fn follow(&mut self, position: impl Fn() -> u64 + Send + 'static) {
        if self.bar.is_hidden() {
            return;
        }
        let bar = self.bar.clone();
        let follow = async move {
            loop {
                bar.set_position(position());
                tokio::time::sleep(TICK / 2).await;
            }
        };
        self.following = Some(tokio::spawn(follow).abort_handle());
    }

    /// Takes the bar away, and leaves a line that tells how far it came.
    pub(super) fn leave(&mut self, position: u64) {
        if self.bar.is_hidden() {
            return;
        }
        if let Some(following) = self.following.take() {
            following.abort();
        }
        let shown = Shown {
            label: &self.label,
            done: position,
            size: self.bar.length(),
            read: None,
            per_second: 0,
            left: None,
        };
        let line = shown.line(columns());
        self.bar.finish_and_clear();
        // There is nobody left to tell that stderr is gone.
        let _ = above(|| writeln!(io::stderr(), "{line}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(following) = &self.following {
            following.abort();
        }
        self.bar.finish_and_clear();
    }
}

/// The width of the terminal now, in columns.
fn columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => USUAL_COLUMNS,
    }
}

/// What a bar shows.
struct Shown<'a> {
    label: &'a str,
    done: u64,
    size: Option<u64>,
    /// Bytes of the input that were read, where that is more.
    read: Option<u64>,
    /// In bytes; 0 where nothing moves.
    per_second: u64,
    left: Option<Duration>,
}

impl<'a> Shown<'a> {
    fn of(label: &'a str, state: &ProgressState, read: Option<u64>) -> Self {
        let left = state.eta();
        Shown {
            label,
            done: state.pos(),
            size: state.len(),
            read,
            per_second: state.per_sec() as u64,
            left: (!left.is_zero() && left < FORESEEABLE).then_some(left),
        }
    }

    /// As much of it as fits: what matters least goes first.
    fn line(&self, columns: usize) -> String {
        let texts = self.texts();
        let label = match self.label {
            "" => String::new(),
            // A third, or what the shortest text leaves.
            label => {
                let shortest = texts.last().map_or(0, |text| text.chars().count());
                let room = (columns / 3).min(columns.saturating_sub(shortest + 2));
                shortened(label, room) + "  "
            }
        };
        let room = columns.saturating_sub(width(&label));
        let fits = |text: &&String| text.chars().count() <= room;
        let Some(text) = texts.iter().find(fits) else {
            return String::new();
        };
        let bar = match (room - text.chars().count()).saturating_sub(2) {
            spare if self.size.is_some() && spare >= *BAR.start() => {
                self.bar(spare.min(*BAR.end())) + "  "
            }
            _ => String::new(),
        };
        format!("{label}{bar}{text}")
    }

    /// The longest first.
    fn texts(&self) -> Vec<String> {
        let done = HumanBytes(self.done).to_string();
        let rate = match self.per_second {
            0 => String::new(),
            rate => format!("  {}/s", HumanBytes(rate)),
        };
        let Some(size) = self.size else {
            let sent = match self.read {
                Some(read) => format!("{} read, {done} sent", HumanBytes(read)),
                None => done.clone(),
            };
            return vec![format!("{sent}{rate}"), sent, done];
        };
        let percent = match size {
            0 => 100,
            size => u128::from(self.done.min(size)) * 100 / u128::from(size),
        };
        let left = match self.left {
            Some(left) => format!("  {:#} left", HumanDuration(left)),
            None => String::new(),
        };
        vec![
            format!(
                "{percent:>3}%  {done:>10} of {}{rate}{left}",
                HumanBytes(size)
            ),
            format!("{percent:>3}%  {done:>10}{rate}{left}"),
            format!("{percent:>3}%{rate}{left}"),
            format!("{percent:>3}%{left}"),
            format!("{percent:>3}%"),
        ]
    }

    fn bar(&self, columns: usize) -> String {
        let size = self.size.unwrap_or(0).max(1);
        let filled = u128::from(self.done.min(size)) * columns as u128 / u128::from(size);
        let filled = usize::try_from(filled).unwrap_or(columns);
        format!("{}{}", "█".repeat(filled), "░".repeat(columns - filled))
    }
}

/// How many columns a name takes at most: what is no ASCII may take two.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

/// The end of a name tells more than its beginning.
fn shortened(label: &str, columns: usize) -> String {
    if width(label) <= columns {
        return label.to_owned();
    }
    let mut kept = 0;
    let mut room = columns.saturating_sub(width("…"));
    for c in label.chars().rev() {
        let Some(left) = room.checked_sub(width(c.encode_utf8(&mut [0; 4]))) else {
            break;
        };
        room = left;
        kept += c.len_utf8();
    }
    match columns < width("…") {
        true => String::new(),
        false => format!("…{}", &label[label.len() - kept..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn shown(label: &str) -> Shown<'_> {
        Shown {
            label,
            done: 63 * MIB,
            size: Some(200 * MIB),
            read: None,
            per_second: 12 * MIB,
            left: Some(Duration::from_secs(11)),
        }
    }

    #[test]
    fn a_line_says_what_it_has_room_for() {
        let bar = |filled, empty| format!("{}{}  ", "█".repeat(filled), "░".repeat(empty));
        let whole = " 31%   63.00 MiB of 200.00 MiB  12.00 MiB/s  11s left";
        for (columns, want) in [
            (200, bar(12, 28) + whole),
            (90, bar(11, 24) + whole),
            (70, bar(4, 11) + whole),
            (60, whole.to_owned()),
            (40, " 31%   63.00 MiB  12.00 MiB/s  11s left".to_owned()),
            (38, " 31%  12.00 MiB/s  11s left".to_owned()),
            (20, " 31%  11s left".to_owned()),
            (10, " 31%".to_owned()),
            (3, String::new()),
        ] {
            assert_eq!(shown("").line(columns), want, "{columns}");
        }
        // The end of a name tells more than its beginning.
        let line = shown("some/where/layer.tar").line(45);
        assert_eq!(line, "…ere/layer.tar   31%  12.00 MiB/s  11s left");
        let unsized_line = Shown {
            size: None,
            ..shown("")
        };
        assert_eq!(unsized_line.line(80), "63.00 MiB  12.00 MiB/s");
        let pipe = Shown {
            done: 0,
            size: None,
            read: Some(7 * MIB),
            per_second: 0,
            ..shown("")
        };
        assert_eq!(pipe.line(80), "7.00 MiB read, 0 B sent");
        assert_eq!(pipe.line(10), "0 B");
    }

    #[test]
    fn no_line_is_wider_than_the_window() {
        for label in [
            "",
            "a",
            "layer.tar",
            "some/where/layer.tar",
            "層.tar/層/層層層層層",
        ] {
            for columns in 0..200 {
                for size in [None, Some(0), Some(200 * MIB), Some(u64::MAX)] {
                    let line = Shown {
                        size,
                        ..shown(label)
                    };
                    let line = line.line(columns);
                    // The bar and the ellipsis take one column a character; a name may take two.
                    let wide = line.matches('層').count();
                    assert!(
                        line.chars().count() + wide <= columns,
                        "{columns}: {line:?}"
                    );
                }
            }
        }
    }
}
