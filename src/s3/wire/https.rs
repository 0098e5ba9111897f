//! The HTTP client of every client that we build: certificates and proxies as other AWS tools find
//! them.
//!
//! 1. `AWS_CA_BUNDLE`, else `ca_bundle` of the profile, replaces the certificates of the machine;
//!    `SSL_CERT_FILE` and `SSL_CERT_DIR` say where those are. Without any, only plain HTTP works.
//! 2. `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` hold for all hosts but the metadata
//!    services: a proxy would answer with credentials of its own machine.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::client_error::ClientError;

/// Connections that stay open without a request. Each keeps a buffer of up to 400 KiB.
const IDLE: usize = 64;

/// Builds the client; `ca_bundle` is that of the profile.
pub(super) fn client(ca_bundle: Option<&str>) -> Result<SharedHttpClient, ClientError> {
    let variable = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
    let pem = match (variable("AWS_CA_BUNDLE"), ca_bundle) {
        (Some(path), _) => certificates("AWS_CA_BUNDLE", &path)?,
        (None, Some(path)) if !path.is_empty() => certificates("ca_bundle", &path.into())?,
        _ => {
            if let Some(path) = variable("SSL_CERT_FILE") {
                certificates("SSL_CERT_FILE", &path)?;
            }
            certificates_of_machine()
        }
    };
    let has_authorities = !pem.is_empty();
    // The SDK asserts that the machine has certificates if it is to look for them itself.
    let trust = TrustStore::empty().with_pem_certificate(pem);
    let built = TlsContext::builder().with_trust_store(trust).build();
    let tls = built.map_err(|error| ClientError::Tls(error.into()))?;
    let proxied = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(tls.clone())
            .pool_max_idle_per_host(IDLE)
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build_with_resolver(Resolver)
    });
    let direct = Builder::new().build_http();
    Ok(SharedHttpClient::new(ByHost {
        proxied,
        direct,
        has_authorities,
    }))
}

/// Whether plain HTTP goes to a proxy, but for the hosts of `NO_PROXY`.
pub(super) fn has_proxy_of_plain_http() -> bool {
    is_any_set(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
}

/// As [`has_proxy_of_plain_http`], or HTTPS.
pub(super) fn has_proxy() -> bool {
    has_proxy_of_plain_http() || is_any_set(["HTTPS_PROXY", "https_proxy"])
}

fn is_any_set<const N: usize>(names: [&str; N]) -> bool {
    let mut found = names.iter().filter_map(std::env::var_os);
    found.any(|proxy| !proxy.is_empty())
}

/// A request over TLS without any certificate to verify the server's by.
#[derive(Debug, thiserror::Error)]
#[error(
    "no certificate of an authority was found, which https:// needs: install those of the system \
     (ca-certificates), or name a file of PEM certificates in AWS_CA_BUNDLE or SSL_CERT_FILE"
)]
pub(super) struct NoAuthorities;

/// The certificates that the machine trusts, as PEM.
fn certificates_of_machine() -> Vec<u8> {
    let found = match std::env::var_os("SSL_CERT_FILE") {
        // `load_native_certs` would read a file of this name only.
        Some(path) if path.is_empty() => {
            let usual = openssl_probe::probe();
            let directory = usual.cert_dir.first().map(PathBuf::as_path);
            rustls_native_certs::load_certs_from_paths(usual.cert_file.as_deref(), directory)
        }
        _ => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    let mut pem = String::new();
    for certificate in found.certs {
        let text = STANDARD.encode(&certificate);
        if roots.add(certificate).is_ok() {
            pem += &format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        }
    }
    pem.into_bytes()
}

/// The PEM file at `path`, which the SDK believes to be right: it panics where it is not.
fn certificates(setting: &'static str, path: &OsString) -> Result<Vec<u8>, ClientError> {
    let path = Path::new(path);
    let refused = |reason: String| ClientError::Certificates {
        setting,
        path: path.display().to_string(),
        reason,
    };
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let (mut roots, mut count) = (RootCertStore::empty(), 0);
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| refused(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(refused("no PEM certificate in it".to_owned()));
    }
    Ok(pem)
}

/// Sends a request to a link-local host directly, and any other by the proxies.
#[derive(Debug)]
struct ByHost<T> {
    proxied: T,
    direct: T,
    has_authorities: bool,
}

impl HttpClient for ByHost<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ByHost {
            proxied: self.proxied.http_connector(settings, components),
            direct: self.direct.http_connector(settings, components),
            has_authorities: self.has_authorities,
        })
    }
}

impl HttpConnector for ByHost<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_metadata_service(request.uri()) {
            self.direct.call(request)
        } else if !self.has_authorities && request.uri().starts_with("https:") {
            let error = ConnectorError::user(NoAuthorities.into());
            HttpConnectorFuture::ready(Err(error))
        } else {
            self.proxied.call(request)
        }
    }
}

/// Whether this is the address of a metadata service: IMDS, ECS or EKS. None of them speaks TLS.
fn is_metadata_service(url: &str) -> bool {
    let url = url.parse::<http::Uri>().ok();
    let url = url.filter(|url| url.scheme() == Some(&http::uri::Scheme::HTTP));
    let host = url.as_ref().and_then(http::Uri::host).unwrap_or_default();
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.segments().starts_with(&[0xfd00, 0xec2]),
        Err(_) => false,
    }
}

/// The resolver of the system, with an error of its own.
#[derive(Clone, Debug)]
struct Resolver;

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            let found = found.map_err(ResolveDnsError::new)?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_reached_directly() {
        for (url, want) in [
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.2/v2/credentials", true),
            ("http://[fd00:ec2::254]/latest", true),
            ("https://169.254.10.1:9000/bucket", false),
            ("http://169.253.0.1/", false),
            ("https://bucket.s3.eu-west-1.amazonaws.com/key", false),
            ("http://127.0.0.1:9000/", false),
            ("http://[::1]:9000/", false),
        ] {
            assert_eq!(is_metadata_service(url), want, "{url}");
        }
    }
}
