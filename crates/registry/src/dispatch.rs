//! From an endpoint and a method to the function that answers.

use std::sync::Arc;

use super::answers::base;
use super::call::{Answer, Call, Shared};
use super::request_permits::Work;
use super::route::{Endpoint, Verb};
use super::{blobs, listings, manifests, uploads};

/// Small reads have permits of their own.
pub(super) fn work_of(endpoint: &Endpoint, verb: Verb) -> Work {
    match (endpoint, verb) {
        (Endpoint::Blob(..) | Endpoint::Manifest(..), Verb::Get | Verb::Head) => Work::Lookup,
        _ => Work::Long,
    }
}

pub(super) async fn dispatch(
    shared: &Arc<Shared>,
    call: Call,
    verb: Verb,
    endpoint: Endpoint,
) -> Answer {
    match (endpoint, verb) {
        (Endpoint::Blob(name, digest), Verb::Delete) => blobs::delete(shared, &name, digest).await,
        (Endpoint::Blob(name, digest), verb) => {
            blobs::read(shared, &call.head, &name, digest, verb == Verb::Head).await
        }
        (Endpoint::Uploads(name), _) => uploads::begin(shared, call, name).await,
        (Endpoint::Upload(name, uuid), Verb::Patch) => {
            uploads::append(shared, call, name, uuid).await
        }
        (Endpoint::Upload(name, uuid), Verb::Put) => {
            uploads::finish(shared, call, name, uuid).await
        }
        (Endpoint::Upload(name, uuid), Verb::Delete) => {
            uploads::cancel(shared, call, &name, uuid).await
        }
        (Endpoint::Upload(name, uuid), _) => uploads::status(shared, call, &name, uuid).await,
        (Endpoint::Manifest(name, reference), Verb::Put) => {
            manifests::put(shared, call, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), Verb::Delete) => {
            manifests::delete(shared, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), verb) => {
            manifests::read(shared, &call.head, &name, reference, verb == Verb::Head).await
        }
        (Endpoint::Tags(name), _) => listings::tags(shared, &call.head.query, &name).await,
        (Endpoint::Referrers(name, digest), _) => {
            listings::referrers(shared, &call.head.query, &name, &digest).await
        }
        (Endpoint::Catalog, _) => listings::catalog(shared, &call.head).await,
        // Answered before a place was taken.
        (Endpoint::Base | Endpoint::Live | Endpoint::Ready | Endpoint::Token, _) => Ok(base()),
    }
}
