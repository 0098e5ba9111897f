//! The way to S3: addressing, region, proxies and certificates.

use std::os::unix::ffi::OsStrExt as _;

use super::*;

/// A cloud with IMDS and S3.
fn cloud(store: &Served) -> StandIn {
    StandIn::start(&store.endpoint, |asked| match &*asked.headers["host"] {
        BUCKET_HOST => Answer::Store(""),
        _ => imds(asked),
    })
}

#[test]
fn imds_alone_gives_region_and_keys_of_a_bucket_addressed_by_host() {
    let store = store();
    let cloud = cloud(&store);
    let user = user(&[]);
    let variables = on_aws(&cloud, &user);
    push_and_pull(&user, &borrowed(&variables));
    let tunnels = cloud.count("CONNECT");
    assert!(tunnels > 0 && tunnels == cloud.count(&format!("CONNECT {BUCKET_HOST}:443")));
    assert!(cloud.count("GET /latest/meta-data/placement/region") > 0);
}

#[test]
fn endpoint_of_a_profile_is_not_aws() {
    let store = store();
    let cloud = cloud(&store);
    let url = &store.endpoint;
    let keys = format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    for config in [
        format!("[profile minio]\nendpoint_url = {url}\n{keys}"),
        format!(
            "[profile minio]\nservices = local\n{keys}[services local]\ns3 =\n  endpoint_url = {url}\n"
        ),
    ] {
        let user = user(&[("config", &config)]);
        let imds = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*cloud.url);
        push_and_pull(&user, &[imds, ("AWS_PROFILE", "minio")]);
        assert_eq!(
            cloud.asked().len(),
            0,
            "IMDS was asked for a region: {config}"
        );
    }
}

#[test]
fn certificates_of_a_private_authority() {
    let store = store();
    let cloud = s3_at_an_address(&store);
    let user = user(&[]);
    let path = user.file("ca.pem", StandIn::certificate().as_bytes());
    user.file(
        ".aws/config",
        format!("[profile tls]\nca_bundle = {path}\n").as_bytes(),
    );
    let endpoint = ("AWS_ENDPOINT_URL_S3", &*cloud.tls_url);
    let with = |setting| [&KEYS[..], &[endpoint, setting]].concat();
    for setting in [
        ("AWS_CA_BUNDLE", &*path),
        ("SSL_CERT_FILE", &path),
        ("AWS_PROFILE", "tls"),
    ] {
        push_and_pull(&user, &with(setting));
    }
    let empty = user.file("empty.pem", b"no certificate");
    let broken = StandIn::certificate().replace("\nMII", "\nAAA");
    let broken = user.file("broken.pem", broken.as_bytes());
    for (name, path, why) in [
        ("AWS_CA_BUNDLE", "/nowhere.pem", "No such file"),
        ("AWS_CA_BUNDLE", &empty, "no PEM certificate"),
        ("SSL_CERT_FILE", &empty, "no PEM certificate"),
        ("AWS_CA_BUNDLE", &broken, "certificate"),
    ] {
        let said = fails(&user, &with((name, path)), &["ls"]);
        assert!(said.contains(&format!("{name} names {path}: ")), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// As in an image without the package ca-certificates.
#[test]
fn machine_without_certificates_reaches_plain_http() {
    let store = store();
    let cloud = s3_at_an_address(&store);
    let user = user(&[]);
    let with = |url, setting| {
        let endpoint = ("AWS_ENDPOINT_URL_S3", url);
        [&KEYS[..], &[endpoint, setting]].concat()
    };
    let none = ("SSL_CERT_DIR", "/nowhere");
    push_and_pull(&user, &with(&store.endpoint, none));
    push_and_pull(&user, &with(&store.endpoint, ("SSL_CERT_FILE", "")));
    let said = fails(&user, &with(&cloud.tls_url, none), &["ls"]);
    for word in [
        "cannot connect to the store",
        "AWS_CA_BUNDLE or SSL_CERT_FILE",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let no_unicode = std::ffi::OsStr::from_bytes(b"/\xff.pem");
    let output = program(&user, &with(&store.endpoint, none), &["ls"])
        .env("SSL_CERT_FILE", no_unicode)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("SSL_CERT_FILE names /"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn proxies_of_plain_http() {
    let store = store();
    let proxy = s3_at_an_address(&store);
    let user = user(&[]);
    let elsewhere = ("AWS_ENDPOINT_URL", "http://s3.example.test");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        push_and_pull(
            &user,
            &[&KEYS[..], &[elsewhere, (name, &proxy.url)]].concat(),
        );
    }
    assert!(proxy.count("PUT http://s3.example.test/layers/") > 0);
    let here = ("AWS_ENDPOINT_URL", &*store.endpoint);
    let none = [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("NO_PROXY", "localhost,127.0.0.1"),
    ];
    push_and_pull(&user, &[&KEYS[..], &[here], &none].concat());
}

/// The program repeats requests by its own rules.
#[test]
fn settings_of_retries_are_not_read() {
    let store = store();
    let endpoint = ("AWS_ENDPOINT_URL_S3", &*store.endpoint);
    for setting in [
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_RETRY_MODE", ""),
        ("AWS_MAX_ATTEMPTS", "x"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_MAX_ATTEMPTS", ""),
    ] {
        push_and_pull(&user(&[]), &[&KEYS[..], &[endpoint, setting]].concat());
    }
    let config = "[default]\nretry_mode = legacy\nmax_attempts = x\n";
    let user = user(&[("config", config)]);
    push_and_pull(&user, &[&KEYS[..], &[endpoint]].concat());
}

#[test]
fn unknown_profiles_are_named() {
    let user = user(&[("config", "[profile here]\nregion = x\n")]);
    let known = &[("AWS_EC2_METADATA_DISABLED", "true")][..];
    for (variables, arguments) in [
        (&[("AWS_PROFILE", "absent")][..], &["ls"][..]),
        (&KEYS, &["--profile", "absent", "ls"]),
    ] {
        let said = fails(&user, &[known, variables].concat(), arguments);
        let want = "profile absent is not in ~/.aws/config or ~/.aws/credentials";
        assert!(said.contains(want), "{said}");
    }
    let elsewhere = [("AWS_PROFILE", "absent"), ("AWS_CONFIG_FILE", "/nowhere")];
    let said = fails(&user, &[known, &elsewhere].concat(), &["ls"]);
    assert!(
        said.contains("not in /nowhere or ~/.aws/credentials"),
        "{said}"
    );
    let user = self::user(&[("config", "[profile\n")]);
    let said = fails(&user, known, &["ls"]);
    assert!(said.contains(".aws/config"), "{said}");
}
