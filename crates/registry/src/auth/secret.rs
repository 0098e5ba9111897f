//! Secret keys, and the keys that are derived from them.

use std::fmt;

use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The secret of a registry: its tokens and the states of its uploads are signed with it. All
/// processes that serve one registry need the same.
#[derive(Clone)]
pub struct SecretKey(Key);

/// A secret that is too short to be one, or a machine without randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// With how many bytes it was given.
    #[error("the secret has {0} bytes, expected at least 32 random ones")]
    TooShort(usize),
    /// None could be made.
    #[error("the system has no randomness")]
    NoRandomness,
}

impl SecretKey {
    /// The key of these bytes, at least 32.
    ///
    /// # Errors
    ///
    /// Where there are fewer.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        if bytes.len() < 32 {
            return Err(InvalidSecret::TooShort(bytes.len()));
        }
        Ok(SecretKey(Key::new(HMAC_SHA256, bytes)))
    }

    /// A random key, which no other process has.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness.
    pub fn random() -> Result<Self, InvalidSecret> {
        let mut bytes = [0; 32];
        let filled = SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| InvalidSecret::NoRandomness)?;
        SecretKey::new(&bytes)
    }

    /// The key for one purpose.
    pub(super) fn derive(&self, purpose: &str) -> Key {
        Key::new(HMAC_SHA256, sign(&self.0, purpose.as_bytes()).as_ref())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}
