//! HTTP itself: hosts and transfer codings, proxies, browsers.

use s3layers_registry::Options;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::Client;
use super::site::Site;

/// Sends these bytes, and reads until the server closes the connection.
async fn raw(client: Client, request: &str) -> String {
    let mut stream = TcpStream::connect(client.0).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_has_one_host_and_no_unknown_transfer_coding() {
    let client = Site::client_of_memory().await;
    let upload = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: a\r\n";
    for (request, status) in [
        (
            "GET /v2/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            200,
        ),
        ("GET /v2/ HTTP/1.0\r\n\r\n", 200),
        ("GET /v2/ HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        (
            &format!("{upload}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            501,
        ),
        (
            &format!("{upload}connection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            202,
        ),
    ] {
        let answer = raw(client, request).await;
        let (_, rest) = answer.split_once(' ').unwrap();
        assert!(rest.starts_with(&status.to_string()), "{request}{answer}");
    }
}

#[tokio::test]
async fn forwarding_headers_count_in_requests_of_trusted_proxies() {
    let [site, _] = Site::all().await;
    let forwarded = (
        "forwarded",
        "for=192.0.2.1;host=registry.example.com;proto=https",
    );
    let older = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "registry.example.com"),
    ];
    for (proxies, is_trusted) in [
        ("loopback,private", true),
        ("127.0.0.0/8", true),
        ("private", false),
        ("none", false),
    ] {
        let options = Options {
            trusted_proxies: proxies.parse().unwrap(),
            ..Options::default()
        };
        let client = site.process_with(options).await.client;
        for headers in [&[forwarded][..], &older] {
            let path = "/v2/a/blobs/uploads/";
            let reply = client.send("POST", path, headers, b"").await.is(202);
            let location = reply.header("location").unwrap();
            let is_believed = location.starts_with("https://registry.example.com/v2/a/");
            assert_eq!(is_believed, is_trusted, "{proxies} {headers:?}: {location}");
        }
    }
}

#[tokio::test]
async fn scripts_of_a_listed_origin_may_use_the_registry() {
    let [site, _] = Site::all().await;
    let ui = "https://ui.example.com";
    for (origins, origin, allowed, credentials) in [
        (Some(ui), ui, Some(ui), Some("true")),
        (Some(ui), "https://other.example.com", None, None),
        (Some("*"), ui, Some("*"), None),
        (None, ui, None, None),
    ] {
        let options = Options {
            cors_origins: origins.map(|origins| origins.parse().unwrap()),
            ..Options::default()
        };
        let client = site.process_with(options).await.client;
        let headers = [("origin", origin)];
        // Refusals too, or a script could not read them.
        for path in ["/v2/", "/v2/a/tags/list", "/v2/A/tags/list"] {
            let reply = client.send("GET", path, &headers, b"").await;
            assert_eq!(
                reply.header("access-control-allow-origin"),
                allowed,
                "{path}"
            );
            let may_send = reply.header("access-control-allow-credentials");
            assert_eq!(may_send, credentials);
            let exposed = reply.header("access-control-expose-headers");
            let is_exposed = exposed.is_some_and(|names| names.contains("Docker-Content-Digest"));
            assert_eq!(is_exposed, allowed.is_some());
            let varies = reply.header("vary");
            assert_eq!(varies, origins.filter(|all| *all != "*").map(|_| "Origin"));
        }
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
        ];
        let path = "/v2/a/blobs/uploads/";
        let reply = client.send("OPTIONS", path, &headers, b"").await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        if allowed.is_none() {
            reply.is(405);
            continue;
        }
        let reply = reply.is(204);
        for (name, value) in [
            ("access-control-allow-methods", "PATCH"),
            ("access-control-allow-headers", "Authorization"),
            ("access-control-allow-headers", "Content-Range"),
        ] {
            let header = reply.header(name).unwrap();
            assert!(header.split(", ").any(|have| have == value), "{header}");
        }
    }
}
