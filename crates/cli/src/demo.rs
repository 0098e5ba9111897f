//! `demo`: an interrupted push that is resumed by other processes, with nothing but this program.
//!
//! Serves an embedded store in a temporary folder. Three processes of this program push one layer to
//! it: the first gets SIGTERM, the second SIGKILL, the third finishes. Then the layer is read back
//! and compared. Every number is reported by the store or by one of the processes.

use std::io::SeekFrom;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::io::{BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::Instant;
use uuid::Uuid;

use super::Context;
use super::failure::Failure;
use super::output::{Output, grouped};
use super::stop::{Stop, interrupted};
use super::store_url::{Absent, BUCKET, StoreUrl, embedded_client};
use embedded_s3::EmbeddedStore;
use s3layers::{
    Algorithm, Digest, Error, Hasher, InvalidName, LayerId, LayerService as _, S3Config,
    S3LayerService,
};

/// The repository of the demo.
const NAME: &str = "library/demo";
const MIB: usize = 1024 * 1024;
/// The size of the layer in bytes: three parts of 16 MiB, and a half.
const SIZE: usize = 56 * MIB;
/// The offset at which the first process gets SIGTERM; no part ends there.
const FIRST_STOP: usize = 20 * MIB + 7;
/// The offset at which the second process gets SIGKILL; its parts end at 32 and 48 MiB.
const SECOND_STOP: usize = 49 * MIB + 11;
/// Seeks when the layer is read back, and bytes read at each.
const SEEKS: usize = 16;
const READ: usize = 4096;
/// No step of the demo takes nearly as long.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Show an interrupted push that is resumed, and read back
///
/// Needs nothing: it serves its own store, in a temporary folder that is removed afterwards.
#[derive(Debug, Args)]
pub(super) struct Demo {}

#[derive(Serialize)]
#[serde(tag = "event", rename = "done")]
struct Done<'a> {
    digest: &'a Digest,
    size: usize,
    requests: u64,
    seconds: f64,
}

impl Demo {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::listen(context.output)?;
        let shown = stop.unless_requested(show(context.output)).await;
        shown.ok_or_else(interrupted)?
    }
}

async fn show(output: Output) -> Result<(), Failure> {
    let folder = tempfile::Builder::new()
        .prefix("s3layers-demo-")
        .tempdir()
        .map_err(|error| Failure::of(&error).context("cannot create a temporary folder"))?;
    let store = StoreUrl::Folder(folder.path().join("store"))
        .open(Absent::Create)
        .await?;
    let cannot_listen =
        |error: std::io::Error| Failure::of(&error).context("cannot listen on 127.0.0.1");
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    let endpoint = format!("http://{address}");
    let steps = async {
        let show = Show::begin(output, &store, folder.path(), endpoint).await?;
        show.run().await
    };
    tokio::select! {
        shown = steps => shown,
        served = store.serve(listener, std::future::pending()) => {
            served.map_err(|error| Failure::of(&error))
        }
    }
}

/// The demo in progress.
struct Show<'a> {
    output: Output,
    begun: Instant,
    store: &'a EmbeddedStore,
    folder: &'a std::path::Path,
    endpoint: String,
    layer: Bytes,
    digest: Digest,
    /// The access of this process to the store.
    service: S3LayerService,
    /// Traffic and bytes sent by the other processes.
    requests: u64,
    bytes_sent: u64,
}

impl<'a> Show<'a> {
    async fn begin(
        output: Output,
        store: &'a EmbeddedStore,
        folder: &'a std::path::Path,
        endpoint: String,
    ) -> Result<Self, Failure> {
        let service = S3LayerService::connect(embedded_client(store), S3Config::new(BUCKET))
            .await
            .map_err(|error| Failure::of(&error))?;
        let layer = noise(SIZE);
        let digest = Digest::of(Algorithm::Sha256, &layer);
        output.say(format_args!("store  {endpoint}, in a temporary folder"))?;
        output.say(format_args!("layer  {} bytes", grouped(SIZE as u64)))?;
        output.say(format_args!("       {digest}"))?;
        Ok(Show {
            output,
            begun: Instant::now(),
            store,
            folder,
            endpoint,
            layer,
            digest,
            service,
            requests: 0,
            bytes_sent: 0,
        })
    }

    async fn run(mut self) -> Result<(), Failure> {
        let uuid = self.push_and_terminate().await?;
        self.resume_and_kill(uuid).await?;
        self.resume_and_finish(uuid).await?;
        self.read_back().await?;
        let usage = self.service.usage();
        let (requests, seconds) = (
            self.requests + usage.requests(),
            self.begun.elapsed().as_secs_f64(),
        );
        self.output.say(format_args!(
            "total  {} requests, {} bytes sent, {} received, {seconds:.1} s",
            grouped(requests),
            grouped(self.bytes_sent + usage.bytes_sent),
            grouped(usage.bytes_received),
        ))?;
        self.output.event(&Done {
            digest: &self.digest,
            size: SIZE,
            requests,
            seconds,
        })
    }

    /// The first process reads a part of the layer and gets SIGTERM.
    async fn push_and_terminate(&mut self) -> Result<Uuid, Failure> {
        let mut push = self.start("1  push", "-", None)?;
        let uuid = push.until("started", None).await?.uuid;
        push.feed(&self.layer[..FIRST_STOP]).await?;
        push.until("progress", Some(FIRST_STOP)).await?;
        push.terminate()?;
        let kept = push.until("kept", None).await?;
        self.count(&kept);
        self.line(FIRST_STOP, "bytes read, then SIGTERM")?;
        let stored = self.offset(uuid).await?;
        self.line(stored, "bytes stored, none of them is sent again")?;
        Ok(uuid)
    }

    /// The second process resumes and gets SIGKILL.
    async fn resume_and_kill(&mut self, uuid: Uuid) -> Result<(), Failure> {
        let mut push = self.start("2  push --resume", "-", Some(uuid))?;
        self.resumed(&mut push).await?;
        push.feed(&self.layer[..SECOND_STOP]).await?;
        let progress = push.until("progress", Some(SECOND_STOP)).await?;
        push.process
            .kill()
            .await
            .map_err(|error| cannot("kill", &error))?;
        self.count(&progress);
        self.line(SECOND_STOP, "bytes read, then SIGKILL")?;
        let stored = self.offset(uuid).await?;
        self.line(stored, "bytes stored, the others are sent again")
    }

    /// The third process resumes from a file and finishes.
    async fn resume_and_finish(&mut self, uuid: Uuid) -> Result<(), Failure> {
        let file = self.folder.join("layer.tar");
        tokio::fs::write(&file, &self.layer)
            .await
            .map_err(|error| cannot("write the layer for", &error))?;
        let mut push = self.start("3  push --resume", &file.to_string_lossy(), Some(uuid))?;
        self.resumed(&mut push).await?;
        let stored = push.until("stored", None).await?;
        self.count(&stored);
        self.line(stored.bytes_sent as usize, "bytes sent, then finished")
    }

    fn start(&self, title: &str, input: &str, resume: Option<Uuid>) -> Result<Push, Failure> {
        let push = Push::start(self, input, resume)?;
        let pid = push.process.id().unwrap_or_default();
        self.output
            .say(format_args!("\n{title:<18}process {pid}"))?;
        Ok(push)
    }

    async fn resumed(&self, push: &mut Push) -> Result<(), Failure> {
        let started = push.until("started", None).await?;
        self.line(
            started.offset.unwrap_or(0),
            "is the byte at which it resumes",
        )
    }

    /// Seeks and compares, then reads and hashes all of it.
    async fn read_back(&self) -> Result<(), Failure> {
        let id = LayerId::from(self.digest.clone());
        let mut layer = self.service.fetch(&id).await?;
        let mut bytes = vec![0; READ];
        for seek in 0..SEEKS {
            // From the end to the start, so that nothing was read ahead.
            let at = (SEEKS - 1 - seek) * (SIZE - READ) / (SEEKS - 1);
            seek_to(&mut *layer, at).await?;
            layer.read_exact(&mut bytes).await.map_err(Error::from_io)?;
            if self.layer[at..at + READ] != bytes {
                return Err(Failure::new(format!("wrong bytes at {at}")));
            }
        }
        seek_to(&mut *layer, 0).await?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut chunks = layer.into_stream();
        while let Some(chunk) = chunks.next().await {
            hasher.update(&chunk?);
        }
        let computed = hasher.digest();
        if computed != self.digest {
            let claimed = self.digest.clone();
            return Err(Error::InvalidChecksum { claimed, computed }.into());
        }
        self.output.say("\nread   the layer that was pushed")?;
        self.output.say(format_args!("       {computed}"))
    }

    /// The bytes that the store has of the upload, as a process sees it that did not send them.
    async fn offset(&self, uuid: Uuid) -> Result<usize, Failure> {
        let name = NAME
            .parse()
            .map_err(|error: InvalidName| Failure::of(&error))?;
        let upload = self.service.resume(&name, None, uuid).await?;
        Ok(upload.offset() as usize)
    }

    fn count(&mut self, event: &PushEvent) {
        self.requests += event.requests;
        self.bytes_sent += event.bytes_sent;
    }

    fn line(&self, number: usize, text: &str) -> Result<(), Failure> {
        let number = grouped(number as u64);
        self.output.say(format_args!("   {number:>12} {text}"))
    }
}

async fn seek_to(layer: &mut (dyn s3layers::Layer + '_), at: usize) -> Result<(), Failure> {
    let sought = layer.seek(SeekFrom::Start(at as u64)).await;
    Ok(sought.map(drop).map_err(Error::from_io)?)
}

/// What `push --json` prints, as far as the demo needs it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PushEvent {
    event: String,
    uuid: Uuid,
    offset: Option<usize>,
    message: String,
    requests: u64,
    bytes_sent: u64,
}

/// A `push` in its own process, which is killed on drop.
struct Push {
    process: Child,
    events: Option<Lines<BufReader<ChildStdout>>>,
}

impl Push {
    fn start(show: &Show<'_>, input: &str, resume: Option<Uuid>) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| cannot("find", &error))?;
        let absent = show.folder.join("absent");
        let mut command = Command::new(program);
        command
            .args([
                "--json",
                "--config",
                "",
                "--store",
                &format!("s3://{BUCKET}"),
            ])
            .args(["--endpoint-url", &show.endpoint])
            .args(["push", input, "--name", NAME]);
        if let Some(uuid) = resume {
            command.args(["--resume", &uuid.to_string()]);
        }
        // The settings of the user are for another store.
        let mut process = command
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", show.store.access_key())
            .env("AWS_SECRET_ACCESS_KEY", show.store.secret_key())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", &absent)
            .env("AWS_SHARED_CREDENTIALS_FILE", &absent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot("start", &error))?;
        let events = process.stdout.take().map(|out| BufReader::new(out).lines());
        Ok(Push { events, process })
    }

    /// Writes to its standard input, and leaves that open.
    async fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(stdin) = &mut self.process.stdin else {
            return Ok(());
        };
        let fed = async {
            stdin.write_all(bytes).await?;
            stdin.flush().await
        };
        fed.await.map_err(|error| cannot("write to", &error))
    }

    /// Waits for an event, with this offset if one is given.
    async fn until(&mut self, name: &str, offset: Option<usize>) -> Result<PushEvent, Failure> {
        let found = async {
            while let Some(events) = &mut self.events
                && let Ok(Some(line)) = events.next_line().await
            {
                let event: PushEvent = serde_json::from_str(&line).unwrap_or_default();
                if event.event == name && (offset.is_none() || event.offset == offset) {
                    return Ok(event);
                }
                if event.event == "error" {
                    return Err(Failure::new(event.message).context("the push failed"));
                }
            }
            Err(Failure::new(format!("the push ended before {name:?}")))
        };
        tokio::time::timeout(STEP_TIMEOUT, found)
            .await
            .unwrap_or_else(|_| Err(Failure::new(format!("the push did not report {name:?}"))))
    }

    fn terminate(&self) -> Result<(), Failure> {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = self
            .process
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()));
        pid.map_or(Ok(()), |pid| kill_process(pid, Signal::TERM))
            .map_err(|error| cannot("terminate", &error.into()))
    }
}

fn cannot(verb: &str, error: &std::io::Error) -> Failure {
    Failure::of(error).context(format_args!("cannot {verb} the push"))
}

/// Bytes that do not compress and do not repeat, the same in every run.
fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(size / 8).flatten().collect()
}
