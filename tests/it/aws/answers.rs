//! What only AWS answers, in the middle of work: KMS, credentials that expire, checksums.

use std::sync::Mutex;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use embedded_s3::{EmbeddedStore, Quirks};
use s3layers::{LayerService as _, LayerServiceExt as _, S3Config, S3LayerService};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::support::program::MIB;
use crate::support::stores;

/// With KMS an ETag is no MD5, and every answer says so.
#[tokio::test]
async fn objects_encrypted_by_kms() {
    let mut quirks = Quirks::none();
    quirks.opaque_etags = true;
    let store = EmbeddedStore::in_memory()
        .with_keys(KEY, SECRET)
        .with_quirks(quirks);
    let store = stores::with_bucket(store).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { store.serve(listener, std::future::pending()).await });
    let kms = "x-amz-server-side-encryption: aws:kms\r\n\
               x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-west-1:1:key/1\r\n\
               x-amz-server-side-encryption-bucket-key-enabled: true\r\n";
    let s3 = StandIn::start(&endpoint, move |_| Answer::Store(kms));
    let done = tokio::task::spawn_blocking(move || {
        let user = user(&[]);
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", &*s3.url)]].concat();
        push_and_pull(&user, &variables);
        push_and_pull_of(&user, &variables, &noise(12 * MIB));
    });
    done.await.unwrap();
}

/// Each request gets credentials of its own, since those before are about to expire; in the middle
/// of the upload the store begins to refuse what was given before.
#[test]
fn credentials_that_expire_during_an_upload() {
    let store = store();
    let user = user(&[]);
    let script = format!(
        r#"n=$(($(cat "$HOME/n" 2>/dev/null || echo 0) + 1)); echo $n >"$HOME/n"
        soon=$(date -u -d "+5 seconds" +%Y-%m-%dT%H:%M:%SZ)
        echo '{{"Version":1,"AccessKeyId":"{KEY}","SecretAccessKey":"{SECRET}",'
        echo '"SessionToken":"'$n'","Expiration":"'$soon'"}}'"#
    );
    let path = user.file("credentials.sh", script.as_bytes());
    let config = format!("[default]\ncredential_process = sh {path}\n");
    user.file(".aws/config", config.as_bytes());
    // How many parts came, and the last token that is not good any more.
    let seen = Mutex::new((0, 0));
    let s3 = StandIn::start(&store.endpoint, move |asked| {
        let token: u64 = asked.headers["x-amz-security-token"].parse().unwrap();
        let (parts, expired) = &mut *seen.lock().unwrap();
        if token <= *expired {
            let body = "<Error><Code>ExpiredToken</Code><Message>Expired.</Message></Error>";
            return Answer::text(400, body);
        }
        *parts += u64::from(asked.target.contains("partNumber="));
        if *parts == 2 {
            *expired = token;
        }
        Answer::Store("")
    });
    let layer = noise(21 * MIB);
    let file = user.file("layer", &layer);
    let push = [
        "push",
        &file,
        "--name",
        "x",
        "--part-size",
        "5MiB",
        "--parallelism",
        "1",
    ];
    let variables = [
        ("AWS_ENDPOINT_URL", &*s3.url),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let output = program(&user, &variables, &push).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut tokens: Vec<_> = s3
        .asked()
        .iter()
        .map(|a| a.headers["x-amz-security-token"].clone())
        .collect();
    tokens.dedup();
    assert!(tokens.len() > 5, "{tokens:?}");
}

/// Some stores answer a range with the checksum of the whole object, if they are asked for one.
#[tokio::test]
async fn no_get_asks_for_a_checksum() {
    let store = store();
    let s3 = StandIn::start(&store.endpoint, |_| Answer::Store(""));
    let http = aws_smithy_http_client::Builder::new().build_http();
    let client = s3layers::client_over(http.clone(), &s3.url, KEY, SECRET);
    // As a user may have it: the SDK's own settings.
    let theirs = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .endpoint_url(&s3.url)
        .force_path_style(true)
        .credentials_provider(Credentials::new(KEY, SECRET, None, None, "tests"))
        .http_client(http)
        .build();
    for client in [client, aws_sdk_s3::Client::from_conf(theirs)] {
        let config = S3Config::new("layers");
        let service = S3LayerService::connect(client, config).await.unwrap();
        let bytes = noise(9 * MIB);
        let layer = service.push(&stores::name(), &mut &*bytes).await.unwrap();
        let mut read = Vec::new();
        let mut layer = service.fetch(&layer.digest().clone().into()).await.unwrap();
        layer.read_to_end(&mut read).await.unwrap();
        assert!(read == bytes);
    }
    let gets = s3.asked().into_iter().filter(|asked| asked.method == "GET");
    let asking: Vec<_> = gets
        .filter(|get| get.headers.contains_key("x-amz-checksum-mode"))
        .collect();
    assert!(s3.count("GET /layers/data/") > 0);
    assert_eq!(asking.len(), 0, "{asking:?}");
}
