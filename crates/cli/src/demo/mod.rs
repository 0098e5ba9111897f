//! `demo`: the main job from start to end, with nothing but this program.
//!
//! An embedded store in a temporary folder is served on a free port of this machine, and three
//! processes of this program push one layer to it: the first is asked to stop, the second is
//! killed, the third finishes. Then the layer is read back and compared. All figures are what the
//! store and the three said, none is assumed.

use std::io::SeekFrom;
use std::path::Path;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use uuid::Uuid;

use self::account::{Account, Total};
use self::child::{Child, Said, Stage};
use super::Context;
use super::failure::Failure;
use super::output::{Output, grouped};
use super::place::{Absent, BUCKET, Place};
use super::stop::Stop;
use embedded_s3::EmbeddedStore;
use s3layers::{
    Algorithm, Digest, Error, Hasher, InvalidName, LayerId, LayerService as _, S3Config,
    S3LayerService, client_over, clock,
};

mod account;
mod child;
mod layer;

/// The repository of the demo.
const NAME: &str = "library/demo";
const MIB: u64 = 1024 * 1024;
/// Of the layer, in bytes: three parts of 16 MiB, and a half.
const SIZE: u64 = 56 * MIB;
/// Where the first process is asked to stop, in bytes: not at the end of anything.
const FIRST_CUT: u64 = 20 * MIB + 7;
/// Where the second one is killed, in bytes: its parts end at 32 and 48 MiB.
const SECOND_CUT: u64 = 49 * MIB + 11;
/// Places that are sought, and bytes read at each.
const SEEKS: u64 = 16;
const SOUGHT: usize = 4096;

/// Show an interrupted push that is resumed, and read back
///
/// Needs nothing: it brings a store of its own, in a temporary folder that is removed afterwards.
#[derive(Debug, Args)]
pub(super) struct Demo {}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Made {
        digest: &'a Digest,
        size: u64,
        endpoint: &'a str,
    },
    Cut {
        signal: &'a str,
        uuid: Uuid,
        taken: u64,
        offset: u64,
    },
    Resumed {
        uuid: Uuid,
        offset: u64,
    },
    Stored {
        uuid: Uuid,
        digest: &'a str,
        bytes_sent: u64,
    },
    ReadBack {
        seeks: u64,
        digest: &'a Digest,
        size: u64,
    },
    Done {
        #[serde(flatten)]
        total: Total,
        seconds: f64,
    },
}

impl Demo {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let mut stop = Stop::listen(context.output)?;
        tokio::select! {
            played = play(context.output) => played,
            () = stop.told() => Err(Failure::new("interrupted")),
        }
    }
}

async fn play(output: Output) -> Result<(), Failure> {
    let begun = Instant::now();
    let (stage, store) = stage().await?;
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) =
        listener.map_err(|error| Failure::of(&error).context("cannot listen on 127.0.0.1"))?;
    let stage = Stage {
        endpoint: format!("http://{address}"),
        ..stage
    };
    let tale = async {
        let tale = Tale::begin(output, &stage, &store).await?;
        tale.tell(begun).await
    };
    tokio::select! {
        told = tale => told,
        served = store.serve(listener, std::future::pending()) => {
            served.map_err(|error| Failure::of(&error))
        }
    }
}

/// A store in a folder of its own.
async fn stage() -> Result<(Stage, EmbeddedStore), Failure> {
    let folder = tempfile::Builder::new()
        .prefix("s3layers-demo-")
        .tempdir()
        .map_err(|error| Failure::of(&error).context("cannot make a temporary folder"))?;
    let stage = Stage {
        endpoint: String::new(),
        access_key: "demo".to_owned(),
        secret_key: clock::new_uuid().to_string(),
        folder,
    };
    let store = Place::Folder(stage.folder.path().join("store"))
        .open(Absent::Create)
        .await?;
    let store = store.with_keys(&stage.access_key, &stage.secret_key);
    Ok((stage, store))
}

/// The story, and what has been seen of it.
struct Tale<'a> {
    output: Output,
    stage: &'a Stage,
    /// The layer that goes in.
    layer: Bytes,
    digest: Digest,
    /// This process's own way to the store.
    service: S3LayerService,
    /// What each process asked of the store, as it said itself.
    spent: Vec<Said>,
}

impl<'a> Tale<'a> {
    async fn begin(
        output: Output,
        stage: &'a Stage,
        store: &EmbeddedStore,
    ) -> Result<Self, Failure> {
        let client = client_over(
            store.http_client(),
            "http://embedded",
            &stage.access_key,
            &stage.secret_key,
        );
        let service = S3LayerService::connect(client, S3Config::new(BUCKET))
            .await
            .map_err(|error| Failure::of(&error))?;
        let layer = layer::make(usize::try_from(SIZE).unwrap_or(usize::MAX));
        let digest = Digest::of(Algorithm::Sha256, &layer);
        output.say(format_args!("a store of its own at {}", stage.endpoint))?;
        output.say(format_args!("a layer of {} bytes", grouped(SIZE)))?;
        output.say(format_args!("   {digest}"))?;
        output.event(&Event::Made {
            digest: &digest,
            size: SIZE,
            endpoint: &stage.endpoint,
        })?;
        Ok(Tale {
            output,
            stage,
            layer,
            digest,
            service,
            spent: Vec::new(),
        })
    }

    async fn tell(mut self, begun: Instant) -> Result<(), Failure> {
        let uuid = self.push_and_stop().await?;
        self.resume_and_kill(uuid).await?;
        self.resume_and_finish(uuid).await?;
        let came_back = self.read_back().await?;
        let account = Account::new(&self.spent, self.service.usage());
        account.print(self.output)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.output.say(format_args!(
            "here: learning what the store can do, and reading back; {seconds:.1} s in all"
        ))?;
        self.output.event(&Event::Done {
            total: account.total(),
            seconds,
        })?;
        if came_back != self.digest {
            let (claimed, computed) = (self.digest, came_back);
            return Err(Error::InvalidChecksum { claimed, computed }.into());
        }
        self.output.say("")?;
        self.output
            .say("the layer that was read back is the layer that was pushed:")?;
        self.output.say(format_args!("   {came_back}"))
    }

    /// The first process takes a part of the layer, and is asked to stop.
    async fn push_and_stop(&mut self) -> Result<Uuid, Failure> {
        let mut child = Child::start(self.stage, Path::new("-"), None)?;
        self.headline("1  push", &child)?;
        let uuid = child.hear("started").await?.uuid;
        child.feed(self.up_to(FIRST_CUT)).await?;
        let taken = child.takes(FIRST_CUT).await?;
        child.ask_to_stop()?;
        let last = child.hear("kept").await?;
        child.kill()?;
        let taken = taken.offset.unwrap_or(0);
        line(self.output, "took", taken, "bytes, then SIGTERM")?;
        let offset = self.offset(uuid).await?;
        let told = match offset == taken {
            true => "bytes: none of them is sent again",
            false => "bytes",
        };
        line(self.output, "the store has", offset, told)?;
        self.spent.push(last);
        self.output.event(&Event::Cut {
            signal: "SIGTERM",
            uuid,
            taken,
            offset,
        })?;
        Ok(uuid)
    }

    /// The second one goes on, and is killed.
    async fn resume_and_kill(&mut self, uuid: Uuid) -> Result<(), Failure> {
        let mut child = Child::start(self.stage, Path::new("-"), Some(uuid))?;
        self.headline("2  push --resume", &child)?;
        self.resumed(&mut child).await?;
        child.feed(self.up_to(SECOND_CUT)).await?;
        let last = child.takes(SECOND_CUT).await?;
        child.kill()?;
        line(self.output, "took up to", SECOND_CUT, "then SIGKILL")?;
        let offset = self.offset(uuid).await?;
        line(
            self.output,
            "on record",
            offset,
            "bytes: the others are sent again",
        )?;
        self.spent.push(last);
        self.output.event(&Event::Cut {
            signal: "SIGKILL",
            uuid,
            taken: SECOND_CUT,
            offset,
        })
    }

    /// The third one goes on from a file, and finishes.
    async fn resume_and_finish(&mut self, uuid: Uuid) -> Result<(), Failure> {
        let file = self.stage.folder.path().join("layer.tar");
        tokio::fs::write(&file, &self.layer)
            .await
            .map_err(|error| {
                Failure::of(&error).context(format_args!("cannot write {}", file.display()))
            })?;
        let mut child = Child::start(self.stage, &file, Some(uuid))?;
        self.headline("3  push --resume", &child)?;
        self.resumed(&mut child).await?;
        let stored = child.hear("stored").await?;
        line(self.output, "sent", stored.bytes_sent, "bytes and was done")?;
        self.output.event(&Event::Stored {
            uuid,
            digest: stored.digest.as_deref().unwrap_or_default(),
            bytes_sent: stored.bytes_sent,
        })?;
        self.spent.push(stored);
        Ok(())
    }

    async fn resumed(&self, child: &mut Child) -> Result<(), Failure> {
        let started = child.hear("started").await?;
        let (uuid, offset) = (started.uuid, started.offset.unwrap_or(0));
        line(self.output, "resumes at", offset, "")?;
        self.output.event(&Event::Resumed { uuid, offset })
    }

    /// Seeks and compares, then reads all of it. The digest of what came.
    async fn read_back(&self) -> Result<Digest, Failure> {
        let id = LayerId::from(self.digest.clone());
        let mut layer = self.service.fetch(&id).await?;
        self.output.say("")?;
        self.output.say("read back, in this process")?;
        let mut bytes = vec![0; SOUGHT];
        for place in 0..SEEKS {
            // From the end to the start, so that nothing is read in passing.
            let at = (SEEKS - 1 - place) * (SIZE - SOUGHT as u64) / (SEEKS - 1);
            layer
                .seek(SeekFrom::Start(at))
                .await
                .map_err(Error::from_io)?;
            layer.read_exact(&mut bytes).await.map_err(Error::from_io)?;
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            if self.layer.get(from..from + SOUGHT) != Some(&*bytes) {
                return Err(Failure::new(format!("the bytes at {at} are others")));
            }
        }
        line(self.output, "seeks", SEEKS, "and the bytes there are right")?;
        layer
            .seek(SeekFrom::Start(0))
            .await
            .map_err(Error::from_io)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut size, mut pieces) = (0, layer.into_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            size += piece.len() as u64;
            hasher.update(&piece);
        }
        let digest = hasher.digest();
        line(self.output, "the whole", size, "bytes")?;
        self.output.event(&Event::ReadBack {
            seeks: SEEKS,
            digest: &digest,
            size,
        })?;
        Ok(digest)
    }

    fn headline(&self, text: &str, child: &Child) -> Result<(), Failure> {
        self.output.say("")?;
        self.output
            .say(format_args!("{text:<22}process {}", child.pid()))
    }

    /// What the store says about the upload, to a process that has nothing to do with it.
    async fn offset(&self, uuid: Uuid) -> Result<u64, Failure> {
        let name = NAME
            .parse()
            .map_err(|error: InvalidName| Failure::of(&error))?;
        let upload = self.service.resume(&name, None, uuid).await?;
        Ok(upload.offset())
    }

    fn up_to(&self, end: u64) -> Bytes {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        self.layer.slice(..end.min(self.layer.len()))
    }
}

fn line(output: Output, what: &str, number: u64, rest: &str) -> Result<(), Failure> {
    let number = grouped(number);
    output.say(
        format_args!("   {what:<16}{number:>12}  {rest}")
            .to_string()
            .trim_end(),
    )
}
