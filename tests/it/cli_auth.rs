//! Authentication and TLS of `serve`, and `policy explain`, run as a user runs them.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::program::{Running, User, said};
use crate::support::reply::Reply;

const POLICY: &str = r#"
[groups]
developers = ["user:alice"]

[[rules]]
subjects = ["everyone"]
repositories = ["library/*"]
actions = ["pull"]

[[rules]]
subjects = ["group:developers"]
repositories = ["team/**"]
actions = ["pull", "push"]
"#;

fn hash(password: &str) -> String {
    let hash = bcrypt::hash_with_salt(password, 4, [5; 16]).unwrap();
    hash.format_for_version(bcrypt::Version::TwoY)
}

#[test]
fn policy_is_explained() {
    let user = User::new();
    let policy = user.file("policy.toml", POLICY.as_bytes());
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let mount = format!("/v2/team/a/blobs/uploads/?mount={digest}&from=library/x");
    let by_line = |line| format!("allowed by {policy}:{line}");
    let denied = "denied: no rule allows it".to_owned();
    for (subject, method, path, want) in [
        (
            "anonymous",
            "GET",
            "/v2/library/x/tags/list",
            vec![format!("needed  pull library/x: {}", by_line(5))],
        ),
        (
            "anonymous",
            "PUT",
            "/v2/library/x/manifests/a",
            vec![format!("needed  push library/x: {denied}")],
        ),
        (
            "alice",
            "POST",
            "/v2/team/a/b/blobs/uploads/",
            vec![format!("needed  push team/a/b: {}", by_line(10))],
        ),
        (
            "user:alice",
            "DELETE",
            "/v2/team/a/manifests/x",
            vec![format!("needed  delete team/a: {denied}")],
        ),
        (
            "bob",
            "GET",
            "/v2/team/a/tags/list",
            vec![format!("needed  pull team/a: {denied}")],
        ),
        (
            "alice",
            "POST",
            &mount,
            vec![
                format!("needed  push team/a: {}", by_line(10)),
                format!("optional  pull library/x: {}", by_line(5)),
            ],
        ),
        (
            "anonymous",
            "GET",
            "/livez",
            vec!["needed  open to every client: no access is needed".to_owned()],
        ),
    ] {
        let text = said(user.ok(&[
            "policy", "explain", "--policy", &policy, subject, method, path,
        ]));
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            want,
            "{subject} {method} {path}"
        );
    }
    let event = user.events(&[
        "policy",
        "explain",
        "--policy",
        &policy,
        "bob",
        "GET",
        "/v2/team/a/tags/list",
    ]);
    assert_eq!(
        (&event[0]["allowed"], &event[0]["optional"]),
        (&false.into(), &false.into())
    );
    let error = user.fails(
        2,
        &[
            "policy",
            "explain",
            "--policy",
            &policy,
            "x",
            "GET",
            "/v2/A/tags/list",
        ],
    );
    assert!(error.contains("GET /v2/A/tags/list"), "{error}");
}

#[test]
fn wrong_files_and_settings_are_refused_at_start() {
    let user = User::new();
    let hash = hash("x");
    let users = user.file("users", format!("alice:{hash}\n").as_bytes());
    let plain = user.file("plain", format!("alice:{hash}\nbob:visible\n").as_bytes());
    let policy = user.file("policy", POLICY.as_bytes());
    let unknown = user.file("unknown", format!("{POLICY}deny = true\n").as_bytes());
    let short = user.file("short", b"short");
    let absent = user.path("absent").to_str().unwrap().to_owned();
    std::fs::create_dir(user.path(".aws")).unwrap();
    let endpoint = "endpoint_url = https://s3.registry.example.com\n";
    let profiles = format!(
        "[profile nearby]\n{endpoint}[profile service]\nservices = s\n[services s]\ns3 =\n  {endpoint}"
    );
    user.file(".aws/config", profiles.as_bytes());
    for (arguments, words) in [
        (vec!["--users", &absent], vec![&*absent, "No such file"]),
        (
            vec!["--users", &plain],
            vec![&*plain, ":2:", "bob", "htpasswd -B"],
        ),
        (
            vec!["--policy", &unknown],
            vec![&*unknown, ":14:", "unknown field `deny`"],
        ),
        (
            vec!["--policy", &policy, "--anonymous-pull"],
            vec!["--anonymous-pull", "everyone"],
        ),
        (
            vec!["--anonymous-pull"],
            vec!["--anonymous-pull", "--users"],
        ),
        (
            vec!["--users", &users, "--allow-anonymous"],
            vec!["--allow-anonymous"],
        ),
        (
            vec!["--users", &users, "--secret-file", &short],
            vec![&*short, "5 bytes", "at least 32"],
        ),
        (
            vec!["--users", &users, "--listen", ":0"],
            vec!["--public-url"],
        ),
        (
            vec![
                "--store",
                "s3://bucket",
                "--users",
                &users,
                "--redirect",
                "--redirect-endpoint",
                "https://s3.registry.example.com",
                "--public-url",
                "https://registry.example.com",
            ],
            vec!["s3.registry.example.com", "--redirect-endpoint"],
        ),
        // Of the profile, without users.
        (
            vec![
                "--store",
                "s3://bucket",
                "--profile",
                "nearby",
                "--redirect",
                "--public-url",
                "https://registry.example.com",
            ],
            vec!["s3.registry.example.com", "--redirect-endpoint"],
        ),
        (
            vec![
                "--store",
                "s3://bucket",
                "--profile",
                "service",
                "--redirect",
                "--public-url",
                "https://registry.example.com",
            ],
            vec!["s3.registry.example.com", "--redirect-endpoint"],
        ),
        (
            vec![
                "--store",
                "s3://bucket",
                "--users",
                &users,
                "--redirect",
                "--redirect-endpoint",
                "http://[::1]:9000",
                "--listen",
                "[::1]:0",
            ],
            vec!["::1", "--redirect-endpoint"],
        ),
        (
            vec!["--token-server", "https://tokens.example.com/token"],
            vec!["--token-server", "--policy", "docker"],
        ),
        (
            vec![
                "--users",
                &users,
                "--token-server",
                "https://tokens.example.com/token",
            ],
            vec!["--token-server", "--policy", "docker"],
        ),
        (
            vec!["--webhook", "http://hooks.example.com/"],
            vec!["--webhook", "http://hooks.example.com/", "https://"],
        ),
        (
            vec!["--webhook-authorization", &users],
            vec!["--webhook-authorization", "--webhook;"],
        ),
        (
            vec![
                "--webhook",
                "https://hooks.example.com/",
                "--webhook-authorization",
                &plain,
            ],
            vec![&*plain, "one line", "Bearer TOKEN"],
        ),
        (vec!["--tls-cert", &users], vec!["--tls-key"]),
        (vec!["--tls-client-ca", &users], vec!["--tls-cert"]),
        (
            vec!["--tls-cert", &users, "--tls-key", &users],
            vec![&*users, "no certificate"],
        ),
    ] {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        if arguments.contains(&"--listen") {
            all.truncate(1);
        }
        all.extend(arguments);
        let error = user.fails(2, &all);
        for word in words {
            assert!(error.contains(word), "{all:?}: {word}: {error}");
        }
        assert!(
            !error.contains("visible") && !error.contains(&hash),
            "{error}"
        );
    }
}

/// A server over `folder`, and where it listens.
fn serving(user: &User, folder: &str, users: &str) -> (Running, String) {
    let store = format!("file:{folder}");
    let arguments = [
        "--store",
        &store,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--users",
        users,
        "--public-url",
        "https://registry.example.com",
    ];
    let mut serving = Running::start(user, &arguments);
    let address = serving.next_event("listening")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    (serving, address)
}

#[test]
fn processes_of_one_bucket_accept_each_others_tokens() {
    let user = User::new();
    let users = user.file("users", format!("alice:{}\n", hash("x")).as_bytes());
    let folder = user.path("store").to_str().unwrap().to_owned();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("alice:x"));
    let get = |address: &str, path: &str, credentials: &str| {
        Reply::to(address, "GET", path, &[("authorization", credentials)], b"").unwrap()
    };
    let (one, address) = serving(&user, &folder, &users);
    let reply = get(&address, "/token?service=registry.example.com", &basic);
    let token: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    assert_eq!(get(&address, "/v2/", &bearer).status, 200);
    drop(one);
    let (_other, address) = serving(&user, &folder, &users);
    assert_eq!(get(&address, "/v2/", &bearer).status, 200);
}

#[test]
fn files_are_read_again_when_they_change() {
    let user = User::new();
    let users = user.file("users", format!("alice:{}\n", hash("old")).as_bytes());
    let arguments = [
        "--store",
        "memory:",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--users",
        &users,
    ];
    let mut serving = Running::start(&user, &arguments);
    let address = serving.next_event("listening")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let status = |password: &str| {
        let pair = BASE64_STANDARD.encode(format!("alice:{password}"));
        let basic = format!("Basic {pair}");
        let headers = [("authorization", basic.as_str())];
        Reply::to(&address, "GET", "/v2/", &headers, b"")
            .unwrap()
            .status
    };
    assert_eq!(status("old"), 200);
    // A file that is wrong changes nothing.
    user.file("users", b"alice\n");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(status("old"), 200);
    user.file("users", format!("alice:{}\n", hash("new")).as_bytes());
    let begun = Instant::now();
    while status("new") != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(status("old"), 401);
}
