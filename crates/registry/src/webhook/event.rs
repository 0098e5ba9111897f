//! Events in the envelope of distribution's webhooks.
//!
//! <https://distribution.github.io/distribution/about/notifications/>

use std::collections::BTreeSet;

use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Response};
use http_body::Body as _;
use serde_json::{Value, json};

use crate::access::{Entry, header_text};
use crate::answers::CONTENT_DIGEST;
use crate::auth::Subject;
use crate::body::ResponseBody;
use crate::call::Head;
use crate::location::Base;
use crate::options::Options;
use crate::route::{Endpoint, Reference};
use s3layers::{Digest, RepositoryName, clock};

/// What is known of the events of a request before its answer.
pub(crate) struct Draft {
    method: Method,
    is_manifest: bool,
    name: RepositoryName,
    digest: Option<Digest>,
    tags: BTreeSet<String>,
    /// Of the body of the request, unless it is a part of a layer.
    size: Option<u64>,
    content_type: Option<String>,
    is_mount: bool,
    /// The source of a mount.
    from: Option<String>,
    base: Base,
    request: Value,
}

impl Draft {
    /// `None`: there are no events about such requests.
    pub(crate) fn new(endpoint: &Endpoint, head: &Head, options: &Options) -> Option<Self> {
        let (name, digest, tag) = match endpoint {
            Endpoint::Manifest(name, Reference::Tag(tag)) => (name, None, Some(tag.to_string())),
            Endpoint::Manifest(name, Reference::Digest(digest)) | Endpoint::Blob(name, digest) => {
                (name, Some(digest.clone()), None)
            }
            Endpoint::Uploads(name) | Endpoint::Upload(name, _) => (name, None, None),
            _ => return None,
        };
        let method = head.parts.method.clone();
        let is_manifest = matches!(endpoint, Endpoint::Manifest(..));
        let more_tags = head.query.all("tag");
        let more_tags = more_tags.filter(|_| is_manifest && method == Method::PUT);
        let text = |name| header_text(&head.parts.headers, name);
        Some(Draft {
            is_manifest,
            name: name.clone(),
            digest,
            tags: tag
                .into_iter()
                .chain(more_tags.map(str::to_owned))
                .collect(),
            size: head
                .size
                .filter(|_| !matches!(endpoint, Endpoint::Upload(..))),
            content_type: text(CONTENT_TYPE),
            is_mount: head.query.get("mount").is_some(),
            from: head.query.get("from").map(str::to_owned),
            base: Base::public(&head.parts, options),
            request: json!({
                "host": text(HOST),
                "method": method.as_str(),
                "useragent": text(USER_AGENT),
            }),
            method,
        })
    }

    /// The events of the request after this answer: one for each tag that it names, or one.
    pub(crate) fn complete(self, entry: &Entry, response: &Response<ResponseBody>) -> Vec<Value> {
        let action = match (&self.method, response.status().as_u16()) {
            (&Method::GET, 200 | 206 | 307) => "pull",
            (&Method::POST, 201) if self.is_mount => "mount",
            (&Method::PUT | &Method::POST, 201) => "push",
            (&Method::DELETE, 202) => "delete",
            _ => return Vec::new(),
        };
        let target = self.target(action, response);
        let mut request = self.request;
        request["id"] = entry.id().into();
        request["addr"] = json!(entry.client().map(|peer| peer.0.to_string()));
        let event = |tag: Option<String>| {
            let mut target = target.clone();
            target["tag"] = json!(tag);
            json!({
                "id": clock::new_uuid().to_string(),
                "timestamp": clock::now_timestamp().to_string(),
                "action": action,
                "target": without_nulls(target),
                "request": without_nulls(request.clone()),
                "actor": {"name": entry.subject().map_or("anonymous", Subject::as_str)},
            })
        };
        if self.tags.is_empty() {
            return vec![event(None)];
        }
        self.tags.into_iter().map(Some).map(event).collect()
    }

    fn target(&self, action: &str, response: &Response<ResponseBody>) -> Value {
        let answered = header_text(response.headers(), CONTENT_DIGEST);
        let answered = answered.and_then(|text| text.parse().ok());
        let digest = answered.or_else(|| self.digest.clone());
        let is_here = matches!(action, "pull" | "push" | "mount");
        let url = digest.as_ref().filter(|_| is_here).map(|digest| {
            if self.is_manifest {
                self.base.manifest(&self.name, digest)
            } else {
                self.base.blob(&self.name, digest)
            }
        });
        let size = match action {
            "pull" if response.status() == 200 => response.body().size_hint().exact(),
            "push" => self.size,
            _ => None,
        };
        let media_type = match (action, self.is_manifest) {
            ("delete", _) => None,
            (_, false) => Some("application/octet-stream".to_owned()),
            ("pull", true) => header_text(response.headers(), CONTENT_TYPE),
            (_, true) => self.content_type.clone(),
        };
        json!({
            "mediaType": media_type,
            "size": size,
            "length": size,
            "digest": digest.map(|digest| digest.to_string()),
            "repository": self.name.as_str(),
            "fromRepository": self.from.as_ref().filter(|_| action == "mount"),
            "url": url,
        })
    }
}

/// Distribution leaves out what is unknown.
fn without_nulls(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}
