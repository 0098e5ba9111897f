//! The description of a setting, and the source of its value.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::Failure;

/// A type of TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Integer,
    Boolean,
}

/// The description of a setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name in the file; `serve.listen` is in the table `[serve]`.
    pub(crate) name: &'static str,
    /// Its help, in one line.
    pub(crate) about: &'static str,
    /// More help.
    pub(crate) more: &'static str,
    /// The placeholder of its value in help.
    pub(crate) placeholder: &'static str,
    /// A value for the example file, if there is no default.
    pub(crate) sample: &'static str,
    /// Environment variables of AWS that set it too, in order of precedence.
    pub(super) aws_variables: &'static [&'static str],
    pub(super) flag: Flag,
    pub(super) expected: &'static str,
    pub(super) shapes: &'static [Shape],
    pub(super) choices: &'static [&'static str],
    pub(super) is_right: fn(&str) -> bool,
    pub(crate) default: fn() -> Option<String>,
}

/// Which commands have the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// Every command.
    Common,
    /// Every command, in the section for tuning.
    Tuning,
    /// `serve`.
    Serve,
    /// `serve` and `policy explain`.
    Policy,
    /// None: there is a shorter flag.
    None,
}

impl Setting {
    pub(super) const fn new(
        flag: Flag,
        name: &'static str,
        placeholder: &'static str,
        about: &'static str,
    ) -> Self {
        Setting {
            name,
            placeholder,
            about,
            more: "",
            sample: "",
            aws_variables: &[],
            flag,
            expected: "",
            shapes: &[],
            choices: &[],
            is_right: |_| false,
            default: || None,
        }
    }

    pub(super) const fn more(self, more: &'static str) -> Self {
        Setting { more, ..self }
    }

    pub(super) const fn sample(self, sample: &'static str) -> Self {
        Setting { sample, ..self }
    }

    pub(super) const fn variables_of_aws(self, aws_variables: &'static [&'static str]) -> Self {
        Setting {
            aws_variables,
            ..self
        }
    }

    /// The name of its flag, without the hyphens before it.
    pub(super) fn long(&self) -> String {
        let name = match self.flag {
            Flag::Serve | Flag::Policy => self.name.strip_prefix("serve.").unwrap_or(self.name),
            _ => self.name,
        };
        name.replace(['_', '.'], "-")
    }

    /// The variables that set it, in order of precedence.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> {
        let own = format!("S3LAYERS_{}", self.name.replace('.', "_").to_uppercase());
        std::iter::once(own).chain(self.aws_variables.iter().map(|name| (*name).to_owned()))
    }

    /// A value in the syntax of the file.
    pub(crate) fn in_file(&self, value: &str) -> String {
        match self.shapes.first() {
            Some(Shape::Text) | None => format!("{value:?}"),
            Some(_) => value.to_owned(),
        }
    }
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// As it was written on the command line.
    Flag(String),
    /// The name of the variable.
    Environment(String),
    File {
        path: PathBuf,
        line: usize,
    },
    /// A profile of AWS's shared configuration.
    Profile(String),
    Default,
}

impl Source {
    /// For programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Source::Flag(_) => "flag",
            Source::Environment(_) => "environment",
            Source::File { .. } => "file",
            Source::Profile(_) => "aws_profile",
            Source::Default => "default",
        }
    }

    /// A relative path in the file is relative to the folder of the file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self {
            Source::File { path: file, .. } => {
                file.parent().map_or(path.to_owned(), |f| f.join(path))
            }
            _ => path.to_owned(),
        }
    }

    /// The error of a value from this source.
    pub(super) fn refuse(&self, setting: &str, value: &str, expected: &str) -> Failure {
        let value = without_password(value);
        let place = match self {
            Source::Flag(name) | Source::Environment(name) => name.clone(),
            Source::File { .. } | Source::Profile(_) => format!("{self}: {setting}"),
            Source::Default => setting.to_owned(),
        };
        Failure::usage(format!("{place} is {value}; expected {expected}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(name) | Source::Environment(name) => f.write_str(name),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Profile(name) => write!(f, "AWS profile {name}"),
            Source::Default => f.write_str("default"),
        }
    }
}

/// Hides a password in a URL, also in one that lacks its scheme.
pub(super) fn without_password(value: &str) -> String {
    match (value.find("://"), value.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://…{}", &value[..scheme], &value[at..])
        }
        (_, Some(at)) if value[..at].contains(':') => format!("…{}", &value[at..]),
        _ => value.to_owned(),
    }
}

/// A value and its source.
#[derive(Clone, Debug)]
pub(crate) struct SettingValue<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

impl<T> SettingValue<T> {
    pub(crate) fn is_flag(&self) -> bool {
        matches!(self.source, Source::Flag(_))
    }

    /// Whether it was set for this program, and not for all programs that use AWS.
    pub(super) fn is_ours(&self) -> bool {
        match &self.source {
            Source::Flag(_) | Source::File { .. } => true,
            Source::Environment(name) => name.starts_with("S3LAYERS_"),
            Source::Profile(_) | Source::Default => false,
        }
    }
}

/// A row of `config`.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) setting: &'static Setting,
    pub(crate) value: Option<String>,
    pub(crate) json: Value,
    pub(crate) source: Source,
}

impl Row {
    /// Sets the value if no source did.
    pub(crate) fn or_else(&mut self, value: Option<&str>, source: &Source) {
        if let (None, Some(value)) = (&self.value, value) {
            self.json = value.into();
            self.value = Some(value.to_owned());
            self.source = source.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (value, want) in [
            ("http://user:pass@word@host:1", "http://…@host:1"),
            ("http://host:1", "http://host:1"),
            ("a@b", "a@b"),
            ("user:pass@host:1", "…@host:1"),
        ] {
            assert_eq!(without_password(value), want);
        }
    }
}
