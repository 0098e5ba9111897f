//! Method and path to what is asked for. Pure: names, references and digests are held against their
//! grammar here, before anything is asked of the storage.
//!
//! A repository name has slashes, so a path is read from its end.

use http::Method;
use http::header::ALLOW;
use uuid::Uuid;

use super::error::{Code, Refusal};
use super::query::decoded;
use s3layers::{Digest, RepositoryName, Tag};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/v2/`
    Base,
    /// `/livez`
    Live,
    /// `/readyz`
    Ready,
    /// `/token`
    Token,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<uuid>`
    Upload(RepositoryName, Uuid),
}

/// How a manifest is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Endpoint {
    /// As metrics have it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Endpoint::Base => "base",
            Endpoint::Live => "livez",
            Endpoint::Ready => "readyz",
            Endpoint::Token => "token",
            Endpoint::Catalog => "catalog",
            Endpoint::Tags(_) => "tags",
            Endpoint::Referrers(..) => "referrers",
            Endpoint::Manifest(..) => "manifest",
            Endpoint::Blob(..) => "blob",
            Endpoint::Uploads(_) => "uploads",
            Endpoint::Upload(..) => "upload",
        }
    }

    /// The methods that it has, as `Allow` lists them.
    const fn methods(&self) -> &'static str {
        match self {
            Endpoint::Base
            | Endpoint::Live
            | Endpoint::Ready
            | Endpoint::Catalog
            | Endpoint::Tags(_)
            | Endpoint::Referrers(..) => "GET, HEAD",
            Endpoint::Token => "GET",
            Endpoint::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Endpoint::Blob(..) => "GET, HEAD, DELETE",
            Endpoint::Uploads(_) => "POST",
            Endpoint::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
        }
    }
}

/// Where a request leads, if that endpoint has its method.
pub(super) fn route(method: &Method, path: &str) -> Result<Endpoint, Refusal> {
    let endpoint = endpoint(path).map_err(|refusal| {
        // A reference that breaks the grammar names nothing. Only a push gets the reason.
        if is_manifest(path) && method != Method::PUT && refusal.code() != Code::NameInvalid {
            Refusal::new(Code::ManifestUnknown, refusal.message())
        } else {
            refusal
        }
    })?;
    let methods = endpoint.methods();
    if methods.split(", ").any(|name| name == method.as_str()) {
        return Ok(endpoint);
    }
    Err(Refusal::new(Code::Unsupported, "not with this method").with(ALLOW, methods))
}

fn endpoint(path: &str) -> Result<Endpoint, Refusal> {
    match path {
        "/livez" => return Ok(Endpoint::Live),
        "/readyz" => return Ok(Endpoint::Ready),
        "/token" => return Ok(Endpoint::Token),
        "/v2" | "/v2/" => return Ok(Endpoint::Base),
        "/v2/_catalog" => return Ok(Endpoint::Catalog),
        _ => {}
    }
    let rest = path
        .strip_prefix("/v2/")
        .ok_or_else(Refusal::no_such_path)?;
    // After the split, so that an encoded slash is part of a segment, which no grammar allows.
    let segments: Option<Vec<String>> = rest.split('/').map(decoded).collect();
    let segments = segments.ok_or_else(Refusal::no_such_path)?;
    if segments.iter().any(|segment| segment.contains('/')) {
        return Err(Refusal::no_such_path());
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
            Ok(Endpoint::Uploads(repository(name)?))
        }
        [name @ .., "blobs", "uploads", uuid] => {
            let name = repository(name)?;
            let uuid = uuid.parse().map_err(|_| {
                let message = format!("{uuid:?} is not the id of an upload");
                Refusal::new(Code::BlobUploadUnknown, message)
            })?;
            Ok(Endpoint::Upload(name, uuid))
        }
        [name @ .., "blobs", digest] => Ok(Endpoint::Blob(repository(name)?, parsed(digest)?)),
        [name @ .., "manifests", reference] => {
            Ok(Endpoint::Manifest(repository(name)?, read(reference)?))
        }
        [name @ .., "referrers", digest] => {
            Ok(Endpoint::Referrers(repository(name)?, parsed(digest)?))
        }
        [name @ .., "tags", "list"] => Ok(Endpoint::Tags(repository(name)?)),
        _ => Err(Refusal::no_such_path()),
    }
}

fn is_manifest(path: &str) -> bool {
    path.rsplit('/').nth(1) == Some("manifests")
}

fn repository(segments: &[&str]) -> Result<RepositoryName, Refusal> {
    parse_name(&segments.join("/"))
}

/// A repository name that a client gave.
pub(super) fn parse_name(text: &str) -> Result<RepositoryName, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(Code::NameInvalid, error))
}

/// A digest that a client gave.
pub(super) fn parsed(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(Code::DigestInvalid, error))
}

/// A tag that a client gave.
pub(super) fn parse_tag(text: &str) -> Result<Tag, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(Code::TagInvalid, error))
}

/// No tag has a colon, and every digest has one.
fn read(text: &str) -> Result<Reference, Refusal> {
    if text.contains(':') {
        parsed(text).map(Reference::Digest)
    } else {
        parse_tag(text).map(Reference::Tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn routes() {
        let digest: Digest = Digest::EMPTY_SHA256.parse().unwrap();
        let uuid = Uuid::nil();
        for (path, want) in [
            ("/v2/", Endpoint::Base),
            ("/v2", Endpoint::Base),
            ("/livez", Endpoint::Live),
            ("/readyz", Endpoint::Ready),
            ("/v2/_catalog", Endpoint::Catalog),
            ("/v2/a/tags/list", Endpoint::Tags(name("a"))),
            ("/v2/a/b/c/tags/list", Endpoint::Tags(name("a/b/c"))),
            ("/v2/tags/tags/list", Endpoint::Tags(name("tags"))),
            (
                "/v2/a/tags/manifests/list",
                Endpoint::Manifest(name("a/tags"), Reference::Tag("list".parse().unwrap())),
            ),
            (
                &format!("/v2/a/manifests/sha256:{HEX}"),
                Endpoint::Manifest(name("a"), Reference::Digest(digest.clone())),
            ),
            (
                &format!("/v2/a/blobs/uploads/blobs/sha256%3A{HEX}"),
                Endpoint::Blob(name("a/blobs/uploads"), digest.clone()),
            ),
            (
                &format!("/v2/a/referrers/sha256:{HEX}"),
                Endpoint::Referrers(name("a"), digest.clone()),
            ),
            ("/v2/a/blobs/uploads/", Endpoint::Uploads(name("a"))),
            ("/v2/a/blobs/uploads", Endpoint::Uploads(name("a"))),
            (
                &format!("/v2/a/b/blobs/uploads/{uuid}"),
                Endpoint::Upload(name("a/b"), uuid),
            ),
        ] {
            assert_eq!(endpoint(path).ok(), Some(want), "{path}");
        }
    }

    #[test]
    fn refusals() {
        for (path, want) in [
            ("/", None),
            ("/v1/", None),
            ("/v2/a", None),
            ("/v2/a/tags", None),
            ("/v2/a/tags/list/", None),
            ("/v2/a%2Fb/tags/list", None),
            ("/v2/a%/tags/list", None),
            ("/v2/A/tags/list", Some(Code::NameInvalid)),
            ("/v2/tags/list", Some(Code::NameInvalid)),
            ("/v2//tags/list", Some(Code::NameInvalid)),
            ("/v2/../tags/list", Some(Code::NameInvalid)),
            ("/v2/_layers/tags/list", Some(Code::NameInvalid)),
            ("/v2/a/manifests/.b", Some(Code::TagInvalid)),
            ("/v2/a/manifests/", Some(Code::TagInvalid)),
            ("/v2/a/manifests/sha256:bad", Some(Code::DigestInvalid)),
            ("/v2/a/blobs/latest", Some(Code::DigestInvalid)),
            ("/v2/a/referrers/latest", Some(Code::DigestInvalid)),
            ("/v2/a/blobs/uploads/x", Some(Code::BlobUploadUnknown)),
        ] {
            let refusal = endpoint(path).unwrap_err();
            let want = want.unwrap_or(Code::NotFound);
            assert_eq!(refusal.code(), want, "{path}");
        }
    }

    #[test]
    fn a_reference_that_breaks_the_grammar_is_unknown_unless_it_is_pushed() {
        for reference in [".b", "sha256:bad", "md5:00", ""] {
            let path = format!("/v2/a/manifests/{reference}");
            for method in [Method::GET, Method::HEAD, Method::DELETE] {
                let refusal = route(&method, &path).unwrap_err();
                assert_eq!(refusal.code(), Code::ManifestUnknown, "{method} {path}");
            }
            let refusal = route(&Method::PUT, &path).unwrap_err();
            assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{path}");
        }
        let refusal = route(&Method::GET, "/v2/A/manifests/v1").unwrap_err();
        assert_eq!(refusal.code(), Code::NameInvalid);
    }

    #[test]
    fn other_methods_get_the_list_of_methods() {
        let refusal = route(&Method::PUT, "/v2/a/blobs/uploads/").unwrap_err();
        assert_eq!(refusal.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(refusal.header("allow"), Some("POST"));
        assert_eq!(route(&Method::HEAD, "/v2/").unwrap(), Endpoint::Base);
        assert!(route(&Method::OPTIONS, "/v2/").is_err());
    }
}
