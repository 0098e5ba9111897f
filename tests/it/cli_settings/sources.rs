//! A flag, a variable, a file or none: which one a setting is taken from, and that the program does
//! as it says.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{run, settle, shown};
use crate::support::program::{MIB, Running, Served, User, digest, noise, stderr};

#[test]
fn flag_overrides_environment_and_that_overrides_file() {
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
        let setting = |variables: &[_], arguments: &[_]| {
            let mut row = shown(&user, variables, arguments);
            let row = row.remove(name).unwrap();
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            (row["value"].clone(), text("source"), text("from"))
        };
        let _ = fs::remove_file(user.path(".config/s3layers/config.toml"));
        let (value, source, _) = setting(&[], &[]);
        assert_eq!((value, &*source), (default, "default"), "{name}");

        let path = settle(&user, file);
        let line = file.lines().position(|line| {
            let key = name.rsplit('.').next().unwrap();
            line.starts_with(key)
        });
        let (value, source, from) = setting(&[], &[]);
        assert_eq!((value, &*source), (in_file, "file"), "{name}");
        assert_eq!(from, format!("{path}:{}", line.unwrap() + 1), "{name}");

        let (value, source, from) = setting(&[variable], &[]);
        assert_eq!((value, &*source), (in_variable, "environment"), "{name}");
        assert_eq!(from, variable.0);

        let mut s3 = vec!["--store", "s3://of-flag"];
        s3.extend(flag);
        let (value, source, from) = setting(&[variable], &s3);
        assert_eq!((value, &*source), (in_flag, "flag"), "{name}");
        assert!(flag[0].starts_with(&from), "{from}");
    }
}

#[test]
fn settings_take_effect() {
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
    settle(
        &user,
        "[serve]\nlisten = \"192.0.2.1:9\"\nallow_anonymous = true\n",
    );
    let said = user.fails(1, &["serve"]);
    assert!(said.contains("cannot listen on 192.0.2.1:9"), "{said}");
    let mut registry = Running::start(&user, &["serve", "--listen", "127.0.0.1:0"]);
    registry.next_event("listening");
    drop(registry);
    settle(
        &user,
        "[serve]\nlisten = \"127.0.0.1:0\"\nredirect_endpoint = \"http://x\"\n",
    );
    Running::start(&user, &["serve"]).next_event("listening");
}
