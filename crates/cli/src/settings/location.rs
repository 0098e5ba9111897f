//! The location of the configuration file.

use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;

use super::ALL;
use super::file::{self, Entry};
use crate::failure::{Failure, WRONG_USAGE};

/// The variable that names the file.
const VARIABLE: &str = "S3LAYERS_CONFIG";

/// A path of the file.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) path: PathBuf,
    /// It was named by a flag or variable, and has to exist.
    pub(super) is_named: bool,
}

impl Location {
    /// The file that was named, or the user's own. An empty name means none.
    pub(crate) fn of_process(flag: Option<&Path>) -> Result<Option<Self>, Failure> {
        let named = match flag {
            Some(path) => Some(path.to_owned()),
            None => std::env::var_os(VARIABLE).map(PathBuf::from),
        };
        if let Some(path) = named {
            let is_none = path.as_os_str().is_empty();
            return Ok((!is_none).then_some(Location {
                path,
                is_named: true,
            }));
        }
        // Without a home directory there is no file.
        Ok(etcetera::choose_base_strategy().ok().map(|base| Location {
            path: base.config_dir().join("s3layers").join("config.toml"),
            is_named: false,
        }))
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    pub(super) fn read(&self) -> Result<Vec<Entry>, Failure> {
        let path = self.path.display();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => {
                return Ok(Vec::new());
            }
            Err(error) => {
                let failure = Failure::of(&error).with_code(WRONG_USAGE);
                let what = format_args!("cannot read the configuration file {path}");
                return Err(failure.context(what));
            }
        };
        file::read(&text, ALL)
            .map_err(|wrong| Failure::usage(format!("{path}:{}: {}", wrong.line, wrong.what)))
    }
}
