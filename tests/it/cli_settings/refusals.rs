//! What is wrong in a file, a flag or a variable is named, with its place and what would be right.

use super::{refused, run, settle};
use crate::support::program::{User, events, stderr};

#[test]
fn invalid_file_is_refused_with_its_line() {
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
    let printed = run(&user, &[], &["--json", "sweep"]).stdout;
    assert_eq!(events(&printed)[0]["event"], "error");

    // The commands that help to correct it work, and so does a run without it.
    user.ok(&["config", "--path"]);
    user.ok(&["config", "--example"]);
    user.ok(&["completions", "bash"]);
    user.ok(&["man"]);
    user.ok(&["--config", "", "--store", "memory:", "sweep"]);

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
            &["--part-size", "200M"],
            &[
                "--part-size is 200 MiB",
                "128 MiB, half of memory_budget",
                "at least 400 MiB",
            ],
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
    let file = user.file("layer", b"x");
    // It is meant for other programs too, and empty variables for none.
    for variables in [("RUST_LOG", "other_program"), ("S3LAYERS_STORE", "")] {
        let output = run(&user, &[variables], &["push", &file, "--name", "x"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}
