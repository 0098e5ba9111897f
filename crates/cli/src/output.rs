//! The output of the program: results on stdout, as text or as one JSON object per line; everything
//! else on stderr.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::failure::Failure;
pub(super) use super::format::grouped;
use super::log::escaped;
use super::progress::{self, Bar};
use s3layers::{S3LayerService, Usage};

/// The output options of a command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// Print JSON objects instead of text on stdout.
    pub(super) json: bool,
    /// Print only errors on stderr.
    pub(super) quiet: bool,
    /// Print notes in detail.
    pub(super) verbose: bool,
    /// Continue where stdout has no reader any more: the command does not only print.
    pub(super) to_the_end: bool,
}

impl Output {
    /// Prints one JSON object, with `--json` only.
    pub(super) fn event(self, event: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(event).map_err(|error| Failure::of(&error))?;
        self.write_line(&line)
    }

    /// Prints a line of the result on stdout, unless with `--json`.
    pub(super) fn say(self, line: impl Display) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.write_line(&line.to_string())
    }

    fn write_line(self, line: &str) -> Result<(), Failure> {
        let written = progress::above(|| {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{line}")?;
            stdout.flush()
        });
        match written {
            Err(error) if self.to_the_end && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Failure::of_output(&error)),
        }
    }

    /// Prints a text for other programs; there is no JSON form of it.
    pub(super) fn raw(self, command: &str, text: &[u8]) -> Result<(), Failure> {
        if self.json {
            return Err(Failure::usage(format!(
                "--json: {command} prints a text for other programs, and no events"
            )));
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::of_output(&error))
    }

    /// Prints a note on stderr.
    pub(super) fn note(self, line: impl Display) {
        if !self.json && !self.quiet {
            write_error(&line);
        }
    }

    /// The requests to the store as text.
    pub(super) fn requests(self, usage: &Usage) -> String {
        if self.verbose {
            usage.to_string()
        } else {
            format!("{} requests", grouped(usage.requests()))
        }
    }

    /// Prints the error and its causes on stderr, and with `--json` on stdout as well.
    pub(super) fn fail(self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        let (message, causes) = failure
            .lines
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        write_error(&format_args!("error: {message}"));
        for cause in causes {
            write_error(&format_args!("  caused by: {cause}"));
        }
        for hint in &failure.hints {
            write_error(&format_args!("  {hint}"));
        }
        // A closed stdout may be the reason for the failure.
        let _ = self.event(&ErrorEvent {
            message,
            causes,
            hints: &failure.hints,
        });
    }

    /// A progress bar, if stderr is a terminal. `size` in bytes, if it is known; `position` bytes of
    /// it are done before.
    pub(super) fn bar(self, label: &str, size: Option<u64>, position: u64) -> Bar {
        if self.has_bars() {
            Bar::new(label, size, position)
        } else {
            Bar::hidden()
        }
    }

    /// The number of requests so far, if stderr is a terminal, for a command that walks the bucket.
    pub(super) fn counting(self, label: &str, service: &S3LayerService) -> Bar {
        if !self.has_bars() {
            return Bar::hidden();
        }
        let service = service.clone();
        Bar::counting(label, move || service.usage().requests())
    }

    fn has_bars(self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "error")]
struct ErrorEvent<'a> {
    message: &'a str,
    causes: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    hints: &'a [String],
}

/// The requests to the store, as part of an event.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Traffic {
    requests: u64,
    requests_by_operation: BTreeMap<&'static str, u64>,
    bytes_sent: u64,
    bytes_received: u64,
}

impl From<Usage> for Traffic {
    fn from(usage: Usage) -> Self {
        Traffic {
            requests: usage.requests(),
            requests_by_operation: usage.requests_by_operation,
            bytes_sent: usage.bytes_sent,
            bytes_received: usage.bytes_received,
        }
    }
}

/// Writes a text of some lines, without what a terminal would interpret: it may have the name of a file or
/// the answer of a store.
fn write_error(text: &dyn Display) {
    let text = text.to_string();
    let lines: Vec<String> = text.split('\n').map(escaped).collect();
    // A failure to write to stderr cannot be reported.
    let _ = progress::above(|| writeln!(io::stderr().lock(), "{}", lines.join("\n")));
}
