//! Keys of an issuer by URL: a key server over HTTPS with a private CA, whose keys change, and which
//! fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use s3layers_registry::{Policy, Users};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::{Instant, advance, pause, resume, sleep};
use tokio_rustls::TlsAcceptor;

use super::fixture::{Proof, Reply, SERVICE, Site};
use super::tls::Ca;
use super::tokens::{Issuer, seconds};

const TAGS: &str = "/v2/a/tags/list";

/// What a key server answers to `GET /keys`.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    /// Sends the client to another path, which has these keys.
    Redirect(Value),
    TooLarge(Value),
    /// Ends the connection.
    Nothing,
}

struct KeyServer {
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<String>>>,
    url: String,
    ca: Ca,
}

impl KeyServer {
    async fn start(answer: Answer) -> Self {
        let ca = Ca::new();
        let pair = ca.server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = KeyServer {
            answer: Arc::new(Mutex::new(answer)),
            requests: Arc::default(),
            url,
            ca,
        };
        let (answer, requests) = (server.answer.clone(), server.requests.clone());
        let url = server.url.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let mut stream = BufReader::new(tls);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                requests.lock().unwrap().push(path.clone());
                let answer = answer.lock().unwrap().clone();
                if let Some(text) = response(&url, &path, answer) {
                    stream.write_all(text.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                }
            }
        });
        server
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// A registry that trusts the issuer of this server. `keys`: a line of the policy.
    fn site(&self, keys: &str, ca: &Ca) -> Running {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &ca.pem).unwrap();
        let url = &self.url;
        let policy = format!(
            "[[issuers]]\nname = \"ci\"\nkind = \"oidc\"\nissuer = \"{url}\"\naudience = \"{SERVICE}\"\n\
             ca = \"ca.crt\"\n{keys}\n\
             [[rules]]\nsubjects = [\"token:ci:builder\"]\nrepositories = [\"a\"]\nactions = [\"pull\"]\n"
        );
        let policy = Policy::parse(&policy, "policy").unwrap();
        let site = Site::new(Users::default(), policy.with_folder(folder.path()));
        let authorizer = site.authorizer.clone();
        tokio::spawn(async move {
            let _folder = folder;
            authorizer.refresh_keys().await
        });
        Running(site)
    }

    fn token(&self, issuer: &Issuer, kid: &str) -> Proof {
        self.token_with(issuer, &json!({"alg": "ES256", "kid": kid}))
    }

    fn token_with(&self, issuer: &Issuer, header: &Value) -> Proof {
        let claims = json!({
            "iss": self.url, "aud": SERVICE, "sub": "builder", "exp": seconds() + 100_000,
        });
        Proof::Bearer(issuer.sign(header, &claims))
    }
}

fn response(url: &str, path: &str, answer: Answer) -> Option<String> {
    let ok = |body: &Value| {
        let body = body.to_string();
        let size = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}")
    };
    let body = match (path, answer) {
        (_, Answer::Nothing) => return None,
        ("/.well-known/openid-configuration", _) => {
            json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
        }
        ("/keys", Answer::Redirect(_)) => {
            let head = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
            return Some(head.to_owned());
        }
        (_, Answer::TooLarge(mut keys)) => {
            keys["padding"] = "x".repeat(1024 * 1024).into();
            keys
        }
        (_, Answer::Keys(keys) | Answer::Redirect(keys)) => keys,
    };
    Some(ok(&body))
}

struct Running(Site);

impl Running {
    async fn get(&self, proof: &Proof) -> Reply {
        self.0.send("GET", TAGS, proof, b"").await
    }

    /// How long it takes until a request with this token gets this status.
    async fn time_until(&self, proof: &Proof, status: u16) -> Duration {
        let begun = Instant::now();
        loop {
            let reply = self.get(proof).await;
            if reply.status == status {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{reply:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The keys of an issuer, the first of which has this name.
fn keys_of(issuer: &Issuer, kid: &str) -> Value {
    let mut keys = issuer.keys();
    keys["keys"][0]["kid"] = kid.into();
    keys
}

/// Lets time pass while no request is under way.
async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn keys_by_url_are_rotated() {
    for keys in ["", "keys = \"{url}/keys\""] {
        let (old, new) = (Issuer::new(), Issuer::new());
        let server = KeyServer::start(Answer::Keys(keys_of(&old, "old"))).await;
        let site = server.site(&keys.replace("{url}", &server.url), &server.ca);
        let (old_token, new_token) = (server.token(&old, "old"), server.token(&new, "new"));
        site.time_until(&old_token, 404).await;

        // A new key: its first request may be refused.
        let mut both = keys_of(&old, "old");
        let added = keys_of(&new, "new")["keys"][0].clone();
        both["keys"].as_array_mut().unwrap().push(added);
        server.set(Answer::Keys(both));
        let took = site.time_until(&new_token, 404).await;
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(site.get(&old_token).await.status, 404);

        // A removed key: refused without a token that names it.
        server.set(Answer::Keys(keys_of(&new, "new")));
        pass(Duration::from_secs(590)).await;
        let took = site.time_until(&old_token, 401).await;
        assert!(took < Duration::from_secs(12), "{took:?}");
        assert_eq!(site.get(&new_token).await.status, 404);
    }
}

/// A set may name no keys, and a new key may be of another algorithm.
#[tokio::test]
async fn new_key_without_a_name_is_read_soon() {
    for algorithm in ["ES256", "EdDSA"] {
        let (old, new) = (Issuer::new(), Issuer::new());
        let nameless = |issuer: &Issuer, index: usize| {
            let mut key = issuer.keys()["keys"][index].clone();
            key.as_object_mut().unwrap().remove("kid");
            Answer::Keys(json!({"keys": [key]}))
        };
        let server = KeyServer::start(nameless(&old, 0)).await;
        let site = server.site(&format!("keys = \"{}/keys\"", server.url), &server.ca);
        let old_token = server.token_with(&old, &json!({"alg": "ES256"}));
        site.time_until(&old_token, 404).await;

        server.set(nameless(&new, usize::from(algorithm == "EdDSA")));
        let new_token = server.token_with(&new, &json!({"alg": algorithm}));
        assert_eq!(site.get(&new_token).await.status, 401);
        pass(Duration::from_secs(9)).await;
        let took = site.time_until(&new_token, 404).await;
        assert!(took < Duration::from_secs(12), "{algorithm}: {took:?}");
        assert_eq!(site.get(&old_token).await.status, 401);
    }
}

#[tokio::test]
async fn unknown_keys_are_asked_for_once_in_nine_seconds() {
    let issuer = Issuer::new();
    let server = KeyServer::start(Answer::Keys(keys_of(&issuer, "one"))).await;
    let site = server.site(&format!("keys = \"{}/keys\"", server.url), &server.ca);
    site.time_until(&server.token(&issuer, "one"), 404).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        let unknown = server.token(&issuer, "unknown");
        assert_eq!(site.get(&unknown).await.status, 401);
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn without_a_key_server_nothing_is_open() {
    let issuer = Issuer::new();
    let server = KeyServer::start(Answer::Nothing).await;
    let keys = format!("keys = \"{}/keys\"", server.url);
    let site = server.site(&keys, &server.ca);
    let token = server.token(&issuer, "one");
    sleep(Duration::from_secs(2)).await;
    let reply = site.get(&token).await;
    assert_eq!((reply.status, &*reply.code()), (503, "UNAVAILABLE"));
    // The same where its certificate is of another CA.
    server.set(Answer::Keys(keys_of(&issuer, "one")));
    let stranger = server.site(&keys, &Ca::new());
    site.time_until(&token, 404).await;
    assert_eq!(stranger.get(&token).await.status, 503);

    // The keys that were read last are good for a day, while the server fails.
    let other = Issuer::new();
    for answer in [
        Answer::Redirect(keys_of(&other, "one")),
        Answer::TooLarge(keys_of(&other, "one")),
        Answer::Nothing,
    ] {
        server.set(answer);
        let before = server.requests();
        pass(Duration::from_secs(5 * 3600)).await;
        let begun = Instant::now();
        while server.requests() == before {
            assert!(begun.elapsed() < Duration::from_secs(60));
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(500)).await;
        assert_eq!(site.get(&token).await.status, 404);
    }
    pass(Duration::from_secs(10 * 3600)).await;
    assert_eq!(site.get(&token).await.status, 503);
}

#[tokio::test]
async fn key_server_that_answers_without_keys_has_revoked_them() {
    let issuer = Issuer::new();
    let server = KeyServer::start(Answer::Keys(keys_of(&issuer, "one"))).await;
    let site = server.site(&format!("keys = \"{}/keys\"", server.url), &server.ca);
    let token = server.token(&issuer, "one");
    site.time_until(&token, 404).await;
    server.set(Answer::Keys(json!({"keys": []})));
    pass(Duration::from_secs(600)).await;
    site.time_until(&token, 503).await;
}
