//! AWS as its users meet it: the program as a process, with nothing in its environment but what a
//! test gives it, and small servers on 127.0.0.1 in place of what AWS runs.
//!
//! A [`StandIn`] is a proxy that answers for every host itself: metadata services over plain HTTP,
//! and S3, STS and SSO behind TLS, with a certificate for their names that only the tests trust. Requests
//! for a bucket are forwarded to a store with their signature.

mod answers;
mod credentials;
mod network;
mod refused;
mod stand_in;

use std::process::Command;

use self::stand_in::{Answer, StandIn};
use crate::support::http_request::HttpRequest;
use crate::support::program::{Served, User, digest, noise};

const REGION: &str = "eu-west-1";
const KEY: &str = "AKIDOFTHESTORE";
const SECRET: &str = "secret-of-the-store";

/// Where S3 has the bucket.
const BUCKET_HOST: &str = "layers.s3.eu-west-1.amazonaws.com";

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET),
];

/// A store whose keys only AWS gives out.
fn store() -> Served {
    Served::start(&["--access-key", KEY, "--secret-key", SECRET])
}

/// The program in an environment of its own: no keys, no endpoint, and these variables.
fn program(user: &User, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = user.command(arguments);
    for name in [
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        command.env_remove(name);
    }
    // Commands of a profile are found as on any machine.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(variables.iter().copied());
    command
}

/// Someone who uses the bucket, and has these files in `~/.aws`.
fn user(files: &[(&str, &str)]) -> User {
    let mut user = User::new();
    user.arguments = ["--store", "s3://layers"].map(str::to_owned).to_vec();
    std::fs::create_dir_all(user.path(".aws/sso/cache")).unwrap();
    for (name, text) in files {
        user.file(&format!(".aws/{name}"), text.as_bytes());
    }
    user
}

/// The variables of someone on a machine of AWS, behind a proxy whose certificate they trust.
fn on_aws(cloud: &StandIn, user: &User) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", cloud.url.clone()),
        ("HTTPS_PROXY", cloud.url.clone()),
        (
            "AWS_CA_BUNDLE",
            user.file("ca.pem", StandIn::certificate().as_bytes()),
        ),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect()
}

/// S3 at an address, not at a name of AWS.
fn s3_at_an_address(store: &Served) -> StandIn {
    StandIn::start(&store.endpoint, |_| Answer::Store(""))
}

/// A push and a pull of a few bytes, which must succeed.
fn push_and_pull(user: &User, variables: &[(&str, &str)]) {
    push_and_pull_of(user, variables, b"a layer");
}

fn push_and_pull_of(user: &User, variables: &[(&str, &str)], layer: &[u8]) {
    let file = user.file("layer", layer);
    let push = program(user, variables, &["push", &file, "--name", "x"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&push.stderr);
    assert!(push.status.success(), "{variables:?}: {said}");
    let pull = program(user, variables, &["pull", &digest(layer)])
        .output()
        .unwrap();
    assert!(
        pull.stdout == layer,
        "{}",
        String::from_utf8_lossy(&pull.stderr)
    );
}

/// What it says on stderr when it fails, as it must.
fn fails(user: &User, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = program(user, variables, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{variables:?}: {said}");
    assert!(said.contains("error: "), "{said}");
    said
}

/// What IMDSv2 answers, on a machine in [`REGION`] whose role may use the store.
fn imds(asked: &HttpRequest) -> Answer {
    let has_token = asked
        .headers
        .get("x-aws-ec2-metadata-token")
        .is_some_and(|t| t == "token");
    let role = "/latest/meta-data/iam/security-credentials/";
    match (&*asked.method, &*asked.target) {
        ("PUT", "/latest/api/token") => {
            Answer::text(200, "token").header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        }
        _ if !has_token => Answer::text(401, ""),
        (_, "/latest/meta-data/placement/region") => Answer::text(200, REGION),
        (_, path) if path == role => Answer::text(200, "role"),
        (_, path) if path.strip_prefix(role) == Some("role") => Answer::text(200, &keys("Token")),
        _ => Answer::text(404, ""),
    }
}

/// Credentials as IMDS, ECS and processes give them; `token` is their name of the session token.
fn keys(token: &str) -> String {
    format!(
        r#"{{"Version":1,"Code":"Success","AccessKeyId":"{KEY}","SecretAccessKey":"{SECRET}",
            "{token}":"session","Expiration":"2099-01-01T00:00:00Z"}}"#
    )
}
