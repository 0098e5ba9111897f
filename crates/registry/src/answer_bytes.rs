//! Bounds the memory of responses with large manifests and lists of referrers, which slow clients
//! keep. Responses with the same manifest share one copy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Refusal;
use crate::locks::lock;
use s3layers::Digest;

/// What all responses together may hold, in bytes.
const BOUND: usize = 32 * 1024 * 1024;
/// A response up to this size, in bytes, is not counted: it fits in the buffers of its socket.
const SMALL: usize = 64 * 1024;

/// The bytes of all large responses.
#[derive(Debug)]
pub(super) struct AnswerBytes {
    left: Arc<Semaphore>,
    by_digest: Mutex<HashMap<Digest, Weak<Counted>>>,
}

/// Counted until the last response that has them was sent.
#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

struct Shared(Arc<Counted>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Default for AnswerBytes {
    fn default() -> Self {
        AnswerBytes {
            left: Arc::new(Semaphore::new(BOUND)),
            by_digest: Mutex::default(),
        }
    }
}

impl AnswerBytes {
    /// Counts bytes that are sent once.
    ///
    /// # Errors
    ///
    /// 429 where other responses hold too many bytes.
    pub(super) fn count(&self, bytes: Bytes) -> Result<Bytes, Refusal> {
        if bytes.len() <= SMALL {
            return Ok(bytes);
        }
        Ok(Bytes::from_owner(Shared(Arc::new(self.counted(bytes)?))))
    }

    /// The same bytes, in the copy that other responses share.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    pub(super) fn share(&self, digest: &Digest, bytes: Bytes) -> Result<Bytes, Refusal> {
        if bytes.len() <= SMALL {
            return Ok(bytes);
        }
        let mut by_digest = lock(&self.by_digest);
        let found = by_digest.get(digest).and_then(Weak::upgrade);
        let shared = match found {
            Some(shared) => shared,
            None => {
                by_digest.retain(|_, counted| counted.strong_count() > 0);
                let counted = Arc::new(self.counted(bytes)?);
                by_digest.insert(digest.clone(), Arc::downgrade(&counted));
                counted
            }
        };
        Ok(Bytes::from_owner(Shared(shared)))
    }

    fn counted(&self, bytes: Bytes) -> Result<Counted, Refusal> {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.left).try_acquire_many_owned(size);
        match permit {
            Ok(permit) => Ok(Counted {
                bytes,
                _permit: permit,
            }),
            Err(_) => Err(Refusal::too_many("too many large responses at a time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use s3layers::Algorithm;

    fn manifest(seed: u8) -> (Digest, Bytes) {
        let bytes = Bytes::from(vec![seed; BOUND / 4]);
        (Digest::of(Algorithm::Sha256, &bytes), bytes)
    }

    #[test]
    fn responses_with_one_digest_share_their_bytes() {
        let answers = AnswerBytes::default();
        let (digest, bytes) = manifest(0);
        let held: Vec<_> = (0..100)
            .map(|_| answers.share(&digest, Bytes::from(bytes.to_vec())).unwrap())
            .collect();
        assert!(
            held.iter()
                .all(|answer| answer.as_ptr() == held[0].as_ptr())
        );
        assert_eq!(answers.left.available_permits(), BOUND - bytes.len());
        assert!(held[99] == bytes);
        drop(held);
        assert_eq!(answers.left.available_permits(), BOUND);
    }

    #[test]
    fn responses_together_are_bounded() {
        let answers = AnswerBytes::default();
        let mut held: Vec<_> = (0..4)
            .map(|seed| {
                let (digest, bytes) = manifest(seed);
                answers.share(&digest, bytes).unwrap()
            })
            .collect();
        let (digest, bytes) = manifest(4);
        let refusal = answers.share(&digest, bytes.clone()).unwrap_err();
        assert_eq!(refusal.code(), Code::TooManyRequests);
        assert!(answers.count(bytes.clone()).is_err());
        assert!(answers.count(bytes.slice(..SMALL)).is_ok());
        held.pop();
        assert!(answers.share(&digest, bytes).is_ok());
    }
}
