//! Tokens of other issuers, and what is wrong with tokens and passwords.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use s3layers_registry::{Policy, Users};
use serde_json::{Value, json};

use super::fixture::{Proof, REALM, SERVICE, Site, users};

const POLICY: &str = r#"
[[issuers]]
name = "ci"
kind = "oidc"
issuer = "https://ci.example.com"
audience = "registry.example.com"
keys = "keys.json"
algorithms = ["ES256"]
[issuers.groups]
deployers = { ref = "refs/heads/*" }

[[issuers]]
name = "hub"
kind = "docker"
issuer = "https://auth.example.com"
audience = "registry.example.com"
keys = "keys.json"

[[rules]]
subjects = ["group:deployers"]
repositories = ["deployed/*"]
actions = ["push", "pull"]

[[rules]]
subjects = ["token:ci:repo:example/a:*"]
repositories = ["by-subject"]
actions = ["pull"]
"#;

/// Signs tokens.
pub(super) struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl Issuer {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Issuer {
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    pub(super) fn keys(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(self.ed.public_key())},
            {"kty": "oct", "kid": "secret", "k": encode([7; 32])},
            {"kty": "RSA", "kid": "short", "n": encode([255; 128]), "e": "AQAB"},
            {"kty": "unknown"},
        ]})
    }

    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                let random = SystemRandom::new();
                let signature = self.ec.sign(&random, signed.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
            Some("EdDSA") => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            // With the public key as the secret: an old attack.
            Some("HS256") => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.ec.public_key().as_ref());
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", encode(signature))
    }
}

/// A site with the keys of an issuer, which are read while it lives.
struct Setting {
    site: Site,
    folder: tempfile::TempDir,
    refreshing: tokio::task::JoinHandle<std::convert::Infallible>,
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.refreshing.abort();
    }
}

impl Setting {
    fn write(&self, issuer: &Issuer) {
        std::fs::write(
            self.folder.path().join("keys.json"),
            issuer.keys().to_string(),
        )
        .unwrap();
    }

    async fn new(users: Users, issuer: Option<&Issuer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = Policy::parse(POLICY, "policy")
            .unwrap()
            .with_folder(folder.path());
        let site = Site::new(users, policy);
        if let Some(issuer) = issuer {
            let file = folder.path().join("keys.json");
            std::fs::write(file, issuer.keys().to_string()).unwrap();
        }
        let authorizer = site.authorizer.clone();
        let refreshing = tokio::spawn(async move { authorizer.refresh_keys().await });
        Setting {
            site,
            folder,
            refreshing,
        }
    }

    /// Waits until the status of this request is `status`.
    async fn until(&self, path: &str, proof: &Proof, status: u16) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let reply = self.site.send("GET", path, proof, b"").await;
            if reply.status == status {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{reply:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "ec"})
}

fn ci_claims() -> Value {
    json!({
        "iss": "https://ci.example.com", "aud": SERVICE, "sub": "repo:example/a:main",
        "ref": "refs/heads/main", "iat": seconds(), "exp": seconds() + 300,
    })
}

fn hub_claims(access: Value) -> Value {
    json!({
        "iss": "https://auth.example.com", "aud": ["other", SERVICE], "sub": "alice",
        "exp": seconds() + 300, "access": access,
    })
}

#[tokio::test]
async fn only_right_tokens_are_accepted() {
    let issuer = Issuer::new();
    let setting = Setting::new(Users::default(), Some(&issuer)).await;
    let tags = "/v2/deployed/a/tags/list";
    let right = Proof::Bearer(issuer.sign(&header(), &ci_claims()));
    setting.until(tags, &right, 404).await;
    let other = Issuer::new();
    let with = |key: &str, value: Value| {
        let mut claims = ci_claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value;
        }
        issuer.sign(&header(), &claims)
    };
    let headed = |header: Value| issuer.sign(&header, &ci_claims());
    let jwk = other.keys()["keys"][0].clone();
    let mut tampered = issuer.sign(&header(), &ci_claims());
    let claims = tampered.split('.').nth(1).unwrap().to_owned();
    let mut changed = ci_claims();
    changed["sub"] = json!("root");
    tampered = tampered.replace(&claims, &encode(changed.to_string()));
    for (what, token, message) in [
        ("no token", String::new(), "malformed"),
        ("garbage", "eyJ.eyJ.x".to_owned(), "malformed"),
        ("tampered", tampered, "signature"),
        (
            "another key",
            other.sign(&header(), &ci_claims()),
            "signature",
        ),
        (
            "unknown kid",
            headed(json!({"alg": "ES256", "kid": "x"})),
            "unknown key",
        ),
        (
            "no signature",
            headed(json!({"alg": "none", "kid": "ec"})),
            "algorithm",
        ),
        (
            "HS256",
            headed(json!({"alg": "HS256", "kid": "ec"})),
            "algorithm",
        ),
        (
            "HS256 of the set",
            headed(json!({"alg": "HS256", "kid": "secret"})),
            "algorithm",
        ),
        (
            "not in the list",
            headed(json!({"alg": "EdDSA", "kid": "ed"})),
            "algorithm",
        ),
        (
            "crit",
            headed(json!({"alg": "ES256", "kid": "ec", "crit": ["x"]})),
            "critical",
        ),
        (
            "own key in the header",
            other.sign(&json!({"alg": "ES256", "jwk": jwk}), &ci_claims()),
            "signature",
        ),
        (
            "issuer",
            with("iss", json!("https://evil.example.com")),
            "issuer",
        ),
        ("no issuer", with("iss", Value::Null), "issuer"),
        ("audience", with("aud", json!("another")), "audience"),
        ("no audience", with("aud", Value::Null), "audience"),
        (
            "part of the audience",
            with("aud", json!("registry.example.com.evil")),
            "audience",
        ),
        ("no expiry", with("exp", Value::Null), "expiry"),
        ("expired", with("exp", json!(seconds() - 61)), "expired"),
        (
            "expiry as text",
            with("exp", json!("9999999999")),
            "malformed",
        ),
        (
            "not yet",
            with("nbf", json!(seconds() + 100)),
            "not valid yet",
        ),
        (
            "from the future",
            with("iat", json!(seconds() + 100)),
            "not valid yet",
        ),
        ("too long", with("x", json!("y".repeat(16_000))), "16 KiB"),
    ] {
        let reply = setting
            .site
            .send("GET", tags, &Proof::Bearer(token), b"")
            .await;
        assert_eq!(reply.status, 401, "{what}: {reply:?}");
        let body = reply.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(body.contains(message), "{what}: {body}");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with(&format!("Bearer realm=\"{REALM}\"")),
            "{challenge}"
        );
    }
    for token in [
        with("exp", json!(seconds() - 30)),
        with("exp", json!(seconds() as f64 + 0.5)),
        with("nbf", json!(seconds() + 30)),
        with("aud", json!(["x", SERVICE])),
        headed(json!({"alg": "ES256"})),
    ] {
        let reply = setting
            .site
            .send("GET", tags, &Proof::Bearer(token), b"")
            .await;
        assert_eq!(reply.status, 404, "{reply:?}");
    }
}

#[tokio::test]
async fn identity_of_a_ci_system_has_what_the_policy_gives_it() {
    let issuer = Issuer::new();
    let setting = Setting::new(Users::default(), Some(&issuer)).await;
    let token = issuer.sign(&header(), &ci_claims());
    let mut claims = ci_claims();
    claims["ref"] = json!("refs/tags/x");
    let other = issuer.sign(&header(), &claims);
    let uploads = "/v2/deployed/a/blobs/uploads/";
    setting
        .until(
            "/v2/deployed/a/tags/list",
            &Proof::Bearer(token.clone()),
            404,
        )
        .await;
    // As in a login: the token is the password, under any user name.
    for proof in [Proof::Bearer(token.clone()), Proof::basic("ci", &token)] {
        let reply = setting.site.send("POST", uploads, &proof, b"").await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let scope = "repository:deployed/a:pull,push,delete";
        let reply = setting
            .site
            .token(&proof, &[scope, "repository:x:pull"])
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let token = Proof::Bearer(reply.json()["token"].as_str().unwrap().to_owned());
        assert_eq!(
            setting.site.send("POST", uploads, &token, b"").await.status,
            202
        );
        let reply = setting
            .site
            .send("GET", "/v2/x/tags/list", &token, b"")
            .await;
        assert_eq!(reply.status, 401);
        // Such a token gets no further token.
        assert_eq!(setting.site.token(&token, &[scope]).await.status, 401);
    }
    let other = Proof::Bearer(other);
    let reply = setting.site.send("POST", uploads, &other, b"").await;
    assert_eq!(reply.status, 401);
    let reply = setting
        .site
        .send("GET", "/v2/by-subject/tags/list", &other, b"")
        .await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn token_of_a_docker_token_server_says_what_it_grants() {
    let issuer = Issuer::new();
    let setting = Setting::new(Users::default(), Some(&issuer)).await;
    let header = json!({"alg": "EdDSA", "kid": "ed"});
    let access = json!([
        {"type": "repository", "name": "a/b", "actions": ["pull"]},
        {"type": "repository", "name": "a/b", "actions": ["push"]},
        {"type": "repository", "name": "c", "actions": ["*"]},
        {"type": "repository(plugin)", "name": "d", "actions": ["*"]},
        {"type": "repository", "name": "E", "actions": ["*"]},
        "malformed",
    ]);
    let token = issuer.sign(&header, &hub_claims(access));
    let proof = Proof::Bearer(token);
    setting.until("/v2/a/b/tags/list", &proof, 404).await;
    for (method, path, want) in [
        ("GET", "/v2/", 200),
        ("GET", "/v2/a/b/tags/list", 404),
        ("POST", "/v2/a/b/blobs/uploads/", 202),
        ("DELETE", "/v2/a/b/manifests/x", 401),
        ("DELETE", "/v2/c/manifests/x", 404),
        ("GET", "/v2/d/tags/list", 401),
        ("GET", "/v2/deployed/a/tags/list", 401),
        ("GET", "/v2/_catalog", 200),
    ] {
        let reply = setting.site.send(method, path, &proof, b"").await;
        assert_eq!(reply.status, want, "{method} {path}: {reply:?}");
    }
    // What the policy says of the subject does not count, and no token of ours is issued for it.
    assert_eq!(
        setting
            .site
            .token(&proof, &["repository:c:pull"])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn keys_are_rotated() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let setting = Setting::new(Users::default(), None).await;
    let tags = "/v2/deployed/a/tags/list";
    let of = |issuer: &Issuer| Proof::Bearer(issuer.sign(&header(), &ci_claims()));
    // Without keys nothing is open.
    let reply = setting.site.send("GET", tags, &of(&old), b"").await;
    assert_eq!(
        (reply.status, reply.code()),
        (503, "UNAVAILABLE".to_owned())
    );
    setting.write(&old);
    setting.until(tags, &of(&old), 404).await;
    setting.write(&new);
    setting.until(tags, &of(&new), 404).await;
    assert_eq!(
        setting.site.send("GET", tags, &of(&old), b"").await.status,
        401
    );
    // A file that is wrong leaves what was read before.
    let file = setting.folder.path().join("keys.json");
    std::fs::write(&file, "{}").unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(
        setting.site.send("GET", tags, &of(&new), b"").await.status,
        404
    );
    // One without keys has revoked them, and so has one that was removed.
    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    setting.until(tags, &of(&new), 503).await;
    setting.write(&new);
    setting.until(tags, &of(&new), 404).await;
    std::fs::remove_file(&file).unwrap();
    setting.until(tags, &of(&new), 503).await;
}

#[tokio::test]
async fn own_token_ends_with_what_vouched_for_it() {
    let issuer = Issuer::new();
    let setting = Setting::new(users(&["alice"]), Some(&issuer)).await;
    let (site, tags) = (&setting.site, "/v2/deployed/a/tags/list");
    let job = Proof::Bearer(issuer.sign(&header(), &ci_claims()));
    setting.until(tags, &job, 404).await;
    let policy = |text: &str| {
        let policy = Policy::parse(text, "policy").unwrap();
        policy.with_folder(setting.folder.path())
    };
    let status = async |proof: &Proof| site.send("GET", tags, proof, b"").await.status;
    let own = async |proof: &Proof| {
        let reply = site.token(proof, &["repository:deployed/a:pull"]).await;
        Proof::Bearer(reply.json()["token"].as_str().unwrap().to_owned())
    };
    let token = own(&job).await;
    assert_eq!(status(&token).await, 404);
    // Another rule, and where the keys are, say nothing of who the client is.
    site.authorizer
        .replace_policy(policy(&POLICY.replace("by-subject", "other")));
    assert_eq!(status(&token).await, 404);
    for changed in [
        POLICY.replace("refs/heads/*", "refs/tags/*"),
        POLICY.replacen("registry.example.com", "other.example.com", 1),
        POLICY
            .replacen("\"ci\"", "\"other\"", 1)
            .replace("token:ci", "token:other"),
    ] {
        site.authorizer.replace_policy(policy(&changed));
        assert_eq!(status(&token).await, 401, "{changed}");
    }
    site.authorizer.replace_policy(Policy::for_users(false));
    let alice = Proof::basic("alice", "ecila");
    let token = own(&alice).await;
    assert_eq!(status(&token).await, 404);
    let hash = bcrypt::hash("another", 4).unwrap();
    let users = Users::parse(&format!("alice:{hash}"), "users").unwrap();
    site.authorizer.replace_users(users);
    assert_eq!(status(&token).await, 401);
}

#[tokio::test]
async fn challenges_lead_to_the_token_endpoint() {
    let site = Site::new(users(&["alice"]), Policy::for_users(true));
    let bearer = format!("Bearer realm=\"{REALM}\",service=\"{SERVICE}\"");
    let with_scope = |scope: &str| format!("{bearer},scope=\"{scope}\"");
    for (method, path, want) in [
        ("GET", "/v2/", bearer.clone()),
        ("GET", "/v2/_catalog", with_scope("registry:catalog:*")),
        (
            "POST",
            "/v2/a/b/blobs/uploads/",
            with_scope("repository:a/b:pull,push"),
        ),
        (
            "PUT",
            "/v2/a/manifests/x",
            with_scope("repository:a:pull,push"),
        ),
        (
            "DELETE",
            "/v2/a/manifests/x",
            with_scope("repository:a:delete"),
        ),
    ] {
        let reply = site.send(method, path, &Proof::None, b"").await;
        assert_eq!(reply.status, 401);
        assert_eq!(
            reply.header("www-authenticate"),
            Some(want.as_str()),
            "{path}"
        );
        assert_eq!(reply.code(), "UNAUTHORIZED");
    }
    let reply = site.token(&Proof::basic("alice", "wrong"), &[]).await;
    assert_eq!(reply.status, 401);
    let basic = format!("Basic realm=\"{SERVICE}\"");
    assert_eq!(reply.header("www-authenticate"), Some(basic.as_str()));
    // A subset of what was asked for is no error.
    let reply = site.token(&Proof::None, &["repository:a:pull,push"]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let reply = reply.json();
    assert_eq!(reply["token"], reply["access_token"]);
    assert_eq!(reply["expires_in"], 300);
    let token = Proof::Bearer(reply["token"].as_str().unwrap().to_owned());
    assert_eq!(site.send("GET", "/v2/", &token, b"").await.status, 200);
    assert_eq!(
        site.send("GET", "/v2/a/tags/list", &token, b"")
            .await
            .status,
        404
    );
    let reply = site.send("POST", "/v2/a/blobs/uploads/", &token, b"").await;
    assert_eq!(reply.status, 401);
    // Without anonymous pull there is no anonymous token.
    site.authorizer.replace_policy(Policy::for_users(false));
    assert_eq!(site.token(&Proof::None, &[]).await.status, 401);
    let reply = site.send("GET", "/v2/a/tags/list", &Proof::None, b"").await;
    let want = with_scope("repository:a:pull");
    assert_eq!(reply.header("www-authenticate"), Some(want.as_str()));
    // A removed user has no token any more.
    let alice = Proof::basic("alice", "ecila");
    let reply = site.token(&alice, &["repository:a:*"]).await.json();
    let token = Proof::Bearer(reply["token"].as_str().unwrap().to_owned());
    assert_eq!(
        site.send("GET", "/v2/a/tags/list", &token, b"")
            .await
            .status,
        404
    );
    site.authorizer.replace_users(users(&["bob"]));
    for proof in [token, alice] {
        assert_eq!(
            site.send("GET", "/v2/a/tags/list", &proof, b"")
                .await
                .status,
            401
        );
    }
}
