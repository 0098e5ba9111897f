//! Keys of S3: which ones are used, and that no secret is shown.

use std::fs;

use super::{refused, run, settle, shown};
use crate::support::program::{Served, User, stderr};

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
fn keys_of_a_profile_are_used_and_shown() {
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
        let config = shown(&user, variables, arguments);
        let keys = &config["credentials"];
        assert_eq!(
            keys["access_key_id"].as_str(),
            id,
            "{arguments:?} {variables:?}"
        );
        assert!(keys["from"].as_str().unwrap().starts_with(from), "{keys}");
        if works {
            assert_eq!(
                config["region"]["from"], "AWS profile ours",
                "{variables:?}"
            );
        }
        let mut all = vec!["doctor"];
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
    let config = shown(&user, &[], &[]);
    assert_eq!(config["credentials"]["from"], "AWS_ACCESS_KEY_ID");
    assert_eq!(config["profile"]["source"], "file");
    user.fails(1, &["sweep"]);
    let without = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    assert!(run(&user, &without, &["sweep"]).status.success());
}

#[test]
fn endpoint_in_a_services_section_is_shown() {
    let user = User::new();
    fs::create_dir(user.path(".aws")).unwrap();
    let services =
        "[profile s]\nservices = of-s\n[services of-s]\ns3 =\n  endpoint_url = http://host:1\n";
    user.file(".aws/config", services.as_bytes());
    let config = shown(&user, &[], &["--store", "s3://bucket", "--profile", "s"]);
    let endpoint = &config["endpoint_url"];
    assert_eq!(endpoint["value"], "http://host:1");
    assert_eq!(endpoint["from"], "AWS profile s");
}
