//! Settings of the program: where they come from, how they are shown and refused, and what of them
//! the log and the command that resumes a push show.

mod config;
mod credentials;
mod log;
mod refusals;
mod resume;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::program::{User, events, stderr};

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
