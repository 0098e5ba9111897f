//! The types of settings: parsing and display.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use super::table::{Shape, Source};
use crate::store_url::StoreUrl;
use s3layers_registry::{CorsOrigins, ImmutableTags, Prices, TrustedProxies, WebhookUrl};

/// A type of value, with the same syntax in a flag, a variable and the file.
pub(crate) trait Kind: Sized {
    /// The valid values; follows "expected" in an error.
    const EXPECTED: &str;
    /// Its types in TOML.
    const SHAPES: &[Shape] = &[Shape::Text];
    /// All values, if they are a list.
    const CHOICES: &[&str] = &[];

    fn parse(text: &str) -> Option<Self>;

    /// As an argument of a command.
    fn argument(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("expected {}", Self::EXPECTED))
    }

    /// As [`parse`](Self::parse), if the syntax depends on the source.
    fn parse_at(text: &str, _: &Source) -> Option<Self> {
        Self::parse(text)
    }

    /// The text that [`parse`](Self::parse) accepts; `None` if nothing is set.
    fn show(&self) -> Option<String>;

    /// The value in JSON.
    fn json(&self) -> Value {
        self.show().into()
    }
}

impl<T: Kind> Kind for Option<T> {
    const EXPECTED: &str = T::EXPECTED;
    const SHAPES: &[Shape] = T::SHAPES;
    const CHOICES: &[&str] = T::CHOICES;

    fn parse(text: &str) -> Option<Self> {
        T::parse(text).map(Some)
    }

    fn parse_at(text: &str, source: &Source) -> Option<Self> {
        T::parse_at(text, source).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref()?.show()
    }

    fn json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::json)
    }
}

impl Kind for StoreUrl {
    const EXPECTED: &str = "s3://BUCKET[/ROOT], file:PATH or memory:";

    fn parse(text: &str) -> Option<Self> {
        StoreUrl::of(text)
    }

    fn parse_at(text: &str, source: &Source) -> Option<Self> {
        Some(match Self::parse(text)? {
            StoreUrl::Folder(folder) => StoreUrl::Folder(source.resolve(&folder)),
            url => url,
        })
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Types that are parsed and shown by the standard traits.
macro_rules! text_kinds {
    ($($type:ty: $expected:expr;)*) => {
        $(impl Kind for $type {
            const EXPECTED: &str = $expected;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        })*
    };
}

text_kinds! {
    TrustedProxies: "addresses, networks such as 10.0.0.0/8, loopback, private, with commas between them; or none";
    CorsOrigins: "origins such as https://ui.example.com with commas between them, or *";
    Prices: "WRITES,READS, in dollars for 1000 requests, such as 0.005,0.0004";
    WebhookUrl: "https://HOST[:PORT][/PATH], or http:// with a loopback address, without a user or a password";
    ImmutableTags: "patterns REPOSITORY:TAG such as **:v*, with commas between them";
}

/// A name of a region or profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) String);

impl Kind for Word {
    const EXPECTED: &str = "a name without spaces";

    fn parse(text: &str) -> Option<Self> {
        let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
        is_word.then(|| Word(text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

impl Kind for PathBuf {
    const EXPECTED: &str = "the path of a file";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn parse_at(text: &str, source: &Source) -> Option<Self> {
        Self::parse(text).map(|path| source.resolve(&path))
    }

    fn show(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

/// The URL of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url(pub(crate) String);

impl Kind for Url {
    const EXPECTED: &str =
        "http://HOST[:PORT] or https://HOST[:PORT], without a user or a password";

    fn parse(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let authority = uri.authority()?.as_str();
        let is_url = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && !authority.contains('@')
            // A port that is no number up to 65535 is not parsed.
            && (uri.port().is_some() || uri.host() == Some(authority))
            && uri.query().is_none();
        is_url.then(|| Url(text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// Largest first. Units of one letter are powers of 1024, as in `docker` and `dd`.
const UNITS: &[(&[&str], u64)] = &[
    (&["TiB", "T"], 1 << 40),
    (&["GiB", "G"], 1 << 30),
    (&["MiB", "M"], 1 << 20),
    (&["KiB", "K"], 1 << 10),
    (&["TB"], 1_000_000_000_000),
    (&["GB"], 1_000_000_000),
    (&["MB"], 1_000_000),
    (&["kB"], 1_000),
    (&["B"], 1),
];
/// The first units, which are used to show sizes.
const SHOWN: usize = 4;

impl Kind for Size {
    const EXPECTED: &str = "a size such as 16 MiB, 20M, 1g or 16777216 (bytes)";
    const SHAPES: &[Shape] = &[Shape::Text, Shape::Integer];

    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let factor = match unit.trim_start() {
            "" => 1,
            unit => {
                let is_unit = |name: &&str| name.eq_ignore_ascii_case(unit);
                UNITS.iter().find(|(names, _)| names.iter().any(is_unit))?.1
            }
        };
        number.checked_mul(factor).map(Size)
    }

    fn show(&self) -> Option<String> {
        let fits = |&&(_, factor): &&(&[&str], u64)| self.0 > 0 && self.0.is_multiple_of(factor);
        Some(match UNITS[..SHOWN].iter().find(fits) {
            Some((names, factor)) => format!("{} {}", self.0 / factor, names[0]),
            None => self.0.to_string(),
        })
    }

    fn json(&self) -> Value {
        self.0.into()
    }
}

impl Kind for usize {
    const EXPECTED: &str = "a whole number above 0";
    const SHAPES: &[Shape] = &[Shape::Integer];

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number| *number > 0)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn json(&self) -> Value {
        json!(self)
    }
}

impl Kind for bool {
    const EXPECTED: &str = "true or false";
    const SHAPES: &[Shape] = &[Shape::Boolean];
    const CHOICES: &[&str] = &["true", "false"];

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn json(&self) -> Value {
        (*self).into()
    }
}

/// The address of a server.
impl Kind for SocketAddr {
    const EXPECTED: &str =
        "an address and a port, such as 127.0.0.1:5000, [::1]:5000, or :5000 for all";

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let ip = match host {
            // As in Go, and thus in distribution.
            "" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            _ => return text.parse().ok(),
        };
        let port: u16 = port.parse().ok()?;
        Some(SocketAddr::from((ip, port)))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// The level of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// For this program; its dependencies log warnings.
    Word(String),
    /// In the syntax of `RUST_LOG`.
    Filter(String),
}

impl Kind for Level {
    const EXPECTED: &str =
        "off, error, warn, info, debug, trace, or a filter such as s3layers=debug";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "error" | "warn" | "info" | "debug" | "trace" => {
                Some(Level::Word(text.to_owned()))
            }
            // A single other word would be a valid filter, but is probably a misspelt level.
            _ if text.contains(['=', ',', '[']) => filter(text),
            _ => None,
        }
    }

    fn parse_at(text: &str, source: &Source) -> Option<Self> {
        match source {
            // Other programs read it, too.
            Source::Environment(name) if name == "RUST_LOG" => filter(text),
            _ => Self::parse(text),
        }
    }

    fn show(&self) -> Option<String> {
        let (Level::Word(text) | Level::Filter(text)) = self;
        Some(text.clone())
    }
}

fn filter(text: &str) -> Option<Level> {
    let is_filter = EnvFilter::try_new(text).is_ok();
    is_filter.then(|| Level::Filter(text.to_owned()))
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Kind for Format {
    const EXPECTED: &str = "text or json";
    const CHOICES: &[&str] = &["text", "json"];

    fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            _ => None,
        }
    }

    fn show(&self) -> Option<String> {
        let text = match self {
            Format::Text => "text",
            Format::Json => "json",
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("16777216", Some(16 << 20)),
            ("16 MiB", Some(16 << 20)),
            ("16MiB", Some(16 << 20)),
            ("1GiB", Some(1 << 30)),
            ("16 MB", Some(16_000_000)),
            ("7 B", Some(7)),
            ("0", Some(0)),
            ("20M", Some(20 << 20)),
            ("1g", Some(1 << 30)),
            ("2k", Some(2 << 10)),
            ("16 mib", Some(16 << 20)),
            ("16 kb", Some(16_000)),
            ("16 X", None),
            ("1.5 GiB", None),
            ("-1", None),
            ("MiB", None),
            ("", None),
            ("99999999 TiB", None),
        ] {
            assert_eq!(Size::parse(text), want.map(Size), "{text:?}");
        }
    }

    #[test]
    fn shown_size_is_parsed_again() {
        for bytes in [0, 1, 1000, 1024, 5 << 20, (5 << 20) + 1, 3 << 30] {
            let shown = Size(bytes).show().unwrap_or_default();
            assert_eq!(Size::parse(&shown), Some(Size(bytes)), "{shown}");
        }
        assert_eq!(Size(16 << 20).show().as_deref(), Some("16 MiB"));
    }

    #[test]
    fn addresses() {
        for (text, want) in [
            ("127.0.0.1:5000", Some("127.0.0.1:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            (":5000", Some("0.0.0.0:5000")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("5000", None),
            (":", None),
            (":70000", None),
            ("example.com:5000", None),
        ] {
            let listen = <SocketAddr as Kind>::parse(text).and_then(|listen| listen.show());
            assert_eq!(listen.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn urls() {
        for (text, ok) in [
            ("http://127.0.0.1:9000", true),
            ("https://s3.example.com", true),
            ("http://[::1]:9000", true),
            ("127.0.0.1:9000", false),
            ("ftp://x", false),
            ("http://user:password@x", false),
            ("http://127.0.0.1", true),
            ("http://127.0.0.1:99999", false),
            ("http://127.0.0.1:", false),
            ("http://127.0.0.1:9000?x=y", false),
            ("http://[::1]", true),
            ("https://s3.example.com/path", true),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(Url::parse(text).is_some(), ok, "{text:?}");
        }
    }

    #[test]
    fn levels() {
        for (text, ok) in [
            ("debug", true),
            ("s3layers=debug,warn", true),
            ("off", true),
            ("loud", false),
            ("s3layers=loud", false),
            ("", false),
        ] {
            assert_eq!(Level::parse(text).is_some(), ok, "{text:?}");
        }
    }
}
