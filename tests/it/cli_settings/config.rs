//! `config`, as people read it. The other files read its JSON.

use super::{run, settle, shown};
use crate::support::program::User;

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
    let path_line = user.ok(&["config", "--path"]);
    assert_eq!(String::from_utf8(path_line).unwrap(), format!("{path}\n"));
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
