//! Conditional requests, decided without touching anything.

use s3s::dto::ETagCondition;

use crate::quirks::Quirks;
use crate::refusal::Refusal;

/// Whether a condition names this version. Our ETags are all strong, so a weak one names none.
fn names(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(named) => named.as_strong() == Some(etag),
    }
}

/// The conditions of a write or a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteConditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

/// Whether a write may replace `current`, the ETag that the key has now.
pub(crate) fn may_write(
    current: Option<&str>,
    conditions: &WriteConditions,
    quirks: Quirks,
) -> Result<(), Refusal> {
    if quirks.ignore_conditions {
        return Ok(());
    }
    match (&conditions.if_none_match, current) {
        (Some(ETagCondition::ETag(_)), _) => {
            return Err(Refusal::NotImplemented(
                "If-None-Match of a write must be *.".into(),
            ));
        }
        (Some(ETagCondition::Any), Some(_)) => return Err(Refusal::PreconditionFailed),
        (Some(ETagCondition::Any), None) | (None, _) => {}
    }
    match (&conditions.if_match, current) {
        (None, _) => Ok(()),
        // AWS: a 404 here, not a 412.
        (Some(_), None) if quirks.if_match_absent_succeeds => Ok(()),
        (Some(_), None) => Err(Refusal::NoSuchKey),
        (Some(condition), Some(etag)) if names(condition, etag) => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::PreconditionFailed),
    }
}

/// The conditions of a read. Times are whole seconds, as HTTP dates are.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadConditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<i64>,
    pub(crate) if_unmodified_since: Option<i64>,
}

/// Whether the version `etag`, last modified at `modified`, may be read. An ETag condition
/// overrules the date beside it (RFC 9110, section 13.2.2).
pub(crate) fn may_read(
    etag: &str,
    modified: i64,
    conditions: &ReadConditions,
) -> Result<(), Refusal> {
    let fresh = match (&conditions.if_match, conditions.if_unmodified_since) {
        (Some(condition), _) => names(condition, etag),
        (None, Some(since)) => modified <= since,
        (None, None) => true,
    };
    if !fresh {
        return Err(Refusal::PreconditionFailed);
    }
    let known = match (&conditions.if_none_match, conditions.if_modified_since) {
        (Some(had), _) => names(had, etag),
        (None, Some(since)) => modified <= since,
        (None, None) => false,
    };
    if known {
        return Err(Refusal::NotModified(etag.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use s3s::dto::ETag;

    fn version(etag: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(etag.into())))
    }

    /// The name of the verdict, so that a table can hold it.
    fn verdict(result: Result<(), Refusal>) -> &'static str {
        match result {
            Ok(()) => "yes",
            Err(Refusal::PreconditionFailed) => "412",
            Err(Refusal::NoSuchKey) => "404",
            Err(Refusal::NotModified(_)) => "304",
            Err(Refusal::NotImplemented(_)) => "501",
            Err(_) => "another",
        }
    }

    #[test]
    fn write_cases() {
        let none = Quirks::none();
        let garage = Quirks {
            ignore_conditions: true,
            ..none
        };
        let old_minio = Quirks {
            if_match_absent_succeeds: true,
            ..none
        };
        for (case, current, if_match, if_none_match, quirks, want) in [
            ("unconditional, absent", None, None, None, none, "yes"),
            ("unconditional, present", Some("a"), None, None, none, "yes"),
            (
                "create, absent",
                None,
                None,
                Some(ETagCondition::Any),
                none,
                "yes",
            ),
            (
                "create, present",
                Some("a"),
                None,
                Some(ETagCondition::Any),
                none,
                "412",
            ),
            (
                "if-none-match of a version",
                Some("a"),
                None,
                version("b"),
                none,
                "501",
            ),
            ("replace, same", Some("a"), version("a"), None, none, "yes"),
            ("replace, other", Some("b"), version("a"), None, none, "412"),
            ("replace, absent", None, version("a"), None, none, "404"),
            (
                "if-match any, present",
                Some("a"),
                Some(ETagCondition::Any),
                None,
                none,
                "yes",
            ),
            (
                "if-match any, absent",
                None,
                Some(ETagCondition::Any),
                None,
                none,
                "404",
            ),
            (
                "ignored: create, present",
                Some("a"),
                None,
                Some(ETagCondition::Any),
                garage,
                "yes",
            ),
            (
                "ignored: replace, other",
                Some("b"),
                version("a"),
                None,
                garage,
                "yes",
            ),
            (
                "old MinIO: replace, absent",
                None,
                version("a"),
                None,
                old_minio,
                "yes",
            ),
            (
                "old MinIO: replace, other",
                Some("b"),
                version("a"),
                None,
                old_minio,
                "412",
            ),
        ] {
            let conditions = WriteConditions {
                if_match,
                if_none_match,
            };
            assert_eq!(
                verdict(may_write(current, &conditions, quirks)),
                want,
                "{case}"
            );
        }
    }

    #[test]
    fn read_cases() {
        for (case, if_match, if_none_match, since, unmodified, want) in [
            ("unconditional", None, None, None, None, "yes"),
            ("the version", version("a"), None, None, None, "yes"),
            ("another version", version("b"), None, None, None, "412"),
            (
                "any version",
                Some(ETagCondition::Any),
                None,
                None,
                None,
                "yes",
            ),
            ("already had", None, version("a"), None, None, "304"),
            ("had another", None, version("b"), None, None, "yes"),
            ("not modified since", None, None, Some(100), None, "304"),
            ("modified since", None, None, Some(99), None, "yes"),
            ("unmodified since", None, None, None, Some(100), "yes"),
            ("modified meanwhile", None, None, None, Some(99), "412"),
            (
                "the ETag overrules the date",
                version("a"),
                None,
                None,
                Some(99),
                "yes",
            ),
            (
                "a new ETag overrules the date",
                None,
                version("b"),
                Some(100),
                None,
                "yes",
            ),
        ] {
            let conditions = ReadConditions {
                if_match,
                if_none_match,
                if_modified_since: since,
                if_unmodified_since: unmodified,
            };
            assert_eq!(verdict(may_read("a", 100, &conditions)), want, "{case}");
        }
    }
}
