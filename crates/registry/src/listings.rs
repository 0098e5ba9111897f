//! Listings: tags, referrers, repositories, a page at a time.

use http::header::LINK;
use http::{HeaderName, Response};
use serde_json::{Value, json};

use super::body::ResponseBody;
use super::error::{Code, Refusal};
use super::query::{Query, encoded};
use super::{Answer, Head, Shared, json as answer, range, with};
use crate::auth::{Access, Grant};
use s3layers::{Digest, Page, RepositoryName};
use s3layers::{Referrer, ReferrerKey};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The most items of a page, and how many there are unless the client says.
const PAGE: usize = 1000;
/// How many lists a page of the catalog costs, unless the client may list none of what they have.
const LISTS: usize = 3;
/// No page of referrers is larger, in bytes, unless it has but one: clients read 4 MiB of an index.
const INDEX_LIMIT: usize = 3 * 1024 * 1024;
/// What an index has besides its manifests.
const ENVELOPE: usize = 128;

/// `GET /v2/<name>/tags/list`
pub(super) async fn tags(shared: &Shared, query: &Query, name: &RepositoryName) -> Answer {
    let limit = limit(query)?;
    // A limit of 0 still checks whether the repository exists.
    let page = shared.service.tags(name, query.get("last"), limit.max(1));
    let page = page.await?.ok_or_else(|| {
        Refusal::new(
            Code::NameUnknown,
            format_args!("there is no repository {name}"),
        )
    })?;
    let tags: Vec<&str> = page
        .items
        .iter()
        .take(limit)
        .map(|tag| tag.as_str())
        .collect();
    let text = json!({"name": name, "tags": tags}).to_string();
    let response = answer(text.into(), "application/json");
    let path = format!("/v2/{name}/tags/list");
    let last = tags.last().copied().filter(|_| page.more);
    Ok(linked(response, &path, query, last, limit))
}

/// `GET /v2/_catalog`
pub(super) async fn catalog(shared: &Shared, head: &Head) -> Answer {
    let query = &head.query;
    let limit = limit(query)?;
    let page = listed(shared, &*head.grant, query.get("last"), limit).await?;
    let text = json!({ "repositories": page.items }).to_string();
    let response = answer(text.into(), "application/json");
    let last = page.items.last().filter(|_| page.more);
    let last = last.map(RepositoryName::as_str);
    Ok(linked(response, "/v2/_catalog", query, last, limit))
}

/// At most `limit` repositories after `last` that the client may list. Where few of them are listed,
/// the page is short. It is not empty while there are more: the link to the next page would name a
/// repository that the client may not know. So a client that may list nothing costs a list for each
/// thousand repositories.
async fn listed(
    shared: &Shared,
    grant: &dyn Grant,
    last: Option<&str>,
    limit: usize,
) -> Result<Page<RepositoryName>, Refusal> {
    let mut items = Vec::new();
    let mut last = last.map(ToOwned::to_owned);
    let mut lists = 0;
    loop {
        lists += 1;
        let wanted = if lists == 1 { limit.max(1) } else { PAGE };
        let page = shared.service.repositories(last.as_deref(), wanted).await?;
        last = page.items.last().map(|name| name.to_string());
        let may_list = |name: &RepositoryName| grant.may(&Access::List(name.clone()));
        items.extend(page.items.into_iter().filter(may_list));
        let is_full = items.len() >= limit;
        let is_short = lists >= LISTS && !items.is_empty();
        if is_full || is_short || !page.more {
            let more = page.more || items.len() > limit;
            items.truncate(limit);
            return Ok(Page { items, more });
        }
    }
}

/// `GET /v2/<name>/referrers/<digest>`
pub(super) async fn referrers(
    shared: &Shared,
    query: &Query,
    name: &RepositoryName,
    subject: &Digest,
) -> Answer {
    let artifact_type = query.get("artifactType").filter(|text| !text.is_empty());
    let limit = limit(query)?.max(1);
    let last = query.get("last").map(str::parse::<ReferrerKey>).transpose();
    let mut after = last.map_err(|error| Refusal::new(Code::DigestInvalid, error))?;
    let service = &shared.service;
    let read = service.referrers(
        name,
        subject,
        artifact_type,
        after.as_ref(),
        limit,
        INDEX_LIMIT,
    );
    let read = read.await?;
    let (mut manifests, mut size, mut more) = (Vec::new(), ENVELOPE, read.more);
    for referrer in read.items {
        let descriptor = descriptor(&referrer);
        size += descriptor.to_string().len() + ",".len();
        // In JSON it can be six times as long.
        if size > INDEX_LIMIT && !manifests.is_empty() {
            more = true;
            break;
        }
        manifests.push(descriptor);
        after = Some(referrer.key());
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let index = shared.answer_bytes.count(index.to_string().into())?;
    let mut response = answer(index, INDEX);
    if artifact_type.is_some() {
        response = with(response, FILTERS_APPLIED, "artifactType");
    }
    let path = format!("/v2/{name}/referrers/{subject}");
    let last = after.filter(|_| more).map(|last| last.to_string());
    Ok(linked(response, &path, query, last.as_deref(), limit))
}

fn descriptor(referrer: &Referrer) -> Value {
    let mut descriptor = json!({
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    });
    if let Some(artifact_type) = &referrer.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !referrer.annotations.is_empty() {
        descriptor["annotations"] = json!(referrer.annotations);
    }
    descriptor
}

/// How many items the client wants, and gets at most.
fn limit(query: &Query) -> Result<usize, Refusal> {
    let Some(text) = query.get("n") else {
        return Ok(PAGE);
    };
    let wanted = range::position(text).ok_or_else(|| {
        Refusal::new(
            Code::PaginationNumberInvalid,
            format_args!("n={text} is not a number of items"),
        )
    })?;
    // More digits than a number has is more than a page, too.
    Ok(usize::try_from(wanted).unwrap_or(PAGE).min(PAGE))
}

/// Says where the next page is: after `last`. `None`: there is none.
fn linked(
    response: Response<ResponseBody>,
    path: &str,
    query: &Query,
    last: Option<&str>,
    limit: usize,
) -> Response<ResponseBody> {
    let Some(last) = last else {
        return response;
    };
    let mut link = format!("{path}?last={}", encoded(last));
    if query.get("n").is_some() {
        link.push_str(&format!("&n={limit}"));
    }
    if let Some(artifact_type) = query.get("artifactType") {
        link.push_str(&format!("&artifactType={}", encoded(artifact_type)));
    }
    with(response, LINK, &format!("<{link}>; rel=\"next\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        for (query, want) in [
            ("", Some(PAGE)),
            ("n=5", Some(5)),
            ("n=0", Some(0)),
            ("n=5000", Some(PAGE)),
            ("n=99999999999999999999999", Some(PAGE)),
            ("n=-1", None),
            ("n=", None),
            ("n=x", None),
        ] {
            assert_eq!(
                limit(&Query::parse(Some(query)).unwrap()).ok(),
                want,
                "{query}"
            );
        }
    }
}
