//! The endpoint table: which accesses a request needs. Pure.

use http::Method;

use super::Access;
use crate::query::Query;
use crate::route::{Endpoint, route};
use crate::uploads;

/// A method and a path that no endpoint has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRequest(String);

/// What a request needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// `None`: the endpoint is open to every client.
    pub needed: Option<Access>,
    /// What it can do without: pull on the source of a mount.
    pub optional: Option<Access>,
}

/// What a request with this method, path and query needs.
///
/// ```
/// use s3layers_registry::needs;
///
/// let needs = needs("GET", "/v2/library/alpine/tags/list")?;
/// assert_eq!(needs.needed.unwrap().to_string(), "pull library/alpine");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Where no endpoint has this method and path. The registry refuses such a request for everyone.
pub fn needs(method: &str, path: &str) -> Result<Needs, InvalidRequest> {
    let refused = |refusal: crate::error::Refusal| InvalidRequest(refusal.message().to_owned());
    let method: Method = method
        .parse()
        .map_err(|_| InvalidRequest(format!("{method:?} is not a method")))?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = Query::parse(Some(query)).map_err(refused)?;
    let endpoint = route(&method, path).map_err(refused)?;
    let optional = match &endpoint {
        Endpoint::Uploads(_) => uploads::mount_source(&query).map(Access::Pull),
        _ => None,
    };
    Ok(Needs {
        needed: needed(&endpoint, &method),
        optional,
    })
}

/// The access that a request needs, `None` where it needs none.
pub(crate) fn needed(endpoint: &Endpoint, method: &Method) -> Option<Access> {
    Some(match endpoint {
        Endpoint::Live | Endpoint::Ready | Endpoint::Token => return None,
        Endpoint::Base => Access::Identity,
        Endpoint::Catalog => Access::Catalog,
        Endpoint::Tags(name) | Endpoint::Referrers(name, _) => Access::Pull(name.clone()),
        Endpoint::Blob(name, _) | Endpoint::Manifest(name, _) => match *method {
            Method::GET | Method::HEAD => Access::Pull(name.clone()),
            Method::DELETE => Access::Delete(name.clone()),
            _ => Access::Push(name.clone()),
        },
        Endpoint::Uploads(name) => Access::Push(name.clone()),
        Endpoint::Upload(name, uuid) => Access::Continue(name.clone(), *uuid),
    })
}
