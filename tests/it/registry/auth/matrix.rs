//! Every kind of client against every repository and endpoint. What is expected stands in tables of
//! this file, which share nothing with the policy's evaluation.

use std::collections::BTreeSet;
use std::net::IpAddr;

use s3layers::{Algorithm, Digest};
use s3layers_registry::{Policy, SecretKey};

use super::fixture::{Proof, Site, send, settings, users};

const POLICY: &str = r#"
[groups]
developers = ["user:alice", "user:bob"]

[[rules]]
subjects = ["everyone"]
repositories = ["library/*", "public"]
actions = ["pull"]

[[rules]]
subjects = ["group:developers"]
repositories = ["team/**"]
actions = ["pull", "push"]

[[rules]]
subjects = ["user:alice"]
repositories = ["home/alice"]
actions = ["*"]

[[rules]]
subjects = ["user:bob"]
repositories = ["home/bob"]
actions = ["pull", "push"]

[[rules]]
subjects = ["certificate:*.build.example.com"]
repositories = ["team/*"]
actions = ["push"]

[[rules]]
subjects = ["user:root"]
repositories = ["**"]
actions = ["*"]
"#;

/// Each repository, and what anonymous clients, alice, bob, root and the builder may do there: `r`
/// pull, `w` push, `d` delete.
const GRID: &[(&str, [&str; 5])] = &[
    ("library/alpine", ["r", "r", "r", "rwd", "r"]),
    ("library/private/x", ["", "", "", "rwd", ""]),
    ("team/a", ["", "rw", "rw", "rwd", "w"]),
    ("team/a/b", ["", "rw", "rw", "rwd", ""]),
    ("team", ["", "", "", "rwd", ""]),
    ("home/alice", ["", "rwd", "", "rwd", ""]),
    ("home/bob", ["", "", "rw", "rwd", ""]),
    ("other", ["", "", "", "rwd", ""]),
    ("public", ["r", "r", "r", "rwd", "r"]),
    ("public2", ["", "", "", "rwd", ""]),
    (ABSENT, ["", "", "", "rwd", ""]),
];
/// A repository that has nothing.
const ABSENT: &str = "absent/repository";

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Means {
    /// Without credentials.
    Nothing,
    Password,
    Certificate,
    /// With a token of the registry for all actions.
    Token,
    /// With a token for pull.
    PullToken,
    /// With something that is refused everywhere.
    Invalid(Invalid),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Invalid {
    WrongPassword,
    UnknownUser,
    Garbage,
    /// Signed with another key.
    Forged,
}

/// With its column of the grid.
const CLIENTS: &[(Option<&str>, Means, usize)] = &[
    (None, Means::Nothing, 0),
    (None, Means::Token, 0),
    (Some("alice"), Means::Password, 1),
    (Some("alice"), Means::Token, 1),
    (Some("alice"), Means::PullToken, 1),
    (Some("bob"), Means::Password, 2),
    (Some("bob"), Means::Token, 2),
    (Some("root"), Means::Password, 3),
    (Some("root"), Means::Token, 3),
    (Some("root"), Means::PullToken, 3),
    (Some("a.build.example.com"), Means::Certificate, 4),
    (Some("root"), Means::Invalid(Invalid::WrongPassword), 3),
    (Some("mallory"), Means::Invalid(Invalid::UnknownUser), 3),
    (Some("root"), Means::Invalid(Invalid::Garbage), 3),
    (Some("root"), Means::Invalid(Invalid::Forged), 3),
];

/// Method, path below the repository, and the right that it needs. `{blob}` is stored, `{none}` not.
const ENDPOINTS: &[(&str, &str, char)] = &[
    ("GET", "blobs/{blob}", 'r'),
    ("HEAD", "blobs/{blob}", 'r'),
    ("GET", "blobs/{none}", 'r'),
    ("HEAD", "blobs/{none}", 'r'),
    ("GET", "manifests/latest", 'r'),
    ("HEAD", "manifests/latest", 'r'),
    ("GET", "manifests/{none}", 'r'),
    ("HEAD", "manifests/{none}", 'r'),
    ("GET", "tags/list", 'r'),
    ("GET", "referrers/{none}", 'r'),
    ("PUT", "manifests/new", 'w'),
    ("PUT", "manifests/{none}?tag=new", 'w'),
    ("POST", "blobs/uploads/", 'w'),
    ("POST", "blobs/uploads/?digest={none}", 'w'),
    ("POST", "blobs/uploads/?mount={blob}", 'w'),
    ("PATCH", "{upload}", 'w'),
    ("GET", "{upload}", 'w'),
    ("HEAD", "{upload}", 'w'),
    ("PUT", "{upload}&digest={none}", 'w'),
    ("DELETE", "{upload}", 'w'),
    ("DELETE", "blobs/{none}", 'd'),
    ("DELETE", "manifests/absent", 'd'),
    ("DELETE", "manifests/{none}", 'd'),
];

struct Matrix {
    site: Site,
    forger: Site,
    blob: Digest,
    cells: usize,
    holes: Vec<String>,
}

fn rights(repository: &str, column: usize, means: Means) -> BTreeSet<char> {
    let row = GRID.iter().find(|(name, _)| *name == repository).unwrap();
    let all = row.1[column].chars();
    all.filter(|right| means != Means::PullToken || *right == 'r')
        .collect()
}

impl Matrix {
    async fn new() -> Self {
        let policy = || Policy::parse(POLICY, "policy").unwrap();
        let users = || users(&["alice", "bob", "root"]);
        let mut other = settings();
        other.secret = SecretKey::new(&[8; 32]).unwrap();
        let matrix = Matrix {
            site: Site::new(users(), policy()),
            forger: Site::with(other, users(), policy()),
            blob: Digest::of(Algorithm::Sha256, b"content"),
            cells: 0,
            holes: Vec::new(),
        };
        for (name, _) in GRID.iter().filter(|(name, _)| *name != ABSENT) {
            let path = format!("/v2/{name}/blobs/uploads/?digest={}", matrix.blob);
            let address = IpAddr::from([127, 0, 0, 1]);
            let open = &matrix.site.open;
            let reply = send(open, "POST", &path, &Proof::None, address, b"content").await;
            assert_eq!(reply.status, 201);
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"a/b","digest":"{0}","size":7}},"layers":[]}}"#,
                matrix.blob
            );
            let path = format!("/v2/{name}/manifests/latest");
            let manifest = manifest.as_bytes();
            let reply = send(open, "PUT", &path, &Proof::None, address, manifest).await;
            assert_eq!(reply.status, 201, "{reply:?}");
        }
        matrix
    }

    /// What this client sends, with a token for these scopes where it uses one.
    async fn proof(&self, user: Option<&str>, means: Means, scopes: &[String]) -> Proof {
        let password = |user: &str| user.chars().rev().collect::<String>();
        let basic = match user {
            Some(user) => Proof::basic(user, &password(user)),
            None => Proof::None,
        };
        let site = match means {
            Means::Nothing => return Proof::None,
            Means::Password => return basic,
            Means::Certificate => return Proof::Certificate(user.unwrap().to_owned()),
            Means::Invalid(Invalid::WrongPassword) => return Proof::basic("root", "wrong"),
            Means::Invalid(Invalid::UnknownUser) => return Proof::basic("mallory", "yrollam"),
            Means::Invalid(Invalid::Garbage) => return Proof::Bearer("a.b.c".to_owned()),
            Means::Invalid(Invalid::Forged) => &self.forger,
            Means::Token | Means::PullToken => &self.site,
        };
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        let reply = site.token(&basic, &scopes).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        Proof::Bearer(reply.json()["token"].as_str().unwrap().to_owned())
    }

    /// Sends a request and compares. `is_allowed`: what the tables say.
    async fn cell(
        &mut self,
        (method, path): (&str, &str),
        (means, proof): (Means, &Proof),
        is_allowed: bool,
    ) -> u16 {
        self.cells += 1;
        // Each request from another address: attempts are limited by address.
        let [_, b, c, d] = u32::try_from(self.cells).unwrap().to_be_bytes();
        let address = IpAddr::from([127, b, c, d]);
        let reply = send(&self.site.registry, method, path, proof, address, b"").await;
        let challenge = reply.header("www-authenticate").unwrap_or_default();
        let is_right = match means {
            Means::Invalid(_) => reply.status == 401 && challenge.starts_with("Bearer realm="),
            _ if is_allowed => !matches!(reply.status, 401 | 403),
            Means::Nothing => reply.status == 401 && !challenge.contains("error="),
            Means::Password | Means::Certificate => reply.status == 403 && challenge.is_empty(),
            Means::Token | Means::PullToken => {
                reply.status == 401 && challenge.ends_with("error=\"insufficient_scope\"")
            }
        };
        let has_code = reply.status < 401 || method == "HEAD" || !reply.code().is_empty();
        if !is_right || !has_code {
            let hole = format!("{means:?} {method} {path}: {}, {challenge}", reply.status);
            self.holes.push(hole);
        }
        reply.status
    }

    /// An upload of the client, or of root where the client may have none.
    async fn upload(&self, repository: &str, proof: &Proof) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let reply = self.site.send("POST", &path, proof, b"").await;
        if reply.status == 202 {
            return reply.location();
        }
        let root = Proof::basic("root", "toor");
        self.site.send("POST", &path, &root, b"").await.location()
    }

    async fn repository(
        &mut self,
        (user, means, column): (Option<&str>, Means, usize),
        name: &str,
    ) {
        let actions = if means == Means::PullToken {
            "pull"
        } else {
            "*"
        };
        let own = format!("repository:{name}:{actions}");
        let proof = self.proof(user, means, std::slice::from_ref(&own)).await;
        let allowed = rights(name, column, means);
        let is_invalid = matches!(means, Means::Invalid(_));
        let none = Digest::of(Algorithm::Sha256, b"not stored");
        let blob = self.blob.clone();
        for (method, path, right) in ENDPOINTS {
            let path = path.replace("{blob}", &blob.to_string());
            let path = path.replace("{none}", &none.to_string());
            let path = match path.strip_prefix("{upload}") {
                Some(rest) => format!("{}{rest}", self.upload(name, &proof).await),
                None => format!("/v2/{name}/{path}"),
            };
            let is_allowed = !is_invalid && allowed.contains(right);
            self.cell((method, &path), (means, &proof), is_allowed)
                .await;
        }
        // Root would mount into it, and it would not be absent any more.
        for (from, _) in GRID.iter().filter(|_| name != ABSENT) {
            let other = format!("repository:{from}:{actions}");
            let proof = self.proof(user, means, &[own.clone(), other]).await;
            let path = format!("/v2/{name}/blobs/uploads/?mount={blob}&from={from}");
            let is_allowed = !is_invalid && allowed.contains(&'w');
            let status = self
                .cell(("POST", &path), (means, &proof), is_allowed)
                .await;
            let is_mounted = *from != ABSENT && rights(from, column, means).contains(&'r');
            let expected = if is_mounted { 201 } else { 202 };
            if is_allowed && status != expected {
                self.holes.push(format!(
                    "{user:?} {means:?} {path}: {status}, not {expected}"
                ));
            }
        }
    }

    async fn catalog(&mut self, (user, means, column): (Option<&str>, Means, usize)) {
        let scope = "registry:catalog:*".to_owned();
        let proof = self.proof(user, means, &[scope]).await;
        let is_known = !matches!(means, Means::Invalid(_) | Means::Nothing);
        for path in ["/v2/", "/v2/_catalog"] {
            self.cell(("GET", path), (means, &proof), is_known).await;
        }
        if !is_known {
            return;
        }
        let names = GRID
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| *name != ABSENT);
        // A token for the catalog has no scope for a repository; the policy counts.
        let column_means = if means == Means::PullToken {
            Means::Token
        } else {
            means
        };
        let may_read = |name: &&str| rights(name, column, column_means).contains(&'r');
        let mut want: Vec<_> = names.filter(may_read).collect();
        want.sort_unstable();
        for limit in [1, 2, 1000] {
            let mut got = Vec::new();
            let mut next = Some(format!("/v2/_catalog?n={limit}"));
            while let Some(path) = next {
                let reply = self.site.send("GET", &path, &proof, b"").await;
                let page = reply.json()["repositories"].as_array().unwrap().clone();
                assert!(page.len() <= limit);
                got.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
                next = reply.header("link").map(|link| {
                    link.trim_start_matches('<')
                        .split('>')
                        .next()
                        .unwrap()
                        .to_owned()
                });
            }
            if got != want {
                self.holes
                    .push(format!("{user:?} {means:?} catalog: {got:?}, not {want:?}"));
            }
        }
    }
}

#[tokio::test]
async fn every_client_may_do_what_the_tables_say() {
    let mut matrix = Matrix::new().await;
    for client in CLIENTS {
        matrix.catalog(*client).await;
        for (name, _) in GRID {
            matrix.repository(*client, name).await;
        }
    }
    assert!(matrix.cells >= 5000, "{}", matrix.cells);
    assert_eq!(matrix.holes, Vec::<String>::new(), "of {}", matrix.cells);
}
