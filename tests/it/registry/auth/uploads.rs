//! Uploads belong to the subject that began them.

use s3layers::{Algorithm, Digest};
use s3layers_registry::Policy;

use super::fixture::{Proof, Site, users};

const UPLOADS: &str = "/v2/a/blobs/uploads/";

async fn token(site: &Site, user: &str) -> Proof {
    let password: String = user.chars().rev().collect();
    let reply = site
        .token(&Proof::basic(user, &password), &["repository:a:*"])
        .await;
    Proof::Bearer(reply.json()["token"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn upload_belongs_to_its_subject() {
    let site = Site::new(users(&["alice", "bob"]), Policy::for_users(true));
    let (alice, bob) = (token(&site, "alice").await, token(&site, "bob").await);
    let begun = site.send("POST", UPLOADS, &alice, b"").await;
    let location = begun.location();
    let other = site.send("POST", UPLOADS, &alice, b"").await.location();
    let digest = Digest::of(Algorithm::Sha256, b"bytes");
    for method in ["GET", "PATCH", "PUT", "DELETE"] {
        let path = format!("{location}&digest={digest}");
        let reply = site.send(method, &path, &bob, b"bytes").await;
        assert_eq!(
            (reply.status, reply.code()),
            (403, "DENIED".to_owned()),
            "{method}"
        );
    }
    let (without_state, state) = location.split_once("&state=").unwrap();
    let (_, tag) = state.split_once('.').unwrap();
    for forged in [
        without_state.to_owned(),
        format!("{without_state}&state=1.{tag}"),
        format!("{without_state}&state={state}A"),
        location.replace("/v2/a/", "/v2/b/"),
        format!("{}&state={state}", other.split_once("&state=").unwrap().0),
    ] {
        let reply = site
            .send("PATCH", &forged, &Proof::basic("alice", "ecila"), b"bytes")
            .await;
        assert_eq!(reply.status, 403, "{forged}");
    }
    let reply = site.send("PATCH", &location, &alice, b"bytes").await;
    assert_eq!(reply.status, 202);
    // The subject counts, not how it came.
    let path = format!("{}&digest={digest}", reply.location());
    let reply = site
        .send("PUT", &path, &Proof::basic("alice", "ecila"), b"")
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");
}
