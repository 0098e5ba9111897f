//! What has to be true when all processes have come to their end.

use std::collections::BTreeSet;

use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use s3layers::{Error, LayerService as _, S3LayerService};
use tokio::io::AsyncReadExt as _;
use uuid::Uuid;

use super::{Role, Role::*, Script};
use crate::support::bytes::sha256;
use crate::support::schedule::Choices;
use crate::support::stores::{self, name};
use crate::support::{bucket, cases};

/// The actions of a process, and their results.
pub(super) type Outcome = (Role, Result<(), Error>);

pub(super) async fn judge(
    script: &Script,
    store: &EmbeddedStore,
    apart: &S3LayerService,
    uuid: Uuid,
    outcomes: &[Outcome],
    choices: &Choices,
    unknown_uploads: usize,
) -> Result<(), String> {
    for (role, outcome) in outcomes {
        if let Err(error) = outcome
            && !is_a_true_refusal(script, *role, error)
        {
            return Err(format!("{role:?} failed: {}", cases::chain(error)));
        }
    }
    excludes_each_other(outcomes)?;
    keeps_what_was_acknowledged(script, apart, uuid, outcomes).await?;
    let before = published(script, apart, outcomes).await?;
    stores::sweep(apart).await.map_err(|e| cases::chain(&e))?;
    apart.wait_for_background().await;
    // A sweep brings to its end what a loser had begun to finish.
    let published = published(script, apart, outcomes).await?;
    if !published.is_superset(&before) {
        return Err("a sweep removed a layer".to_owned());
    }
    let client = stores::sdk_client(store);
    let keys = bucket::keys(&client).await;
    let stored = bucket::stored_layers(&client).await;
    let is_named = |key: &&String| stored.iter().any(|layer| layer.objects.contains(key));
    // "What is not promised" in RELIABILITY.md.
    let is_restored =
        |key: &&String| choices.delayed_any() && key.contains(".whole-") && !is_named(key);
    let data = || {
        let data = keys.iter().filter(|key| key.starts_with("data/"));
        data.filter(|key| !is_restored(key))
    };
    let named: usize = stored.iter().map(|layer| layer.objects.len()).sum();
    let over = |key: &&String| key.starts_with("uploads/") || key.contains("_claims/");
    match keys.iter().find(over) {
        Some(key) => return Err(format!("{key} is left over")),
        None if stored.len() != published.len() || data().count() != named => {
            return Err(format!("{} layers, and {keys:?}", published.len()));
        }
        None => {}
    }
    if let Some(key) = data().find(|key| !is_named(key)) {
        return Err(format!("{key} is left over"));
    }
    let left = bucket::multiparts(&client).await;
    let are_empty = left.is_empty() || bucket::parts_under_way(&client).await == 0;
    if are_empty && left.len() <= unknown_uploads {
        return Ok(());
    }
    Err(format!(
        "left over: {left:?}; {unknown_uploads} may be, without parts"
    ))
}

/// Of what happened to the one upload, only one thing can have.
fn excludes_each_other(outcomes: &[Outcome]) -> Result<(), String> {
    let well = |role: &Role| {
        outcomes
            .iter()
            .any(|(r, outcome)| r == role && outcome.is_ok())
    };
    let ends: Vec<Role> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(role, _)| *role)
        .filter(|role| matches!(role, AppendFinish(_) | Finish | Cancel))
        .collect();
    let different: BTreeSet<String> = ends.iter().map(|role| format!("{role:?}")).collect();
    if different.len() > 1 {
        return Err(format!("all of {different:?} were acknowledged as winners"));
    }
    if well(&Append(1)) && well(&Append(2)) {
        return Err("two writers got an acknowledgement for their bytes".to_owned());
    }
    if well(&Finish) && (well(&Append(1)) || well(&Append(2))) {
        return Err("what was finished without them had bytes appended".to_owned());
    }
    Ok(())
}

/// Bytes that a close acknowledged are there, unless the upload was removed.
async fn keeps_what_was_acknowledged(
    script: &Script,
    apart: &S3LayerService,
    uuid: Uuid,
    outcomes: &[Outcome],
) -> Result<(), String> {
    let removed = |(role, outcome): &Outcome| {
        *role == Sweep || (matches!(role, Cancel | AppendFinish(_)) && outcome.is_ok())
    };
    if outcomes.iter().any(removed) {
        return Ok(());
    }
    for (role, outcome) in outcomes {
        let (Append(seed), Ok(())) = (role, outcome) else {
            continue;
        };
        let layer = script.appended(*seed);
        let lost = |error: Error| format!("the bytes of {role:?}: {}", cases::chain(&error));
        let mut upload = apart.resume(&name(), None, uuid).await.map_err(lost)?;
        if upload.offset() < layer.len() as u64 {
            return Err(format!("{role:?} has {} bytes left", upload.offset()));
        }
        let finished = upload.finish(layer.len() as u64, &sha256(&layer)).await;
        finished.map_err(lost)?;
        read(apart, &layer).await?;
    }
    Ok(())
}

/// Every layer that can be fetched, among them all that were acknowledged.
async fn published(
    script: &Script,
    apart: &S3LayerService,
    outcomes: &[Outcome],
) -> Result<BTreeSet<Bytes>, String> {
    let mut published = BTreeSet::new();
    for (role, outcome) in outcomes {
        let layer = match role {
            Append(seed) => script.appended(*seed),
            role => match script.layer(*role) {
                Some(layer) => layer,
                None => continue,
            },
        };
        let there = apart.exists(&sha256(&layer).into()).await;
        if there.map_err(|error| cases::chain(&error))? {
            read(apart, &layer).await?;
            published.insert(layer);
        } else if outcome.is_ok() && !matches!(role, Append(_)) {
            return Err(format!("the layer of {role:?} is not there"));
        }
    }
    Ok(published)
}

async fn read(apart: &S3LayerService, layer: &Bytes) -> Result<(), String> {
    let fetched = apart.fetch(&sha256(layer).into()).await;
    let mut fetched = fetched.map_err(|error| cases::chain(&error))?;
    let mut got = Vec::new();
    let outcome = fetched.read_to_end(&mut got).await;
    outcome.map_err(|error| error.to_string())?;
    if got == *layer {
        Ok(())
    } else {
        Err("a layer has other bytes than its digest".to_owned())
    }
}

/// The errors that a process that lost may get.
fn is_a_true_refusal(script: &Script, role: Role, error: &Error) -> bool {
    match error {
        Error::UploadConflict { .. } | Error::UploadUnknown { .. } => true,
        Error::InvalidLength { .. } => matches!(role, Append(_) | AppendFinish(_) | Finish),
        // A finish by another process may come between.
        Error::InvalidChecksum { .. } => role == Finish && script.more > 0,
        Error::LayerExists { .. } | Error::UploadInProgress { .. } => role == PushDeclared,
        _ => false,
    }
}
