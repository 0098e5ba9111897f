//! An unreachable or refusing service is reported at once, with the remedy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::support::tcp_proxy::Listener;

/// Within this no request is repeated to the end of all patience, and every machine is done.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What is said on stderr by a command that fails at its first attempt.
fn fails_at_once(user: &User, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let begun = Instant::now();
    let said = fails(user, variables, arguments);
    assert!(begun.elapsed() < AT_ONCE, "{:?}: {said}", begun.elapsed());
    // The SDK's errors, as they are for those who wrote it.
    assert!(!said.contains("{ ") && !said.contains("WARN"), "{said}");
    said
}

#[test]
fn hosts_that_cannot_be_connected_to() {
    let store = store();
    let cloud = s3_at_an_address(&store);
    let user = user(&[]);
    let trusted = user.file("ca.pem", StandIn::certificate().as_bytes());
    let at = |url: &str, variable: &[(&str, &str)], wants: &str| {
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", url)], variable].concat();
        let said = fails_at_once(&user, &variables, &["ls"]);
        assert!(said.contains(wants), "{url}: {said}");
        said
    };
    let here = |scheme: &str, url: &str| format!("{scheme}://{}", url.split_once("://").unwrap().1);
    let said = at(&cloud.tls_url, &[], "AWS_CA_BUNDLE");
    assert!(
        said.contains("UnknownIssuer") && !said.contains("attempts"),
        "{said}"
    );
    let other_name = cloud.tls_url.replace("127.0.0.1", "localhost");
    at(
        &other_name,
        &[("AWS_CA_BUNDLE", &trusted)],
        "certificate not valid for name",
    );
    at("http://nowhere.invalid", &[], "cannot connect to the store");
    at(&here("http", &cloud.tls_url), &[], "begins with https://");
    at(&here("https", &store.endpoint), &[], "begins with http://");
    // Go's servers, and so MinIO.
    let go = StandIn::start("", |_| {
        Answer::text(400, "Client sent an HTTP request to an HTTPS server.\n")
    });
    at(&go.url, &[], "begins with https://");
}

/// As `openssl req -x509` makes it by default.
#[test]
fn certificate_of_an_authority_is_no_server_certificate() {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pair = KeyPair::generate().unwrap();
    let made = params.self_signed(&pair).unwrap();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let certificate = made.der().clone();
    let server = Listener::start(move |client| {
        if let Ok(mut client) = stand_in::encrypted_with(client, &certificate, &key) {
            let _ = client.read(&mut [0; 1000]);
        }
    })
    .unwrap();
    let url = format!("https://{}", server.address);
    let user = user(&[]);
    let trusted = user.file("ca.pem", made.pem().as_bytes());
    let of_it = [("AWS_ENDPOINT_URL", &*url), ("AWS_CA_BUNDLE", &*trusted)];
    let said = fails_at_once(&user, &[&KEYS[..], &of_it].concat(), &["ls"]);
    assert!(said.contains("basicConstraints=CA:FALSE"), "{said}");
}

#[test]
fn unknown_credentials_are_reported() {
    let user = user(&[]);
    let none = [("AWS_EC2_METADATA_DISABLED", "true")];
    let said = fails_at_once(&user, &none, &["ls"]);
    assert!(
        said.contains("cannot get credentials; set both AWS_ACCESS_KEY_ID"),
        "{said}"
    );
    // Each source once, without the SDK's own words, and nothing of it as a warning.
    assert!(
        said.contains("tried Environment (environment variable not set)"),
        "{said}"
    );
    assert!(
        !said.contains("not enabled") && !said.contains("WARN"),
        "{said}"
    );
    // The SDK logs its errors as debug texts.
    let said = fails(&user, &none, &["-vv", "ls"]);
    assert!(!said.contains("aws_config"), "{said}");
}

#[test]
fn bucket_in_another_region_is_named() {
    let redirect = "<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>";
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region \
                     'eu-west-1' is wrong</Message><Region>eu-central-1</Region></Error>";
    for (status, header, body) in [(301, true, redirect), (400, false, malformed)] {
        let cloud = StandIn::start("", move |asked| {
            let answer = Answer::text(status, body);
            match &*asked.headers["host"] {
                BUCKET_HOST if header => answer.header("x-amz-bucket-region", "eu-central-1"),
                BUCKET_HOST => answer,
                _ => imds(asked),
            }
        });
        let user = user(&[]);
        let variables = on_aws(&cloud, &user);
        let said = fails_at_once(&user, &borrowed(&variables), &["ls"]);
        assert!(
            said.contains("the bucket is in the region eu-central-1"),
            "{said}"
        );
        assert_eq!(cloud.count("GET /profile"), 1, "it was asked again");
    }
}

#[test]
fn missing_permission_is_named() {
    let denied = |asked: &HttpRequest| {
        let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        assert!(asked.headers.contains_key("authorization"));
        Answer::text(403, body)
    };
    let store = store();
    // Without s3:ListBucket this is what AWS answers where a key is absent.
    let unlisted = StandIn::start(&store.endpoint, move |asked| match &*asked.method {
        "GET" => denied(asked),
        _ => Answer::Store(""),
    });
    let unwritten = StandIn::start(&store.endpoint, move |asked| match &*asked.method {
        "PUT" => denied(asked),
        _ => Answer::Store(""),
    });
    let user = user(&[]);
    let file = user.file("layer", b"a layer");
    for (s3, permission) in [(&unlisted, "s3:ListBucket"), (&unwritten, "s3:PutObject")] {
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", &*s3.url)]].concat();
        let said = fails_at_once(&user, &variables, &["push", &file, "--name", "x"]);
        assert!(
            said.contains("refused permission") && said.contains(permission),
            "{said}"
        );
    }
}

/// As a web server, a proxy or a login page gives them.
#[test]
fn answers_that_are_not_of_s3_are_reported_with_their_status() {
    for (status, body) in [
        (301, ""),
        (302, "<html>Log in.</html>"),
        (405, ""),
        (407, ""),
        (401, ""),
        (403, ""),
    ] {
        let server = StandIn::start("", move |_| Answer::text(status, body));
        let user = user(&[]);
        let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", &*server.url)]].concat();
        let said = fails_at_once(&user, &variables, &["ls"]);
        assert!(said.contains(&format!("HTTP status {status}")), "{said}");
        assert!(!said.contains("caused by: Error"), "{said}");
        // S3 says in the body why it refuses.
        assert!(said.contains("the answer is not one of S3"), "{said}");
    }
    let server = StandIn::start("", |_| Answer::text(200, "<html><p>Hello.</p></html>"));
    let user = user(&[]);
    let variables = [&KEYS[..], &[("AWS_ENDPOINT_URL", &*server.url)]].concat();
    let said = fails_at_once(&user, &variables, &["doctor"]);
    assert!(said.contains("the answer is not one of S3"), "{said}");
}

/// What the SDK cannot make a request of.
#[test]
fn settings_that_allow_no_request_fail_at_once() {
    let store = store();
    let here = ("AWS_ENDPOINT_URL", &*store.endpoint);
    for (variables, profile, wants) in [
        (
            &[here, ("AWS_USE_FIPS_ENDPOINT", "true")][..],
            "",
            "AWS_USE_FIPS_ENDPOINT",
        ),
        (&[here], "use_fips_endpoint = true", "FIPS"),
        (
            &[here],
            "use_dualstack_endpoint = true",
            "AWS_USE_DUALSTACK_ENDPOINT",
        ),
        (
            &[],
            "endpoint_url = 127.0.0.1:9000",
            "the endpoint of S3 is \"127.0.0.1:9000\"",
        ),
        (
            &[],
            "endpoint_url = http://127.0.0.1:99999",
            "endpoint_url of the profile",
        ),
        (&[], "region = no_region", "--region"),
    ] {
        let user = user(&[("config", &format!("[default]\n{profile}\n"))]);
        let none = ("AWS_EC2_METADATA_DISABLED", "true");
        let variables = [&KEYS[..], &[none], variables].concat();
        let said = fails_at_once(&user, &variables, &["ls"]);
        assert!(
            said.contains(wants) && !said.contains("attempts"),
            "{wants}: {said}"
        );
    }
}

/// An empty variable, as in a file of Compose, is none.
#[test]
fn empty_settings_are_none() {
    let store = store();
    let url = &*store.endpoint;
    let profile = format!("[default]\nendpoint_url = {url}\nregion =\n");
    let of_any = ("AWS_ENDPOINT_URL", url);
    let of_s3 = ("AWS_ENDPOINT_URL_S3", "");
    let of_none = ("AWS_ENDPOINT_URL", "");
    let region = ("AWS_REGION", "");
    for (variables, config) in [
        (&[of_any, of_s3, region][..], ""),
        (&[of_s3, of_none], &*profile),
        (&[of_none], &profile),
        (&[of_any], "[default]\nendpoint_url =\nregion =\n"),
    ] {
        let user = user(&[("config", config)]);
        push_and_pull(&user, &[&KEYS[..], variables].concat());
    }
}

/// What `ls` says through this proxy, which ends it at once.
fn said_through(proxy: (&str, &str), endpoint: &str) -> String {
    let user = user(&[]);
    let settings = [proxy, ("AWS_ENDPOINT_URL", endpoint)];
    fails_at_once(&user, &[&KEYS[..], &settings].concat(), &["ls"])
}

/// As one that wants a password, a web server, and one that does not speak HTTP.
#[test]
fn proxies_that_do_not_connect_are_named() {
    for status in ["407 Proxy Authentication Required", "404 Not Found"] {
        let server = Listener::start(move |mut client| {
            let _ = client.read(&mut [0; 1000]);
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = client.write_all(answer.as_bytes());
        })
        .unwrap();
        let said = said_through(("HTTPS_PROXY", &server.url()), "https://s3.example.test");
        assert!(said.contains("the proxy that HTTPS_PROXY"), "{said}");
    }
    for (name, scheme) in [("ALL_PROXY", "http"), ("HTTPS_PROXY", "https")] {
        let proxy = (name, "socks5://127.0.0.1:1080");
        let said = said_through(proxy, &format!("{scheme}://s3.example.test"));
        assert!(said.contains("unsupported scheme socks5"), "{said}");
        assert!(said.contains("has to begin with http://"), "{said}");
    }
}

/// The retries of a store take half a minute; what may be wrong is said after two seconds.
#[test]
fn proxy_that_is_absent_is_mentioned_while_it_is_tried() {
    for (name, endpoint) in [
        ("HTTP_PROXY", "http://s3.example.test"),
        ("HTTPS_PROXY", "https://s3.example.test"),
    ] {
        let settings = [(name, "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL", endpoint)];
        let user = user(&[]);
        let mut program = program(&user, &[&KEYS[..], &settings].concat(), &["ls"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stderr = program.stderr.take().unwrap();
        BufReader::new(stderr).read_line(&mut said).unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
        assert!(
            said.contains("retrying") && said.contains("NO_PROXY"),
            "{said}"
        );
    }
}

/// A mistyped endpoint, or a proxy whose store is away. Who waits for a store that was never reached gains nothing.
#[test]
fn server_that_is_no_store_is_asked_three_times() {
    let store = store();
    let cloud = StandIn::start(&store.endpoint, |_| Answer::text(404, "{}"));
    let user = user(&[]);
    let environment = [&KEYS[..], &[("AWS_ENDPOINT_URL", &*cloud.url)]].concat();
    let said = fails_at_once(&user, &environment, &["ls"]);
    assert_eq!(cloud.count("GET /layers/"), 3, "{said}");
}

/// An answer that is no HTTP, or no XML, may be that of a bit that flipped, and more often of another
/// server.
#[test]
fn answer_that_cannot_be_read_is_requested_three_times() {
    let store = store();
    let cloud = StandIn::start(&store.endpoint, |asked| match asked.target.as_str() {
        listing if listing.contains("list-type=2") => Answer::text(200, "not XML"),
        _ => Answer::Store(""),
    });
    let user = user(&[]);
    // So that the store is known, and not probed.
    fn at(url: &str) -> Vec<(&str, &str)> {
        [&KEYS[..], &[("AWS_ENDPOINT_URL", url)]].concat()
    }
    push_and_pull(&user, &at(&store.endpoint));
    let said = fails_at_once(&user, &at(&cloud.url), &["ls"]);
    assert_eq!(cloud.count("GET /layers/?list-type=2"), 3, "{said}");

    for speaks_first in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, connections) = mpsc::channel();
        thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                sender.send(()).unwrap();
                if speaks_first {
                    let _ = client.write_all(b"SSH-2.0-server\r\n");
                }
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(b"SSH-2.0-server\r\n");
            }
        });
        let said = fails_at_once(&user, &at(&url), &["ls"]);
        assert!(said.contains("(3 attempts in "), "{said}");
        // A connection that failed before the request was sent is replaced within the attempt.
        let connections = connections.try_iter().count();
        assert!((3..=6).contains(&connections), "{connections}: {said}");
    }
}
