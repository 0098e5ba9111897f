//! The layer of a scenario: its bytes, and the ids that it is called by.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use bytes::Bytes;
use s3layers::Algorithm::{self, Sha256, Sha512};
use s3layers::tarsum::TarSummer;
use s3layers::{Digest, LayerId, TarSum, TarSumVersion};

use super::registry_call::RegistryCall;
use super::table::Step::{self, Begin, Call, Finish};
use super::table::{Declared, Scenario};
use crate::support::bytes::ramp;
use crate::tarsum::archive::header;

/// The bytes of a scenario's layer and what they are called.
#[derive(Clone, Debug)]
pub struct Content {
    pub bytes: Bytes,
    pub sha256: Digest,
    pub sha512: Digest,
    /// Of an archive.
    pub tar_sum: Option<TarSum>,
}

impl Content {
    fn of(bytes: Bytes, tar_sum: Option<TarSum>) -> Self {
        Content {
            sha256: Digest::of(Sha256, &bytes),
            sha512: Digest::of(Sha512, &bytes),
            bytes,
            tar_sum,
        }
    }

    /// An archive of one file, of as many bytes in all.
    fn archive(size: u64) -> Self {
        let body = ramp(7, size - 512);
        let header = header("layer", b'0', body.len());
        let bytes: Bytes = [&header[..], &body].concat().into();
        let summer = TarSummer::new(TarSumVersion::V1, Sha256);
        let mut summer = summer.unwrap();
        summer.update(&bytes);
        Content::of(bytes, Some(summer.finish().unwrap()))
    }
}

static CONTENTS: LazyLock<Mutex<BTreeMap<(u64, bool), Content>>> = LazyLock::new(Mutex::default);

impl Scenario {
    pub fn content(&self) -> Content {
        let is_archive = self.steps.contains(&Begin(Declared::TarSum));
        let mut contents = CONTENTS.lock().unwrap();
        let content = contents.entry((self.size, is_archive));
        let content = content.or_insert_with(|| {
            if is_archive {
                Content::archive(self.size)
            } else {
                Content::of(ramp(7, self.size), None)
            }
        });
        content.clone()
    }

    pub(super) fn declared(&self) -> Option<LayerId> {
        let content = self.content();
        self.steps.iter().find_map(|step| match step {
            Begin(Declared::Sha256) => Some(content.sha256.clone().into()),
            Begin(Declared::Sha512) => Some(content.sha512.clone().into()),
            Begin(Declared::TarSum) => content.tar_sum.clone().map(LayerId::from),
            _ => None,
        })
    }

    /// Every id that the layer is published under in the end; none where it is not.
    pub(super) fn ids(&self) -> Vec<LayerId> {
        let content = self.content();
        let mut ids = Vec::new();
        let publishes = |step: &Step| matches!(step, Finish(_) | Call(RegistryCall::Mount));
        if self.steps.iter().any(publishes) {
            ids.push(content.sha256.into());
        }
        let names_sha512 = |step: &Step| matches!(step, Begin(Declared::Sha512) | Finish(Sha512));
        if self.steps.iter().any(names_sha512) {
            ids.push(content.sha512.into());
        }
        ids.extend(content.tar_sum.map(LayerId::from));
        ids
    }

    /// The algorithm that the client names at the end.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.steps.iter().find_map(|step| match step {
            Finish(algorithm) => Some(*algorithm),
            _ => None,
        })
    }
}
