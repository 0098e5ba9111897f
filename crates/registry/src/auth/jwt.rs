//! Signed tokens (RFC 7515, 7517, 7519), verified with `ring`. Pure.
//!
//! What a token says of its own verification is not believed: the algorithm has to be one that its
//! key is for, `kid` only picks among the keys that are configured, and `jwk`, `jku`, `x5u` and
//! `x5c` are ignored.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// No token is longer, in bytes.
const LONGEST: usize = 16 * 1024;
/// How far clocks may differ, in seconds.
pub(super) const LEEWAY: u64 = 60;

/// Signature algorithms of other issuers. None of them is symmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    RS256,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    pub(super) const ALL: [Algorithm; 5] = [
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ];

    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Algorithm::RS256,
            "PS256" => Algorithm::PS256,
            "ES256" => Algorithm::ES256,
            "ES384" => Algorithm::ES384,
            "EdDSA" => Algorithm::EdDSA,
            _ => return None,
        })
    }
}

/// Why a token is refused. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidToken {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token has more than 16 KiB")]
    TooLong,
    #[error("the token has critical extensions")]
    Critical,
    #[error("the algorithm of the token is not allowed")]
    Algorithm,
    #[error("the token is signed with an unknown key")]
    UnknownKey,
    /// Of this issuer.
    #[error("the keys of the issuer {0} are not available")]
    NoKeys(String),
    #[error("the signature of the token is wrong")]
    Signature,
    #[error("the issuer of the token is not accepted")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has no expiry time")]
    NoExpiry,
    #[error("the token is expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// A token whose signature is not verified yet.
pub(super) struct Token<'a> {
    signed: &'a [u8],
    signature: Vec<u8>,
    algorithm: String,
    kid: Option<String>,
    claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, InvalidToken> {
        if text.len() > LONGEST {
            return Err(InvalidToken::TooLong);
        }
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (signed, signature) = text.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
        let header = decode(header).and_then(|bytes| serde_json::from_slice::<Header>(&bytes).ok());
        let claims = decode(claims).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (header, claims) = header.zip(claims).ok_or(InvalidToken::Malformed)?;
        if header.crit.is_some() {
            return Err(InvalidToken::Critical);
        }
        Ok(Token {
            signed: signed.as_bytes(),
            signature: decode(signature).ok_or(InvalidToken::Malformed)?,
            algorithm: header.alg,
            kid: header.kid,
            claims,
        })
    }

    /// Who it says that issued it. Only good to find the keys.
    pub(super) fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Its claims, where one of these keys signed it.
    pub(super) fn verify(
        self,
        keys: &[PublicKey],
        algorithms: &[Algorithm],
    ) -> Result<Claims, InvalidToken> {
        let algorithm = Algorithm::parse(&self.algorithm).ok_or(InvalidToken::Algorithm)?;
        if !algorithms.contains(&algorithm) {
            return Err(InvalidToken::Algorithm);
        }
        let is_named = |key: &PublicKey| match (&self.kid, &key.kid) {
            (Some(want), Some(have)) => want == have,
            _ => true,
        };
        let fits = |key: &&PublicKey| is_named(key) && key.algorithms.contains(&algorithm);
        let mut fitting = keys.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(InvalidToken::UnknownKey);
        }
        if !fitting.any(|key| key.has_signed(algorithm, self.signed, &self.signature)) {
            return Err(InvalidToken::Signature);
        }
        Ok(Claims(self.claims))
    }

    /// Its claims, where this secret signed it.
    pub(super) fn verify_own(self, key: &hmac::Key) -> Result<Claims, InvalidToken> {
        if self.algorithm != "HS256" {
            return Err(InvalidToken::Algorithm);
        }
        let verified = hmac::verify(key, self.signed, &self.signature);
        verified.map_err(|_| InvalidToken::Signature)?;
        Ok(Claims(self.claims))
    }
}

/// Whether a text could be a token.
pub(super) fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// A token of these claims, signed with a secret.
pub(super) fn sign_own(claims: &Value, key: &hmac::Key) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", encode(claims.to_string().as_bytes()));
    let signature = encode(hmac::sign(key, signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

/// The claims of a token whose signature is right.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// The elements of a claim that is a list; none where it is not.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        let list = self.0.get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    }

    /// A time, in seconds since 1970. Fractions are cut off.
    fn time(&self, name: &str) -> Result<Option<u64>, InvalidToken> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let time = value.as_u64().or_else(|| {
            let time = value.as_f64().filter(|time| (0.0..1e15).contains(time))?;
            Some(time as u64)
        });
        time.map(Some).ok_or(InvalidToken::Malformed)
    }

    /// Checks issuer, audience and times, but for the expiry, which is returned.
    pub(super) fn check(
        &self,
        issuer: &str,
        audience: &str,
        now: u64,
    ) -> Result<u64, InvalidToken> {
        if self.text("iss") != Some(issuer) {
            return Err(InvalidToken::Issuer);
        }
        let is_for_us = match self.0.get("aud") {
            Some(Value::String(have)) => have == audience,
            Some(Value::Array(all)) => all.iter().any(|have| have == audience),
            _ => false,
        };
        if !is_for_us {
            return Err(InvalidToken::Audience);
        }
        for name in ["nbf", "iat"] {
            if self.time(name)?.is_some_and(|time| time > now + LEEWAY) {
                return Err(InvalidToken::NotYet);
            }
        }
        self.time("exp")?.ok_or(InvalidToken::NoExpiry)
    }
}

/// A public key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Of an elliptic curve, as `ring` reads it.
    Point(Vec<u8>),
}

#[derive(Deserialize)]
struct RawKeys {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a JWKS that can verify tokens. Others are ignored (RFC 7517, 5).
///
/// # Errors
///
/// Where it is no JWKS.
pub(super) fn parse_keys(text: &[u8]) -> Result<Vec<PublicKey>, &'static str> {
    let raw: RawKeys = serde_json::from_slice(text).map_err(|_| "it is not a JSON Web Key Set")?;
    let keys = raw
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok());
    Ok(keys.filter_map(PublicKey::of).collect())
}

impl PublicKey {
    fn of(raw: RawKey) -> Option<Self> {
        if raw.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
        let (mut algorithms, material) = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = bytes(raw.n).zip(bytes(raw.e))?;
                let zeros = n.iter().take_while(|byte| **byte == 0).count();
                let n = n.get(zeros..)?.to_vec();
                // 2048 bits.
                if n.len() < 256 {
                    return None;
                }
                (
                    vec![Algorithm::RS256, Algorithm::PS256],
                    Material::Rsa { n, e },
                )
            }
            ("EC", Some(curve)) => {
                let (algorithm, size) = match curve {
                    "P-256" => (Algorithm::ES256, 32),
                    "P-384" => (Algorithm::ES384, 48),
                    _ => return None,
                };
                let (x, y) = bytes(raw.x).zip(bytes(raw.y))?;
                if x.len() != size || y.len() != size {
                    return None;
                }
                (vec![algorithm], Material::Point([&[4], &*x, &*y].concat()))
            }
            ("OKP", Some("Ed25519")) => (vec![Algorithm::EdDSA], Material::Point(bytes(raw.x)?)),
            _ => return None,
        };
        if let Some(name) = raw.alg {
            let only = Algorithm::parse(&name)?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        Some(PublicKey {
            kid: raw.kid,
            algorithms,
            material,
        })
    }

    fn has_signed(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verified =
            match (&self.material, algorithm) {
                (Material::Rsa { n, e }, Algorithm::RS256) => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature),
                (Material::Rsa { n, e }, Algorithm::PS256) => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PSS_2048_8192_SHA256, signed, signature),
                (Material::Point(point), Algorithm::ES256) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(signed, signature)
                }
                (Material::Point(point), Algorithm::ES384) => {
                    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                        .verify(signed, signature)
                }
                (Material::Point(point), Algorithm::EdDSA) => {
                    UnparsedPublicKey::new(&ED25519, point).verify(signed, signature)
                }
                _ => return false,
            };
        verified.is_ok()
    }
}
