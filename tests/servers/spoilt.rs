//! From outside: a proxy between `serve` and the server spoils each request of a push and pull in turn.
//! The client sees an error in no case, the bytes come back, and nothing else is left.
//!
//! Each request is spoilt in two of the seven ways, or with `S3LAYERS_FAULTS=full` in all.

use std::time::{Duration, Instant};

use super::cli_fixture::{LAYER, NAME};
use super::fault_proxy::{Fault, FaultProxy};
use super::reply::Reply;
use super::{Endpoint, fixture_on};

const MEDIA_TYPE: (&str, &str) = (
    "content-type",
    "application/vnd.docker.distribution.manifest.v2+json",
);

/// A layer and a config.
const LAYERS: usize = 2;
/// More than all attempts of a removal take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Spoils each request in turn.
pub fn pushes(endpoint: &Endpoint) -> Result<(), String> {
    let is_full = std::env::var("S3LAYERS_FAULTS").is_ok_and(|extent| extent == "full");
    let begun = Instant::now();
    let asked = push_and_pull(endpoint, None)?;
    let mut failures = Vec::new();
    let mut cases = 0;
    for (number, asked) in (1..).zip(&asked) {
        for (place, fault) in Fault::ALL.into_iter().enumerate() {
            if !is_full && (number + 2 * place) % 7 > 1 {
                continue;
            }
            cases += 1;
            if let Err(failure) = push_and_pull(endpoint, Some((number, fault))) {
                failures.push(format!("{fault:?} at request {number}, {asked}: {failure}"));
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let failed = failures.len();
    println!("spoilt pushes: {cases} cases in {seconds:.1} s, {failed} failed");
    match failed {
        0 => Ok(()),
        _ => Err(failures.join("\n")),
    }
}

/// One push and pull. The requests that the registry has made.
fn push_and_pull(
    endpoint: &Endpoint,
    fault: Option<(usize, Fault)>,
) -> Result<Vec<String>, String> {
    let fixture = fixture_on(endpoint, "spoilt");
    // The first process probes the store; not in the middle of this.
    drop(fixture.serve()?);
    let proxy = FaultProxy::to(&endpoint.url, fault).map_err(|error| error.to_string())?;
    let (server, address) = fixture.serve_over(Some(&proxy.url()))?;
    push(&address)?;
    wait_for_removals(&proxy)?;
    let log = proxy.log();
    drop(server);
    fixture.layer_comes_back()?;
    let created_twice = fault.is_some_and(|(number, fault)| {
        let asked = log.get(number - 1);
        let creates =
            asked.is_some_and(|asked| asked.starts_with("POST") && asked.contains("uploads"));
        creates && fault == Fault::Twice
    });
    let mut left = fixture.swept()?;
    // No document names the second one: see "Known limits" in ARCHITECTURE.md.
    left.retain(|key| {
        let is_over = ["uploads/", "multipart upload of"]
            .iter()
            .any(|over| key.starts_with(over));
        (is_over && !created_twice) || key.contains("/_claims/")
    });
    if left.is_empty() {
        Ok(log)
    } else {
        Err(format!("left over: {left:?}"))
    }
}

/// Sessions are removed after the client was answered.
fn wait_for_removals(proxy: &FaultProxy) -> Result<(), String> {
    let begun = Instant::now();
    let is_removal = |asked: &String| asked.starts_with("DELETE") && asked.contains("/session");
    while proxy.log().iter().filter(|asked| is_removal(asked)).count() < LAYERS {
        if begun.elapsed() > PATIENCE {
            return Err("the sessions were not removed".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// As docker does it: is the blob there, begin, send, end, is it there; the manifest last. Then a
/// pull.
fn push(address: &str) -> Result<(), String> {
    let (layer, digest) = &*LAYER;
    let config = b"{}";
    let of_config = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    for (bytes, digest) in [(layer.as_slice(), digest.as_str()), (config, of_config)] {
        let blob = format!("/v2/{NAME}/blobs/{digest}");
        Reply::to(address, "HEAD", &blob, &[], &[])?.is(404)?;
        let uploads = format!("/v2/{NAME}/blobs/uploads/");
        let at = Reply::to(address, "POST", &uploads, &[], &[])?.is(202)?;
        let at = Reply::to(address, "PATCH", &at.location()?, &[], bytes)?.is(202)?;
        let end = format!("{}&digest={digest}", at.location()?);
        Reply::to(address, "PUT", &end, &[], &[])?.is(201)?;
        Reply::to(address, "HEAD", &blob, &[], &[])?.is(200)?;
    }
    let size = layer.len();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{of_config}","size":2}},
        "layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","digest":"{digest}","size":{size}}}]}}"#,
        MEDIA_TYPE.1
    );
    let tag = format!("/v2/{NAME}/manifests/latest");
    Reply::to(address, "PUT", &tag, &[MEDIA_TYPE], manifest.as_bytes())?.is(201)?;
    let got = Reply::to(address, "GET", &tag, &[], &[])?.is(200)?;
    let blob = format!("/v2/{NAME}/blobs/{digest}");
    let back = Reply::to(address, "GET", &blob, &[], &[])?.is(200)?;
    if got.body == manifest.as_bytes() && back.body == *layer {
        Ok(())
    } else {
        Err("other bytes came back".to_owned())
    }
}
