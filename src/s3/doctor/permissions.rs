//! One check for each permission, by the name that a policy gives it.

use super::check::{Bench, Check};
use super::topic::Severity;
use super::verdict::{Failure, Verdict, no, reason};
use crate::error::Error;
use crate::s3::wire::{ApiError, ApiResult};

pub(super) const CHECKS: [Check; 7] = [
    Check {
        id: "may_put_object",
        text: "s3:PutObject",
        severity: Severity::Breaks,
        consequence: "nothing can be stored",
        remedy: "allow s3:PutObject on arn:aws:s3:::{bucket}/{root}*",
        needs: "",
        run: |bench| Box::pin(may_put(bench)),
    },
    Check {
        id: "may_get_object",
        text: "s3:GetObject",
        severity: Severity::Breaks,
        consequence: "no layer can be read, and no upload resumed",
        remedy: "allow s3:GetObject on arn:aws:s3:::{bucket}/{root}*",
        needs: "",
        run: |bench| Box::pin(may_get(bench)),
    },
    Check {
        id: "may_delete_object",
        text: "s3:DeleteObject",
        severity: Severity::Breaks,
        consequence: "finished and cancelled uploads leave objects behind",
        remedy: "allow s3:DeleteObject on arn:aws:s3:::{bucket}/{root}*",
        needs: "",
        run: |bench| Box::pin(may_delete(bench)),
    },
    Check {
        id: "may_list_bucket",
        text: "s3:ListBucket",
        severity: Severity::Breaks,
        consequence: "absent objects look forbidden, and nothing can be listed or swept",
        remedy: "allow s3:ListBucket on arn:aws:s3:::{bucket}",
        needs: "",
        run: |bench| Box::pin(may_list(bench)),
    },
    Check {
        id: "may_list_multipart_upload_parts",
        text: "s3:ListMultipartUploadParts",
        severity: Severity::Breaks,
        consequence: "no upload with parts can be resumed",
        remedy: "allow s3:ListMultipartUploadParts on arn:aws:s3:::{bucket}/{root}*",
        needs: "may_put_object",
        run: |bench| Box::pin(may_list_parts(bench)),
    },
    Check {
        id: "may_list_bucket_multipart_uploads",
        text: "s3:ListBucketMultipartUploads",
        severity: Severity::Breaks,
        consequence: "an upload that was interrupted while it began its first part cannot be resumed",
        remedy: "allow s3:ListBucketMultipartUploads on arn:aws:s3:::{bucket}",
        needs: "",
        run: |bench| Box::pin(may_list_uploads(bench)),
    },
    Check {
        id: "may_abort_multipart_upload",
        text: "s3:AbortMultipartUpload",
        severity: Severity::Breaks,
        consequence: "cancelled uploads keep their parts, which are billed",
        remedy: "allow s3:AbortMultipartUpload on arn:aws:s3:::{bucket}/{root}*",
        needs: "may_put_object",
        run: |bench| Box::pin(may_abort(bench)),
    },
];

/// The answers to the operations of one permission.
#[derive(Default)]
struct PermissionAnswers {
    allowed: bool,
    forbidden: Vec<String>,
    unclear: Vec<String>,
}

impl PermissionAnswers {
    /// Any answer about the object or the upload shows that the operation is allowed.
    fn note<T>(&mut self, result: ApiResult<T>) -> Option<T> {
        match result {
            Ok(done) => {
                self.allowed = true;
                return Some(done);
            }
            Err(ApiError::Other(error)) if error.is_permission() => {
                self.forbidden.push(reason(&Error::from(error)));
            }
            Err(ApiError::Other(error)) => self.unclear.push(reason(&Error::from(error))),
            Err(_) => self.allowed = true,
        }
        None
    }

    fn verdict(self) -> Verdict {
        if !self.forbidden.is_empty() {
            no(self.forbidden.join(", "))
        } else if self.allowed {
            Ok("allowed".to_owned())
        } else if self.unclear.is_empty() {
            Err(Failure::Unknown("no upload to try it with".to_owned()))
        } else {
            Err(Failure::Unknown(self.unclear.join(", ")))
        }
    }
}

async fn may_put(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    let key = bench.key("may");
    // Without a condition: some stores have none.
    tried.note(bench.put(&key, b"may I?").await);
    if let Some(upload) = tried.note(bench.begin("may", false).await) {
        if let Some(part) = tried.note(upload.part(1, "may I?").await) {
            tried.note(upload.complete(&[part]).await);
        }
        bench.permitted = Some(upload);
    }
    tried.verdict()
}

async fn may_get(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    let key = bench.key("may");
    tried.note(bench.api.get_small(&key).await);
    tried.note(bench.api.head(&key).await);
    tried.verdict()
}

async fn may_delete(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    let keys = [bench.key("may"), bench.key("may-too")];
    tried.note(bench.api.delete(&keys[0]).await);
    tried.note(bench.api.delete_all(&keys, true, None).await);
    tried.verdict()
}

async fn may_list(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    tried.note(bench.listing().await);
    tried.verdict()
}

async fn may_list_uploads(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    let key = bench.key("may");
    tried.note(bench.api.multiparts_at(&key).await);
    tried.verdict()
}

async fn may_list_parts(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    if let Some(upload) = &bench.permitted {
        tried.note(upload.api.list_parts(&upload.key, &upload.id).await);
    }
    tried.verdict()
}

/// The upload is complete and thus unknown; the store checks the permission first.
async fn may_abort(bench: &mut Bench) -> Verdict {
    let mut tried = PermissionAnswers::default();
    if let Some(upload) = &bench.permitted {
        tried.note(upload.api.abort_multipart(&upload.key, &upload.id).await);
    }
    tried.verdict()
}
