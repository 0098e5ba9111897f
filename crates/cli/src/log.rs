//! The log, on stderr.

use std::fmt::{self, Debug, Write as _};
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format;

use super::progress;
use super::settings::Settings;
use super::settings::value::{Format, Level};

/// Starts logging as the settings say.
pub(super) fn start(settings: &Settings) {
    let level = &settings.log_level.value;
    let says_little =
        matches!(level, Level::Word(word) if matches!(&**word, "off" | "error" | "warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(level)))
        .with_writer(progress::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(!says_little);
    // It fails if a subscriber is set already.
    let _ = match settings.log_format.value {
        Format::Text => builder
            .fmt_fields(format::debug_fn(field).delimited(" "))
            .try_init(),
        // One flat object per line.
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// A field as text.
fn field(
    writer: &mut format::Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn Debug,
) -> fmt::Result {
    let mut writer = EscapingWriter(writer);
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, "{name}={value:?}"),
    }
}

/// Escapes control characters: a path or an error, chosen by a client or a store, must not forge a
/// line of the log or move the cursor of a terminal.
struct EscapingWriter<W>(W);

impl<W: fmt::Write> fmt::Write for EscapingWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// A text without control characters.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // Writing to a string does not fail.
    let _ = EscapingWriter(&mut escaped).write_str(text);
    escaped
}

/// In the syntax of `RUST_LOG`.
fn filter(level: &Level) -> String {
    match level {
        // The SDK logs requests with their tokens, unless a directive names one of its crates.
        Level::Filter(filter) => format!("aws=off,{filter}"),
        Level::Word(word) => match &**word {
            "off" => "off".to_owned(),
            // The embedded store returns its refusals to its clients, and the SDK its warnings in
            // errors.
            "error" | "warn" => format!("{word},s3s=off,aws=off"),
            "info" | "debug" => format!("s3layers={word},warn,aws=off"),
            word => format!("s3layers={word},embedded_s3={word},warn,aws=off"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let text = escaped("a\n\r\t\x1b[2J\0\x7f\u{9b}\u{2028}ä\u{1f600} \\");
        let want = "a\\n\\r\\t\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}\\u{2028}ä\u{1f600} \\";
        assert_eq!(text, want);
    }
}
