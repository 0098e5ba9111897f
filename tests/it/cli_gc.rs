//! `gc`, `check`, `trash`, `du` and `rm --all`, run as a user runs them.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::support::bucket;
use crate::support::program::{Running, Served, User, digest, said};
use crate::support::reply::Reply;
use crate::support::stores::BUCKET;

const MEDIA_TYPE: (&str, &str) = ("content-type", "application/vnd.oci.image.manifest.v1+json");

struct Registry {
    address: String,
    _serving: Running,
}

impl Registry {
    fn over(user: &User) -> Self {
        let mut serving = Running::start(user, &["serve", "--listen", "127.0.0.1:0"]);
        let address = serving.next_event("listening")["address"].clone();
        Registry {
            address: address.as_str().unwrap().to_owned(),
            _serving: serving,
        }
    }

    fn status(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        let reply = Reply::to(&self.address, method, path, &[MEDIA_TYPE], body);
        reply.unwrap().status
    }

    /// Pushes an image of one layer as `library/x:latest`. The digest of its manifest.
    fn push(&self, layer: &[u8]) -> String {
        let (blob, size) = (digest(layer), layer.len());
        let path = format!("/v2/library/x/blobs/uploads/?digest={blob}");
        assert_eq!(self.status("POST", &path, layer), 201);
        let media_type = MEDIA_TYPE.1;
        let described = format!(r#"{{"digest":"{blob}","size":{size}}}"#);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{described},"layers":[{described}]}}"#
        );
        let path = "/v2/library/x/manifests/latest";
        assert_eq!(self.status("PUT", path, manifest.as_bytes()), 201);
        digest(manifest.as_bytes())
    }

    fn has_image(&self) -> bool {
        self.status("GET", "/v2/library/x/manifests/latest", b"") == 200
    }
}

#[test]
fn deleted_image_is_listed_and_restored() {
    let (_store, user) = Served::with_user();
    let registry = Registry::over(&user);
    let manifest = registry.push(&[7; 20_000]);
    user.ok(&["rm", &format!("library/x@{manifest}")]);
    assert!(!registry.has_image());
    let listed = said(user.ok(&["trash", "ls"]));
    let of_another = user.run(&["trash", "ls", "library/y"]);
    assert!(said(of_another.stderr).contains("nothing of library/y is listed in the trash"));
    let row = format!("library/x\t{manifest}\tlatest\t");
    assert!(listed.starts_with(&row), "{listed}");
    let restored = said(user.ok(&["trash", "restore", "library/x:latest"]));
    assert_eq!(
        restored,
        format!("library/x@{manifest}\nlibrary/x:latest\n")
    );
    assert!(registry.has_image());

    // Of the images of a repository that is removed, too.
    let removed = said(user.ok(&["rm", "--all", "library/x"]));
    assert!(removed.contains("1 manifest, "), "{removed}");
    let said = user.fails(1, &["rm", "--all", "library/x"]);
    assert!(said.contains("library/x does not exist"), "{said}");
    user.ok(&["trash", "restore", &format!("library/x@{manifest}")]);
    assert!(registry.has_image());
}

#[test]
fn what_is_not_in_the_trash_is_refused_with_what_is() {
    let (_store, user) = Served::with_user();
    user.ok(&["doctor"]);
    let said = user.fails(1, &["trash", "restore", "library/x:latest"]);
    assert!(
        said.contains("not in the trash") && said.contains("trash ls"),
        "{said}"
    );
    user.fails(2, &["trash", "restore", "library/x"]);
    user.ok(&["trash", "empty"]);
}

#[test]
fn collection_reports_what_it_looked_at_and_bad_values_are_usage() {
    let (_store, user) = Served::with_user();
    let registry = Registry::over(&user);
    registry.push(&[7; 20_000]);
    for arguments in [&["gc", "--dry-run"][..], &["gc", "--rate", "1000"]] {
        let events = user.events(arguments);
        let end = events.last().unwrap();
        assert_eq!(end["event"], "collected");
        assert_eq!(
            (&end["links"], &end["layers"]),
            (&1.into(), &1.into()),
            "{end}"
        );
        assert_eq!(end["dry_run"], arguments.contains(&"--dry-run"));
    }
    let text = said(user.ok(&["gc", "--dry-run"]));
    for when in [
        "removed, freed by a collection in 20h (dry run)",
        "condemned, removed by a collection in 20h unless they are used (dry run)",
    ] {
        assert!(text.contains(when), "{text}");
    }
    // No terminal: rows.
    let rows = "repository\t20000\t20000\tlibrary/x\ntotal\t20000\t1\tall\n\
                total\t0\t0\tthat no image needs\ntotal\t0\t0\tremoved, not free yet\n";
    assert_eq!(said(user.ok(&["du"])), rows);
    let events = user.events(&["du"]);
    assert_eq!(events[0]["repository"], "library/x");
    assert_eq!(events[0]["own_bytes"], 20_000);
    assert_eq!(events[1]["unused_bytes"], 0);
    let said = user.fails(2, &["gc", "--max-share", "101"]);
    assert!(said.contains("percentage from 0 to 100"), "{said}");
    user.ok(&["gc", "--max-share", "100%"]);
    user.fails(2, &["gc", "--rate", "0"]);
    assert!(registry.has_image());
}

/// In seconds: what is older than four looks is judged.
const SHORT_LOOK: &str =
    r#""collection":{"record_age":9,"link_age":9,"wait":9,"kept":9,"look":1,"testing":true}"#;

#[test]
fn check_names_broken_images_and_has_an_exit_code_for_each_end() {
    let (store, user) = Served::with_user();
    let registry = Registry::over(&user);
    let manifest = registry.push(&[7; 20_000]);
    let client = store.client();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bucket::set_collection_times(&client, SHORT_LOOK));
    let delete = |prefix: &str| {
        let keys = runtime.block_on(bucket::keys(&client));
        let key = keys
            .into_iter()
            .find(|key| key.starts_with(prefix))
            .unwrap();
        let delete = client.delete_object().bucket(BUCKET).key(key);
        runtime.block_on(delete.send()).unwrap();
    };
    thread::sleep(Duration::from_secs(6));
    let check = ["check", "--repair", "--wait", "0s"];
    user.ok(&check);
    delete("names/");
    let repaired = user.run(&check);
    assert_eq!(repaired.status.code(), Some(3));
    let text = said(repaired.stderr);
    assert!(text.contains("all damage was repaired"), "{text}");
    assert!(!text.contains("error"), "{text}");
    user.ok(&check);
    delete("data/");
    let damaged = user.run(&check);
    let text = said(damaged.stdout);
    assert_eq!(damaged.status.code(), Some(1), "{text}");
    let image = format!("library/x@{manifest}  latest");
    assert!(
        text.contains(&image) && text.contains("data missing"),
        "{text}"
    );
    // A reader that closes the output early gets the exit code as well.
    let mut unread = user.command(&check);
    let mut unread = unread.stdout(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(1));
    drop(store);
    user.fails(2, &check);
    for share in ["2/1", "0%", "0", "many"] {
        user.fails(2, &["check", "--read", share]);
    }
}
