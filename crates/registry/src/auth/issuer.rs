//! Issuers of tokens, as the policy file describes them. Pure.
//!
//! ```toml
//! [[issuers]]
//! name = "github"
//! kind = "oidc"                  # the policy decides; `docker`: the token's claim `access` decides
//! issuer = "https://token.actions.githubusercontent.com"
//! audience = "registry.example.com"
//! keys = "https://token.actions.githubusercontent.com/.well-known/jwks"   # or a file; default: discovery
//!
//! [issuers.groups]
//! deployers = { repository = "example/*", ref = "refs/heads/main" }
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::jwt::Algorithm;
use super::pattern::Pattern;

/// What is wrong at a place of the text.
pub(super) type Wrong = (Range<usize>, String);

/// A text is not what it has to be.
pub(super) fn is_not(text: &Spanned<String>, what: &str) -> Wrong {
    let what = format!("{:?} is not {what}", text.get_ref());
    (text.span(), what)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    name: Spanned<String>,
    kind: Spanned<String>,
    issuer: Spanned<String>,
    audience: String,
    keys: Option<Spanned<String>>,
    ca: Option<PathBuf>,
    algorithms: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    groups: BTreeMap<String, BTreeMap<String, Spanned<String>>>,
}

/// Whose word counts for what a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The issuer's: the claim `access` of Docker's token protocol.
    Docker,
    /// The policy's: the token only says who the client is.
    Oidc,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    File(PathBuf),
    /// Of a JWKS.
    Url(String),
    /// Of a document that names the URL of the JWKS.
    Discovery(String),
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) keys: KeySource,
    /// Certificates that the key server is checked with, besides those of the system.
    pub(super) ca: Option<PathBuf>,
    pub(super) algorithms: Vec<Algorithm>,
    groups: Groups,
}

impl Issuer {
    pub(super) fn of(raw: Spanned<RawIssuer>) -> Result<Self, Wrong> {
        let raw = raw.into_inner();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let name = raw.name.get_ref();
        if name.is_empty() || !name.bytes().all(is_name) {
            let what = "a name of letters, digits, '-', '_' and '.'";
            return Err(is_not(&raw.name, what));
        }
        let kind = match raw.kind.get_ref().as_str() {
            "docker" => Kind::Docker,
            "oidc" => Kind::Oidc,
            other => {
                let what = format!("kind is {other:?}; expected docker or oidc");
                return Err((raw.kind.span(), what));
            }
        };
        Ok(Issuer {
            name: name.clone(),
            kind,
            keys: key_source(raw.keys.as_ref(), &raw.issuer)?,
            issuer: raw.issuer.into_inner(),
            audience: raw.audience,
            ca: raw.ca,
            algorithms: algorithms(raw.algorithms.as_deref())?,
            groups: groups(raw.groups)?,
        })
    }

    /// Makes its files relative to this folder.
    pub(super) fn begin_in(&mut self, folder: &Path) {
        if let KeySource::File(file) = &mut self.keys {
            *file = folder.join(&file);
        }
        self.ca = self.ca.take().map(|ca| folder.join(ca));
    }

    /// Who may say what of a client, as text. It has no file names, and so is the same in every process.
    pub(super) fn definition(&self) -> String {
        let (kind, groups) = (self.kind, &self.groups);
        format!("{kind:?} {} {} {groups:?}", self.issuer, self.audience)
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|(name, _)| name == group)
    }

    /// The groups that these claims put a client into.
    pub(super) fn groups_of(&self, claims: &Map<String, Value>) -> Vec<String> {
        let matches = |(claim, pattern): &(String, Pattern)| match claims.get(claim) {
            Some(Value::String(value)) => pattern.matches(value),
            Some(Value::Array(values)) => {
                let mut values = values.iter().filter_map(Value::as_str);
                values.any(|value| pattern.matches(value))
            }
            _ => false,
        };
        let groups = self.groups.iter();
        let groups = groups.filter(|(_, claims)| claims.iter().all(matches));
        groups.map(|(name, _)| name.clone()).collect()
    }
}

fn key_source(
    keys: Option<&Spanned<String>>,
    issuer: &Spanned<String>,
) -> Result<KeySource, Wrong> {
    let Some(keys) = keys else {
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.get_ref().trim_end_matches('/')
        );
        check_https(&url, issuer)?;
        return Ok(KeySource::Discovery(url));
    };
    if !keys.get_ref().contains("://") {
        return Ok(KeySource::File(keys.get_ref().into()));
    }
    check_https(keys.get_ref(), keys)?;
    Ok(KeySource::Url(keys.get_ref().clone()))
}

fn check_https(url: &str, place: &Spanned<String>) -> Result<(), Wrong> {
    let uri: Option<http::Uri> = url.parse().ok();
    let is_https = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    if is_https {
        return Ok(());
    }
    let what = format!("keys are read from {url:?}; expected a file or a URL with https://");
    Err((place.span(), what))
}

fn algorithms(names: Option<&[Spanned<String>]>) -> Result<Vec<Algorithm>, Wrong> {
    let Some(names) = names else {
        return Ok(Algorithm::ALL.to_vec());
    };
    let parsed = names.iter().map(|name| {
        let what = "an algorithm; expected RS256, PS256, ES256, ES384 or EdDSA";
        Algorithm::parse(name.get_ref()).ok_or_else(|| is_not(name, what))
    });
    parsed.collect()
}

type Groups = Vec<(String, Vec<(String, Pattern)>)>;

fn groups(raw: BTreeMap<String, BTreeMap<String, Spanned<String>>>) -> Result<Groups, Wrong> {
    let mut groups = Vec::new();
    for (name, claims) in raw {
        let mut patterns = Vec::new();
        for (claim, text) in claims {
            let pattern = Pattern::parse(text.get_ref());
            let pattern = pattern.ok_or_else(|| is_not(&text, "a pattern of a claim"))?;
            patterns.push((claim, pattern));
        }
        groups.push((name, patterns));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Policy;
    use serde_json::json;

    const ISSUER: &str = r#"[[issuers]]
name = "ci"
kind = "oidc"
issuer = "https://ci.example.com"
audience = "registry"
[issuers.groups]
deployers = { repository = "example/*", ref = "refs/heads/main" }
everyone-there = {}
"#;

    #[test]
    fn claims_put_clients_into_groups() {
        let policy = Policy::parse(ISSUER, "p").unwrap();
        let issuer = &policy.issuers[0];
        let discovery = "https://ci.example.com/.well-known/openid-configuration";
        assert_eq!(issuer.keys, KeySource::Discovery(discovery.to_owned()));
        for (claims, want) in [
            (
                json!({"repository": "example/a", "ref": "refs/heads/main"}),
                true,
            ),
            (
                json!({"repository": ["x", "example/a"], "ref": "refs/heads/main"}),
                true,
            ),
            (
                json!({"repository": "example/a/b", "ref": "refs/heads/main"}),
                false,
            ),
            (
                json!({"repository": "example/a", "ref": "refs/heads/other"}),
                false,
            ),
            (json!({"repository": "example/a"}), false),
            (json!({"repository": 1, "ref": "refs/heads/main"}), false),
        ] {
            let groups = issuer.groups_of(claims.as_object().unwrap());
            let is_deployer = groups.iter().any(|group| group == "deployers");
            assert_eq!(is_deployer, want, "{claims}");
            assert!(groups.iter().any(|group| group == "everyone-there"));
        }
    }

    #[test]
    fn errors_name_the_line() {
        for (from, to, want) in [
            ("\"ci\"", "\"c:i\"", "p:2: \"c:i\" is not a name"),
            (
                "oidc",
                "saml",
                "p:3: kind is \"saml\"; expected docker or oidc",
            ),
            ("https", "http", "p:4: keys are read from \"http://ci"),
            (
                "[issuers.groups]",
                "algorithms = [\"none\"]\n[issuers.groups]",
                "p:6: \"none\" is not an algorithm",
            ),
            (
                "[issuers.groups]",
                "algorithms = [\"HS256\"]\n[issuers.groups]",
                "p:6: \"HS256\" is not an algorithm",
            ),
            (
                "[issuers.groups]",
                "keys = \"http://x/y\"\n[issuers.groups]",
                "p:6: keys are read from \"http://x/y\"",
            ),
            ("audience", "audiance", "p:5: unknown field `audiance`"),
        ] {
            let error = Policy::parse(&ISSUER.replacen(from, to, 1), "p")
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
