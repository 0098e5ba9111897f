//! Where credentials are accepted, and what they do not give.

use std::net::IpAddr;

use s3layers_registry::{Policy, Users};

use super::fixture::{Proof, Site, send, users};

#[tokio::test]
async fn credentials_over_connections_without_tls_are_refused() {
    let site = Site::new(users(&["alice"]), Policy::for_users(true));
    let password = Proof::basic("alice", "ecila");
    let token = site.token(&password, &[]).await.json();
    let token = Proof::Bearer(token["token"].as_str().unwrap().to_owned());
    let anyone = site
        .token(&Proof::None, &["repository:a:pull"])
        .await
        .json();
    let anyone = Proof::Bearer(anyone["token"].as_str().unwrap().to_owned());
    let remote = IpAddr::from([203, 0, 113, 7]);
    let local = IpAddr::from([127, 0, 0, 1]);
    for (proof, address, path, want) in [
        (&password, remote, "/v2/", 403),
        (&token, remote, "/v2/", 403),
        (&password, remote, "/token", 403),
        (&Proof::basic("alice", "wrong"), remote, "/v2/", 403),
        (&Proof::None, remote, "/v2/a/tags/list", 404),
        // A docker client asks for a token before it pulls, and has to get on with it.
        (&Proof::None, remote, "/token", 200),
        (&anyone, remote, "/v2/a/tags/list", 404),
        (&password, local, "/v2/", 200),
        (&token, local, "/v2/", 200),
    ] {
        let reply = send(&site.registry, "GET", path, proof, address, b"").await;
        assert_eq!(reply.status, want, "{proof:?} {address} {path}");
    }
}

#[tokio::test]
async fn password_is_compared_as_a_whole() {
    let password = "x".repeat(72);
    let hash = bcrypt::hash_with_salt(&password, 4, [3; 16]).unwrap();
    let hash = hash.format_for_version(bcrypt::Version::TwoY);
    let users = Users::parse(&format!("long:{hash}\n"), "users").unwrap();
    let site = Site::new(users, Policy::for_users(false));
    // bcrypt itself reads 72 bytes.
    for (password, want) in [(format!("{password}y"), 401), (password, 200)] {
        let proof = Proof::basic("long", &password);
        let reply = site.send("GET", "/v2/", &proof, b"").await;
        assert_eq!(reply.status, want, "{} bytes", password.len());
    }
}

#[tokio::test]
async fn token_without_the_scope_of_the_catalog_lists_its_own_repositories() {
    let site = Site::new(users(&["alice"]), Policy::for_users(true));
    let password = Proof::basic("alice", "ecila");
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    for name in ["a", "b"] {
        let path = format!("/v2/{name}/manifests/v1");
        assert_eq!(site.send("PUT", &path, &password, index).await.status, 201);
    }
    for (scopes, want) in [
        (&["repository:a:pull"][..], &["a"][..]),
        (&["registry:catalog:*"], &["a", "b"]),
        (&[], &[]),
    ] {
        let token = site.token(&password, scopes).await.json();
        let token = Proof::Bearer(token["token"].as_str().unwrap().to_owned());
        let reply = site.send("GET", "/v2/_catalog", &token, b"").await;
        assert_eq!(
            reply.json()["repositories"],
            serde_json::json!(want),
            "{scopes:?}"
        );
    }
}
