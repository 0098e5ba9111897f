//! Markers and delimiters in the listings of the embedded store.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::CommonPrefix;
use embedded_s3::EmbeddedStore;

use crate::embedded::{BUCKET, begin, client, put};

const KEYS: [&str; 5] = ["a", "b/1", "b/2", "c/1", "d"];

/// A store with an object and an upload of each key.
async fn filled() -> Client {
    let client = client(&EmbeddedStore::in_memory()).await;
    for key in KEYS {
        put(&client, key, b"body".to_vec()).await;
        begin(&client, key).await;
    }
    client
}

fn groups(prefixes: &[CommonPrefix]) -> impl Iterator<Item = String> {
    prefixes.iter().filter_map(|group| group.prefix.clone())
}

/// The names of a page in order, and the marker of the next one.
type Listed = (Vec<String>, Option<String>);

fn listed(names: impl Iterator<Item = String>, next: Option<String>) -> Listed {
    let mut names: Vec<String> = names.collect();
    names.sort();
    (names, next)
}

async fn v1(client: &Client, prefix: &str, marker: &str, limit: i32) -> Listed {
    let list = client.list_objects().bucket(BUCKET).delimiter("/");
    let list = list.prefix(prefix).marker(marker).max_keys(limit);
    let page = list.send().await.unwrap();
    let keys = page.contents().iter().filter_map(|item| item.key.clone());
    let names = keys.chain(groups(page.common_prefixes()));
    listed(names, page.next_marker.clone())
}

async fn v2(client: &Client, prefix: &str, start_after: &str) -> Listed {
    let list = client.list_objects_v2().bucket(BUCKET).delimiter("/");
    let page = list.prefix(prefix).start_after(start_after);
    let page = page.send().await.unwrap();
    let keys = page.contents().iter().filter_map(|item| item.key.clone());
    listed(keys.chain(groups(page.common_prefixes())), None)
}

/// The id of the last upload is added to the marker.
async fn uploads(client: &Client, prefix: &str, marker: &str, limit: i32) -> Listed {
    let list = client.list_multipart_uploads().bucket(BUCKET);
    let list = list.delimiter("/").prefix(prefix).max_uploads(limit);
    let (key, id) = match marker.split_once('@') {
        Some((key, id)) => (key, Some(id.to_owned())),
        None => (marker, None),
    };
    let page = list.key_marker(key).set_upload_id_marker(id);
    let page = page.send().await.unwrap();
    let keys = page.uploads().iter().filter_map(|item| item.key.clone());
    let names = keys.chain(groups(page.common_prefixes()));
    let id = page.next_upload_id_marker().unwrap_or_default();
    let next = page.next_key_marker().map(|key| format!("{key}@{id}"));
    listed(names, next)
}

#[tokio::test]
async fn only_names_and_groups_behind_the_marker_are_listed() {
    let client = filled().await;
    let mut wrong = Vec::new();
    for (prefix, marker, want) in [
        ("", "", ["a", "b/", "c/", "d"].as_slice()),
        ("", "a", &["b/", "c/", "d"]),
        ("", "b", &["b/", "c/", "d"]),
        // A group is listed if its own name is greater than the marker.
        ("", "b/", &["c/", "d"]),
        ("", "b/1", &["c/", "d"]),
        ("", "b/9", &["c/", "d"]),
        ("", "c/1", &["d"]),
        // The prefix is no group of its own listing.
        ("b/", "b/", &["b/1", "b/2"]),
        ("b/", "b/1", &["b/2"]),
        ("b/", "b/2", &[]),
    ] {
        for (listing, got) in [
            ("V1", v1(&client, prefix, marker, 9).await),
            ("V2", v2(&client, prefix, marker).await),
            ("uploads", uploads(&client, prefix, marker, 9).await),
            (
                "empty id",
                uploads(&client, prefix, &format!("{marker}@"), 9).await,
            ),
        ] {
            if got.0 != want {
                let names = got.0;
                wrong.push(format!("{listing}, {prefix:?}, {marker:?}: {names:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The marker of a page continues the listing; a group has no upload id, which a client may send as an empty one.
#[tokio::test]
async fn pages_of_one_list_each_entry_once() {
    let client = filled().await;
    for is_of_uploads in [false, true] {
        let (mut names, mut marker) = (Vec::new(), String::new());
        for _ in 0..=KEYS.len() {
            let (page, next) = if is_of_uploads {
                uploads(&client, "", &marker, 1).await
            } else {
                v1(&client, "", &marker, 1).await
            };
            names.extend(page);
            match next {
                Some(next) => marker = next,
                None => break,
            }
        }
        assert_eq!(names, ["a", "b/", "c/", "d"], "uploads: {is_of_uploads}");
    }
}

/// An upload id continues within the uploads of its key.
#[tokio::test]
async fn uploads_of_one_key_are_continued_by_id() {
    let client = filled().await;
    begin(&client, "a").await;
    let list = || {
        client
            .list_multipart_uploads()
            .bucket(BUCKET)
            .delimiter("/")
    };
    let all = list().send().await.unwrap();
    let [first, second, ..] = all.uploads() else {
        unreachable!("{all:?}")
    };
    let page = list().max_uploads(1).send().await.unwrap();
    assert_eq!(page.next_key_marker(), Some("a"));
    assert_eq!(page.next_upload_id_marker(), first.upload_id());
    let rest = list()
        .key_marker("a")
        .set_upload_id_marker(page.next_upload_id_marker);
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.uploads()[0].upload_id(), second.upload_id());
    assert_eq!(rest.uploads().len(), all.uploads().len() - 1);
    assert_eq!(rest.common_prefixes(), all.common_prefixes());
}
