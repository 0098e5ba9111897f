//! What the program says: results on stdout, for people or as one JSON object a line; everything
//! else on stderr.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::failure::Failure;
use super::progress::{self, Bar};
use s3layers::Usage;

/// Where a command speaks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Output {
    /// Whether stdout is for programs.
    pub(super) json: bool,
    /// Whether stderr is for errors only.
    pub(super) quiet: bool,
    /// Whether notes have details.
    pub(super) verbose: bool,
}

impl Output {
    /// For programs: one object on a line of stdout. People do not see it.
    pub(super) fn event(self, event: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(event).map_err(|error| Failure::of(&error))?;
        write_line(&line)
    }

    /// For people: a line of the result on stdout.
    pub(super) fn say(self, line: impl Display) -> Result<(), Failure> {
        match self.json {
            true => Ok(()),
            false => write_line(&line.to_string()),
        }
    }

    /// What is neither for people nor an event: the text that `command` prints.
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

    /// For people: what is going on, on stderr.
    pub(super) fn note(self, line: impl Display) {
        if !self.json && !self.quiet {
            tell(&line);
        }
    }

    /// What was asked of the store, as a note says it.
    pub(super) fn requests(self, usage: &Usage) -> String {
        if self.verbose {
            usage.to_string()
        } else {
            format!("{} requests", grouped(usage.requests()))
        }
    }

    /// The error and its causes on stderr, and for programs on stdout as well.
    pub(super) fn fail(self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        let (message, causes) = failure
            .lines
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        tell(&format_args!("error: {message}"));
        for cause in causes {
            tell(&format_args!("  caused by: {cause}"));
        }
        for hint in &failure.hints {
            tell(&format_args!("  {hint}"));
        }
        // Whoever reads stdout may be the reason for the failure.
        let _ = self.event(&Event::Error {
            message,
            causes,
            hints: &failure.hints,
        });
    }

    /// A bar on a terminal, and nothing anywhere else. `size` in bytes, where it is known;
    /// `position` bytes of it are done before.
    pub(super) fn bar(self, label: &str, size: Option<u64>, position: u64) -> Bar {
        match self.shows_progress() {
            true => Bar::new(label, size, position),
            false => Bar::hidden(),
        }
    }

    /// Whether somebody looks.
    fn shows_progress(self) -> bool {
        !self.json && !self.quiet && io::stderr().is_terminal()
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Error {
        message: &'a str,
        causes: &'a [String],
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        hints: &'a [String],
    },
}

/// What was asked of the store, as it stands in an event.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Spent {
    requests: u64,
    requests_by_operation: BTreeMap<&'static str, u64>,
    bytes_sent: u64,
    bytes_received: u64,
}

impl From<Usage> for Spent {
    fn from(usage: Usage) -> Self {
        Spent {
            requests: usage.requests(),
            requests_by_operation: usage.requests_by_operation,
            bytes_sent: usage.bytes_sent,
            bytes_received: usage.bytes_received,
        }
    }
}

/// `67,108,864`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn write_line(line: &str) -> Result<(), Failure> {
    let written = progress::above(|| {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    });
    written.map_err(|error| Failure::of_output(&error))
}

fn tell(line: &dyn Display) {
    // There is nobody left to tell that stderr is gone.
    let _ = progress::above(|| writeln!(io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (67_108_864, "67,108,864"),
        ] {
            assert_eq!(grouped(number), want);
        }
    }
}
