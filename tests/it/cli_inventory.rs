//! `stat`, `ls`, `uploads` and `cancel`: seeing what is in a store, and letting go of it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::{Value, json};

use crate::support::bucket::{get, keys, multiparts, sealed};
use crate::support::program::{
    MIB, Running, Served, User, digest, events, interrupted_after, noise, said, stderr,
};
use crate::support::reply::Reply;
use crate::support::stores::BUCKET;
use crate::support::terminal::Terminal;
use crate::tarsum::archive::{END, member};

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// The fields of each line.
fn rows(output: &[u8]) -> Vec<Vec<&str>> {
    let text = std::str::from_utf8(output).unwrap();
    text.lines()
        .map(|line| line.split('\t').collect())
        .collect()
}

/// Goes behind the program's back.
struct Bucket(Client, tokio::runtime::Runtime);

impl Bucket {
    fn of(store: &Served) -> Self {
        let client = store.client();
        Bucket(client, tokio::runtime::Runtime::new().unwrap())
    }

    /// Keys and multipart uploads.
    fn all(&self) -> Vec<String> {
        let Bucket(client, runtime) = self;
        runtime.block_on(async {
            let mut all: Vec<_> = keys(client).await.into_iter().collect();
            all.extend(multiparts(client).await);
            all
        })
    }

    fn text(&self, key: &str) -> String {
        let got = self.1.block_on(get(&self.0, key));
        String::from_utf8(got.to_vec()).unwrap()
    }

    fn put(&self, key: &str, text: &str) {
        let put = self.0.put_object().bucket(BUCKET).key(key);
        let put = put.body(ByteStream::from(text.as_bytes().to_vec()));
        self.1.block_on(put.send()).unwrap();
    }

    fn delete(&self, key: &str) {
        let delete = self.0.delete_object().bucket(BUCKET).key(key);
        self.1.block_on(delete.send()).unwrap();
    }
}

/// The command whose output is read by none.
fn unread(mut command: Command) -> Output {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.wait_with_output().unwrap()
}

#[test]
fn closed_stdout_ends_no_work_and_hides_no_failure() {
    let (_store, user) = Served::with_user();
    let file = user.file("layer", &noise(1000));
    let push = unread(user.command(&["--json", "push", &file, "--name", "x"]));
    assert_eq!(push.status.code(), Some(0), "{}", stderr(&push));
    let digest = digest(&noise(1000));
    user.ok(&["stat", &digest]);
    let references: Vec<_> = ["a", "b", "c"]
        .map(|name| format!("{name}@{digest}"))
        .into();
    for reference in &references {
        let (name, _) = reference.split_once('@').unwrap();
        user.ok(&["push", &file, "--name", name]);
    }
    let mut arguments = vec!["rm"];
    arguments.extend(references.iter().map(String::as_str));
    let removal = unread(user.command(&arguments));
    assert_eq!(removal.status.code(), Some(0), "{}", stderr(&removal));
    for reference in &references {
        user.fails(1, &["rm", reference]);
    }
    let refused = unread(user.command(&["--single-writer", "gc"]));
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
}

#[test]
fn empty_store_is_reported_as_empty() {
    let store = Served::start(&[]);
    let mut memory = User::new();
    memory.arguments = ["--store", "memory:"].map(str::to_owned).to_vec();
    for user in [memory, User::of(&store)] {
        user.ok(&["doctor"]);
        for (arguments, want) in [
            (&["ls"][..], "has no repositories"),
            (&["ls", "--layers"], "has no layers"),
            (&["uploads"], "no upload in progress"),
        ] {
            let output = user.run(arguments);
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(said(output.stdout.clone()), "", "{arguments:?}");
            assert!(stderr(&output).contains(want), "{}", stderr(&output));
            assert_eq!(user.events(arguments), [Value::Null; 0]);
        }
    }
}

#[test]
fn pushed_layers_are_listed() {
    let store = Served::start(&[]);
    for user in [User::new(), User::of(&store)] {
        let [small, large] = [noise(20_000), noise(3 * MIB)];
        let file = user.file("small", &small);
        for name in ["library/a", "library/a-b"] {
            user.ok(&["push", &file, "--name", name]);
        }
        user.ok(&["push", &user.file("large", &large), "--name", "library/a"]);
        interrupted_after(&user, &["--name", "unfinished"], b"not all");

        assert_eq!(said(user.ok(&["ls"])), "library/a\nlibrary/a-b\n");
        let named = user.events(&["ls"]);
        assert_eq!(
            named[0],
            json!({"event": "repository", "name": "library/a"})
        );
        let mut wants = [(digest(&small), "20000"), (digest(&large), "3145728")];
        wants.sort();
        for (arguments, skip) in [(&["ls", "library/a"][..], 1), (&["ls", "--layers"], 0)] {
            let output = user.ok(arguments);
            let rows = rows(&output);
            assert_eq!(rows.len(), 2, "{rows:?}");
            for (row, (digest, size)) in rows.iter().zip(&wants) {
                assert_eq!(row[skip..skip + 2], [digest, *size]);
                let created: jiff::Timestamp = row[skip + 2].parse().unwrap();
                let age = jiff::Timestamp::now().duration_since(created);
                assert!(age.as_secs() < 600, "{created}");
                assert_eq!(row.last(), Some(&"-"));
            }
            assert_eq!(rows[0][0] == "layer", skip == 1);
        }
        let printed = user.events(&["ls", "library/a-b"]);
        assert_eq!(printed.len(), 1);
        assert_eq!(printed[0]["digest"], digest(&small));
        assert_eq!(
            (&printed[0]["size"], &printed[0]["error"]),
            (&json!(20_000), &Value::Null)
        );
        assert_eq!(printed[0]["repository"], "library/a", "first in");

        let unknown = user.fails(1, &["ls", "unfinished"]);
        assert!(unknown.contains("no repository unfinished"), "{unknown}");
        assert!(
            unknown.contains("to list repositories: ") && unknown.trim_end().ends_with(" ls"),
            "{unknown}"
        );
        assert_eq!(said(user.run(&["ls", "unfinished"]).stdout), "");
    }
}

#[test]
fn content_of_a_registry_is_listed() {
    let (store, user) = Served::with_user();
    let mut registry = Running::start(&user, &["serve", "--sparse", "--listen", "127.0.0.1:0"]);
    let event = registry.next_event("listening");
    let address = event["address"].as_str().unwrap();
    let ask = |method: &str, path: &str, kind: &str, body: &str| {
        let headers = [("content-type", kind)];
        let reply = Reply::to(address, method, path, &headers, body.as_bytes());
        reply.unwrap().is(201).unwrap();
    };
    let (layer, config) = (digest(b"a layer"), digest(b"a config"));
    let bytes = "application/octet-stream";
    for (digest, content) in [(&layer, "a layer"), (&config, "a config")] {
        let path = format!("/v2/library/x/blobs/uploads/?digest={digest}");
        ask("POST", &path, bytes, content);
    }
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest_text = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": bytes, "digest": config, "size": 8},
        "layers": [{"mediaType": bytes, "digest": layer, "size": 7}],
    });
    let manifest_text = manifest_text.to_string();
    for tag in ["v1", "latest"] {
        ask(
            "PUT",
            &format!("/v2/library/x/manifests/{tag}"),
            kind,
            &manifest_text,
        );
    }
    // While it is served, and from another process.
    let output = user.ok(&["ls", "library/x"]);
    let manifest = digest(manifest_text.as_bytes());
    let of_library = rows(&output);
    let size = manifest_text.len().to_string();
    assert_eq!(of_library[0], ["tag", "latest", &manifest, "-"]);
    assert_eq!(of_library[1], ["tag", "v1", &manifest, "-"]);
    assert_eq!(of_library[2], ["manifest", &manifest, &size, kind, "-"]);
    assert_eq!(of_library[3][..3], ["layer", &layer, "7"]);
    assert_eq!(of_library[4][..3], ["config", &config, "8"]);
    assert_eq!(of_library.len(), 5);
    let printed = user.events(&["ls", "library/x"]);
    let want = json!({"event": "tag", "tag": "v1", "manifest": manifest, "error": null});
    assert_eq!(printed[1], want);
    let told_of = |kind: &str| printed.iter().find(|event| event["event"] == kind).unwrap();
    assert_eq!(told_of("manifest")["tagged"], true);
    assert_eq!(told_of("config")["digest"], config);

    // One that cannot be read does not hide the others.
    Bucket::of(&store).put("repositories/library/x/_tags/latest", "garbage");
    let output = user.run(&["ls", "library/x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("1 of 5 could not be read"));
    let printed = said(output.stdout);
    assert!(
        printed.contains("_tags/latest is damaged") && printed.contains("v1"),
        "{printed}"
    );

    // Away with the tags, then the manifest, then the layer; what is not there is named.
    let removed = user.ok(&["rm", "library/x:v1", "library/x:latest"]);
    assert_eq!(said(removed), "library/x:v1\nlibrary/x:latest\n");
    let output = user.ok(&["ls", "library/x"]);
    let untagged = rows(&output);
    assert_eq!(
        untagged[0],
        ["manifest", &manifest, &size, kind, "untagged"]
    );
    assert_eq!(untagged.len(), 3);
    for (content, kind) in [(&manifest, "manifest"), (&layer, "layer")] {
        let reference = format!("library/x@{content}");
        let removed = json!({"event": "removed", "reference": reference, "kind": kind});
        assert_eq!(user.events(&["rm", &reference]), [removed]);
        let said = user.fails(1, &["rm", &reference]);
        assert!(
            said.contains(&format!("{reference} does not exist")),
            "{said}"
        );
    }
    // No manifest says any more that it is a config.
    let output = user.ok(&["ls", "library/x"]);
    assert_eq!(rows(&output).len(), 1);
    assert_eq!(user.pulled(&layer), b"a layer", "its bytes stay");
}

#[test]
fn stat_accepts_every_id() {
    for (size, object) in [(9, "none: the record holds the bytes"), (20_000, ".whole-")] {
        assert_stat_accepts_every_id(size, object);
    }
}

fn assert_stat_accepts_every_id(size: usize, object: &str) {
    let user = User::new();
    let archive = [member("etc/hosts", b'0', &noise(size)), END.to_vec()].concat();
    let file = user.file("layer.tar", &archive);
    user.ok(&["push", &file, "--name", "library/x", "--tarsum"]);
    let tar_sum = said(user.ok(&["tarsum", &file])).trim_end().to_owned();
    for id in [&digest(&archive), &tar_sum] {
        let printed = said(user.ok(&["stat", id]));
        for want in [
            &*digest(&archive),
            &tar_sum,
            " KiB (",
            "first in library/x",
            object,
            "all bytes are there",
        ] {
            assert!(printed.contains(want), "{want}: {printed}");
        }
        let printed = user.events(&["stat", id]);
        assert_eq!(printed.len(), 1);
        assert_eq!(printed[0]["size"], archive.len());
        assert_eq!(printed[0]["aliases"], json!([tar_sum]));
        assert_eq!(printed[0]["damage"], Value::Null);
        assert!(printed[0]["created_at"].as_str().unwrap().ends_with('Z'));
    }
    let unknown = user.fails(1, &["stat", &digest(b"unknown")]);
    assert!(unknown.contains("unknown"), "{unknown}");
    let nonsense = user.fails(2, &["stat", "latest"]);
    assert!(nonsense.contains("sha256:<64 hex digits>"), "{nonsense}");
}

#[test]
fn layer_without_its_object_is_reported_as_damaged() {
    let store = Served::start(&[]);
    let (user, bucket) = (User::of(&store), Bucket::of(&store));
    let layer = noise(20_000);
    let (file, id) = (user.file("layer", &layer), digest(&layer));
    user.ok(&["push", &file, "--name", "x"]);
    let object = user.events(&["stat", &id])[0]["objects"][0]["key"].clone();
    for spoil in [&|key: &str| bucket.put(key, "short") as (), &|key: &str| {
        bucket.delete(key)
    }] as [&dyn Fn(&str); 2]
    {
        spoil(object.as_str().unwrap());
        let output = user.run(&["stat", &id]);
        assert_eq!(output.status.code(), Some(1));
        let printed = said(output.stdout.clone());
        assert!(
            printed.contains("DAMAGED") && printed.contains(&id),
            "{printed}"
        );
        let printed = stderr(&output);
        assert!(
            printed.contains("is damaged") && printed.contains("push"),
            "{printed}"
        );
        let printed = events(&user.run(&["--json", "stat", &id]).stdout);
        assert!(printed[0]["damage"].is_string(), "{printed:?}");
        assert_eq!(printed[1]["event"], "error");
    }
    // As it advises; an id that is declared is no obstacle.
    user.ok(&["push", &file, "--name", "x", "--id", &id]);
    user.ok(&["stat", &id]);
    assert!(user.pulled(&id) == layer);
}

#[test]
fn every_upload_is_listed() {
    let store = Served::start(&[]);
    let (user, bucket) = (User::of(&store), Bucket::of(&store));
    let declared = digest(b"declared");
    let first = interrupted_after(&user, &["--name", "library/x"], &noise(17 * MIB + 5));
    let second = interrupted_after(&user, &["--name", "y", "--id", &declared], b"some");
    let mut running = Running::start(&user, &["push", "-", "--name", "z"]);
    let third = running.next_event("started")["uuid"].clone();
    user.ok(&["push", &user.file("done", b"done"), "--name", "library/x"]);
    let orphaned = "11111111-1111-4111-8111-111111111111";
    bucket.put(&format!("uploads/{orphaned}/tail/0-nonce"), "bytes");

    let printed = user.events(&["uploads"]);
    assert_eq!(printed.len(), 4, "{printed:?}");
    let of = |uuid: &str| printed.iter().find(|one| one["uuid"] == uuid).unwrap();
    for (uuid, name, offset, declared) in [
        (&*first, "library/x", 17 * MIB + 5, Value::Null),
        (&second, "y", 4, json!(declared)),
        (third.as_str().unwrap(), "z", 0, Value::Null),
    ] {
        let upload = of(uuid);
        assert_eq!(upload["event"], "upload");
        assert_eq!(upload["phase"], "open");
        assert_eq!(upload["repository"], name);
        assert_eq!(upload["offset"], offset);
        assert_eq!(upload["declared"], declared);
        assert!(upload["age_seconds"].as_u64().unwrap() < 600);
        for time in ["begun_at", "written_at"] {
            let time = upload[time].as_str().unwrap();
            time.parse::<jiff::Timestamp>().unwrap();
        }
    }
    assert_eq!(of(orphaned)["phase"], "orphaned");
    assert_eq!(of(orphaned)["offset"], Value::Null);
    let output = user.ok(&["uploads"]);
    let rows = rows(&output);
    let row = rows.iter().find(|row| row[0] == first).unwrap();
    assert_eq!(row[1..4], ["library/x", "open", "17825797"]);
    assert_eq!(row[6..], ["-", "-"]);
    assert!(rows.iter().all(|row| row.len() == 8), "{rows:?}");

    // One that cannot be read is printed among the others.
    bucket.put(&format!("uploads/{second}/session"), "garbage");
    let output = user.run(&["uploads"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = said(output.stdout.clone());
    assert_eq!(printed.lines().count(), 4, "{printed}");
    let line = printed.lines().find(|line| line.contains(&second)).unwrap();
    assert!(
        line.contains("unreadable") && line.contains("is damaged"),
        "{line}"
    );
    assert!(stderr(&output).contains("1 of 4 uploads could not be read"));
    user.ok(&["cancel", &second]);
    let printed = said(user.ok(&["uploads"]));
    assert!(!printed.contains(&second), "{printed}");
}

#[test]
fn cancelled_upload_leaves_nothing() {
    let store = Served::start(&[]);
    let (user, bucket) = (User::of(&store), Bucket::of(&store));
    let layer = noise(17 * MIB);
    let declared = digest(b"declared");
    let first = interrupted_after(&user, &["--name", "library/x"], &layer);
    let second = interrupted_after(&user, &["--name", "y", "--id", &declared], b"some");
    assert!(bucket.all().len() > 4, "{:?}", bucket.all());

    let all = ["cancel", &first, NOBODY, &second, &first];
    let output = user.run(&all);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said(output.stdout.clone()), format!("{first}\n{second}\n"));
    let printed = stderr(&output);
    assert!(printed.contains("1 of 3 uploads"), "{printed}");
    assert!(
        printed.contains(NOBODY) && printed.contains("is unknown"),
        "{printed}"
    );
    assert_eq!(bucket.all(), ["profile"]);

    let file = user.file("layer", &layer);
    let gone = user.fails(
        1,
        &["push", &file, "--name", "library/x", "--resume", &first],
    );
    assert!(gone.contains("is unknown"), "{gone}");
    let gone = user.fails(1, &["cancel", &first]);
    assert!(
        gone.contains("is unknown") && gone.contains("uploads"),
        "{gone}"
    );
    user.fails(2, &["cancel"]);
    let nonsense = user.fails(2, &["cancel", "7"]);
    assert!(nonsense.contains("'7'"), "{nonsense}");
}

#[test]
fn cancelled_upload_in_a_folder_leaves_nothing() {
    let user = User::new();
    let uuid = interrupted_after(&user, &["--name", "x"], b"some");
    let printed = user.events(&["cancel", &uuid]);
    assert_eq!(printed, [json!({"event": "cancelled", "uuid": uuid})]);
    assert_eq!(user.events(&["uploads"]), [Value::Null; 0]);
    let output = user.run(&["--json", "cancel", &uuid]);
    let printed = events(&output.stdout);
    assert_eq!(
        (&printed[0]["event"], &printed[0]["uuid"]),
        (&json!("not_cancelled"), &json!(uuid))
    );
    assert_eq!(printed[1]["event"], "error");
}

#[test]
fn running_push_reports_its_cancellation() {
    let store = Served::start(&[]);
    let (user, bucket) = (User::of(&store), Bucket::of(&store));
    let layer = noise(40 * MIB);
    let mut push = Running::start(&user, &["push", "-", "--name", "x"]);
    let uuid = push.next_event("started")["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    push.feed(&layer[..17 * MIB]);
    store.holds_parts(1);
    user.ok(&["cancel", &uuid]);
    // It may be gone before it has taken all of this.
    let _ = push.stdin.as_mut().unwrap().write_all(&layer[17 * MIB..]);
    push.stdin = None;
    // The first request after the cancellation is refused.
    let error = push.next_event("error").to_string();
    let is_told = error.contains("is unknown") || error.contains("ended by another handle");
    assert!(is_told && error.contains(&uuid), "{error}");
    assert_eq!(push.code(), Some(1));
    assert_eq!(bucket.all(), ["profile"]);
}

#[test]
fn cancel_of_a_committing_upload_commits_it() {
    let store = Served::start(&[]);
    let (user, bucket) = (User::of(&store), Bucket::of(&store));
    let uuid = interrupted_after(&user, &["--name", "x"], b"some");
    let key = format!("uploads/{uuid}/session");
    let intent = json!({"committing": {"at": "2026-01-01T00:00:00Z", "digest": digest(b"some")}});
    let session = bucket.text(&key);
    let committing = session.replace("\"phase\":\"open\"", &format!("\"phase\":{intent}"));
    assert_ne!(committing, session);
    bucket.put(&key, &sealed(&committing));
    assert_eq!(user.events(&["uploads"])[0]["phase"], "committing");
    let refused = user.fails(1, &["cancel", &uuid]);
    assert!(refused.contains("it was finished"), "{refused}");
    assert_eq!(user.events(&["uploads"]), [Value::Null; 0]);
    assert!(user.pulled(&digest(b"some")) == b"some");
}

/// The output of the program on a terminal of this width, and on stderr.
fn on_a_terminal(user: &User, columns: u16, arguments: &[&str]) -> (Vec<String>, String) {
    let mut terminal = Terminal::new(columns);
    let mut command = user.command(arguments);
    command.stdout(terminal.stream()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // It has the other side open still.
    drop(command);
    terminal.end();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = terminal.written().lines().map(str::to_owned).collect();
    (lines, stderr(&output))
}

#[test]
fn table_fits_the_window() {
    let user = User::new();
    let layer = noise(3 * MIB / 2);
    let id = digest(&layer);
    let file = user.file("layer", &layer);
    user.ok(&["push", &file, "--name", "library/a-long-name"]);
    let uuid = interrupted_after(
        &user,
        &[
            "--name",
            "library/a-long-name",
            "--id",
            &digest(b"declared"),
        ],
        b"some",
    );

    let (wide, noted) = on_a_terminal(&user, 120, &["ls", "--layers"]);
    assert!(wide[0].starts_with("LAYER  "), "{wide:?}");
    assert!(wide[0].contains("CREATED  FIRST IN"), "{wide:?}");
    assert!(
        wide[1].starts_with(&format!("{id}  1.50 MiB  ")),
        "{wide:?}"
    );
    assert_eq!(noted, "");
    for columns in [60, 80] {
        let (narrow, _) = on_a_terminal(&user, columns, &["ls", "--layers"]);
        let has_id = narrow.iter().any(|line| line.starts_with(&id[..19]));
        assert!(has_id, "{narrow:?}");
        for line in &narrow {
            assert!(line.chars().count() <= usize::from(columns), "{narrow:?}");
        }
    }
    for columns in [100, 200] {
        let (table, _) = on_a_terminal(&user, columns, &["uploads"]);
        let all = table.join(" ");
        for text in [&*uuid, "open", "4 B", "DECLARED"] {
            assert!(all.contains(text), "{text}: {table:?}");
        }
        for line in &table {
            assert!(line.chars().count() <= usize::from(columns), "{table:?}");
        }
    }
}

#[test]
fn each_command_is_explained() {
    let user = User::new();
    let help = said(user.ok(&["--help"]));
    for (command, want) in [
        ("stat", "Show the record"),
        ("ls", "separated by tabs"),
        ("uploads", "separated by tabs"),
        ("cancel", "UUID"),
    ] {
        assert!(help.contains(command), "{help}");
        let printed = said(user.ok(&[command, "--help"]));
        assert!(printed.contains(want), "{printed}");
    }
}
