//! The configuration file, in TOML; a name with a dot is in a table. The whole file is checked against
//! the table of settings before any value is used.
//!
//! An error does not repeat the value of an unknown name, which could be a secret.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{Setting, Shape};

/// A setting in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name of the setting.
    pub(super) name: &'static str,
    pub(super) line: usize,
    /// In the syntax of a flag.
    pub(super) text: String,
}

/// An error in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) what: String,
}

/// The minimum similarity of a name that is suggested, from 0 to 1.
const ALIKE: f64 = 0.8;

/// All settings in a file.
pub(super) fn read(text: &str, known: &'static [Setting]) -> Result<Vec<Entry>, Wrong> {
    let table = DeTable::parse(text).map_err(|error| Wrong {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        // Its `Display` would show the line, which may contain a secret.
        what: error.message().trim().to_owned(),
    })?;
    let mut reader = Reader {
        text,
        known,
        entries: Vec::new(),
    };
    reader.table("", table.get_ref())?;
    Ok(reader.entries)
}

struct Reader<'a> {
    text: &'a str,
    known: &'static [Setting],
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), Wrong> {
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in pairs {
            let name = format!("{prefix}{}", key.get_ref());
            self.pair(&name, key.span().start, value)?;
        }
        Ok(())
    }

    fn pair(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>) -> Result<(), Wrong> {
        let line = line_of(self.text, at);
        let is_table = self.has_below(name);
        match (self.setting(name), value.get_ref()) {
            (Some(setting), value) => {
                let text = text_of(setting, value).ok_or_else(|| wrong(setting, line, value))?;
                self.entries.push(Entry {
                    name: setting.name,
                    line,
                    text,
                });
                Ok(())
            }
            (None, DeValue::Table(table)) if is_table => self.table(&format!("{name}."), table),
            (None, _) if is_table => Err(Wrong {
                line,
                what: format!("{name}: expected a table, [{name}]"),
            }),
            (None, _) => Err(Wrong {
                line,
                what: self.unknown(name),
            }),
        }
    }

    fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.known.iter().find(|setting| setting.name == name)
    }

    /// Whether `name` is a table of settings.
    fn has_below(&self, name: &str) -> bool {
        let is_below = |known: &str| known.strip_prefix(name).is_some_and(|r| r.starts_with('.'));
        self.known.iter().any(|setting| is_below(setting.name))
    }

    fn unknown(&self, name: &str) -> String {
        let lower = name.to_lowercase();
        let secrets = ["secret", "password", "token", "access_key", "credential"];
        // `serve` has settings with such names.
        let is_key =
            !lower.starts_with("serve.") && secrets.iter().any(|word| lower.contains(word));
        if is_key {
            return format!(
                "{name}: keys are not read from this file, but from the sources of every AWS \
                 tool: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            );
        }
        no_setting(name, self.known)
    }
}

/// Says that this is the name of no setting, and what it may have been meant for.
pub(super) fn no_setting(name: &str, known: &'static [Setting]) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("there is no setting {name}; {nearest} is the nearest"),
        None => format!("there is no setting {name}; `s3layers config` lists all"),
    }
}

/// The most similar known name.
fn nearest(name: &str, known: &'static [Setting]) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase();
    let alike = |known: &str| {
        // The table may be missing or wrong.
        let whole = strsim::jaro(name, known);
        whole.max(strsim::jaro(&last(name), &last(known)))
    };
    let tables = known
        .iter()
        .filter_map(|setting| setting.name.split_once('.'));
    let tables = tables.map(|(table, _)| table);
    let names = known.iter().map(|setting| setting.name).chain(tables);
    names
        .map(|known| (alike(known), known))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// The text of a value, if it has the type of the setting and is valid.
fn text_of(setting: &Setting, value: &DeValue<'_>) -> Option<String> {
    let (shape, text) = match value {
        DeValue::String(text) => (Shape::Text, text.to_string()),
        DeValue::Boolean(value) => (Shape::Boolean, value.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            (Shape::Integer, number.to_string())
        }
        _ => return None,
    };
    (setting.shapes.contains(&shape) && (setting.is_right)(&text)).then_some(text)
}

fn wrong(setting: &Setting, line: usize, value: &DeValue<'_>) -> Wrong {
    let is_text = value.is_str();
    let value = match value {
        DeValue::String(text) => format!("{:?}", super::table::without_password(text)),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        other => format!("of the type {}", other.type_str()),
    };
    // A hint about the type, if that is wrong.
    let form = match (setting.shapes, is_text) {
        ([Shape::Text], false) => ", in quotes",
        ([Shape::Integer] | [Shape::Boolean], true) => ", without quotes",
        _ => "",
    };
    let expected = setting.expected;
    Wrong {
        line,
        what: format!("{} is {value}; expected {expected}{form}", setting.name),
    }
}

/// Counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
