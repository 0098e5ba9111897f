//! The failure of a command: its message, its hints and its exit code.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::path::Path;

/// The exit code when the command was refused or failed.
const FAILED: u8 = 1;
/// The exit code when the command line was wrong.
pub(super) const WRONG_USAGE: u8 = 2;

/// The failure of a command.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    /// What failed, then its causes.
    pub(super) lines: Vec<String>,
    /// What the user can do about it.
    pub(super) hints: Vec<String>,
}

impl Failure {
    /// A failure with exit code 1.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Failure {
            code: FAILED,
            lines: vec![message.into()],
            hints: Vec::new(),
        }
    }

    /// A wrong command line or setting, with exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Failure::new(message).with_code(WRONG_USAGE)
    }

    /// Ends with this exit code.
    pub(super) fn with_code(self, code: u8) -> Self {
        Failure { code, ..self }
    }

    /// Prints nothing: the reader of our output closed it, or the exit code alone says more.
    pub(super) fn silent() -> Self {
        Failure {
            code: 0,
            lines: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// An error and its causes.
    pub(super) fn of(error: &dyn StdError) -> Self {
        let mut lines: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            // Many errors repeat their cause.
            if let Some(line) = plain(&error.to_string())
                && lines.last().is_none_or(|last| !last.contains(&line))
            {
                lines.push(line);
            }
            next = error.source();
        }
        Failure {
            lines,
            ..Failure::new("")
        }
    }

    /// Adds what was tried.
    pub(super) fn context(mut self, message: impl Display) -> Self {
        if !self.is_silent() {
            self.lines.insert(0, message.to_string());
        }
        self
    }

    /// What the user can do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The failure of some of `all` items, if there is any. `what` completes "2 of 3 …".
    pub(super) fn of_several(
        mut failures: Vec<Failure>,
        all: usize,
        what: &str,
    ) -> Result<(), Failure> {
        match failures.len() {
            0 => Ok(()),
            1 if all == 1 => Err(failures.remove(0)),
            count => {
                let summary = Failure::new(format!("{count} of {all} {what}"));
                Err(failures.into_iter().fold(summary, Failure::because))
            }
        }
    }

    /// Adds all of these hints.
    pub(super) fn hints(mut self, hints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hints.extend(hints.into_iter().map(Into::into));
        self
    }

    /// Adds another failure as the cause.
    pub(super) fn because(mut self, other: Failure) -> Self {
        self.lines.extend(other.lines);
        self.hints.extend(other.hints);
        self
    }

    /// Whether nothing is printed.
    pub(super) fn is_silent(&self) -> bool {
        self.lines.is_empty()
    }

    /// A failure to write to a file or folder.
    pub(super) fn of_file_output(path: &Path, error: &io::Error) -> Self {
        Failure::of(error).context(format_args!("cannot write {}", path.display()))
    }

    /// A failure to write to stdout.
    pub(super) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(),
            _ => Failure::of(error).context("cannot write to standard output"),
        }
    }
}

/// Texts of the SDK without information.
const NOISE: &[&str] = &[
    "service error",
    "dispatch failure",
    "io error",
    "other",
    // Of an answer without a code and a message.
    "Error",
    NOT_ENABLED,
];
/// The SDK's text for a source of credentials that is not configured.
const NOT_ENABLED: &str = "the credential provider was not enabled";

/// The text of an error on one line, if it has information. The SDK shows the answer of a store as
/// debug text.
fn plain(text: &str) -> Option<String> {
    if let Some(tried) = text.strip_prefix("no credentials found in chain. Attempted:") {
        return Some(format!(
            "no credentials were found; tried {}",
            sources(tried)
        ));
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if NOISE.contains(&text.as_str()) || text.starts_with("unhandled error") {
        return None;
    }
    let Some(fields) = text.strip_prefix("Error { ") else {
        return Some(text);
    };
    let field = |name: &str| {
        let (_, value) = fields.split_once(&format!("{name}: \""))?;
        value.split_once('"').map(|(value, _)| value)
    };
    match (field("code"), field("message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (Some(only), None) | (None, Some(only)) => Some(only.to_owned()),
        (None, None) => None,
    }
}

/// Joins the sources of credentials that were tried, which the SDK lists as lines, with reasons.
fn sources(tried: &str) -> String {
    let tried = tried.lines().map(str::trim).filter(|line| !line.is_empty());
    let source = |line: &str| {
        let Some((name, reason)) = line.split_once(": ") else {
            return line.to_owned();
        };
        let reason = reason.strip_prefix(NOT_ENABLED).unwrap_or(reason);
        match reason.trim_start_matches(": ") {
            "" => name.to_owned(),
            reason => format!("{name} ({reason})"),
        }
    };
    tried.map(source).collect::<Vec<_>>().join(", ")
}

impl From<s3layers::Error> for Failure {
    fn from(error: s3layers::Error) -> Self {
        let hint = match &error {
            s3layers::Error::Storage(storage) if storage.is_full() => {
                Some("free space in the store and run the command again")
            }
            s3layers::Error::Storage(storage) if storage.is_no_such_bucket() => {
                Some("create the bucket, or name another one in --store")
            }
            _ => None,
        };
        Failure::of(&error).hints(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn causes_are_shown_once_and_in_order() {
        let inner = Layer("connection\n  refused", None);
        let repeated = Layer("refused", Some(Box::new(inner)));
        let outer = Layer("it refused", Some(Box::new(repeated)));
        assert_eq!(
            Failure::of(&outer).context("push").lines,
            ["push", "it refused", "connection refused"]
        );
    }

    #[test]
    fn answer_of_a_store_is_shown_without_its_wrapping() {
        for (text, want) in [
            ("service error", None),
            ("unhandled error (SlowDown)", None),
            ("Error { code: \"SlowDown\" }", Some("SlowDown")),
            (
                "Error { code: \"NoSuchBucket\", message: \"No such bucket.\" }",
                Some("NoSuchBucket: No such bucket."),
            ),
            ("tcp connect error", Some("tcp connect error")),
            (
                "no credentials found in chain. Attempted:\n    \
                 Environment: the credential provider was not enabled: variable not set\n    \
                 Profile: the credential provider was not enabled\n",
                Some("no credentials were found; tried Environment (variable not set), Profile"),
            ),
        ] {
            assert_eq!(plain(text).as_deref(), want, "{text}");
        }
    }
}
