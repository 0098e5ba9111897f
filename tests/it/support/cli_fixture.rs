//! The program over an empty store, which is a folder or a server. `tests/servers` uses this file too, so it
//! imports no other support module.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use embedded_s3::EmbeddedStore;
use s3layers::{Algorithm, Digest, client_over};
use serde_json::Value;
use tempfile::TempDir;

pub const NAME: &str = "library/killed";

/// Longer than anything here takes: a hang fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Several parts.
pub static LAYER: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let words = (0..12 * 1024 * 1024 / 8).map(|word: u64| mixed(word).to_le_bytes());
    let bytes = words.collect::<Vec<_>>().concat();
    let digest = Digest::of(Algorithm::Sha256, &bytes).to_string();
    (bytes, digest)
});

/// Pseudo-random (splitmix64).
pub fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Where layers are kept.
enum StoreKind {
    Folder,
    S3 {
        url: String,
        bucket: String,
        root: String,
    },
}

/// An empty store, and a home directory to run the program in.
pub struct CliFixture {
    program: PathBuf,
    home: TempDir,
    place: StoreKind,
    keys: (String, String),
    /// See [`look_for_lost_parts`](CliFixture::look_for_lost_parts).
    lost_parts: OnceLock<String>,
}

impl CliFixture {
    /// With a folder of its own.
    pub fn new(program: &str) -> Self {
        CliFixture {
            program: program.into(),
            home: tempfile::tempdir().unwrap(),
            place: StoreKind::Folder,
            keys: ("none".to_owned(), "none".to_owned()),
            lost_parts: OnceLock::new(),
        }
    }

    /// Below this root, where nothing is.
    #[allow(dead_code, reason = "only tests/servers has servers")]
    pub fn on_server(program: &str, url: &str, bucket: &str, root: &str, keys: [&str; 2]) -> Self {
        CliFixture {
            place: StoreKind::S3 {
                url: url.to_owned(),
                bucket: bucket.to_owned(),
                root: root.to_owned(),
            },
            keys: (keys[0].to_owned(), keys[1].to_owned()),
            ..CliFixture::new(program)
        }
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("store")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_over(None, arguments)
    }

    /// The program, that believes the server to be at another URL.
    fn command_over(&self, another: Option<&str>, arguments: &[&str]) -> Command {
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
            StoreKind::Folder => {
                command.arg(format!("--store=file:{}", self.folder().display()));
            }
            StoreKind::S3 { url, bucket, root } => {
                command.arg(format!("--store=s3://{bucket}/{root}"));
                command.arg(format!("--endpoint-url={}", another.unwrap_or(url)));
            }
        }
        command.args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it printed.
    pub fn ok(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.run(arguments);
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(format!("{arguments:?}: {}", said(&output)))
    }

    pub fn layer(&self) -> String {
        let path = self.home.path().join("layer");
        fs::write(&path, &LAYER.0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A registry, and where it listens.
    pub fn serve(&self) -> Result<(Server, String), String> {
        self.serve_over(None)
    }

    /// The same, where the registry believes the server to be at another URL.
    pub fn serve_over(&self, another: Option<&str>) -> Result<(Server, String), String> {
        let mut child = self
            .command_over(another, &["serve", "--listen", "127.0.0.1:0"])
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
            StoreKind::Folder => {
                let store = EmbeddedStore::open(self.folder()).await.unwrap();
                let (access, secret) = (store.access_key(), store.secret_key());
                let client = client_over(store.http_client(), "http://embedded", access, secret);
                (client, "layers", String::new())
            }
            StoreKind::S3 { url, bucket, root } => {
                let http = aws_smithy_http_client::Builder::new().build_http();
                let client = client_over(http, url, access, secret);
                (client, bucket, format!("{root}/"))
            }
        }
    }

    /// Sweeps, and checks that only one published layer is left.
    pub fn nothing_else_is_left(&self) -> Result<(), String> {
        let found = self.swept()?;
        let folders: Vec<_> = found
            .iter()
            .map(|key| key.split('/').next().unwrap())
            .collect();
        if folders == ["data", "layers", "names", "profile", "repositories"] {
            return Ok(());
        }
        Err(format!("left over: {found:?}"))
    }

    /// The keys in the store after a sweep. A second sweep must find nothing.
    pub fn swept(&self) -> Result<Vec<String>, String> {
        let sweep = ["sweep", "--older-than", "0s"];
        self.ok(&sweep)?;
        let again = events(&self.ok(&sweep)?);
        if again.last().is_none_or(|done| done["uploads"] != 0) {
            return Err(format!("left after a sweep: {again:?}"));
        }
        let mut found = self.blocking(async |client, bucket, prefix| {
            let listed = client.list_objects_v2().bucket(bucket).prefix(prefix);
            let listed = listed.send().await.unwrap();
            let keys = listed.contents().iter().map(|object| object.key().unwrap());
            let mut found: Vec<_> = keys.map(|key| key[prefix.len()..].to_owned()).collect();
            let uploads = client.list_multipart_uploads().bucket(bucket);
            let uploads = uploads.prefix(prefix).send().await.unwrap();
            let keys = uploads.uploads().iter().map(|one| one.key().unwrap());
            found.extend(keys.map(|key| format!("multipart upload of {key}")));
            found
        });
        // A process that died in the very first probe of the store left them. See "Known limits" in
        // ARCHITECTURE.md.
        found.retain(|key| !key.contains("probe/"));
        Ok(found)
    }

    /// Data that this server is known to have lost by itself. `kills` of tests/servers explains the
    /// cause.
    #[allow(dead_code, reason = "only tests/servers has servers")]
    pub fn lost_by(&self, server: &str) -> Option<String> {
        match server {
            "localstack" => self
                .emptied_session()
                .map(|key| format!("the server has emptied {key}")),
            "minio" => self
                .lost_parts
                .get()
                .map(|key| format!("the server has lost the parts of {key}")),
            _ => None,
        }
    }

    /// A session whose size the server reports as larger than the body that it returns.
    fn emptied_session(&self) -> Option<String> {
        self.blocking(async |client, bucket, prefix| {
            for key in sessions(client, bucket, prefix).await {
                let get = client.get_object().bucket(bucket).key(&key).send();
                let Ok(there) = get.await else { continue };
                let body = tokio::time::timeout(PATIENCE, there.body.collect());
                let is_whole = body.await.is_ok_and(|body| body.is_ok());
                if !is_whole {
                    return Some(key);
                }
            }
            None
        })
    }

    /// After a kill: a multipart upload that was being completed, of which the server has no part
    /// and no object. The next process detects it too, and removes the evidence.
    pub fn look_for_lost_parts(&self) {
        if matches!(self.place, StoreKind::Folder) {
            return;
        }
        let found = self.blocking(async |client, bucket, prefix| {
            for session in sessions(client, bucket, prefix).await {
                let uuid = session.rsplit('/').nth(1)?;
                let get = client.get_object().bucket(bucket).key(&session).send();
                let text = get.await.ok()?.body.collect().await.ok()?.to_vec();
                let text: Value = serde_json::from_slice(&text).ok()?;
                let open = &text["multipart"];
                let is_completed =
                    text["phase"]["committing"].is_object() || open["freezing"] == true;
                if !is_completed || !open["parts"].is_array() {
                    continue;
                }
                let (number, upload_id) = (&open["number"], open["upload_id"].as_str()?);
                let data = format!("{prefix}data/{}/{uuid}.{number}", &uuid[..2]);
                let parts = client.list_parts().bucket(bucket).key(&data);
                let parts = parts.upload_id(upload_id).send().await;
                let has_parts = parts.is_ok_and(|parts| !parts.parts().is_empty());
                // The answer comes when no Complete is running.
                let object = client.head_object().bucket(bucket).key(&data).send().await;
                if !has_parts && object.is_err() {
                    return Some(data);
                }
            }
            None
        });
        if let Some(key) = found {
            let _ = self.lost_parts.set(key);
        }
    }

    /// Looks into the store, without the program.
    fn blocking<T>(&self, look: impl AsyncFnOnce(&Client, &str, &str) -> T) -> T {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (client, bucket, prefix) = self.client().await;
            look(&client, bucket, &prefix).await
        })
    }

    pub fn layer_comes_back(&self) -> Result<(), String> {
        // `--json` is for events: a layer goes into a file.
        let out = self.home.path().join("pulled");
        self.ok(&["pull", &LAYER.1, "-o", out.to_str().unwrap()])?;
        if fs::read(&out).unwrap() == LAYER.0 {
            return Ok(());
        }
        Err("pull returned other bytes".to_owned())
    }
}

/// The keys of all sessions.
async fn sessions(client: &Client, bucket: &str, prefix: &str) -> Vec<String> {
    let below = format!("{prefix}uploads/");
    let listed = client.list_objects_v2().bucket(bucket).prefix(below);
    let Ok(listed) = listed.send().await else {
        return Vec::new();
    };
    let keys = listed.contents().iter().filter_map(|object| object.key());
    let sessions = keys.filter(|key| key.ends_with("/session"));
    sessions.map(str::to_owned).collect()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All complete lines: the last one may be incomplete.
pub fn events(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stdout);
    let lines = text.lines().map(serde_json::from_str);
    lines.filter_map(Result::ok).collect()
}

/// A running registry; dropping kills it.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
