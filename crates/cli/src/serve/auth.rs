//! The files of authentication and TLS: read at start, and again when they change.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::settings::Settings;
use s3layers::{S3LayerService, client_environment};
use s3layers_registry::{AuthSettings, Policy, PolicyAuthorizer, SecretKey, Tls, TlsFiles, Users};

/// Why `--token-server` is refused.
const TOKEN_SERVER: &str = "--token-server sends clients to another server for tokens, which are accepted of issuers only; \
     expected --policy with an issuer of kind \"docker\" for that server";
/// How often files are read again.
const INTERVAL: Duration = Duration::from_secs(2);

/// Who may do what.
pub(super) struct Auth {
    users: Option<Watched>,
    policy: Option<Watched>,
    anonymous_pull: bool,
    /// Where clients get tokens instead of from the registry.
    token_server: Option<String>,
}

/// A file that is read again.
struct Watched {
    path: PathBuf,
    in_use: String,
    /// What was read last: a file that is being written is read again before it is used.
    last: String,
}

impl Watched {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = text_of(path)?;
        Ok(Watched {
            path: path.to_owned(),
            in_use: text.clone(),
            last: text,
        })
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Uses the text where it has changed, and is the same as at the last look.
    fn look(
        &mut self,
        use_it: impl FnOnce(&Self, &str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let text = text_of(&self.path)?;
        if text == self.last && text != self.in_use {
            use_it(self, &text)?;
            tracing::info!(file = self.name(), "a file was read again");
            self.in_use.clone_from(&text);
        }
        self.last = text;
        Ok(())
    }
}

impl Auth {
    /// `None`: every client may do everything.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, Failure> {
        let watched = |file: &Option<PathBuf>| file.as_deref().map(Watched::read).transpose();
        let auth = Auth {
            users: watched(&settings.serve_users.value)?,
            policy: watched(&settings.serve_policy.value)?,
            anonymous_pull: settings.serve_anonymous_pull.value,
            token_server: settings
                .serve_token_server
                .value
                .as_ref()
                .map(|url| url.0.clone()),
        };
        if auth.users.is_none() && auth.policy.is_none() {
            if auth.anonymous_pull {
                return Err(Failure::usage(
                    "--anonymous-pull: without --users no client has more rights than that; give both",
                ));
            }
            if auth.token_server.is_some() {
                return Err(Failure::usage(TOKEN_SERVER));
            }
            return Ok(None);
        }
        if settings.serve_allow_anonymous.value {
            return Err(Failure::usage(
                "--allow-anonymous lets every client do everything, and --users and --policy say \
                 who may; give one of them",
            ));
        }
        if auth.policy.is_some() && auth.anonymous_pull {
            return Err(Failure::usage(
                "--anonymous-pull is for a registry without --policy; add a rule for \"everyone\" \
                 to the policy",
            ));
        }
        Ok(Some(auth))
    }

    /// The authorizer of these files, of a registry that clients reach at `address`.
    pub(super) async fn authorizer(
        &self,
        settings: &Settings,
        service: &S3LayerService,
        address: &str,
        is_tls: bool,
    ) -> Result<Arc<PolicyAuthorizer>, Failure> {
        let url = public_url(settings, address, is_tls)?;
        let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
        let secret = match &settings.serve_secret_file.value {
            Some(file) => {
                let bytes = std::fs::read(file).map_err(|error| of_file(file, &error))?;
                SecretKey::new(bytes.trim_ascii()).map_err(|error| of_file(file, &error))?
            }
            None => {
                let secret = service.shared_secret().await;
                let secret = secret.map_err(|error| of_shared_secret(&error))?;
                SecretKey::new(secret.as_bytes()).map_err(|error| Failure::of(&error))?
            }
        };
        let auth_settings = AuthSettings {
            realm: format!("{url}/token"),
            token_server: self.token_server.clone(),
            service: host.to_owned(),
            secret,
            token_lifetime: settings.serve_token_lifetime.value.0,
            upload_grace: settings.serve_upload_grace.value,
            plain_credentials: settings.serve_plain_credentials.value,
        };
        let users = self.users.as_ref();
        let users = users.map(|file| parse_users(&file.name(), &file.in_use));
        let policy = match &self.policy {
            Some(file) => parse_policy(&file.in_use, &file.path)?,
            None => Policy::for_users(self.anonymous_pull),
        };
        let policy = fitting(policy, self.token_server.as_deref())?;
        Ok(Arc::new(PolicyAuthorizer::new(
            auth_settings,
            users.transpose()?.unwrap_or_default(),
            policy,
        )))
    }

    /// Replaces what changed. A file that is wrong changes nothing.
    fn reload(&mut self, authorizer: &PolicyAuthorizer) -> [Result<(), Failure>; 2] {
        let users = self.users.as_mut().map_or(Ok(()), |file| {
            file.look(|file, text| {
                authorizer.replace_users(parse_users(&file.name(), text)?);
                Ok(())
            })
        });
        let token_server = self.token_server.as_deref();
        let policy = self.policy.as_mut().map_or(Ok(()), |file| {
            file.look(|file, text| {
                let policy = parse_policy(text, &file.path)?;
                authorizer.replace_policy(fitting(policy, token_server)?);
                Ok(())
            })
        });
        [users, policy]
    }
}

/// Refuses a policy without an issuer for this token server.
fn fitting(policy: Policy, token_server: Option<&str>) -> Result<Policy, Failure> {
    if token_server.is_some() && !policy.has_docker_issuer() {
        return Err(Failure::usage(TOKEN_SERVER));
    }
    Ok(policy)
}

fn parse_users(name: &str, text: &str) -> Result<Users, Failure> {
    Users::parse(text, name).map_err(|error| Failure::usage(error.to_string()))
}

/// The policy in this file.
pub(crate) fn policy_of(file: &Path) -> Result<Policy, Failure> {
    parse_policy(&text_of(file)?, file)
}

fn parse_policy(text: &str, file: &Path) -> Result<Policy, Failure> {
    let policy = Policy::parse(text, &file.display().to_string());
    let policy = policy.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(policy.with_folder(file.parent().unwrap_or(Path::new(""))))
}

/// Refuses redirects to the registry's own host or below it: clients send their credentials along there,
/// and stores refuse a URL that is signed and has other credentials besides.
pub(super) async fn check_redirect(settings: &Settings, has_auth: bool) -> Result<(), Failure> {
    let public = settings.serve_public_url.value.as_ref();
    // Without either there are no credentials that are known of.
    if !settings.serve_redirect.value || (public.is_none() && !has_auth) {
        return Ok(());
    }
    let own = match public {
        Some(url) => host_of(&url.0),
        None => Some(host_of_ip(settings.serve_listen.value.ip())),
    };
    let target = redirect_endpoint(settings).await?;
    let (Some(own), Some(target)) = (own, target.as_deref().and_then(host_of)) else {
        return Ok(());
    };
    if target != own && !target.ends_with(&format!(".{own}")) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--redirect: clients would send their credentials for {own} to {target} as well, which refuses them; \
         expected --redirect-endpoint to be a host outside of {own}"
    )))
}

/// Where redirects lead; `None`: to AWS.
async fn redirect_endpoint(settings: &Settings) -> Result<Option<String>, Failure> {
    let chosen = settings.serve_redirect_endpoint.value.as_ref();
    if let Some(url) = chosen.or(settings.endpoint_url.value.as_ref()) {
        return Ok(Some(url.0.clone()));
    }
    let environment = client_environment(&settings.client_options()).await;
    let environment = environment.map_err(|error| Failure::of(&error))?;
    Ok(environment.endpoint_url)
}

/// The host of a URL, in a form that can be compared.
fn host_of(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let ip = host.parse().map(host_of_ip);
    Some(ip.unwrap_or_else(|_| host.trim_end_matches('.').to_ascii_lowercase()))
}

fn host_of_ip(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// A server that may not read or write `secret` needs no such right with a file.
fn of_shared_secret(error: &s3layers::Error) -> Failure {
    let hint = "give the server a secret of its own with --secret-file, or the right to read and write `secret`";
    Failure::of(error)
        .context("cannot read the secret of the bucket, which signs tokens")
        .hints(error.is_permission().then_some(hint))
}

/// How clients reach the registry, without a slash at its end.
fn public_url(settings: &Settings, address: &str, is_tls: bool) -> Result<String, Failure> {
    if let Some(url) = &settings.serve_public_url.value {
        return Ok(url.0.trim_end_matches('/').to_owned());
    }
    if settings.serve_listen.value.ip().is_unspecified() {
        return Err(Failure::usage(format!(
            "--listen {}: clients need a URL to get tokens from; give it with --public-url \
             https://HOST[:PORT]",
            settings.serve_listen.value
        )));
    }
    let scheme = if is_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{address}"))
}

/// The certificate and key of the server. `None`: it serves no TLS.
pub(super) fn tls(settings: &Settings) -> Result<Option<Arc<Tls>>, Failure> {
    let client_ca = settings.serve_tls_client_ca.value.clone();
    let certificate = settings.serve_tls_cert.value.clone();
    let files = match (certificate, settings.serve_tls_key.value.clone()) {
        (Some(certificate), Some(key)) => TlsFiles {
            certificate,
            key,
            client_ca,
        },
        (None, None) if client_ca.is_none() => return Ok(None),
        (None, None) => {
            return Err(Failure::usage(
                "--tls-client-ca needs --tls-cert and --tls-key",
            ));
        }
        _ => return Err(Failure::usage("--tls-cert and --tls-key need each other")),
    };
    let tls = Tls::load(files).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Some(Arc::new(tls)))
}

/// The header that the receiver of a webhook gets. An error does not repeat it.
pub(super) fn webhook_authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let text = text_of(file)?;
    let value = HeaderValue::from_str(text.trim()).ok();
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        let file = file.display();
        Failure::usage(format!("{file}: expected one line, such as Bearer TOKEN"))
    })
}

/// Reads files again when they change, and the keys of issuers.
pub(super) async fn keep_current(
    auth: Option<Auth>,
    authorizer: Option<Arc<PolicyAuthorizer>>,
    tls: Option<Arc<Tls>>,
) -> Infallible {
    let authorizer = authorizer.as_deref();
    let keys = async {
        match authorizer {
            Some(authorizer) => authorizer.refresh_keys().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        never = keys => never,
        never = reload(auth, authorizer, tls.as_deref()) => never,
    }
}

/// Reads files again when they change.
async fn reload(
    mut auth: Option<Auth>,
    authorizer: Option<&PolicyAuthorizer>,
    tls: Option<&Tls>,
) -> Infallible {
    // The same failure is logged once.
    let mut failed = String::new();
    loop {
        sleep(INTERVAL).await;
        let mut errors = Vec::new();
        if let Some((auth, authorizer)) = auth.as_mut().zip(authorizer) {
            let failures = auth.reload(authorizer).into_iter().filter_map(Result::err);
            errors.extend(failures.map(|failure| failure.lines.join(": ")));
        }
        match tls.map(Tls::reload) {
            Some(Ok(true)) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => errors.push(error.to_string()),
            _ => {}
        }
        let error = errors.join("; ");
        if !error.is_empty() && error != failed {
            tracing::error!(%error, "a file is wrong; what was read before stays in use");
        }
        failed = error;
    }
}

fn text_of(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| of_file(file, &error))
}

fn of_file(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn file_is_used_when_it_is_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        std::fs::write(&path, "whole").unwrap();
        let mut file = Watched::read(&path).unwrap();
        let mut used = Vec::new();
        let steps = [
            ("whole", true, None),
            ("who", true, None),
            ("whole 2", true, None),
            ("whole 2", true, Some("whole 2")),
            ("whole 2", true, None),
            ("wrong", false, None),
            ("wrong", false, Some("wrong")),
            ("wrong", true, Some("wrong")),
            ("", true, None),
            ("wrong", true, None),
            ("wrong", true, None),
        ];
        for (step, (text, is_right, want)) in steps.into_iter().enumerate() {
            std::fs::write(&path, text).unwrap();
            let looked = file.look(|_, text| {
                used.push(text.to_owned());
                let wrong = || Failure::new("wrong");
                is_right.then_some(()).ok_or_else(wrong)
            });
            assert_eq!(looked.is_ok(), is_right || want.is_none(), "{step}");
            assert_eq!(used.pop().as_deref(), want, "{step}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(file.look(|_, _| Ok(())).is_err());
    }
}
