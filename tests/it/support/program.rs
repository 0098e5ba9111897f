//! The built program, run as a user runs it: each user has a home of their own, and waits for what
//! the program says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use aws_sdk_s3::Client;
use rustix::process::{Pid, Signal, kill_process};
use s3layers::{Algorithm, Digest};
use serde_json::Value;

use super::tcp_proxy::TcpProxy;

pub(crate) const MIB: usize = 1024 * 1024;

/// The keys of every served store, unless a test gives others.
pub(crate) const ACCESS_KEY: &str = "s3layers";
pub(crate) const SECRET_KEY: &str = "s3layers-secret";

/// Someone with an empty home and no settings.
pub(crate) struct User {
    pub(crate) home: tempfile::TempDir,
    /// What they have set up, as arguments and environment.
    pub(crate) arguments: Vec<String>,
    pub(crate) keys: (String, String),
}

impl User {
    pub(crate) fn new() -> Self {
        User {
            home: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            keys: (ACCESS_KEY.into(), SECRET_KEY.into()),
        }
    }

    /// Someone who uses this store.
    pub(crate) fn of(store: &Served) -> Self {
        User::at(&store.endpoint)
    }

    /// Someone who uses the store at this endpoint.
    pub(crate) fn at(endpoint: &str) -> Self {
        let arguments = ["--store", "s3://layers", "--endpoint-url", endpoint];
        User {
            arguments: arguments.map(str::to_owned).to_vec(),
            ..User::new()
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.at_home(env!("CARGO_BIN_EXE_s3layers"));
        command.args(&self.arguments).args(arguments);
        command
    }

    /// What they paste into a shell.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = self.at_home("/bin/sh");
        command.args(["-c", line]);
        command
    }

    fn at_home(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("TMPDIR", self.home.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", &self.keys.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.1)
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what must succeed. What it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            stderr(&output)
        );
        output.stdout
    }

    /// The events of a run that must succeed.
    pub(crate) fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let mut all = vec!["--json"];
        all.extend(arguments);
        events(&self.ok(&all))
    }

    /// Runs what must fail with this code. What it said on stderr.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains("error: "), "{arguments:?}: {said}");
        said
    }

    /// What `pull` gives for this id.
    pub(crate) fn pulled(&self, id: &str) -> Vec<u8> {
        self.ok(&["pull", id])
    }
}

/// The upload of a push that was interrupted after these bytes, which the store keeps.
pub(crate) fn interrupted_after(user: &User, arguments: &[&str], bytes: &[u8]) -> String {
    let all = [&["push", "-"], arguments].concat();
    let mut push = Running::start(user, &all);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.feed(bytes);
    push.until(|said| said["offset"] == bytes.len());
    push.signal(Signal::TERM);
    push.next_event("kept");
    assert_eq!(push.code(), Some(1));
    uuid
}

/// The commands that a failure ends with, to be pasted.
pub(crate) fn printed_commands(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| {
        let line = line.trim();
        ["to resume: ", "to push it: "]
            .iter()
            .find_map(|hint| line.strip_prefix(hint))
    });
    lines.map(str::to_owned).collect()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What was printed, as text.
pub(crate) fn said(stdout: Vec<u8>) -> String {
    String::from_utf8(stdout).unwrap()
}

pub(crate) fn events(stdout: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(stdout).unwrap();
    let parse = |line| serde_json::from_str::<Value>(line).unwrap();
    text.lines().map(parse).collect()
}

/// Pseudo-random bytes.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

/// A running program that prints events. Dropping kills it.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(user: &User, arguments: &[&str]) -> Self {
        let mut all = vec!["--json"];
        all.extend(arguments);
        Running::spawn(user.command(&all))
    }

    /// A command that becomes the program, with `--json`.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running {
            stdin: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next event for which this holds.
    pub(crate) fn until(&mut self, is_expected: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        for line in self.lines.by_ref() {
            let event = serde_json::from_str(&line.unwrap()).unwrap();
            if is_expected(&event) {
                return event;
            }
            seen.push(event);
        }
        unreachable!("it ended, having said {seen:?}")
    }

    pub(crate) fn next_event(&mut self, event: &str) -> Value {
        self.until(|said| said["event"] == event)
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with the keys of [`User`].
pub(crate) fn client_at(endpoint: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    s3layers::client_over(http, endpoint, ACCESS_KEY, SECRET_KEY)
}

/// A store in a process of its own.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) endpoint: String,
    _user: User,
}

impl Served {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let user = User::new();
        let mut all = vec!["--json", "--store", "memory:", "store"];
        all.extend(["--listen", "127.0.0.1:0"]);
        all.extend(arguments);
        let mut command = user.command(&all);
        command
            .env("S3LAYERS_ACCESS_KEY", ACCESS_KEY)
            .env("S3LAYERS_SECRET_KEY", SECRET_KEY);
        let mut running = Running::spawn(command);
        let endpoint = running.next_event("listening")["endpoint"]
            .as_str()
            .unwrap()
            .to_owned();
        Served {
            running,
            endpoint,
            _user: user,
        }
    }

    /// A store, and someone who uses it.
    pub(crate) fn with_user() -> (Self, User) {
        let store = Served::start(&[]);
        let user = User::of(&store);
        (store, user)
    }

    /// A store, and someone who reaches it through a proxy.
    pub(crate) fn behind_proxy() -> (Self, TcpProxy, User) {
        let store = Served::start(&[]);
        let proxy = TcpProxy::to(&store.endpoint);
        let user = User::at(&proxy.url);
        (store, proxy, user)
    }

    /// A client that goes behind the program's back.
    pub(crate) fn client(&self) -> Client {
        client_at(&self.endpoint)
    }

    /// Waits until the one upload under way has this many parts.
    pub(crate) fn holds_parts(&self, count: usize) {
        let client = self.client();
        let parts = async || {
            let uploads = client.list_multipart_uploads().bucket("layers").send();
            let Some(upload) = uploads.await.unwrap().uploads.unwrap_or_default().pop() else {
                return 0;
            };
            let parts = client
                .list_parts()
                .bucket("layers")
                .set_key(upload.key)
                .set_upload_id(upload.upload_id);
            parts.send().await.unwrap().parts.unwrap_or_default().len()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let arrived = async {
            while parts().await < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = async { tokio::time::timeout(Duration::from_secs(60), arrived).await };
        runtime.block_on(waited).unwrap();
    }
}
