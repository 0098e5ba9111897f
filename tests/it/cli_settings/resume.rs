//! The command that resumes a push has the necessary settings.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::shown;
use crate::support::program::{MIB, Served, User, digest, noise, stderr};

#[test]
fn printed_command_resumes_from_another_folder() {
    let store = Served::start(&[]);
    let endpoint = shown(&User::of(&store), &[], &[])["endpoint_url"]["value"].clone();
    let user = User::new();
    let file = user.file("my settings.toml", b"store = \"s3://layers/root\"\n");
    let layer = noise(7 * MIB);
    let whole = user.file("the layer", &layer);
    let mut command = user.command(&["--json", "--config", &file, "--part-size", "5 MiB"]);
    command
        .env("AWS_ENDPOINT_URL", endpoint.as_str().unwrap())
        .args(["push", "-", "--name", "x"]);
    let mut push = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    push.stdin
        .as_mut()
        .unwrap()
        .write_all(&layer[..6 * MIB])
        .unwrap();
    let lines = BufReader::new(push.stdout.take().unwrap()).lines();
    let mut said = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    said.find(|said| said["offset"] == 6 * MIB).unwrap();
    kill_process(Pid::from_child(&push), Signal::TERM).unwrap();
    let kept = said.find(|said| said["event"] == "kept").unwrap();
    let resume = kept["resume"].as_str().unwrap();
    for word in [
        "--config",
        "part-size=5 MiB",
        "--store s3://layers/root",
        "--endpoint-url http",
    ] {
        assert!(resume.contains(word), "{word} in {resume}");
    }
    push.wait().unwrap();

    // In a shell that has nothing but the keys.
    let program = Path::new(env!("CARGO_BIN_EXE_s3layers"));
    let mut path = program.parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    let mut shell = Command::new("sh");
    let variables = user.command(&[]);
    let variables = variables
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    let output = shell
        .env_clear()
        .envs(variables)
        .env("PATH", path)
        .args(["-c", resume])
        .current_dir(user.path(""))
        .stdin(fs::File::open(&whole).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{resume}: {}", stderr(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("{}\n", digest(&layer)));
}
