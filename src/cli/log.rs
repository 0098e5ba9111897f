//! What this program does and what it asks of the store, on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::progress;
use super::settings::Settings;
use super::settings::value::{Format, Level};

/// From here on, what the settings ask for is logged.
pub(super) fn start(settings: &Settings) {
    let level = &settings.log_level.value;
    let says_little =
        matches!(level, Level::Word(word) if matches!(&**word, "off" | "error" | "warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(level)))
        .with_writer(progress::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(!says_little);
    // It fails where one is set already, which then is as good.
    let _ = match settings.log_format.value {
        Format::Text => builder.try_init(),
        // Fields beside the level and the time: one object a line, without objects in it.
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// In the language of `RUST_LOG`.
fn filter(level: &Level) -> String {
    match level {
        Level::Filter(filter) => filter.clone(),
        Level::Word(word) => match &**word {
            "off" => "off".to_owned(),
            // The embedded store tells its clients what it refuses, and need not tell us. What the SDK
            // warns of is in the error that follows, if one does.
            "error" | "warn" => format!("{word},s3s=off,aws=off"),
            "info" => "s3layers=info,warn,aws=off".to_owned(),
            word => format!("s3layers={word},warn"),
        },
    }
}
