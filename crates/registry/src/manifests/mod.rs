//! Manifests: by tag and by digest. What one names must be here before it is.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderName, Method, Response, StatusCode};
use serde_json::json;

use self::document::Content;
use self::parse::Kind;
use super::body::ResponseBody;
use super::error::{Code, Refusal};
use super::location::Base;
use super::query::Query;
use super::route::{Reference, parse_tag};
use super::{Answer, CONTENT_DIGEST, Call, Head, Shared, bare, range, with};
use s3layers::clock::Moment;
use s3layers::{Algorithm, Digest, Error, Manifest, RepositoryName, Tag};

mod document;
mod gather;
mod json;
mod parse;

pub(super) use self::gather::ArrivalMemory;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// How many tags one request may give.
const TAGS: usize = 100;
/// How many of the things that a manifest names are looked for at a time.
const LOOKS: usize = 16;
/// After so many that are absent no more are looked for.
const ABSENT: usize = 100;

/// `PUT /v2/<name>/manifests/<reference>`
pub(super) async fn put(
    shared: &Shared,
    mut call: Call,
    name: &RepositoryName,
    reference: Reference,
) -> Answer {
    let idle = shared.options.body_idle_timeout;
    // It counts as gathered until it is stored.
    let gathered = gather::gather(&shared.arrivals, &mut call.body, &mut call.permit, idle);
    let gathered = match gathered.await {
        Ok(gathered) => gathered,
        Err(refusal) => return call.body.refuse(refusal),
    };
    let bytes = &gathered.bytes;
    let tags = tags(&call.head.query, &reference)?;
    let digest = match reference {
        Reference::Tag(_) => Digest::of(Algorithm::Sha256, bytes),
        Reference::Digest(claimed) => {
            let computed = Digest::of(claimed.algorithm(), bytes);
            if computed != claimed {
                return Err(Error::InvalidChecksum { claimed, computed }.into());
            }
            claimed
        }
    };
    let content_type = call.head.header(CONTENT_TYPE);
    let parsed = parse::parse(bytes, content_type, digest)?;
    let since = Moment::now();
    check_named(shared, name, &parsed.named).await?;
    let manifest = parsed.manifest;
    let protection = &shared.options.write_protection;
    let service = &*shared.service;
    protection
        .check_tags(service, name, &tags, &manifest.digest)
        .await?;
    service
        .put_confirmed_manifest(name, &manifest, since)
        .await?;
    for tag in &tags {
        service.put_tag(name, tag, &manifest.digest).await?;
    }
    let base = Base::of(&call.head.parts, &shared.options);
    let location = base.manifest(name, &manifest.digest);
    let response = with(bare(StatusCode::CREATED), LOCATION, &location);
    let mut response = described(response, &manifest.digest);
    if let Some(subject) = &manifest.subject {
        response = with(response, SUBJECT, &subject.to_string());
    }
    // Of the tags that were asked for as such; the one in the path goes without saying.
    for tag in call.head.query.all("tag").collect::<BTreeSet<_>>() {
        response = with(response, TAG, tag);
    }
    Ok(response)
}

/// All tags that the manifest is to have.
fn tags(query: &Query, reference: &Reference) -> Result<Vec<Tag>, Refusal> {
    let mut tags = query
        .all("tag")
        .map(parse_tag)
        .collect::<Result<Vec<_>, _>>()?;
    if let Reference::Tag(tag) = reference {
        tags.push(tag.clone());
    }
    if tags.len() > TAGS {
        let refusal = Refusal::new(
            Code::TagInvalid,
            format_args!("one request gives {TAGS} tags at most"),
        );
        return Err(refusal.with_status(StatusCode::URI_TOO_LONG));
    }
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// Checks that everything that the manifest names is stored here, in the size that it names. Its
/// subject may be absent.
async fn check_named(
    shared: &Shared,
    name: &RepositoryName,
    named: &[(Kind, Content)],
) -> Result<(), Refusal> {
    let looks = named.iter();
    let looks = looks.map(|(kind, content)| look_for(shared, name, content, *kind));
    let looks: Vec<_> = looks.collect();
    let mut looks = stream::iter(looks).buffer_unordered(LOOKS);
    let mut absent = Vec::new();
    while let Some(look) = looks.next().await {
        absent.extend(look?);
        if absent.len() == ABSENT {
            break;
        }
    }
    if absent.is_empty() {
        return Ok(());
    }
    absent.sort_unstable();
    absent.dedup();
    let message = format_args!("{name} lacks what the manifest names; detail has the digests");
    let detail = json!({ "digests": absent });
    Err(Refusal::new(Code::ManifestBlobUnknown, message).with_detail(detail))
}

/// The digest, where it is absent and must not be.
async fn look_for<'a>(
    shared: &Shared,
    name: &RepositoryName,
    content: &'a Content,
    kind: Kind,
) -> Result<Option<&'a Digest>, Refusal> {
    let may_be_absent = kind == Kind::Subject || shared.options.sparse;
    match stored_size(shared, name, &content.digest, kind).await? {
        Some(size) if size != content.size => Err(wrong_size(content, size)),
        None if !may_be_absent => Ok(Some(&content.digest)),
        _ => Ok(None),
    }
}

fn wrong_size(content: &Content, stored: u64) -> Refusal {
    let Content { digest, size } = content;
    let message = format_args!("{digest} has {stored} bytes, and its descriptor says {size}");
    Refusal::new(Code::ManifestInvalid, message)
}

/// The size of what is stored here, `None` where it is absent.
async fn stored_size(
    shared: &Shared,
    name: &RepositoryName,
    digest: &Digest,
    kind: Kind,
) -> Result<Option<u64>, Error> {
    if matches!(kind, Kind::Blob | Kind::Either) {
        let size = shared.blob_size(name, digest).await?;
        if size.is_some() || kind == Kind::Blob {
            return Ok(size);
        }
    }
    let manifest = shared.service.manifest(name, digest).await?;
    Ok(manifest.map(|manifest| manifest.bytes.len() as u64))
}

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`
pub(super) async fn read(
    shared: &Shared,
    head: &Head,
    name: &RepositoryName,
    reference: Reference,
) -> Answer {
    let unknown = || unknown(name, &reference);
    let found = match &reference {
        Reference::Digest(digest) => shared.service.manifest(name, digest).await?,
        Reference::Tag(tag) => tagged(shared, name, tag).await?,
    };
    let manifest = found.ok_or_else(unknown)?;
    let digest = manifest.digest.clone();
    if range::is_known(head.header(IF_NONE_MATCH), &digest) {
        return Ok(described(bare(StatusCode::NOT_MODIFIED), &digest));
    }
    let size = manifest.bytes.len().to_string();
    let response = if head.parts.method == Method::HEAD {
        with(bare(StatusCode::OK), CONTENT_LENGTH, &size)
    } else {
        let bytes = shared.answer_bytes.share(&digest, manifest.bytes)?;
        Response::new(ResponseBody::full(bytes))
    };
    let response = with(response, CONTENT_TYPE, &manifest.media_type);
    Ok(described(response, &digest))
}

/// The manifest that a tag names. Between the two reads the tag may be moved and the manifest that it
/// named removed: then the tag is read again.
async fn tagged(
    shared: &Shared,
    name: &RepositoryName,
    tag: &Tag,
) -> Result<Option<Manifest>, Error> {
    let mut named = shared.service.tag(name, tag).await?;
    while let Some(digest) = named {
        if let Some(manifest) = shared.service.manifest(name, &digest).await? {
            return Ok(Some(manifest));
        }
        named = shared.service.tag(name, tag).await?;
        named = named.filter(|now| *now != digest);
    }
    Ok(None)
}

/// `DELETE /v2/<name>/manifests/<reference>`: a tag alone, or a manifest and all its tags.
pub(super) async fn delete(shared: &Shared, name: &RepositoryName, reference: Reference) -> Answer {
    let protection = &shared.options.write_protection;
    protection.check_removal(name, &reference)?;
    let deleted = match &reference {
        Reference::Tag(tag) => shared.service.delete_tag(name, tag).await?,
        Reference::Digest(digest) => shared.service.delete_manifest(name, digest).await?,
    };
    if deleted {
        Ok(bare(StatusCode::ACCEPTED))
    } else {
        Err(unknown(name, &reference))
    }
}

fn unknown(name: &RepositoryName, reference: &Reference) -> Refusal {
    let message = match reference {
        Reference::Tag(tag) => format!("{name} has no tag {tag}"),
        Reference::Digest(digest) => format!("{name} has no manifest {digest}"),
    };
    Refusal::new(Code::ManifestUnknown, message)
}

fn described(response: Response<ResponseBody>, digest: &Digest) -> Response<ResponseBody> {
    let response = with(response, ETAG, &range::entity_tag(digest));
    with(response, CONTENT_DIGEST, &digest.to_string())
}
