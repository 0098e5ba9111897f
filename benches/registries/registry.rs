//! Registries as processes, each over a link and a root of its own: ours, and a peer.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::Store;

/// Who stores layers.
#[derive(Clone, Debug)]
pub enum Contender {
    Ours,
    /// Docker's, by its program.
    Distribution(String),
}

impl Contender {
    /// A process of its own, over this root of the store, which it believes to be at that URL.
    pub fn start(&self, store: &Store, url: &str, root: &str) -> io::Result<Registry> {
        match self {
            Contender::Ours => Registry::ours(store, url, root),
            Contender::Distribution(program) => Registry::distribution(program, store, url, root),
        }
    }
}

/// A running registry; dropping kills it.
pub struct Registry {
    child: Child,
    pub address: String,
    _home: TempDir,
}

impl Registry {
    fn ours(store: &Store, url: &str, root: &str) -> io::Result<Registry> {
        let home = tempfile::tempdir()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_s3layers"))
            .env_clear()
            .env("HOME", home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", &store.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &store.secret_key)
            .args(["--json", "--region=us-east-1"])
            .arg(format!("--store=s3://{}/{root}", store.bucket))
            .arg(format!("--endpoint-url={url}"))
            .args(["serve", "--listen=127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut line)?;
        }
        let event: serde_json::Value = serde_json::from_str(&line)?;
        let address = event["address"].as_str().unwrap_or_default().to_owned();
        Ok(Registry {
            child,
            address,
            _home: home,
        })
    }

    fn distribution(program: &str, store: &Store, url: &str, root: &str) -> io::Result<Registry> {
        let home = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let Store {
            access_key,
            secret_key,
            bucket,
            ..
        } = store;
        let settings = format!(
            "version: 0.1\n\
             log: {{level: error, accesslog: {{disabled: true}}}}\n\
             http: {{addr: '{address}'}}\n\
             storage:\n\
             \x20 redirect: {{disable: true}}\n\
             \x20 s3: {{accesskey: '{access_key}', secretkey: '{secret_key}', region: us-east-1, bucket: '{bucket}',\n\
             \x20   regionendpoint: '{url}', forcepathstyle: true, secure: false, rootdirectory: '/{root}'}}\n"
        );
        let path = home.path().join("config.yml");
        fs::write(&path, settings)?;
        let child = Command::new(program)
            .env_remove("AWS_CA_BUNDLE")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Registry {
            child,
            address,
            _home: home,
        };
        while std::net::TcpStream::connect(&registry.address).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Seconds of CPU that the process has used.
    pub fn cpu(&self) -> f64 {
        /// Of `/proc`, on every Linux.
        const TICKS: f64 = 100.0;
        let stat = self.proc("stat");
        // The name of the program, in parentheses, may hold anything.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let field = |nth: usize| {
            after
                .split_whitespace()
                .nth(nth)
                .and_then(|n| n.parse::<f64>().ok())
        };
        (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / TICKS
    }

    /// The most memory that the process has had, in MiB.
    pub fn peak_memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(0.0) / 1024.0
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
