//! The secret that all processes which serve one bucket share.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::Result;
use crate::s3::bucket::{ROUNDS, Store, contended};
use crate::s3::format::document::{Document, encode};
use crate::s3::wire::{Condition, Put};

/// The document. Never replaced: another one would end all tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    version: u32,
    secret: String,
}

impl Document for Secret {
    const WHAT: &'static str = "secret";
    const VERSION: u32 = 1;
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secret of this bucket. The first process that asks makes it.
pub(super) async fn shared(store: &Store) -> Result<String> {
    let key = store.keys.secret();
    for _ in 0..ROUNDS {
        if let Some(loaded) = store.load::<Secret>(&key).await? {
            return Ok(loaded.document.secret);
        }
        let made = Secret {
            version: Secret::VERSION,
            // 244 random bits.
            secret: format!("{}{}", clock::new_nonce(), clock::new_nonce()),
        };
        let put = store.api.put_if(&key, encode(&made)?, Condition::Absent);
        if let Put::Written(_) = put.await? {
            return Ok(made.secret);
        }
    }
    Err(contended(&key))
}
