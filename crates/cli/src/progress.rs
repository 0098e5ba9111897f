//! Progress bars at the bottom of a terminal, and lines that are written above them.
//!
//! There is one stderr, so there is one set of bars: everything that writes to it, or to a stdout
//! that may be the same terminal, uses [`above`] or [`stderr`], which hide the bars meanwhile.

use std::fmt;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{
    HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use tokio::task::AbortHandle;

/// How often a bar is drawn while nothing moves, so that its rate falls.
const TICK: Duration = Duration::from_millis(200);
/// The width of a terminal that does not report one.
const DEFAULT_WIDTH: usize = 80;

/// For inputs of unknown size.
const UNSIZED: &str = "{prefix}{bytes} sent  {bytes_per_sec}";
/// While one of them is read.
const READ: &str = "{prefix}{read} read, {bytes} sent  {bytes_per_sec}";
/// For commands that cannot say how much they will do.
const COUNTED: &str = "{prefix}{human_pos} requests, {elapsed}";
/// By the width from which they fit.
const SIZED: [(usize, &str); 3] = [
    (
        76,
        "{prefix}{bar:20.█░}  {percent:>3}%  {bytes:>10} of {total_bytes}  {bytes_per_sec}  {eta} left",
    ),
    (60, "{prefix}{percent:>3}%  {bytes_per_sec}  {eta} left"),
    (0, "{prefix}{percent:>3}%  {eta} left"),
];

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Runs something that writes to the terminal, with the bars hidden.
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

/// A bar, or nothing. It disappears on drop.
pub(super) struct Bar {
    bar: ProgressBar,
    update: Option<AbortHandle>,
}

impl Bar {
    /// Nothing, if stderr is not a terminal.
    pub(super) fn hidden() -> Self {
        Bar {
            bar: ProgressBar::hidden(),
            update: None,
        }
    }

    /// A bar for this many bytes, if that is known.
    fn shown(template: &str, label: String, size: Option<u64>, position: u64) -> Self {
        // It is drawn when it is among the others.
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(label);
        // Bytes that were done before do not count for the rate.
        bar.update(|state| state.set_pos(position));
        bar.reset_eta();
        let bar = BARS.add(bar);
        bar.enable_steady_tick(TICK);
        Bar { bar, update: None }
    }

    /// A bar for this many bytes, if that is known, of which the first `position` are done before.
    pub(super) fn new(label: &str, size: Option<u64>, position: u64) -> Self {
        let width = match rustix::termios::tcgetwinsize(io::stderr()) {
            Ok(window) if window.ws_col > 0 => usize::from(window.ws_col),
            _ => DEFAULT_WIDTH,
        };
        let label = shortened(label, width / 3);
        let template = match size {
            None => UNSIZED,
            Some(_) => SIZED
                .iter()
                .find(|(fits, _)| width >= fits + label.chars().count())
                .map_or(SIZED[SIZED.len() - 1].1, |(_, template)| template),
        };
        Bar::shown(template, label, size, position)
    }

    /// The number of requests that a command has made, and for how long it runs.
    pub(super) fn counting(label: &str, requests: impl Fn() -> u64 + Send + 'static) -> Self {
        let mut counting = Bar::shown(COUNTED, format!("{label}  "), None, 0);
        counting.follow(requests);
        counting
    }

    /// Shows also the bytes read of an input of unknown size: the first are sent only when there
    /// are enough for a part.
    pub(super) fn follow_input(&self, read: impl Fn() -> u64 + Clone + Send + Sync + 'static) {
        if self.bar.length().is_some() {
            return;
        }
        let read = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", HumanBytes(read()));
        };
        if let Ok(style) = ProgressStyle::with_template(READ) {
            self.bar.set_style(style.with_key("read", read));
        }
    }

    /// Shows this position from now on.
    pub(super) fn follow(&mut self, position: impl Fn() -> u64 + Send + 'static) {
        if self.bar.is_hidden() {
            return;
        }
        let bar = self.bar.clone();
        let update = async move {
            loop {
                bar.set_position(position());
                tokio::time::sleep(TICK / 2).await;
            }
        };
        self.update = Some(tokio::spawn(update).abort_handle());
    }

    /// Removes the bar, and writes a line with this position.
    pub(super) fn leave(&mut self, position: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.stop();
        let (label, done) = (self.bar.prefix(), HumanBytes(position).to_string());
        let line = match self.bar.length() {
            None => format!("{label}{done}"),
            Some(size) => {
                let percent = u128::from(position) * 100 / u128::from(size.max(1));
                format!("{label}{percent:>3}%  {done:>10} of {}", HumanBytes(size))
            }
        };
        // A failure to write to stderr cannot be reported.
        let _ = above(|| writeln!(io::stderr(), "{line}"));
    }

    fn stop(&mut self) {
        if let Some(update) = self.update.take() {
            update.abort();
        }
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last characters of a label and a gap: the end of a path says more than its beginning.
fn shortened(label: &str, width: usize) -> String {
    let label: Vec<_> = label
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    match label.as_slice() {
        [] => String::new(),
        all if all.len() <= width => format!("{}  ", all.iter().collect::<String>()),
        all => {
            let kept = &all[all.len() - width.saturating_sub(1)..];
            format!("…{}  ", kept.iter().collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keeps_its_end() {
        for (label, width, want) in [
            ("", 10, ""),
            ("layer.tar", 10, "layer.tar  "),
            ("some/where/layer.tar", 13, "…re/layer.tar  "),
            ("a\nb", 10, "a?b  "),
            ("abc", 0, "…  "),
        ] {
            assert_eq!(shortened(label, width), want, "{label:?}");
        }
    }
}
