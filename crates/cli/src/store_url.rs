//! The store that `--store` names, and the connection to it.

use std::fmt;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;

use super::failure::Failure;
use embedded_s3::{EmbeddedError, EmbeddedStore};
use s3layers::aws_sdk_s3::Client;
use s3layers::{ClientOptions, ConnectError, S3Config, client_from_env, client_over};

/// The bucket that every embedded store has.
pub(super) const BUCKET: &str = "layers";

/// What to do if the folder has no store, or the bucket nothing below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Create it: for commands that write.
    Create,
    /// Fail: for commands that read or remove.
    Refuse,
}

/// The value of `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreUrl {
    /// A bucket of any S3-compatible store.
    S3 {
        /// The bucket, which exists.
        bucket: String,
        /// The prefix of all keys; may be empty.
        root: String,
    },
    /// An embedded store in a folder.
    Folder(PathBuf),
    /// An embedded store in memory.
    Memory,
}

impl StoreUrl {
    /// The store of this name.
    pub(super) fn of(text: &str) -> Option<Self> {
        if text == "memory:" {
            return Some(StoreUrl::Memory);
        }
        if let Some(path) = text.strip_prefix("file:") {
            // `file:///var/lib` equals `file:/var/lib`.
            let is_rooted = path.starts_with('/');
            let path = match path.strip_prefix("//") {
                Some(rest) if !rest.starts_with('/') => return None,
                // More slashes mean one.
                _ if is_rooted => &format!("/{}", path.trim_start_matches('/')),
                _ => path,
            };
            return (!path.is_empty()).then(|| StoreUrl::Folder(path.into()));
        }
        let path = text.strip_prefix("s3://")?;
        let (bucket, root) = path.split_once('/').unwrap_or((path, ""));
        (!bucket.is_empty()).then(|| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            root: root.strip_suffix('/').unwrap_or(root).to_owned(),
        })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::S3 { bucket, root } if root.is_empty() => write!(f, "s3://{bucket}"),
            StoreUrl::S3 { bucket, root } => write!(f, "s3://{bucket}/{root}"),
            StoreUrl::Folder(path) => write!(f, "file:{}", path.display()),
            StoreUrl::Memory => f.write_str("memory:"),
        }
    }
}

/// A client of this embedded store in the process.
pub(super) fn embedded_client(store: &EmbeddedStore) -> Client {
    let (access_key, secret_key) = (store.access_key(), store.secret_key());
    client_over(
        store.http_client(),
        "http://embedded",
        access_key,
        secret_key,
    )
}

impl StoreUrl {
    /// The default store, in the user's data directory.
    pub(super) fn default_of_user() -> Result<Self, Failure> {
        let base = etcetera::choose_base_strategy().map_err(|error| {
            Failure::of(&error)
                .context("there is no home directory for the default store; name one with --store")
        })?;
        Ok(StoreUrl::Folder(base.data_dir().join("s3layers")))
    }

    /// A client of the store, and the configuration of the service.
    pub(super) async fn client(
        &self,
        absent: Absent,
        options: ClientOptions,
    ) -> Result<(Client, S3Config), Failure> {
        Ok(match self {
            StoreUrl::S3 { bucket, root } => (
                client_from_env(options).await.map_err(|error| {
                    Failure::of(&error).context(format_args!("cannot use {self}"))
                })?,
                S3Config::new(bucket)
                    .root(root)
                    .must_exist(absent == Absent::Refuse),
            ),
            StoreUrl::Folder(_) | StoreUrl::Memory => {
                let store = self.open(absent).await?;
                (embedded_client(&store), S3Config::new(BUCKET))
            }
        })
    }

    /// Explains why the store cannot be used.
    pub(super) fn unusable(&self, error: ConnectError) -> Failure {
        let failure = match error {
            ConnectError::Store(error) => Failure::from(error),
            error @ ConnectError::NoConditionalWrites => {
                Failure::of(&error).hint("--single-writer declares one")
            }
            error @ ConnectError::Absent { .. } => Failure::of(&error)
                .hint("name another bucket or root in --store; push, serve and doctor create one"),
            error => Failure::of(&error),
        };
        failure.context(format_args!("cannot use {self}"))
    }

    /// Opens the embedded store with its bucket.
    pub(super) async fn open(&self, absent: Absent) -> Result<EmbeddedStore, Failure> {
        let opened = match self {
            StoreUrl::S3 { .. } => {
                return Err(Failure::usage(format!(
                    "{self} is no embedded store; expected file:PATH or memory:"
                )));
            }
            StoreUrl::Folder(path) => match absent {
                Absent::Create => EmbeddedStore::open(path).await,
                Absent::Refuse => EmbeddedStore::open_if_present(path).await,
            },
            StoreUrl::Memory => Ok(EmbeddedStore::in_memory()),
        };
        let store = opened.map_err(|error| self.cannot_open(error))?;
        let created = store.create_bucket(BUCKET).await;
        created.map_err(|error| self.cannot_open(error))?;
        Ok(store)
    }

    fn cannot_open(&self, error: EmbeddedError) -> Failure {
        let failure = Failure::of(&error).context(format_args!("cannot open {self}"));
        match error {
            EmbeddedError::Locked { .. } => failure.hint(format!(
                "stop that process; or, if it is `s3layers store`, use its endpoint: \
                 --store s3://{BUCKET} --endpoint-url URL"
            )),
            EmbeddedError::NoStore { .. } => failure
                .hint("name another folder in --store; push, serve, store and doctor create one"),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_urls() {
        let s3 = |bucket: &str, root: &str| {
            Some(StoreUrl::S3 {
                bucket: bucket.to_owned(),
                root: root.to_owned(),
            })
        };
        for (text, want) in [
            ("memory:", Some(StoreUrl::Memory)),
            ("file:layers", Some(StoreUrl::Folder("layers".into()))),
            ("file:/var/x", Some(StoreUrl::Folder("/var/x".into()))),
            ("file:///var/x", Some(StoreUrl::Folder("/var/x".into()))),
            ("file:////var/x", Some(StoreUrl::Folder("/var/x".into()))),
            ("file:./var//x", Some(StoreUrl::Folder("./var//x".into()))),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://bucket/a/b", s3("bucket", "a/b")),
            ("s3://bucket/a/", s3("bucket", "a")),
            ("file:", None),
            ("file://host/x", None),
            ("s3:///a", None),
            ("s3:bucket", None),
            ("/var/x", None),
            ("memory", None),
            ("", None),
        ] {
            assert_eq!(StoreUrl::of(text), want, "{text:?}");
        }
    }
}
