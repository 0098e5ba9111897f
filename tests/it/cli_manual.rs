//! What is made from the command line itself: completions and the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli_settings::{refused, shown};
use crate::support::program::User;

/// The long options in a text.
fn options(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    let words = words.flat_map(|line| line.split(|c| !is_name(c)));
    words
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .collect()
}

/// Every command, and the options of its help.
fn commands(user: &User) -> BTreeMap<String, String> {
    let help = |arguments: &[&str]| String::from_utf8(user.ok(arguments)).unwrap();
    let all = help(&["-h"]);
    let (_, listed) = all.split_once("Commands:\n").unwrap();
    let (listed, _) = listed.split_once("\n\n").unwrap();
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(names.len() > 8, "{listed}");
    names
        .into_iter()
        .map(|name| {
            let of_command = help(&[&name, "--help"]);
            (name, of_command)
        })
        .collect()
}

#[test]
fn completions_have_every_command_and_option() {
    let user = User::new();
    let commands = commands(&user);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(user.ok(&["completions", shell])).unwrap();
        for (name, help) in &commands {
            assert!(script.contains(name), "{shell}: {name}");
            for option in options(help) {
                let bare = option.trim_start_matches('-');
                assert!(script.contains(bare), "{shell}: {name} {option}");
            }
        }
    }
    let script = user.ok(&["completions", "bash"]);
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    assert!(bash.wait().unwrap().success());
    // It completes: the words after `push --res`.
    let asked = "source <(cat); COMP_WORDS=(s3layers push --res); COMP_CWORD=2; \
                 _s3layers s3layers --res push; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash")
        .args(["-c", asked])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all(&script).unwrap();
    let completed = bash.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(completed).unwrap(), "--resume\n");

    let said = refused(&user, &[], &["completions", "csh"]);
    assert!(said.contains("csh") && said.contains("zsh"), "{said}");
    refused(&user, &[], &["completions", "bash", "--json"]);
}

#[test]
fn manual_has_every_command_option_and_setting() {
    let user = User::new();
    let commands = commands(&user);
    let plain = |page: &[u8]| std::str::from_utf8(page).unwrap().replace('\\', "");
    let whole = plain(&user.ok(&["man"]));
    for name in commands.keys() {
        assert!(whole.contains(&format!("s3layers-{name}(1)")), "{name}");
    }
    for (name, setting) in shown(&user, &[], &[]) {
        let is_setting = setting["event"] == "setting";
        assert!(!is_setting || whole.contains(&name), "{name}");
    }
    assert!(whole.contains("S3LAYERS_SERVE_LISTEN") && whole.contains("config.toml"));

    let listed = String::from_utf8(user.ok(&["man", "--out", "pages/man1"])).unwrap();
    assert!(listed.lines().count() > commands.len() + 1, "{listed}");
    assert!(
        listed
            .lines()
            .all(|path| Path::new(path).is_relative() && user.path(path).is_file())
    );
    for (name, help) in &commands {
        let page = fs::read(user.path(&format!("pages/man1/s3layers-{name}.1"))).unwrap();
        assert_eq!(page, user.ok(&["man", name]), "{name}");
        let page = plain(&page);
        assert!(page.contains(&format!(".TH s3layers-{name} 1")), "{page}");
        for option in options(help) {
            assert!(page.contains(option), "{name}: {option}");
        }
    }
    // Commands below commands have pages too; the settings are on that of the program.
    for name in ["trash", "trash-restore", "policy-explain"] {
        let page = fs::read(user.path(&format!("pages/man1/s3layers-{name}.1"))).unwrap();
        assert!(!plain(&page).contains("SETTINGS"), "{name}");
    }
    let said = refused(&user, &[], &["man", "sing"]);
    assert!(said.contains("sing") && said.contains("push"), "{said}");
    let file = user.file("file", b"");
    let said = user.fails(1, &["man", "--out", &file]);
    assert!(said.contains("cannot write"), "{said}");
}
