//! Tags, referrers, repositories: all of them, in order, a page at a time.

use serde_json::{Value, json};

use super::client::{Client, Reply};
use super::manifests::{IMAGE, INDEX, descriptor, image, put};
use super::site::Site;
use crate::support::bytes::{KIB, MIB, sha256};

/// Every page from `path` on: how long each is, and all that `field` had.
async fn pages(client: Client, path: &str, field: &str) -> (Vec<usize>, Vec<Value>) {
    let (mut sizes, mut all) = (Vec::new(), Vec::new());
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let reply = client.get(&path).await.is(200);
        let json = reply.json();
        let items = json[field].as_array().unwrap();
        sizes.push(items.len());
        all.extend(items.iter().cloned());
        next = reply.next();
    }
    (sizes, all)
}

#[tokio::test]
async fn tags_and_repositories_are_listed_in_order() {
    for client in Site::clients().await {
        let names = ["a", "a/b", "b"];
        for name in names {
            let image = image(client, name, 1).await;
            for tag in ["v10", "v2", "latest", "Z", "v1"] {
                put(client, &format!("/v2/{name}/manifests/{tag}"), &image).await;
            }
        }
        let ordered = json!(["Z", "latest", "v1", "v10", "v2"]);
        let reply = client.get("/v2/a/b/tags/list").await.is(200);
        assert_eq!(reply.json(), json!({"name": "a/b", "tags": ordered}));
        assert_eq!(reply.next(), None);
        let (sizes, all) = pages(client, "/v2/a/tags/list?n=2", "tags").await;
        assert_eq!((sizes, json!(all)), (vec![2, 2, 1], ordered));
        let reply = client.get("/v2/a/tags/list?last=v1").await.is(200);
        assert_eq!(reply.json()["tags"], json!(["v10", "v2"]));
        let reply = client.get("/v2/a/tags/list?n=0").await.is(200);
        assert_eq!(
            (reply.json()["tags"].clone(), reply.next()),
            (json!([]), None)
        );
        let (sizes, all) = pages(client, "/v2/_catalog?n=2", "repositories").await;
        assert_eq!((sizes, json!(all)), (vec![2, 1], json!(names)));
    }
}

#[tokio::test]
async fn referrers_are_found_filtered_and_paged() {
    for client in Site::clients().await {
        let subject = put(client, "/v2/a/manifests/v1", &image(client, "a", 1).await).await;
        let digest = sha256(&subject);
        let listing = format!("/v2/a/referrers/{digest}");
        let reply = client.get(&listing).await.is(200);
        assert_eq!(reply.header("content-type"), Some(INDEX));
        let empty = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
        assert_eq!(reply.json(), empty);

        let mut referrers = Vec::new();
        for number in 0..7 {
            let mut referrer = image(client, "a", 1).await;
            let kind = ["application/vnd.sbom+json", "application/vnd.signature"][number % 2];
            referrer["artifactType"] = json!(kind);
            referrer["subject"] = descriptor(&subject, IMAGE);
            referrer["annotations"] = json!({"number": number.to_string()});
            let bytes = referrer.to_string().into_bytes();
            let path = format!("/v2/a/manifests/{}", sha256(&bytes));
            let headers = [("content-type", IMAGE)];
            let reply = client.send("PUT", &path, &headers, &bytes).await.is(201);
            assert_eq!(reply.header("oci-subject"), Some(&*digest.to_string()));
            let mut want = descriptor(&bytes, IMAGE);
            want["artifactType"] = json!(kind);
            want["annotations"] = referrer["annotations"].clone();
            referrers.push((want, path));
        }
        let by_kind = |item: &Value| {
            let [kind, digest] = ["artifactType", "digest"].map(|key| item[key].as_str().unwrap());
            format!("{}{digest}", &sha256(kind.as_bytes()).hex()[..8])
        };
        let mut expected: Vec<Value> = referrers.iter().map(|(want, _)| want.clone()).collect();
        expected.sort_by_key(by_kind);
        for n in [1, 3, 7, 100] {
            let path = format!("{listing}?n={n}");
            let (_, all) = pages(client, &path, "manifests").await;
            assert_eq!(all, expected, "{n} at a time");
        }
        for (kind, count) in [
            ("application/vnd.sbom+json", 4),
            ("application%2Fvnd.sbom%2Bjson", 4),
            ("application/vnd.signature", 3),
            ("application/none", 0),
        ] {
            let path = format!("{listing}?artifactType={kind}&n=2");
            let reply = client.get(&path).await.is(200);
            assert_eq!(reply.header("oci-filters-applied"), Some("artifactType"));
            let (_, all) = pages(client, &path, "manifests").await;
            assert_eq!(all.len(), count, "{kind}");
        }
        for (_, path) in &referrers {
            client.delete(path).await.is(202);
        }
        let reply = client.get(&listing).await.is(200);
        assert_eq!(reply.json(), empty);
    }
}

/// Clients read 4 MiB of an index, and a page of ours has 3.
const INDEX_LIMIT: usize = 3 * MIB as usize;

/// Puts a referrer for each text, which it has as an annotation. The path of all of them, and their
/// digests in order.
async fn referrers(client: Client, texts: &[String]) -> (String, Vec<String>) {
    let mut referrer = image(client, "a", 1).await;
    let subject = b"it need not be here";
    referrer["subject"] = descriptor(subject, IMAGE);
    let mut digests = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        referrer["annotations"] = json!({"number": number.to_string(), "text": text});
        let digest = sha256(referrer.to_string().as_bytes()).to_string();
        put(client, &format!("/v2/a/manifests/{digest}"), &referrer).await;
        digests.push(digest);
    }
    digests.sort_unstable();
    (format!("/v2/a/referrers/{}", sha256(subject)), digests)
}

/// The digests of a page, which has no more bytes than it may.
fn digests(page: &Reply) -> Vec<String> {
    let json = page.json();
    let manifests = json["manifests"].as_array().unwrap();
    let (count, size) = (manifests.len(), page.body.len());
    assert!(size <= INDEX_LIMIT || count == 1, "{count} in {size} bytes");
    let digests = manifests.iter().map(|item| item["digest"].as_str());
    digests.map(|digest| digest.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_page_of_referrers_has_a_size() {
    for client in Site::clients().await {
        let large = (0..5).map(|_| "a".repeat(MIB as usize));
        let small = (0..5).map(|_| "a".repeat(10));
        // Six times as long in JSON as they are.
        let escaped = (0..3).map(|_| "\u{1}".repeat(600 * KIB as usize));
        let texts: Vec<_> = large.chain(small).chain(escaped).collect();
        let (path, want) = referrers(client, &texts).await;
        let (mut got, mut next) = (Vec::new(), Some(path));
        while let Some(path) = next {
            let page = client.get(&path).await.is(200);
            got.extend(digests(&page));
            next = page.next();
        }
        assert_eq!(got, want, "each once, in order");
    }
}

#[tokio::test]
async fn a_page_of_referrers_costs_what_is_in_it() {
    let (client, wire) = Site::client_over_wire().await;
    let large = (0..12).map(|_| "a".repeat(MIB as usize));
    let small = (0..20).map(|_| "a".repeat(10));
    let texts: Vec<_> = large.chain(small).collect();
    let (path, want) = referrers(client, &texts).await;
    let (mut got, mut next) = (Vec::new(), Some(path));
    while let Some(path) = next {
        wire.reset();
        let page = client.get(&path).await.is(200);
        let spent = wire.log().len();
        let count = digests(&page).len();
        // A listing, and those that were read with the last one and did not fit.
        assert!(spent <= 1 + count + 8, "{spent} requests for {count}");
        got.extend(digests(&page));
        next = page.next();
    }
    assert_eq!(got, want, "each once, in order");
}
