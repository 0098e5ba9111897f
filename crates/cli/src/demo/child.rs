//! A `push` in a process of its own, that can be fed, watched and cut.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::NAME;
use crate::failure::Failure;
use crate::place::BUCKET;

/// No step of the demo takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all pushes of the demo have in common.
pub(super) struct Stage {
    pub(super) folder: tempfile::TempDir,
    pub(super) endpoint: String,
    pub(super) access_key: String,
    pub(super) secret_key: String,
}

/// What `push --json` says, as far as the demo wants to know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) event: String,
    pub(super) uuid: Uuid,
    pub(super) offset: Option<u64>,
    pub(super) digest: Option<String>,
    pub(super) message: String,
    pub(super) requests_by_operation: BTreeMap<String, u64>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

/// A running push. Dropping kills it.
pub(super) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    said: mpsc::UnboundedReceiver<Said>,
}

impl Child {
    /// Starts `push INPUT`, where input may be `-`, then to be [fed](Self::feed).
    pub(super) fn start(
        stage: &Stage,
        input: &Path,
        resume: Option<Uuid>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::of(&error).context("cannot start this program once more")
        };
        let program = std::env::current_exe().map_err(failed)?;
        let nowhere = stage.folder.path().join("no-such-file");
        let mut command = Command::new(program);
        command
            .args([
                "--json",
                "--config",
                "",
                "--store",
                &format!("s3://{BUCKET}"),
            ])
            .args(["--endpoint-url", &stage.endpoint, "push"])
            .arg(input)
            .args(["--name", NAME]);
        if let Some(uuid) = resume {
            command.args(["--resume", &uuid.to_string()]);
        }
        // Whatever settings the user has are for another store.
        command
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", &stage.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &stage.secret_key)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", &nowhere)
            .env("AWS_SHARED_CREDENTIALS_FILE", &nowhere)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().map_err(failed)?;
        let (told, said) = mpsc::unbounded_channel();
        let stdin = process.stdin.take();
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(said) = serde_json::from_str(&line) {
                        let _ = told.send(said);
                    }
                }
            });
        }
        Ok(Child {
            process,
            stdin,
            said,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Writes to its standard input, and leaves that open.
    pub(super) async fn feed(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let Some(mut stdin) = self.stdin.take() else {
            return Ok(());
        };
        let fed = tokio::task::spawn_blocking(move || {
            stdin.write_all(&bytes)?;
            Ok(stdin)
        });
        let stdin =
            fed.await.map_err(std::io::Error::other).flatten().map_err(
                |error: std::io::Error| Failure::of(&error).context("cannot feed the push"),
            )?;
        self.stdin = Some(stdin);
        Ok(())
    }

    /// Waits until it says what `wanted` waits for.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Result<Said, Failure> {
        let heard = async {
            while let Some(said) = self.said.recv().await {
                if wanted(&said) {
                    return Ok(said);
                }
                if said.event == "error" {
                    return Err(Failure::new(said.message).context("the push failed"));
                }
            }
            Err(Failure::new("the push ended too early"))
        };
        tokio::time::timeout(PATIENCE, heard)
            .await
            .unwrap_or_else(|_| Err(Failure::new("the push does not get on")))
    }

    /// Waits until it says this.
    pub(super) async fn hear(&mut self, event: &str) -> Result<Said, Failure> {
        self.until(|said| said.event == event).await
    }

    /// Waits until it has taken the layer up to `offset`.
    pub(super) async fn takes(&mut self, offset: u64) -> Result<Said, Failure> {
        self.until(|said| said.event == "progress" && said.offset == Some(offset))
            .await
    }

    /// SIGTERM: it is asked to stop.
    pub(super) fn ask_to_stop(&self) -> Result<(), Failure> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.process),
            rustix::process::Signal::TERM,
        )
        .map_err(|error| Failure::of(&error).context("cannot stop the push"))
    }

    /// SIGKILL: it is given no time for anything.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        self.end()
            .map_err(|error| Failure::of(&error).context("cannot kill the push"))
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed, and need not be.
        let _ = self.end();
    }
}
