#![allow(clippy::unwrap_used)]
use super::*;

fn sources<'a>(
    file: &str,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
) -> Result<Sources<'a>, file::Wrong> {
    Ok(Sources {
        flags: Flags::default(),
        location: Some(Location {
            path: "config.toml".into(),
            is_named: true,
        }),
        entries: file::read(file, ALL)?,
        variable,
    })
}

#[test]
fn an_example_has_every_setting_and_is_right() {
    let text = example::text();
    let all: String = text
        .lines()
        .map(|line| {
            let is_setting = line.starts_with('#') && !line.starts_with("# ");
            format!(
                "{}\n",
                line.strip_prefix('#')
                    .filter(|_| is_setting)
                    .unwrap_or(line)
            )
        })
        .collect();
    let entries = file::read(&all, ALL).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
    let wanted: Vec<_> = ALL.iter().map(|setting| setting.name).collect();
    assert_eq!(names, wanted);
    assert_eq!(file::read(&text, ALL).unwrap(), []);
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<_> = ALL.iter().flat_map(Setting::variables).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"S3LAYERS_SERVE_LISTEN".to_owned()));
    for setting in ALL {
        assert!(!setting.about.is_empty(), "{}", setting.name);
        let default = (setting.default)();
        let value = default.as_deref().unwrap_or(setting.sample);
        assert!((setting.is_right)(value), "{}: {value:?}", setting.name);
    }
}

#[test]
fn what_is_wrong_with_a_file() {
    for (text, line, wants) in [
        (
            "part_siz = 1",
            1,
            &["part_siz", "part_size is the nearest"][..],
        ),
        ("\npart-size = 1", 2, &["part_size is the nearest"]),
        ("listen = \"x\"", 1, &["serve.listen is the nearest"]),
        ("[server]\nlisten = 1", 1, &["serve is the nearest"]),
        (
            "[serve]\n\nlissen = 1",
            3,
            &["serve.lissen", "serve.listen is"],
        ),
        (
            "zzz = 1",
            1,
            &["there is no setting zzz", "s3layers config"],
        ),
        ("store = 1", 1, &["store is 1", "s3://BUCKET"]),
        ("[store]\nx = 1", 1, &["store is of the type table"]),
        ("serve = 1", 1, &["[serve]"]),
        (
            "parallelism = \"8\"",
            1,
            &["parallelism is \"8\"", "without quotes"],
        ),
        ("parallelism = 0", 1, &["parallelism is 0", "above 0"]),
        ("part_size = 1.5", 1, &["part_size is 1.5", "16 MiB"]),
        (
            "single_writer = 1",
            1,
            &["single_writer is 1", "true or false"],
        ),
        ("region = [", 1, &[]),
        ("region = \"a\"\nregion = \"b\"", 2, &["duplicate key"]),
    ] {
        let wrong = file::read(text, ALL).unwrap_err();
        assert_eq!(wrong.line, line, "{text}: {wrong:?}");
        for want in wants {
            assert!(wrong.what.contains(want), "{text}: {wrong:?}");
        }
    }
}

#[test]
fn no_secret_in_a_file_is_repeated() {
    for text in [
        "secret_access_key = \"canary\"",
        "aws_session_token = \"canary\"",
        "pasword = \"canary\"",
        "endpoint_url = \"http://user:canary@host\"",
        "secret_key = \"canary",
        "[profile]\nsecret = \"canary\"",
    ] {
        let wrong = file::read(text, ALL).unwrap_err();
        assert!(!wrong.what.contains("canary"), "{text}: {wrong:?}");
    }
    let wrong = file::read("secret_access_key = \"canary\"", ALL).unwrap_err();
    assert!(wrong.what.contains("AWS_SECRET_ACCESS_KEY"), "{wrong:?}");
}

#[test]
fn the_environment_goes_before_the_file_and_our_names_before_those_of_others() {
    let file = "region = \"file\"\nparallelism = 3\n";
    for (set, want, from) in [
        (&[][..], "file", "config.toml:1"),
        (
            &["AWS_DEFAULT_REGION"],
            "AWS_DEFAULT_REGION",
            "AWS_DEFAULT_REGION",
        ),
        (
            &["AWS_DEFAULT_REGION", "AWS_REGION"],
            "AWS_REGION",
            "AWS_REGION",
        ),
        (
            &["AWS_REGION", "S3LAYERS_REGION"],
            "S3LAYERS_REGION",
            "S3LAYERS_REGION",
        ),
    ] {
        let variable = |name: &str| set.contains(&name).then(|| OsString::from(name));
        let settings = Settings::choose(sources(file, &variable).unwrap()).unwrap();
        assert_eq!(settings.region.value, Some(Word(want.to_owned())));
        assert_eq!(settings.region.source.to_string(), from);
        assert_eq!(settings.parallelism.value, 3);
    }
}

#[test]
fn ranges_are_told_with_their_place() {
    let none = |_: &str| None;
    for (file, want) in [
        (
            "part_size = \"1 MiB\"",
            "config.toml:1: part_size is 1 MiB; wanted 5 MiB to 5 GiB",
        ),
        (
            "\nparallelism = 65",
            "config.toml:2: parallelism is 65; wanted 1 to 64",
        ),
        (
            "part_size = \"1 GiB\"",
            "config.toml:1: part_size is 1 GiB; wanted at most 128 MiB, half of memory_budget",
        ),
        (
            "memory_budget = \"8 MiB\"",
            "config.toml:1: memory_budget is 8 MiB; wanted at least two parts",
        ),
        (
            "store = \"s3://b/a//b\"",
            "config.toml:1: store is s3://b/a//b; wanted path segments",
        ),
        (
            "[serve]\nredirect_lifetime = \"8d\"",
            "config.toml:2: serve.redirect_lifetime is 192h",
        ),
    ] {
        let settings = Settings::choose(sources(file, &none).unwrap()).unwrap();
        let failure = settings.check().unwrap_err();
        assert!(failure.lines[0].contains(want), "{file}: {failure:?}");
        assert_eq!(failure.code, 2);
    }
}
