//! A listing that is resumed within a repository loses no key, because names are escaped in keys.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{Endpoint, client};

/// Keys below each of three repositories. The first two differ by a character that sorts before the
/// slash; the first has more than a page of a listing.
const OBJECTS: [(&str, usize); 3] = [("a-b", 1100), ("a", 3), ("z", 1)];

pub fn trial(endpoint: &Endpoint) -> Trial {
    let endpoint = endpoint.clone();
    let name = format!("{}::resumed_listing_loses_no_key", endpoint.name);
    Trial::test(name, move || {
        let runtime = Runtime::new().map_err(|error| Failed::from(error.to_string()))?;
        Ok(runtime.block_on(resumed_listings(&endpoint))?)
    })
}

async fn resumed_listings(endpoint: &Endpoint) -> Result<(), String> {
    let client = client(endpoint);
    let root = format!("listing/{}", Uuid::new_v4());
    let plain = lost(
        &client,
        &endpoint.bucket,
        &format!("{root}/plain/"),
        str::to_owned,
    )
    .await?;
    let escape = |name: &str| name.replace('-', "=");
    let escaped = lost(
        &client,
        &endpoint.bucket,
        &format!("{root}/escaped/"),
        escape,
    )
    .await?;
    println!("plain names: {plain} keys lost, escaped names: {escaped}");
    if plain == 0 {
        println!("skipped: this version of {} loses no key", endpoint.name);
    }
    match escaped {
        0 => Ok(()),
        lost => Err(format!("{lost} keys were lost")),
    }
}

/// Writes the objects with their repositories named so, and lists them again from each key of `a`
/// and `z`. The number of keys that are missing in those listings.
async fn lost(
    client: &Client,
    bucket: &str,
    prefix: &str,
    named: impl Fn(&str) -> String,
) -> Result<usize, String> {
    let mut keys = Vec::new();
    for (name, count) in OBJECTS {
        let repository = format!("{prefix}{}", named(name));
        keys.extend((0..count).map(|nth| format!("{repository}/_tags/{nth:04}")));
    }
    for some in keys.chunks(50) {
        let puts = some.iter().map(|key| {
            let put = client.put_object().bucket(bucket).key(key);
            put.body(ByteStream::from_static(b"x")).send()
        });
        futures_util::future::try_join_all(puts)
            .await
            .map_err(|error| format!("{error:?}"))?;
    }
    keys.sort();
    let mut lost = 0;
    for (at, after) in keys.iter().enumerate() {
        if !after.contains("/a/_tags/") && !after.contains("/z/_tags/") {
            continue;
        }
        let listed = listed(client, bucket, prefix, after).await?;
        let rest = &keys[at + 1..];
        lost += rest.iter().filter(|key| !listed.contains(key)).count();
    }
    Ok(lost)
}

/// All keys after this one.
async fn listed(
    client: &Client,
    bucket: &str,
    prefix: &str,
    after: &str,
) -> Result<Vec<String>, String> {
    let list = client.list_objects_v2().bucket(bucket).prefix(prefix);
    let mut pages = list.start_after(after).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| format!("{error:?}"))?;
        let objects = page.contents().iter();
        keys.extend(objects.filter_map(|object| object.key().map(str::to_owned)));
    }
    Ok(keys)
}
