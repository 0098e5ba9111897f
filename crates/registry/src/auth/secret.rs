//! Secret keys, and the keys that are derived from them.

use std::fmt;

use ring::hmac::{HMAC_SHA256, Key, sign};

/// The secret of a registry: its tokens and the states of its uploads are signed with it. All
/// processes that serve one registry need the same.
#[derive(Clone)]
pub struct SecretKey(Key);

/// A secret that is too short to be one: its size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret has {0} bytes, expected at least 32 random ones")]
pub struct InvalidSecret(usize);

impl SecretKey {
    /// The key of these bytes, at least 32.
    ///
    /// # Errors
    ///
    /// Where there are fewer.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        if bytes.len() < 32 {
            return Err(InvalidSecret(bytes.len()));
        }
        Ok(SecretKey(Key::new(HMAC_SHA256, bytes)))
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
