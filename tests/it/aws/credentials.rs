//! Sources of credentials, and the errors if there are none.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// A service that gives credentials has 20 s; all of this runs at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The start page whose SHA-1, `e8be…`, names the file of its token.
const START_URL: &str = "https://example.awsapps.com/start";
const TOKEN_FILE: &str = ".aws/sso/cache/e8be5486177c5b5392bd9aa76563515b29358e6e.json";

/// How a service that gives credentials behaves.
#[derive(Clone, Copy, Debug)]
enum Service {
    Works,
    Absent,
    Refuses,
    Expired,
    Babbles,
    Hangs,
}

/// A way to credentials.
#[derive(Clone, Copy, Debug)]
enum Source {
    Imds,
    Ecs,
    WebIdentity,
    AssumeRole,
    Sso,
    Process,
}

const SOURCES: [Source; 6] = [
    Source::Imds,
    Source::Ecs,
    Source::WebIdentity,
    Source::AssumeRole,
    Source::Sso,
    Source::Process,
];

/// Answers for every source, if it works.
fn respond(asked: &HttpRequest) -> Answer {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    if asked.target == "/ecs" {
        assert_eq!(asked.headers["authorization"], "of-the-task");
        Answer::text(200, &keys("Token"))
    } else if asked.target.starts_with("/federation/credentials?") {
        assert_eq!(asked.headers["x-amz-sso_bearer_token"], "of-the-login");
        let keys = format!(
            r#"{{"roleCredentials":{{"accessKeyId":"{KEY}","secretAccessKey":"{SECRET}",
                "sessionToken":"session","expiration":4070908800000}}}}"#
        );
        Answer::text(200, &keys)
    } else if body.contains("Action=AssumeRoleWithWebIdentity") {
        assert!(body.contains("WebIdentityToken=of-the-pod"), "{body}");
        Answer::text(200, &sts("AssumeRoleWithWebIdentity"))
    } else if body.contains("Action=AssumeRole&") {
        assert!(asked.headers["authorization"].contains("AKIDOFTHEUSER"));
        Answer::text(200, &sts("AssumeRole"))
    } else {
        imds(asked)
    }
}

fn sts(action: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <Credentials><AccessKeyId>{KEY}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
         <SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
         </Credentials></{action}Result></{action}Response>"
    )
}

/// The service of a source; `url` is where it is.
fn service(behaviour: Service) -> StandIn {
    let refused = |status, code: &str| {
        let text = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>no</Message></Error></ErrorResponse>"
        );
        Answer::text(status, &text)
    };
    StandIn::start("", move |asked| match behaviour {
        Service::Works => respond(asked),
        // A machine is one of AWS's, and has a role, even where the role gives nothing.
        Service::Refuses | Service::Expired | Service::Babbles
            if asked.target.starts_with("/latest/") && !asked.target.ends_with("/role") =>
        {
            imds(asked)
        }
        Service::Absent => unreachable!("no service listens"),
        Service::Refuses => refused(403, "AccessDenied"),
        Service::Expired => refused(400, "ExpiredTokenException"),
        Service::Babbles => Answer::text(200, "<<{{"),
        Service::Hangs => Answer::Never,
    })
}

/// Someone who has credentials from this source, and the variables for it.
fn with(source: Source, url: &str, process: &str) -> (User, Vec<(&'static str, String)>) {
    let arn = "arn:aws:iam::123456789012:role/layers";
    let no_imds = ("AWS_EC2_METADATA_DISABLED", "true".to_owned());
    let user = user(&[]);
    let config = |text: String| user.file(".aws/config", text.as_bytes());
    let mut variables = match source {
        Source::Imds => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.to_owned())],
        Source::Ecs => vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/ecs")),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                "of-the-task".to_owned(),
            ),
        ],
        Source::WebIdentity => vec![
            (
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                user.file("token", b"of-the-pod"),
            ),
            ("AWS_ROLE_ARN", arn.to_owned()),
            ("AWS_ENDPOINT_URL_STS", url.to_owned()),
        ],
        Source::AssumeRole => {
            config(format!(
                "[profile user]\naws_access_key_id = AKIDOFTHEUSER\naws_secret_access_key = x\n\
                 [profile role]\nrole_arn = {arn}\nsource_profile = user\n"
            ));
            vec![
                ("AWS_PROFILE", "role".to_owned()),
                ("AWS_ENDPOINT_URL_STS", url.to_owned()),
            ]
        }
        Source::Sso => {
            config(format!(
                "[default]\nsso_start_url = {START_URL}\nsso_region = {REGION}\n\
                 sso_account_id = 123456789012\nsso_role_name = layers\n"
            ));
            let token = format!(
                r#"{{"accessToken":"of-the-login","expiresAt":"2099-01-01T00:00:00Z",
                    "region":"{REGION}","startUrl":"{START_URL}"}}"#
            );
            user.file(TOKEN_FILE, token.as_bytes());
            vec![("AWS_ENDPOINT_URL_SSO", url.to_owned())]
        }
        Source::Process => {
            config(format!("[default]\ncredential_process = {process}\n"));
            Vec::new()
        }
    };
    if !matches!(source, Source::Imds) {
        variables.push(no_imds);
    }
    variables.push(("AWS_REGION", REGION.to_owned()));
    (user, variables)
}

#[test]
fn credentials_from_everywhere() {
    let store = store();
    let service = service(Service::Works);
    for source in SOURCES {
        let (user, mut variables) = with(source, &service.url, "cat keys.json");
        user.file("keys.json", keys("SessionToken").as_bytes());
        variables.push(("AWS_ENDPOINT_URL_S3", store.endpoint.clone()));
        push_and_pull(&user, &borrowed(&variables));
    }
}

/// A process that fails as a service does.
fn process(behaviour: Service) -> &'static str {
    match behaviour {
        Service::Works => "cat keys.json",
        Service::Absent => "./absent",
        Service::Refuses => "echo denied >&2; exit 1",
        Service::Expired => {
            r#"echo '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c","Expiration":"yesterday"}'"#
        }
        Service::Babbles => "echo '<<{{'",
        Service::Hangs => "exec sleep 300",
    }
}

#[test]
fn credentials_that_do_not_come() {
    use Service::{Absent, Babbles, Expired, Hangs, Refuses};
    let every = |behaviour| SOURCES.map(|source| (source, behaviour));
    let cases = [Absent, Refuses, Expired, Babbles, Hangs]
        .map(every)
        .concat();
    // Most of them wait, for each other no longer than for the slowest.
    thread::scope(|scope| {
        for (source, behaviour) in cases {
            scope.spawn(move || {
                let service = service(behaviour);
                let url = match behaviour {
                    Absent => "http://127.0.0.1:1",
                    _ => &service.url,
                };
                let (user, mut variables) = with(source, url, process(behaviour));
                // It is not even asked.
                variables.push(("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1".to_owned()));
                let begun = Instant::now();
                let said = fails(&user, &borrowed(&variables), &["ls"]);
                let case = format!("{source:?} {behaviour:?} {:?}: {said}", begun.elapsed());
                assert!(begun.elapsed() < PATIENCE, "{case}");
                for word in ["credentials", "set both AWS_ACCESS_KEY_ID"] {
                    assert!(said.contains(word), "{word}: {case}");
                }
                let named = match source {
                    Source::Imds => "IMDS",
                    Source::Ecs => "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    Source::WebIdentity => "AWS_WEB_IDENTITY_TOKEN_FILE",
                    Source::AssumeRole => "profile role (assumes a role)",
                    Source::Sso => "profile default (SSO); `aws sso login --profile default`",
                    Source::Process => "profile default (runs a command)",
                };
                // A machine without IMDS has no role.
                if !matches!((source, behaviour), (Source::Imds, Absent)) {
                    assert!(said.contains(named), "{named}: {case}");
                }
                assert!(
                    !said.contains("{ ") && !said.contains("refused permission"),
                    "{case}"
                );
                println!("{case}");
            });
        }
    });
}

/// As a secret of Kubernetes has them that was made by `echo`.
#[test]
fn credentials_with_a_line_break_are_refused_by_name() {
    let broken = "of-the-user\n";
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    for (variables, of_process, name) in [
        (&[(id, broken), KEYS[1]][..], "", "access key ID"),
        (&[KEYS[0], (secret, broken)], "", "secret access key"),
        (&[], KEY, "access key ID"),
        (&[], SECRET, "secret access key"),
        (&[], "session", "session token"),
    ] {
        let user = user(&[("config", "[default]\ncredential_process = cat keys.json\n")]);
        let value = format!("\"{of_process}\"");
        let answer = keys("SessionToken").replace(&value, r#""of-the-user\n""#);
        user.file("keys.json", answer.as_bytes());
        // It is not even asked.
        let elsewhere = [
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let said = fails(&user, &[variables, &elsewhere].concat(), &["ls"]);
        let want = format!("the {name} has a line break");
        assert!(
            said.contains(&want) && !said.contains("of-the-") && !said.contains("attempts"),
            "{want}: {said}"
        );
    }
}

/// Of an endpoint that is no URL, the SDK shows the whole request, and it panics on an empty one.
#[test]
fn endpoints_of_credentials_are_named_and_tokens_are_not_shown() {
    for (source, service) in [(Source::Sso, "SSO"), (Source::WebIdentity, "STS")] {
        for url in ["foo", "", "http://127.0.0.1:99999"] {
            let (user, variables) = with(source, url, "");
            let want = format!("the endpoint of {service} is {url:?}");
            for arguments in [&["ls"][..], &["-vvv", "ls"]] {
                let said = fails(&user, &borrowed(&variables), arguments);
                assert!(said.contains(&want) && !said.contains("of-the-"), "{said}");
            }
        }
    }
}
