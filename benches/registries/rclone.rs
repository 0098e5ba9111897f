//! rclone, as its users would set it for large files.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Store;

/// The program, a file that it uploads, and the store.
pub struct Rclone {
    program: String,
    folder: TempDir,
    settings: Vec<(&'static str, String)>,
    bucket: String,
}

impl Rclone {
    pub fn new(program: String, store: &Store, url: &str, bytes: &[u8]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("up"), bytes)?;
        let settings = [
            ("TYPE", "s3"),
            ("PROVIDER", "Minio"),
            ("ENDPOINT", url),
            ("ACCESS_KEY_ID", &store.access_key),
            ("SECRET_ACCESS_KEY", &store.secret_key),
        ];
        Ok(Rclone {
            program,
            folder,
            settings: settings.map(|(key, value)| (key, value.to_owned())).into(),
            bucket: store.bucket.clone(),
        })
    }

    fn local(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self, key: &str) -> PathBuf {
        format!("store:{}/{key}", self.bucket).into()
    }

    pub fn upload(&self, key: &str) -> io::Result<()> {
        self.copy(self.local("up"), self.stored(key))
    }

    pub fn download(&self, key: &str) -> io::Result<()> {
        self.copy(self.stored(key), self.local("down"))
    }

    fn copy(&self, from: PathBuf, to: PathBuf) -> io::Result<()> {
        let settings = self.settings.iter();
        let environment =
            settings.map(|(key, value)| (format!("RCLONE_CONFIG_STORE_{key}"), value));
        let status = Command::new(&self.program)
            .env_remove("AWS_CA_BUNDLE")
            .env("RCLONE_CONFIG", "/dev/null")
            .envs(environment)
            .args(["copyto", "--s3-no-check-bucket", "--s3-disable-checksum"])
            .args(["--s3-chunk-size=16M", "--s3-upload-concurrency=8"])
            .args(["--multi-thread-streams=8", "--multi-thread-cutoff=16M"])
            .args([from, to])
            .stdin(Stdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("rclone: {status}")))
        }
    }
}
