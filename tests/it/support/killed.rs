//! The program itself, killed as by `kill -9` while it pushes or serves; what is left is taken up by
//! another process. Also for the servers of `tests/servers`, so it stands on nothing of the others.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use s3layers::embedded::EmbeddedStore;
use s3layers::{Algorithm, Digest, client_over};
use serde_json::Value;
use tempfile::TempDir;

const NAME: &str = "library/killed";

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Several parts.
static LAYER: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let words = (0..12 * 1024 * 1024 / 8).map(|word: u64| mixed(word).to_le_bytes());
    let bytes = words.collect::<Vec<_>>().concat();
    let digest = Digest::of(Algorithm::Sha256, &bytes).to_string();
    (bytes, digest)
});

/// One bit more or less changes all of it (splitmix64).
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// When the program is killed: some time between its start and what it takes when it is not.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub seed: u64,
    pub span: Duration,
}

impl Kill {
    fn after(self) -> Duration {
        self.span.mul_f64(mixed(self.seed) as f64 / u64::MAX as f64)
    }
}

/// Where layers are kept.
enum Place {
    Folder,
    S3 {
        url: String,
        bucket: String,
        root: String,
    },
}

/// An empty store, and whoever runs the program over it.
pub struct Machine {
    program: PathBuf,
    home: TempDir,
    place: Place,
    keys: (String, String),
}

impl Machine {
    /// With a folder of its own.
    pub fn new(program: &str) -> Self {
        Machine {
            program: program.into(),
            home: tempfile::tempdir().unwrap(),
            place: Place::Folder,
            keys: ("none".to_owned(), "none".to_owned()),
        }
    }

    /// Below this root, where nothing is.
    #[allow(dead_code, reason = "only tests/servers has servers")]
    pub fn on_server(program: &str, url: &str, bucket: &str, root: &str, keys: [&str; 2]) -> Self {
        Machine {
            place: Place::S3 {
                url: url.to_owned(),
                bucket: bucket.to_owned(),
                root: root.to_owned(),
            },
            keys: (keys[0].to_owned(), keys[1].to_owned()),
            ..Machine::new(program)
        }
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("store")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", &self.keys.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.1)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .arg("--json");
        match &self.place {
            Place::Folder => {
                command.arg(format!("--store=file:{}", self.folder().display()));
            }
            Place::S3 { url, bucket, root } => {
                command.arg(format!("--store=s3://{bucket}/{root}"));
                command.arg(format!("--endpoint-url={url}"));
            }
        }
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it printed.
    fn ok(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.run(arguments);
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(format!("{arguments:?}: {}", said(&output))),
        }
    }

    fn layer(&self) -> String {
        let path = self.home.path().join("layer");
        fs::write(&path, &LAYER.0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A registry, and where it listens.
    fn serve(&self) -> Result<(Server, String), String> {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        let server = Server(child);
        read.map_err(|error| error.to_string())?;
        let event = events(line.as_bytes()).pop();
        let event = event.ok_or("the registry does not start")?;
        Ok((server, event["address"].as_str().unwrap().to_owned()))
    }

    /// A client of the store, without the program.
    async fn client(&self) -> (Client, &str, String) {
        let (access, secret) = &self.keys;
        match &self.place {
            Place::Folder => {
                let store = EmbeddedStore::open(self.folder()).await.unwrap();
                let (access, secret) = (store.access_key(), store.secret_key());
                let client = client_over(store.http_client(), "http://embedded", access, secret);
                (client, "layers", String::new())
            }
            Place::S3 { url, bucket, root } => {
                let http = aws_smithy_http_client::Builder::new().build_http();
                let client = client_over(http, url, access, secret);
                (client, bucket, format!("{root}/"))
            }
        }
    }

    /// After a sweep there is nothing to sweep, and only what one published layer is.
    fn nothing_else_is_left(&self) -> Result<(), String> {
        let sweep = ["sweep", "--older-than", "0s"];
        self.ok(&sweep)?;
        let again = events(&self.ok(&sweep)?);
        if again.last().is_none_or(|done| done["uploads"] != 0) {
            return Err(format!("left after a sweep: {again:?}"));
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let found = runtime.block_on(async {
            let (client, bucket, prefix) = self.client().await;
            let listed = client.list_objects_v2().bucket(bucket).prefix(&prefix);
            let listed = listed.send().await.unwrap();
            let keys = listed.contents().iter().map(|object| object.key().unwrap());
            let mut found: Vec<_> = keys.map(|key| key[prefix.len()..].to_owned()).collect();
            let uploads = client.list_multipart_uploads().bucket(bucket);
            let uploads = uploads.prefix(&prefix).send().await.unwrap();
            let told = uploads.uploads().iter().map(|one| one.key().unwrap());
            found.extend(told.map(|key| format!("multipart upload of {key}")));
            found
        });
        // Of a process that died while it was the first ever to ask the store what it can do. See
        // "What is known not to hold".
        let found: Vec<_> = found.iter().filter(|key| !key.contains("probe/")).collect();
        let rooms: Vec<_> = found
            .iter()
            .map(|key| key.split('/').next().unwrap())
            .collect();
        match rooms == ["data", "layers", "profile", "repositories"] {
            true => Ok(()),
            false => Err(format!("left over: {found:?}")),
        }
    }

    fn layer_comes_back(&self) -> Result<(), String> {
        // `--json` is for events: a layer goes into a file.
        let out = self.home.path().join("pulled");
        self.ok(&["pull", &LAYER.1, "-o", out.to_str().unwrap()])?;
        match fs::read(&out).unwrap() == LAYER.0 {
            true => Ok(()),
            false => Err("pull gives other bytes".to_owned()),
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All whole lines: the last one may be cut.
fn events(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stdout);
    let lines = text.lines().map(serde_json::from_str);
    lines.filter_map(Result::ok).collect()
}

/// A running registry; dropping kills it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pushes, is killed, and pushes again. How long the first push took where nobody killed it.
pub fn push(machine: &Machine, kill: Option<Kill>) -> Result<Duration, String> {
    let file = machine.layer();
    let begun = Instant::now();
    let mut child = machine
        .command(&["push", &file, "--name", NAME])
        .spawn()
        .unwrap();
    if let Some(kill) = kill {
        // Not to wait for anything: this is the instant.
        std::thread::sleep(kill.after());
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    let took = begun.elapsed();
    let events = events(&output.stdout);
    let event = |name: &str| events.iter().find(|event| event["event"] == name);
    if event("stored").is_none() {
        if kill.is_none() {
            return Err(said(&output));
        }
        let mut again = vec!["push", &file, "--name", NAME];
        if let Some(started) = event("started") {
            again.extend(["--resume", started["uuid"].as_str().unwrap()]);
        }
        let output = machine.run(&again);
        // It may have been finished, and only not have said so.
        if !output.status.success() && !said(&output).contains("it was finished") {
            return Err(format!("{again:?}: {}", said(&output)));
        }
    }
    machine.layer_comes_back()?;
    machine.nothing_else_is_left()?;
    Ok(took)
}

/// What a client of the registry knows of its upload.
#[derive(Debug, Default)]
struct Progress {
    /// Path and query.
    location: Option<String>,
    acknowledged: u64,
    /// The end was asked for.
    ending: bool,
}

/// A client pushes to a registry that is killed, and goes on at the next one. How long it took
/// where nobody killed it.
pub fn serve(machine: &Machine, kill: Option<Kill>) -> Result<Duration, String> {
    let (mut server, address) = machine.serve()?;
    let mut progress = Progress::default();
    let begun = Instant::now();
    let uploaded = std::thread::scope(|scope| {
        scope.spawn(|| {
            if let Some(kill) = kill {
                // Not to wait for anything: this is the instant.
                std::thread::sleep(kill.after());
                let _ = server.0.kill();
            }
        });
        upload(&address, &mut progress)
    });
    let took = begun.elapsed();
    drop(server);
    let (server, address) = machine.serve()?;
    let blob = format!("/v2/{NAME}/blobs/{}", LAYER.1);
    if let Err(failure) = uploaded {
        if kill.is_none() {
            return Err(failure);
        }
        let gone_on = go_on(&address, &mut progress, &blob);
        gone_on.map_err(|failure| format!("{failure} ({progress:?})"))?;
    }
    let read = Reply::to(&address, "GET", &blob, &[], &[])?.is(200)?;
    if read.body != LAYER.0 {
        return Err("the registry gives other bytes".to_owned());
    }
    drop(server);
    machine.layer_comes_back()?;
    machine.nothing_else_is_left()?;
    Ok(took)
}

/// Goes on where the registry says.
fn go_on(address: &str, progress: &mut Progress, blob: &str) -> Result<(), String> {
    if let Some(location) = &progress.location {
        let status = Reply::to(address, "GET", location, &[], &[])?;
        if status.status == 404 && progress.ending {
            return Reply::to(address, "HEAD", blob, &[], &[])?
                .is(200)
                .map(drop);
        }
        let offset = status.is(204)?.offset()?;
        if offset < progress.acknowledged {
            return Err(format!("{offset} bytes are left"));
        }
        progress.acknowledged = offset;
    }
    upload(address, progress)
}

/// From where it is to the end, in a few pieces.
fn upload(address: &str, progress: &mut Progress) -> Result<(), String> {
    const PIECE: usize = 2_500_000;
    let (layer, digest) = &*LAYER;
    if progress.location.is_none() {
        let path = format!("/v2/{NAME}/blobs/uploads/");
        let begun = Reply::to(address, "POST", &path, &[], &[])?.is(202)?;
        progress.location = Some(begun.location()?);
    }
    let location = |progress: &Progress| progress.location.clone().unwrap_or_default();
    while progress.acknowledged < layer.len() as u64 {
        let from = progress.acknowledged as usize;
        let piece = &layer[from..layer.len().min(from + PIECE)];
        let range = format!("{from}-{}", from + piece.len() - 1);
        let headers = [("content-range", range.as_str())];
        let reply = Reply::to(address, "PATCH", &location(progress), &headers, piece)?.is(202)?;
        progress.location = Some(reply.location()?);
        progress.acknowledged = reply.offset()?;
    }
    progress.ending = true;
    let at = location(progress);
    let mark = if at.contains('?') { '&' } else { '?' };
    let end = format!("{at}{mark}digest={digest}");
    Reply::to(address, "PUT", &end, &[], &[])?.is(201).map(drop)
}

/// An answer of the registry.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn to(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, String> {
        let told = |error: io::Error| format!("{method} {path}: {error}");
        Reply::ask(address, method, path, headers, body).map_err(told)
    }

    fn ask(
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let size = body.len();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {size}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Reply { status, head, body })
    }

    fn is(self, status: u16) -> Result<Self, String> {
        match self.status == status {
            true => Ok(self),
            false => Err(format!("{status} was wanted: {}", self.head)),
        }
    }

    /// Path and query of where the upload goes on.
    fn location(&self) -> Result<String, String> {
        let lines = self.head.lines().find(|line| line.starts_with("location:"));
        let path = lines.and_then(|line| Some(line[line.find("/v2/")?..].to_owned()));
        path.ok_or_else(|| format!("no Location: {}", self.head))
    }

    /// How many bytes the registry has. (`Range` cannot tell none from one.)
    fn offset(&self) -> Result<u64, String> {
        let location = self.location()?;
        let offset = location.split_once("at=").map(|(_, offset)| offset.parse());
        match offset {
            Some(Ok(offset)) => Ok(offset),
            _ => Err(format!("no offset in {location}")),
        }
    }
}
