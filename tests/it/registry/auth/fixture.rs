//! A registry with an authorizer, called without a network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use s3layers::{MemoryLayerService, RepositoryService};
use s3layers_registry::{
    AuthSettings, ClientCertificate, Options, Peer, Policy, PolicyAuthorizer, Registry, SecretKey,
    Users, router,
};
use serde_json::Value;

pub const REALM: &str = "https://registry.example.com/token";
pub const SERVICE: &str = "registry.example.com";

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Path and query of `Location`.
    pub fn location(&self) -> String {
        let location = self.header("location").unwrap();
        location[location.find("/v2/").unwrap()..].to_owned()
    }
}

/// What a client proves who it is with.
#[derive(Clone, Debug)]
pub enum Proof {
    None,
    Basic(String, String),
    Bearer(String),
    Certificate(String),
}

impl Proof {
    pub fn basic(user: &str, password: &str) -> Self {
        Proof::Basic(user.to_owned(), password.to_owned())
    }
}

pub fn settings() -> AuthSettings {
    AuthSettings {
        realm: REALM.to_owned(),
        token_server: None,
        service: SERVICE.to_owned(),
        secret: SecretKey::new(&[7; 32]).unwrap(),
        token_lifetime: Duration::from_secs(300),
        upload_grace: Duration::from_secs(24 * 3600),
        plain_credentials: false,
    }
}

/// Users whose password is their name backwards.
pub fn users(names: &[&str]) -> Users {
    let lines = names.iter().map(|name| {
        let password: String = name.chars().rev().collect();
        let hash = bcrypt::hash_with_salt(password, 4, [3; 16]).unwrap();
        format!(
            "{name}:{}\n",
            hash.format_for_version(bcrypt::Version::TwoY)
        )
    });
    Users::parse(&lines.collect::<String>(), "users").unwrap()
}

pub struct Site {
    /// Without an authorizer.
    pub open: Registry,
    pub registry: Registry,
    pub authorizer: Arc<PolicyAuthorizer>,
}

impl Site {
    pub fn new(users: Users, policy: Policy) -> Self {
        Site::with(settings(), users, policy)
    }

    pub fn with(settings: AuthSettings, users: Users, policy: Policy) -> Self {
        let service: Arc<dyn RepositoryService> = Arc::new(MemoryLayerService::new());
        let open = router(service, Options::default());
        let authorizer = Arc::new(PolicyAuthorizer::new(settings, users, policy));
        let registry = open.clone().with_authorizer(authorizer.clone());
        Site {
            open,
            registry,
            authorizer,
        }
    }

    pub async fn send(&self, method: &str, path: &str, proof: &Proof, body: &[u8]) -> Reply {
        let address = IpAddr::from([127, 0, 0, 1]);
        send(&self.registry, method, path, proof, address, body).await
    }

    /// A token of the registry for these scopes.
    pub async fn token(&self, proof: &Proof, scopes: &[&str]) -> Reply {
        let scopes: Vec<_> = scopes
            .iter()
            .map(|scope| format!("&scope={scope}"))
            .collect();
        let path = format!("/token?service={SERVICE}{}", scopes.concat());
        self.send("GET", &path, proof, b"").await
    }
}

pub async fn send(
    registry: &Registry,
    method: &str,
    path: &str,
    proof: &Proof,
    address: IpAddr,
    body: &[u8],
) -> Reply {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .extension(Peer(address));
    match proof {
        Proof::None => {}
        Proof::Basic(user, password) => {
            let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {pair}"));
        }
        Proof::Bearer(token) => {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Proof::Certificate(name) => request = request.extension(ClientCertificate::new(name)),
    }
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body)))
        .unwrap();
    let response = registry.handle(request).await;
    let (parts, body) = response.into_parts();
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}
