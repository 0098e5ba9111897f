//! No password, token or secret key in any event, answer, metric or `Debug`: canaries go in, and are
//! looked for in all that comes out.

use std::sync::Arc;

use s3layers::{MemoryLayerService, ServiceStatus};
use s3layers_registry::{
    AuthSettings, Metrics, Options, Policy, PolicyAuthorizer, Prices, SecretKey, Users, router,
};

use super::fixture::{Proof, send, settings};
use crate::support::log::Log;
use crate::support::own_process::in_own_process;

const PASSWORD: &str = "canary-password-51c7";
const WRONG: &str = "canary-wrong-77aa";
const SECRET: &[u8] = b"canary-secret-key-0123456789abcdef";

#[tokio::test(flavor = "current_thread")]
async fn no_credential_appears_anywhere() {
    if !in_own_process("registry::auth::secrets::no_credential_appears_anywhere") {
        return;
    }
    let (log, _guard) = Log::begin();

    let hash = bcrypt::hash_with_salt(PASSWORD, 4, [3; 16]).unwrap();
    let hash = hash.format_for_version(bcrypt::Version::TwoY);
    let users = Users::parse(&format!("alice:{hash}"), "users").unwrap();
    let settings = AuthSettings {
        secret: SecretKey::new(SECRET).unwrap(),
        ..settings()
    };
    let mut shown = format!("{users:?} {settings:?}");
    let authorizer = Arc::new(PolicyAuthorizer::new(
        settings,
        users,
        Policy::for_users(true),
    ));
    shown.push_str(&format!("{authorizer:?}"));
    let metrics = Arc::new(Metrics::new(ServiceStatus::default, Prices::default()));
    let registry = router(Arc::new(MemoryLayerService::new()), Options::default())
        .with_authorizer(authorizer)
        .with_metrics(metrics.clone());
    shown.push_str(&format!("{registry:?}"));
    let here = [127, 0, 0, 1].into();
    let right = Proof::basic("alice", PASSWORD);
    let path = "/token?service=x&scope=repository:a:pull,push";
    let token = send(&registry, "GET", path, &right, here, b"").await.json();
    let token = token["token"].as_str().unwrap().to_owned();
    let forged = format!("{token}x");
    for proof in [
        right,
        Proof::basic("alice", WRONG),
        Proof::basic("unknown", WRONG),
        Proof::basic("alice", &token),
        Proof::Bearer(token.clone()),
        Proof::Bearer(forged),
        Proof::Bearer(WRONG.to_owned()),
    ] {
        for (method, path) in [
            ("GET", "/v2/"),
            ("POST", "/v2/a/blobs/uploads/"),
            ("POST", "/v2/b/blobs/uploads/"),
            ("DELETE", "/v2/a/manifests/x"),
        ] {
            let reply = send(&registry, method, path, &proof, here, b"").await;
            shown.push_str(&format!("{reply:?}"));
        }
    }
    shown.push_str(&metrics.text().unwrap());
    let logged = log.text();
    assert!(
        logged.contains("subject=\"user:alice\""),
        "the events were not seen: {logged}"
    );
    let mut logins = logged.lines().filter(|line| line.contains("path=/token"));
    let login = logins.next().unwrap();
    assert!(login.contains("subject=\"user:alice\""), "{login}");
    let signature = token.rsplit('.').next().unwrap();
    let secret = std::str::from_utf8(SECRET).unwrap();
    for (what, text) in [
        ("an answer, metric or Debug", &shown),
        ("an event", &logged),
    ] {
        for canary in [PASSWORD, WRONG, secret, &hash, signature] {
            let found = text
                .find(canary)
                .map(|at| &text[at.saturating_sub(200)..at]);
            assert_eq!(found, None, "{what} shows {canary}, after this");
        }
    }
}
