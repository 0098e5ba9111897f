//! Answers that no store of the tests would give by itself.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;

use super::request::Operation;

pub fn refusal(status: u16) -> HttpResponse {
    let code = match status {
        // It seems to be done.
        204 => return answer(status, String::new()),
        // Of Complete: a part that others follow is too short.
        400 => "EntityTooSmall",
        403 => "AccessDenied",
        // As an ingress says it whose store is away.
        404 => return answer(404, String::new()),
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    };
    answer(status, error(code))
}

pub fn expired() -> HttpResponse {
    answer(400, error("ExpiredToken"))
}

/// What Complete and DeleteObjects may say after they have begun to answer. `sent` is the body of
/// the request.
pub fn error_in_200(operation: Operation, sent: Option<&[u8]>) -> HttpResponse {
    if operation != Operation::DeleteObjects {
        return answer(200, error("InternalError"));
    }
    let sent = String::from_utf8_lossy(sent.unwrap_or_default());
    let keys = sent.split("<Key>").skip(1);
    let keys = keys.filter_map(|rest| rest.split("</Key>").next());
    let errors = keys.map(|key| {
        format!(
            "<Error><Key>{key}</Key><Code>InternalError</Code><Message>the test's</Message></Error>"
        )
    });
    let errors = errors.collect::<String>();
    answer(200, format!("<DeleteResult>{errors}</DeleteResult>"))
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>the test's</Message></Error>")
}

fn answer(status: u16, body: String) -> HttpResponse {
    let answer = http::Response::builder()
        .status(status)
        .body(SdkBody::from(body));
    HttpResponse::try_from(answer.unwrap()).unwrap()
}
