//! `pull`, run as a user runs it.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::support::program::{
    MIB, Running, Served, User, digest, events, noise, printed_commands, stderr,
};
use crate::support::tcp_proxy::{Direction, TcpProxy};
use crate::support::terminal::Terminal;

/// How many bytes have to come before the partial file is sure to have some.
const SOME: u64 = 12 * MIB as u64;

/// A store with one layer, which is reached through a proxy.
struct Site {
    _store: Served,
    proxy: TcpProxy,
    user: User,
    layer: Vec<u8>,
    id: String,
}

impl Site {
    fn new() -> Self {
        let (store, proxy, user) = Served::behind_proxy();
        let layer = noise(40 * MIB + 7);
        // A block at a time, so that the first one is whole long before the last.
        let settings = user.path(".config/s3layers");
        fs::create_dir_all(&settings).unwrap();
        fs::write(settings.join("config.toml"), "memory_budget = \"32 MiB\"").unwrap();
        let file = user.file("original", &layer);
        user.ok(&["push", &file, "--name", "x"]);
        Site {
            _store: store,
            proxy,
            user,
            id: digest(&layer),
            layer,
        }
    }

    /// Where a pull to `out` keeps what it has.
    fn partial(&self) -> PathBuf {
        let digits = self.id.split_once(':').unwrap().1;
        self.user.path(&format!("out.{}.partial", &digits[..12]))
    }

    /// A pull to `out` that has got some bytes and waits for more.
    fn begun(&self) -> Running {
        self.proxy.pause_after(Direction::Down, SOME);
        let mut pull = Running::start(&self.user, &["pull", &self.id, "-o", "out"]);
        self.has_written(|| pull.is_running());
        pull
    }

    /// Waits until a pull has got some bytes and waits for more.
    fn has_written(&self, mut is_running: impl FnMut() -> bool) {
        self.proxy.wait_until_paused(Direction::Down);
        let is_written = || fs::metadata(self.partial()).is_ok_and(|there| there.len() > 0);
        while !is_written() {
            assert!(is_running(), "it has written nothing");
            self.proxy.allow(Direction::Down, MIB as u64);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// Pulls to `out`, which must resume after these bytes.
    fn resumes_after(&self, kept: u64) {
        let pulled = self.user.events(&["pull", &self.id, "-o", "out"]);
        let pulled = pulled.last().unwrap();
        assert_eq!(pulled["kept"], kept, "{pulled}");
        assert_eq!(pulled["verified"], true);
        let received = pulled["bytes_received"].as_u64().unwrap();
        let missing = self.layer.len() as u64 - kept;
        assert!(
            (missing..missing + 10_000).contains(&received),
            "{missing} bytes were missing: {pulled}"
        );
        self.is_pulled();
    }

    /// `out` is the layer, and nothing is left beside it.
    fn is_pulled(&self) {
        assert!(fs::read(self.user.path("out")).unwrap() == self.layer);
        assert!(!self.partial().exists());
    }

    fn is_prefix(&self, partial: &[u8]) -> bool {
        self.layer.starts_with(partial)
    }
}

#[test]
fn stopped_pull_is_resumed() {
    let site = Site::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut pull = site.begun();
        pull.signal(signal);
        let kept = pull.next_event("kept");
        assert_eq!(pull.code(), Some(1));
        site.proxy.resume();
        let there = fs::read(site.partial()).unwrap();
        assert_eq!(kept["bytes"], there.len());
        assert_eq!(
            kept["partial"],
            site.partial().file_name().unwrap().to_str().unwrap()
        );
        assert!(!there.is_empty() && site.is_prefix(&there));
        assert!(!site.user.path("out").exists());
        site.resumes_after(there.len() as u64);
        fs::remove_file(site.user.path("out")).unwrap();
    }
}

#[test]
fn killed_pull_is_resumed() {
    let site = Site::new();
    let mut pull = site.begun();
    pull.signal(Signal::KILL);
    assert_eq!(pull.code(), None);
    site.proxy.resume();
    let there = fs::read(site.partial()).unwrap();
    assert!(site.is_prefix(&there));
    site.resumes_after(there.len() as u64);
}

#[test]
fn broken_pull_prints_the_command_that_resumes_it() {
    let site = Site::new();
    site.proxy.pause_after(Direction::Down, SOME);
    let mut pull = site
        .user
        .command(&["pull", &site.id[..14], "-o", "out"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    site.has_written(|| pull.try_wait().unwrap().is_none());
    site.proxy.disconnect();
    let output = pull.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let there = fs::read(site.partial()).unwrap();
    assert!(site.is_prefix(&there));
    let name = site.partial();
    let name = name.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(&format!("{name} has ")), "{said}");
    site.proxy.reconnect();
    let commands = printed_commands(&said);
    assert_eq!(commands.len(), 1, "{said}");
    let pasted = site.user.shell(&commands[0]).output().unwrap();
    let said = stderr(&pasted);
    assert!(pasted.status.success(), "{said}");
    assert!(said.contains("has the first "), "{said}");
    site.is_pulled();
}

#[test]
fn partial_file_with_wrong_bytes_is_downloaded_again() {
    let site = Site::new();
    let mut wrong = site.layer[..3 * MIB].to_vec();
    wrong[MIB] ^= 1;
    let longer = [&site.layer[..], b"more"].concat();
    let mut whole = site.layer.clone();
    whole[0] ^= 1;
    for (case, there, kept) in [
        ("wrong bytes", &wrong, 0),
        ("more than the layer has", &longer, 0),
        ("as many, and wrong", &whole, 0),
        ("all of it", &site.layer, site.layer.len()),
    ] {
        fs::write(site.partial(), there).unwrap();
        let pulled = site.user.events(&["pull", &site.id, "-o", "out"]);
        assert_eq!(pulled[0]["kept"], kept, "{case}");
        site.is_pulled();
        fs::remove_file(site.user.path("out")).unwrap();
    }
    // That of another layer is left alone.
    let other = site
        .user
        .file("out.0123456789ab.partial", b"of another layer");
    site.user.ok(&["pull", &site.id, "-o", "out"]);
    site.is_pulled();
    assert_eq!(fs::read(other).unwrap(), b"of another layer");
}

#[test]
fn two_pulls_to_one_file_do_not_mix() {
    let site = Site::new();
    let mut first = site.begun();
    let direct = User::of(&site._store);
    let out = site.user.path("out");
    let said = direct.fails(1, &["pull", &site.id, "-o", out.to_str().unwrap()]);
    assert!(said.contains("is being written by another pull"), "{said}");
    assert!(site.partial().exists(), "it belongs to the other one");
    site.proxy.resume();
    first.next_event("pulled");
    site.is_pulled();
}

#[test]
fn stopped_range_leaves_nothing() {
    let site = Site::new();
    site.proxy.pause_after(Direction::Down, SOME);
    let arguments = ["pull", &site.id, "--range", "1-", "-o", "out"];
    let mut pull = Running::start(&site.user, &arguments);
    site.proxy.wait_until_paused(Direction::Down);
    pull.signal(Signal::TERM);
    assert_eq!(pull.next_event("error")["hints"], serde_json::Value::Null);
    assert_eq!(pull.code(), Some(1));
    site.proxy.resume();
    let there = fs::read_dir(site.user.home.path()).unwrap();
    let mut there: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, [".config", "original"]);
}

#[test]
fn existing_file_is_replaced_with_force_only() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
    user.ok(&["push", &file, "--name", "x"]);
    let id = digest(b"bytes");
    let there = user.file("there", b"precious");
    let said = user.fails(1, &["pull", &id, "-o", "there"]);
    assert!(
        said.contains("there exists already; --force replaces it"),
        "{said}"
    );
    assert_eq!(fs::read(&there).unwrap(), b"precious");
    // No store is asked for that, not even one that is not there.
    let nobody = User::at("http://127.0.0.1:1");
    let said = nobody.fails(1, &["pull", &id, "-o", &there]);
    assert!(said.contains("exists already"), "{said}");
    std::os::unix::fs::symlink("nowhere", user.path("link")).unwrap();
    let said = user.fails(1, &["pull", &id, "-o", "link"]);
    assert!(said.contains("link exists already"), "{said}");
    // What a link leads to is replaced, as with /dev/stdout.
    user.file("behind", b"old");
    std::os::unix::fs::symlink("behind", user.path("to-file")).unwrap();
    user.ok(&["pull", &id, "-o", "to-file", "--force"]);
    let link = std::fs::symlink_metadata(user.path("to-file")).unwrap();
    assert!(link.is_symlink());
    assert_ne!(std::fs::read(user.path("behind")).unwrap(), b"old");
    for output in ["absent/", "absent/."] {
        let said = user.fails(1, &["pull", &id, "-o", output]);
        assert!(said.contains("does not end with a file name"), "{said}");
    }

    user.ok(&["pull", &id, "-o", "there", "--force"]);
    assert_eq!(fs::read(&there).unwrap(), b"bytes");
    let said = user.fails(2, &["pull", &id, "--force"]);
    assert!(said.contains("--output <FILE>"), "{said}");
}

#[test]
fn unambiguous_prefix_of_a_digest_is_accepted() {
    let user = User::new();
    let mut by_digits: HashMap<String, u32> = HashMap::new();
    let twins = (0_u32..).find_map(|number| {
        let digits = digest(&number.to_le_bytes())[..11].to_owned();
        let before = by_digits.insert(digits, number)?;
        Some([before, number])
    });
    let layers = twins.unwrap().map(|number| number.to_le_bytes());
    for (name, layer) in ["one", "two"].iter().zip(layers) {
        user.file(name, &layer);
    }
    user.ok(&["push", "one", "two", "--name", "x"]);
    let [one, two] = layers.map(|layer| digest(&layer));
    let shared = one
        .chars()
        .zip(two.chars())
        .take_while(|(a, b)| a == b)
        .count();

    let enough = &one[..=shared];
    assert_eq!(user.pulled(enough), layers[0]);
    let bare = enough.strip_prefix("sha256:").unwrap();
    assert_eq!(user.pulled(bare), layers[0]);
    assert_eq!(user.pulled(two.strip_prefix("sha256:").unwrap()), layers[1]);

    let said = user.fails(1, &["pull", &one[..11]]);
    assert!(said.contains("several digests"), "{said}");
    assert!(said.contains(&one) && said.contains(&two), "{said}");
    let none = digest(b"neither");
    let said = user.fails(1, &["pull", &none[..30]]);
    assert!(
        said.contains("no layer is stored") && said.contains(&none[..30]),
        "{said}"
    );
    for (id, want) in [
        ("sha256:abc", "fewer than 4 hex digits"),
        ("sha256:ABCDEF", "lower case"),
        ("sha256:abcdeg", "sha256:<64 hex digits>"),
        ("md5:abcdef", "not supported"),
        ("../../etc", "sha256:<64 hex digits>"),
    ] {
        let said = user.fails(2, &["pull", id]);
        assert!(said.contains(want) && said.contains(id), "{id}: {said}");
    }
}

#[test]
fn unwritable_output_is_named_and_leaves_nothing() {
    let user = User::new();
    let layer = noise(MIB);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "x"]);
    let id = digest(&layer);
    let count = || fs::read_dir(user.home.path()).unwrap().count();
    let before = count();
    let below_a_file = format!("{file}/out");
    for (to, want) in [
        ("nowhere/out", "there is no folder nowhere"),
        (&below_a_file, "cannot write"),
        ("/dev/full", "No space left on device"),
        (".", "is a folder"),
    ] {
        let said = user.fails(1, &["pull", &id, "-o", to]);
        assert!(said.contains(want), "{to}: {said}");
    }
    user.fails(1, &["pull", &digest(b"unknown"), "-o", "out"]);
    assert_eq!(count(), before);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = user.command(&["pull", &id]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("cannot write to standard output"), "{said}");
    let output = user.run(&["--json", "pull", &id, "-o", "/dev/full"]);
    assert_eq!(events(&output.stdout)[0]["event"], "error");
}

#[test]
fn ranges_are_read_by_seek() {
    let user = User::new();
    let layer = noise(3 * MIB);
    let file = user.file("layer", &layer);
    let id = digest(&layer);
    user.ok(&["push", &file, "--name", "x"]);
    for (range, want) in [
        ("0-0", &layer[..1]),
        ("5-9", &layer[5..10]),
        ("3145000-", &layer[3_145_000..]),
        ("-7", &layer[layer.len() - 7..]),
        ("3145720-99999999", &layer[3_145_720..]),
    ] {
        let got = user.ok(&["pull", &id, "--range", range]);
        assert_eq!(got, want, "{range}");
    }
    let pulled = user.events(&["pull", &id, "--range", "1048576-1048579", "-o", "out"]);
    assert_eq!(pulled[0]["bytes"], 4);
    assert!(
        pulled[0]["bytes_received"].as_u64().unwrap() < 200_000,
        "{pulled:?}"
    );
    let beyond = user.fails(1, &["pull", &id, "--range", "3145728-"]);
    assert!(beyond.contains("3,145,728 bytes"), "{beyond}");
    for nonsense in ["9-5", "a-b", "-", "-0", "7", ""] {
        let said = user.fails(2, &["pull", &id, &format!("--range={nonsense}")]);
        assert!(said.contains("--range"), "{said}");
    }
}

#[test]
fn closed_stdout_is_no_error() {
    let user = User::new();
    let layer = noise(8 * MIB);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "x"]);
    let mut pull = user
        .command(&["pull", &digest(&layer)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    pull.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = pull.wait_with_output().unwrap();
    assert_eq!(first, layer[..10]);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn device_is_written_to_and_not_replaced() {
    let user = User::new();
    let file = user.file("layer", b"bytes");
    user.ok(&["push", &file, "--name", "x"]);
    user.ok(&["pull", &digest(b"bytes"), "-o", "/dev/null"]);
    assert!(!Path::new("/dev/null").is_file());
    let pipe = user.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    user.ok(&["pull", &digest(b"bytes"), "-o", pipe.to_str().unwrap()]);
    assert_eq!(reader.join().unwrap(), b"bytes");
    let said = user.fails(1, &["pull", &digest(b"bytes"), "-o", "."]);
    assert!(said.contains(". is a folder"), "{said}");
}

#[test]
fn binary_is_not_written_to_a_terminal_unless_asked_for() {
    let user = User::new();
    let file = user.file("layer", b"a layer");
    user.ok(&["push", &file, "--name", "library/x"]);
    let id = digest(b"a layer");
    let mut terminal = Terminal::new(80);
    for (arguments, code) in [(&["pull", &id][..], 2), (&["pull", &id, "-o", "-"], 0)] {
        let mut pull = user.command(arguments);
        let output = pull.stdout(terminal.stream()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(code == 0 || said.contains("-o FILE"), "{said}");
    }
    assert_eq!(terminal.end(), ["a layer"]);
    // In a pipe both are the same.
    assert_eq!(user.ok(&["pull", &id, "-o", "-"]), b"a layer");
    assert!(!user.path("-").exists());
}

#[test]
fn layer_is_pulled_from_a_repository_that_has_it() {
    let user = User::new();
    let file = user.file("layer", b"a layer");
    user.ok(&["push", &file, "--name", "library/x"]);
    let id = digest(b"a layer");
    for named in [
        format!("library/x@{id}"),
        format!("library/x@{}", &id[..14]),
    ] {
        assert_eq!(user.pulled(&named), b"a layer", "{named}");
    }
    let said = user.fails(1, &["pull", &format!("library/y@{id}")]);
    assert!(said.contains("repository library/y has no layer"), "{said}");
}

#[test]
fn second_signal_prints_how_to_resume_a_pull() {
    let site = Site::new();
    let mut pull = site.begun();
    // Both are pending when it continues.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        pull.signal(signal);
    }
    // A stop takes no time here, so the first signal may have ended the pull before the second one is noticed.
    let last = pull.until(|said| said["event"] == "error" || said["event"] == "kept");
    let how = match last["event"].as_str() {
        Some("kept") => last["resume"].to_string(),
        _ => {
            let hints = last["hints"].to_string();
            assert!(hints.contains("to resume: "), "{last}");
            hints
        }
    };
    assert!(how.contains(" pull ") && how.contains("-o out"), "{last}");
    assert_eq!(pull.code(), Some(1));
    site.proxy.resume();
    let there = fs::read(site.partial()).unwrap();
    assert!(!there.is_empty() && site.is_prefix(&there));
    site.resumes_after(there.len() as u64);
}
