//! What can go wrong outside a request: opening, locking, serving.

use std::io;
use std::path::{Path, PathBuf};

/// Why a store cannot be opened, changed or served. A request is refused by an
/// S3 error instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// Another process, or another handle in this one, has the folder open.
    #[error("the store in {} is already open{}", folder.display(), by(*process))]
    Locked {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The process that has it open, if it could be found out.
        process: Option<u32>,
    },
    /// The folder holds no store, and none was to be created.
    #[error("there is no store in {}", folder.display())]
    NoStore {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// The folder was written by a later version of this program.
    #[error("the store in {} has format {found}, this program knows up to {known}", folder.display())]
    NewerFormat {
        /// The folder that was asked for.
        folder: PathBuf,
        /// The format it has.
        found: u64,
        /// The newest format that this program reads.
        known: u64,
    },
    /// The folder holds other files and no store. Nothing was written to it.
    #[error("{} is not empty and holds no store", folder.display())]
    NotAStore {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// The folder holds the bytes of a store without the database that says what they are. Nothing was
    /// written to it.
    #[error("{} holds the blobs of a store, but no metadata.redb; restore that file, or name another folder", folder.display())]
    NoMetadata {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// The folder was written by an earlier version of this program.
    #[error("the store in {} was written by an earlier version, which this one cannot read; move the folder away, and push again", folder.display())]
    OlderFormat {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// The metadata cannot be read. No crash of this program leaves such damage.
    #[error("the metadata in {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file of the metadata.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The bucket's name breaks S3's rules, or the store refused to create it.
    #[error("bucket {bucket:?} cannot be created: {reason}")]
    Bucket {
        /// The name that was asked for.
        bucket: String,
        /// Why not.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: io::Error,
    },
    /// The listener or the runtime gave out.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}

fn by(process: Option<u32>) -> String {
    match process {
        Some(id) if id == std::process::id() => " in this process".to_owned(),
        Some(id) => format!(" in process {id}"),
        None => " in another process".to_owned(),
    }
}

/// Names what was tried.
pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::Io {
        action,
        path,
        source,
    }
}
