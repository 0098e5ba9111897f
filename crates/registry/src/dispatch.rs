//! From an endpoint and a method to the function that answers.

use std::sync::Arc;

use http::Method;

use super::answers::base;
use super::call::{Answer, Call, Shared};
use super::request_permits::Work;
use super::route::Endpoint;
use super::{blobs, listings, manifests, uploads};

/// Small reads have permits of their own.
pub(super) fn work_of(endpoint: &Endpoint, method: &Method) -> Work {
    match (endpoint, method) {
        (Endpoint::Blob(..) | Endpoint::Manifest(..), &Method::GET | &Method::HEAD) => Work::Lookup,
        _ => Work::Long,
    }
}

pub(super) async fn dispatch(shared: &Arc<Shared>, call: Call, endpoint: Endpoint) -> Answer {
    let method = call.head.parts.method.clone();
    match (endpoint, method) {
        (Endpoint::Blob(name, digest), Method::DELETE) => {
            blobs::delete(shared, &name, digest).await
        }
        (Endpoint::Blob(name, digest), _) => blobs::read(shared, &call.head, &name, digest).await,
        (Endpoint::Uploads(name), _) => uploads::begin(shared, call, name).await,
        (Endpoint::Upload(name, uuid), _) => uploads::of_upload(shared, call, name, uuid).await,
        (Endpoint::Manifest(name, reference), Method::PUT) => {
            manifests::put(shared, call, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), Method::DELETE) => {
            manifests::delete(shared, &name, reference).await
        }
        (Endpoint::Manifest(name, reference), _) => {
            manifests::read(shared, &call.head, &name, reference).await
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
