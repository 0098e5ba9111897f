//! Settings of the program: where they come from, how they are shown and refused, and what of them
//! the log and the command that resumes a push show.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli::{MIB, Running, Served, User, digest, events, noise, stderr};

/// A file of settings where the user's own is looked for.
fn settle(user: &User, text: &str) -> String {
    let folder = user.path(".config/s3layers");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(user: &User, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = user.command(arguments);
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

/// What `config` says of each setting, and of the credentials.
pub(crate) fn shown(
    user: &User,
    variables: &[(&str, &str)],
    arguments: &[&str],
) -> BTreeMap<String, Value> {
    let mut all = vec!["config", "--json"];
    all.extend(arguments);
    let output = run(user, variables, &all);
    assert!(output.status.success(), "{}", stderr(&output));
    let named = events(&output.stdout).into_iter().map(|event| {
        let name = event["name"].as_str().or(event["event"].as_str());
        (name.unwrap().to_owned(), event)
    });
    named.collect()
}

pub(crate) fn refused(user: &User, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let output = run(user, variables, arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.starts_with("error: "), "{arguments:?}: {said}");
    said
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let user = User::new();
    let file = "store = \"s3://of-file\"\nregion = \"of-file\"\npart_size = \"6 MiB\"\n\
                parallelism = 3\nsingle_writer = true\n[log]\nlevel = \"error\"\n";
    for (name, default, in_file, variable, in_variable, flag, in_flag) in [
        (
            "part_size",
            Value::from(16 * MIB),
            Value::from(6 * MIB),
            ("S3LAYERS_PART_SIZE", "7MiB"),
            Value::from(7 * MIB),
            &["--part-size", "8388608"][..],
            Value::from(8 * MIB),
        ),
        (
            "parallelism",
            8.into(),
            3.into(),
            ("S3LAYERS_PARALLELISM", "4"),
            4.into(),
            &["--parallelism=5"],
            5.into(),
        ),
        (
            "single_writer",
            false.into(),
            true.into(),
            ("S3LAYERS_SINGLE_WRITER", "false"),
            false.into(),
            &["--single-writer"],
            true.into(),
        ),
        (
            "region",
            Value::Null,
            "of-file".into(),
            ("AWS_REGION", "of-variable"),
            "of-variable".into(),
            &["--region", "of-flag"],
            "of-flag".into(),
        ),
        (
            "log.level",
            "warn".into(),
            "error".into(),
            ("RUST_LOG", "s3layers=trace"),
            "s3layers=trace".into(),
            &["-v"],
            "info".into(),
        ),
    ] {
        let told = |variables: &[_], arguments: &[_]| {
            let mut told = shown(&user, variables, arguments);
            let told = told.remove(name).unwrap();
            let text = |key: &str| told[key].as_str().unwrap().to_owned();
            (told["value"].clone(), text("source"), text("from"))
        };
        let _ = fs::remove_file(user.path(".config/s3layers/config.toml"));
        let (value, source, _) = told(&[], &[]);
        assert_eq!((value, &*source), (default, "default"), "{name}");

        let path = settle(&user, file);
        let line = file.lines().position(|line| {
            let key = name.rsplit('.').next().unwrap();
            line.starts_with(key)
        });
        let (value, source, from) = told(&[], &[]);
        assert_eq!((value, &*source), (in_file, "file"), "{name}");
        assert_eq!(from, format!("{path}:{}", line.unwrap() + 1), "{name}");

        let (value, source, from) = told(&[variable], &[]);
        assert_eq!((value, &*source), (in_variable, "environment"), "{name}");
        assert_eq!(from, variable.0);

        let mut s3 = vec!["--store", "s3://of-flag"];
        s3.extend(flag);
        let (value, source, from) = told(&[variable], &s3);
        assert_eq!((value, &*source), (in_flag, "flag"), "{name}");
        assert!(flag[0].starts_with(&from), "{from}");
    }
}

#[test]
fn the_settings_are_what_the_program_does() {
    let store = Served::start(&[]);
    let endpoint = shown(&User::of(&store), &[], &[])["endpoint_url"]["value"].clone();
    let user = User::new();
    let path = settle(
        &user,
        &format!(
            "store = \"s3://layers/of-file\"\nendpoint_url = {endpoint}\npart_size = '5 MiB'\n"
        ),
    );
    let layer = noise(12 * MIB);
    let file = user.file("layer", &layer);
    let stored = user.events(&["push", &file, "--name", "x"]).pop().unwrap();
    // The probe of a new store sends parts too; it is over when the upload has begun.
    let again = user.file("again", &noise(12 * MIB + 1));
    let parts = &user.events(&["push", &again, "--name", "x"]).pop().unwrap();
    assert_eq!(parts["requests_by_operation"]["UploadPart"], 3, "{parts}");
    assert_eq!(stored["digest"], digest(&layer));
    assert!(user.pulled(&digest(&layer)) == layer);
    assert!(!user.path("data/s3layers").exists());

    // The same, by an explicit file from anywhere, and not without it.
    let elsewhere = user.file("elsewhere.toml", &fs::read(&path).unwrap());
    fs::remove_file(&path).unwrap();
    let id = digest(&layer);
    for (code, variables, arguments) in [
        (1, &[][..], &["pull", &*id][..]),
        (0, &[], &["--config", &elsewhere, "pull", &id]),
        (0, &[("S3LAYERS_CONFIG", &*elsewhere)], &["pull", &id]),
        (
            1,
            &[("S3LAYERS_CONFIG", &elsewhere)],
            &["pull", &id, "--config", ""],
        ),
        (1, &[("S3LAYERS_CONFIG", "")], &["pull", &id]),
    ] {
        let output = run(&user, variables, arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    }

    // A folder in a file is meant from there.
    let path = settle(&user, "store = \"file:beside\"\n");
    user.ok(&["push", &file, "--name", "x"]);
    assert!(user.path(".config/s3layers/beside").is_dir() && !user.path("beside").exists());
    assert!(Path::new(&path).is_file());

    // `serve`, by the file and by a flag that overrules it.
    settle(&user, "[serve]\nlisten = \"192.0.2.1:9\"\n");
    let said = user.fails(1, &["serve"]);
    assert!(said.contains("cannot listen on 192.0.2.1:9"), "{said}");
    let mut registry = Running::start(&user, &["serve", "--listen", "127.0.0.1:0"]);
    registry.hear("listening");
    drop(registry);
    settle(
        &user,
        "[serve]\nlisten = \"127.0.0.1:0\"\nredirect_endpoint = \"http://x\"\n",
    );
    Running::start(&user, &["serve"]).hear("listening");
}

#[test]
fn a_bad_file_is_refused_with_its_line() {
    let user = User::new();
    for (text, wants) in [
        (
            "\npart_sise = 1",
            &[":2: ", "part_sise", "part_size is the nearest"][..],
        ),
        (
            "[serve]\nlsten = 1",
            &[":2: ", "serve.listen is the nearest"],
        ),
        (
            "xyzzy = 1",
            &[":1: ", "no setting xyzzy", "s3layers config"],
        ),
        (
            "part_size = \"16 bananas\"",
            &[":1: ", "16 bananas", "16 MiB"],
        ),
        ("part_size = true", &[":1: ", "part_size is true", "16 MiB"]),
        (
            "\n\npart_size = \"1 MiB\"",
            &[":3: ", "1 MiB", "5 MiB to 5 GiB"],
        ),
        ("parallelism = 65", &[":1: ", "65", "1 to 64"]),
        ("parallelism = \"8\"", &[":1: ", "\"8\"", "without quotes"]),
        ("store = \"/var/x\"", &[":1: ", "/var/x", "file:PATH"]),
        (
            "endpoint_url = \"host:1\"",
            &[":1: ", "host:1", "http://HOST"],
        ),
        ("[log]\nformat = \"xml\"", &[":2: ", "xml", "text or json"]),
        ("[log]\nlevel = \"loud\"", &[":2: ", "loud", "debug"]),
        (
            "[serve]\nredirect_lifetime = \"soon\"",
            &[":2: ", "soon", "15m"],
        ),
        ("region = \"a\"\nregion = \"b\"", &[":2: ", "duplicate key"]),
        ("region = \"a", &[":1: "]),
        ("a = [1", &[":1: "]),
    ] {
        let path = settle(&user, text);
        let said = refused(&user, &[], &["sweep"]);
        assert!(said.starts_with(&format!("error: {path}:")), "{said}");
        for want in wants {
            assert!(said.contains(want), "{text:?}: {want:?} in {said}");
        }
    }
    // It is refused even where a flag overrules it.
    settle(&user, "part_size = \"16 bananas\"");
    refused(&user, &[], &["sweep", "--part-size", "5MiB"]);
    let events = run(&user, &[], &["--json", "sweep"]).stdout;
    assert_eq!(crate::cli::events(&events)[0]["event"], "error");

    // What one needs to mend it works all the same, and it can be left out.
    user.ok(&["config", "--path"]);
    user.ok(&["config", "--example"]);
    user.ok(&["completions", "bash"]);
    user.ok(&["man"]);
    user.ok(&["--config", "", "sweep"]);

    let said = refused(&user, &[], &["--config", "nowhere.toml", "sweep"]);
    assert!(
        said.contains("nowhere.toml") && said.contains("No such file"),
        "{said}"
    );
    let said = refused(&user, &[("S3LAYERS_CONFIG", "nowhere.toml")], &["sweep"]);
    assert!(said.contains("nowhere.toml"), "{said}");
    refused(&user, &[], &["--config", ".", "sweep"]);
}

#[test]
fn bad_flags_and_variables_are_named() {
    let user = User::new();
    for (variables, arguments, wants) in [
        (
            &[][..],
            &["--part-size", "1MiB"][..],
            &["--part-size", "1 MiB", "5 MiB to 5 GiB"][..],
        ),
        (
            &[],
            &["--part-size", "lots"],
            &["--part-size is lots", "16 MiB"],
        ),
        (
            &[],
            &["--part-size", "1GiB"],
            &["memory_budget is 256 MiB", "two parts"],
        ),
        (
            &[],
            &["--parallelism", "0"],
            &["--parallelism is 0", "above 0"],
        ),
        (
            &[],
            &["--single-writer=maybe"],
            &["--single-writer", "maybe", "true"],
        ),
        (&[], &["--profile", "x"], &["--profile", "s3://BUCKET"]),
        (
            &[],
            &["--log-format", "xml"],
            &["--log-format", "xml", "json"],
        ),
        (&[], &["-q", "-v"], &["--quiet", "--verbose"]),
        (
            &[("S3LAYERS_STORE", "x")],
            &[],
            &["S3LAYERS_STORE is x", "file:PATH"],
        ),
        (
            &[("S3LAYERS_MEMORY_BUDGET", "1")],
            &[],
            &["S3LAYERS_MEMORY_BUDGET is 1;", "two parts"],
        ),
        (
            &[("S3LAYERS_SERVE_DRAIN", "-1s")],
            &[],
            &["S3LAYERS_SERVE_DRAIN is -1s", "30s"],
        ),
        (
            &[("S3LAYERS_LOG_LEVEL", "loud")],
            &[],
            &["S3LAYERS_LOG_LEVEL is loud"],
        ),
        (
            &[("RUST_LOG", "s3layers=loud")],
            &[],
            &["RUST_LOG is s3layers=loud"],
        ),
    ] {
        let mut all = vec!["sweep"];
        all.extend(arguments);
        let said = refused(&user, variables, &all);
        for want in wants {
            assert!(
                said.contains(want),
                "{all:?} {variables:?}: {want:?} in {said}"
            );
        }
    }
    // It is meant for other programs too, and empty variables for none.
    for variables in [("RUST_LOG", "other_program"), ("S3LAYERS_STORE", "")] {
        let output = run(&user, &[variables], &["sweep"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn no_secret_is_shown_or_repeated() {
    let user = User::new();
    for text in [
        "secret_access_key = \"canary\"",
        "[profile.x]\naws_secret_access_key = \"canary\"",
        "sercet = \"canary\"",
        "endpoint_url = \"http://user:canary@host\"",
        "region = \"canary",
        "canary",
    ] {
        settle(&user, text);
        let said = refused(&user, &[], &["config"]);
        assert!(!said.replace("canary,", "").contains("canary\""), "{said}");
        assert!(text == "canary" || !said.contains("canary"), "{said}");
    }
    settle(&user, "access_key_id = \"x\"");
    let said = refused(&user, &[], &["config"]);
    assert!(
        said.contains("AWS_SECRET_ACCESS_KEY") && said.contains(":1:"),
        "{said}"
    );

    settle(&user, "");
    let url = "http://user:canary@host";
    for said in [
        refused(
            &user,
            &[],
            &["--endpoint-url", url, "--store", "s3://x", "sweep"],
        ),
        refused(&user, &[("AWS_ENDPOINT_URL", url)], &["sweep"]),
        refused(
            &user,
            &[("S3LAYERS_SERVE_REDIRECT_ENDPOINT", url)],
            &["sweep"],
        ),
    ] {
        assert!(
            said.contains("http://…@host") && !said.contains("canary"),
            "{said}"
        );
    }

    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDSHOWN"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
    ];
    let session = [
        ("AWS_SESSION_TOKEN", "canary"),
        ("S3LAYERS_STORE", "s3://x"),
    ];
    let variables = [keys, session].concat();
    for arguments in [&["config"][..], &["config", "--json"], &["config", "-vvv"]] {
        let output = run(&user, &variables, arguments);
        let all = stderr(&output) + std::str::from_utf8(&output.stdout).unwrap();
        assert!(output.status.success(), "{all}");
        assert!(
            all.contains("AKIDSHOWN") && !all.contains("canary"),
            "{all}"
        );
    }
}

#[test]
fn a_profile_has_the_keys_that_are_used_and_shown() {
    let store = Served::start(&["--access-key", "AKIDOURS", "--secret-key", "canary"]);
    let user = User::of(&store);
    fs::create_dir(user.path(".aws")).unwrap();
    user.file(
        ".aws/credentials",
        b"[ours]\naws_access_key_id = AKIDOURS\naws_secret_access_key = canary\n\
          [other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = canary2\n",
    );
    user.file(
        ".aws/config",
        b"[profile ours]\nregion = of-profile\n[profile empty]\nregion = x\n",
    );
    // The environment of this user has keys, which are none of this store's.
    let none: &[&str] = &[];
    for (variables, arguments, id, from, works) in [
        (&[][..], none, Some("s3layers"), "AWS_ACCESS_KEY_ID", false),
        (
            &[],
            &["--profile", "ours"],
            Some("AKIDOURS"),
            "AWS profile ours: keys in",
            true,
        ),
        (
            &[("S3LAYERS_PROFILE", "ours")],
            &[],
            Some("AKIDOURS"),
            "AWS profile ours",
            true,
        ),
        (
            &[("AWS_PROFILE", "ours")],
            &[],
            Some("s3layers"),
            "AWS_ACCESS_KEY_ID",
            false,
        ),
        (
            &[],
            &["--profile", "other"],
            Some("AKIDOTHER"),
            "AWS profile other",
            false,
        ),
        (
            &[],
            &["--profile", "empty"],
            None,
            "AWS profile empty: has no keys",
            false,
        ),
        (
            &[],
            &["--profile", "absent"],
            None,
            "AWS profile absent: is not there",
            false,
        ),
        (
            &[("AWS_PROFILE", "ours"), ("AWS_ACCESS_KEY_ID", "")],
            &[],
            Some("AKIDOURS"),
            "AWS profile ours",
            true,
        ),
    ] {
        let told = shown(&user, variables, arguments);
        let keys = &told["credentials"];
        assert_eq!(
            keys["access_key_id"].as_str(),
            id,
            "{arguments:?} {variables:?}"
        );
        assert!(keys["from"].as_str().unwrap().starts_with(from), "{keys}");
        if works {
            assert_eq!(told["region"]["from"], "AWS profile ours", "{variables:?}");
        }
        let mut all = vec!["sweep"];
        all.extend(arguments);
        let output = run(&user, variables, &all);
        assert_eq!(
            output.status.success(),
            works,
            "{all:?}: {}",
            stderr(&output)
        );
    }
    // The environment goes before the file, with its keys too.
    settle(&user, "profile = \"ours\"\n");
    let told = shown(&user, &[], &[]);
    assert_eq!(told["credentials"]["from"], "AWS_ACCESS_KEY_ID");
    assert_eq!(told["profile"]["source"], "file");
    user.fails(1, &["sweep"]);
    let without = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    assert!(run(&user, &without, &["sweep"]).status.success());
}

#[test]
fn config_shows_a_table_to_people() {
    let user = User::new();
    let path = settle(&user, "\nregion = \"of-file\"\n");
    let output = run(
        &user,
        &[("S3LAYERS_PARALLELISM", "9")],
        &["config", "--part-size=5MiB"],
    );
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    for want in [
        &["part_size", "5 MiB", "--part-size"][..],
        &["parallelism", "9", "S3LAYERS_PARALLELISM"],
        &["region", "of-file", &format!("{path}:2")],
        &["memory_budget", "256 MiB", "default"],
    ] {
        assert!(rows.iter().any(|row| row == want), "{want:?} in {table}");
    }
    let told = user.ok(&["config", "--path"]);
    assert_eq!(String::from_utf8(told).unwrap(), format!("{path}\n"));
    let example = user.ok(&["config", "--example"]);
    let lines = std::str::from_utf8(&example).unwrap().lines();
    let all: String = lines
        .filter(|line| !line.starts_with("# "))
        .map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n")
        .collect();
    settle(&user, &all);
    let settings = shown(&user, &[], &[]);
    let named = settings
        .values()
        .filter(|event| event["event"] == "setting");
    for setting in named {
        assert_eq!(setting["source"], "file", "{setting}");
    }
}

#[test]
fn the_log_has_a_line_for_each_request() {
    let store = Served::start(&[]);
    let user = User::of(&store);
    let file = user.file("layer", &noise(20 * MIB));
    let push = [
        "--json",
        "-vv",
        "--log-format",
        "json",
        "push",
        &file,
        "--name",
        "x",
    ];
    let output = user.run(&push);
    let stored = events(&output.stdout).pop().unwrap();
    assert_eq!(stored["event"], "stored");
    let lines = events(&output.stderr);
    let requests: Vec<_> = lines
        .iter()
        .filter(|line| line["message"] == "S3 request")
        .collect();
    assert_eq!(requests.len() as u64, stored["requests"].as_u64().unwrap());
    let mut by_operation = BTreeMap::<&str, u64>::new();
    for line in &requests {
        assert_eq!(line["level"], "DEBUG", "{line}");
        assert!(line["attempt"].as_u64().unwrap() > 0, "{line}");
        assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
        assert!(
            line["ms"].is_u64() && !line["key"].as_str().unwrap().is_empty(),
            "{line}"
        );
        *by_operation
            .entry(line["operation"].as_str().unwrap())
            .or_default() += 1;
    }
    let wanted = &stored["requests_by_operation"];
    assert_eq!(serde_json::to_value(&by_operation).unwrap(), *wanted);
    for bytes in ["bytes_sent", "bytes_received"] {
        let sum: u64 = requests
            .iter()
            .map(|line| line[bytes].as_u64().unwrap())
            .sum();
        assert_eq!(Value::from(sum), stored[bytes], "{bytes}");
    }
    // The same by the file, and a read of the body is told with its bytes.
    settle(&user, "[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let pull = [
        "--json",
        "pull",
        stored["digest"].as_str().unwrap(),
        "-o",
        "out",
    ];
    let output = user.run(&pull);
    let pulled = events(&output.stdout).pop().unwrap();
    let lines = events(&output.stderr);
    let received = lines
        .iter()
        .filter_map(|line| line["bytes_received"].as_u64());
    assert_eq!(Value::from(received.sum::<u64>()), pulled["bytes_received"]);

    // As text it is none; and quiet is quiet.
    let text = stderr(&user.run(&["-vv", "--log-format", "text", "sweep"]));
    assert!(text.contains("S3 request operation="), "{text}");
    assert!(serde_json::from_str::<Value>(text.lines().next().unwrap()).is_err());
    fs::remove_file(user.path("out")).unwrap();
    for arguments in [&["-q", "sweep"][..], &["-q", "pull", pull[2], "-o", "out"]] {
        let output = run(&user, &[("RUST_LOG", "debug")], arguments);
        assert!(output.status.success());
        assert_eq!(stderr(&output), "", "{arguments:?}");
    }
    let said = user.fails(1, &["-q", "pull", &digest(b"unknown")]);
    assert!(said.contains("unknown"), "{said}");
}

#[test]
fn the_printed_command_resumes_wherever_it_is_pasted() {
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
