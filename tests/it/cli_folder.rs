//! The program over a folder: absent, open elsewhere, read-only, full.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::program::{Running, User, digest, noise, stderr};
use crate::support::stores;

#[test]
fn commands_that_read_do_not_create_the_folder() {
    let user = User::new();
    let absent = user.path("absent");
    let place = format!("file:{}", absent.display());
    let id = digest(b"x");
    let commands: [&[&str]; 6] = [
        &["ls"],
        &["uploads"],
        &["sweep"],
        &["stat", &id],
        &["pull", &id],
        &["cancel", "00000000-0000-4000-8000-000000000000"],
    ];
    for command in commands {
        let said = user.fails(1, &[&["--store", &place], command].concat());
        assert!(said.contains("there is no store in"), "{command:?}: {said}");
        assert!(said.contains(absent.to_str().unwrap()), "{said}");
        assert!(!absent.exists(), "{command:?} created it");
    }
    let file = user.file("layer", b"x");
    user.ok(&["--store", &place, "push", &file, "--name", "x"]);
    user.ok(&["--store", &place, "ls"]);
}

#[test]
fn folder_that_is_open_elsewhere_names_the_process_and_the_remedy() {
    let user = User::new();
    let mut serving = Running::start(&user, &["serve", "--listen", "127.0.0.1:0"]);
    serving.next_event("listening");
    let said = user.fails(1, &["ls"]);
    let process = format!("already open in process {}", serving.id());
    assert!(said.contains(&process), "{said}");
    assert!(said.contains("data/s3layers"), "{said}");
    assert!(
        said.contains("stop that process") && said.contains("--endpoint-url"),
        "{said}"
    );
}

#[test]
fn store_prints_the_keys_that_it_made_and_only_those() {
    let user = User::new();
    let arguments = ["--store", "memory:", "store", "--listen", "127.0.0.1:0"];
    let mut random = Running::start(&user, &arguments);
    let event = random.next_event("listening");
    let mut client = User::at(event["endpoint"].as_str().unwrap());
    let key = |name: &str| event[name].as_str().unwrap().to_owned();
    client.keys = (key("access_key"), key("secret_key"));
    let file = client.file("layer", b"x");
    client.ok(&["push", &file, "--name", "x"]);
    let mut again = Running::start(&user, &arguments);
    assert_ne!(
        again.next_event("listening")["secret_key"],
        event["secret_key"]
    );

    let mut given = user.command(&["--json"]);
    given.args(arguments);
    given.env("S3LAYERS_ACCESS_KEY", "ours");
    given.env("S3LAYERS_SECRET_KEY", "canary");
    let event = Running::spawn(given).next_event("listening");
    assert_eq!(event["access_key"], "ours");
    assert!(!event.to_string().contains("canary"), "{event}");
}

/// The command as a user who may not write where the modes forbid it, which root may.
fn without_privileges(command: &Command) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let mut plain = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        plain.arg("--bounding-set=-dac_override,-dac_read_search");
    }
    plain.arg(command.get_program()).args(command.get_args());
    let set = command.get_envs();
    plain
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    plain.envs(set.filter_map(|(name, value)| Some((name, value?))));
    plain
}

fn set_modes(path: &Path, folders: u32, files: u32) {
    let mode = if path.is_dir() {
        // Before what is in it, so that it can be read.
        for entry in fs::read_dir(path).unwrap() {
            set_modes(&entry.unwrap().path(), folders, files);
        }
        folders
    } else {
        files
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn read_only_folder_can_be_read() {
    let user = User::new();
    let layer = noise(100_000);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "x"]);
    let store = user.path("data/s3layers");
    set_modes(&store, 0o555, 0o444);
    let run = |arguments: &[&str]| {
        let output = without_privileges(&user.command(arguments)).output();
        output.unwrap()
    };
    for lock in ["with", "without"] {
        let pulled = run(&["pull", &digest(&layer)]);
        assert!(pulled.status.success(), "{lock}: {}", stderr(&pulled));
        assert!(pulled.stdout == layer, "{lock}");
        let listed = run(&["ls"]);
        assert!(listed.status.success(), "{lock}: {}", stderr(&listed));
        let other = user.file("other", b"other");
        let pushed = run(&["push", &other, "--name", "x"]);
        let said = stderr(&pushed);
        assert_eq!(pushed.status.code(), Some(1), "{lock}: {said}");
        assert!(said.contains("read-only"), "{lock}: {said}");
        assert!(!said.contains("attempts"), "{lock}: {said}");
        set_modes(&store, 0o755, 0o644);
        let _ = fs::remove_file(store.join("lock"));
        set_modes(&store, 0o555, 0o444);
    }
    set_modes(&store, 0o755, 0o644);
}

#[tokio::test(flavor = "multi_thread")]
async fn push_to_a_full_disk_fails_at_once_with_the_cause() {
    let (_folder, store) = stores::in_folder().await;
    let store = store.with_keys("full", "full-secret");
    store.create_bucket("layers").await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let served = store.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
    let push = |size: usize| {
        let mut user = User::at(&endpoint);
        user.keys = ("full".into(), "full-secret".into());
        let file = user.file("layer", &noise(size));
        tokio::task::spawn_blocking(move || user.run(&["push", &file, "--name", "x"]))
    };
    let first = push(1000).await.unwrap();
    assert!(first.status.success(), "{}", stderr(&first));
    for free in [20 << 20, 100] {
        store.limit_space(Some(free));
        let failed = push(40 << 20).await.unwrap();
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(1), "{free}: {said}");
        assert!(said.contains("no space left"), "{free}: {said}");
        assert!(said.contains("free space"), "{free}: {said}");
        assert!(!said.contains("attempts"), "{free}: {said}");
    }
}
