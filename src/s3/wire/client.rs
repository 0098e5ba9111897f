//! Clients of the SDK: from the environment, with credentials, region and endpoint as every AWS tool
//! finds them, and over a given HTTP client.

use std::time::Duration;

use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::{ProvideRegion as _, RegionProviderChain};
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient,
};

use crate::s3::wire::client_environment::credential_source;
use crate::s3::wire::client_error::ClientError;
use crate::s3::wire::client_settings::{
    ClientOptions, DEFAULT_REGION, check_endpoints_of_credentials, endpoint, is_url_of_service,
    loader, profiles, variable, without_request,
};
use crate::s3::wire::https;

/// How long a credential provider may take, a process of the user's included. Less than an attempt of
/// a request has, so that the error says what took so long.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// Builds a client of the SDK from the environment: static keys, profiles, SSO, web identity,
/// ECS and IMDS credentials; `AWS_CA_BUNDLE` and `SSL_CERT_FILE`; `HTTPS_PROXY`, `HTTP_PROXY` and
/// `NO_PROXY`, which do not hold for the metadata services.
///
/// Buckets are addressed in the path where the endpoint is not AWS's own, since most other
/// stores have no name server that knows a bucket.
///
/// # Errors
///
/// [`ClientError`]: a profile that does not exist, unless the environment has keys; a
/// configuration file or a file of certificates that cannot be read. Credentials are not looked
/// for until the first request.
///
/// # Cost
///
/// No request to S3. Finding the region may ask IMDS, where no endpoint is named.
///
/// # Cancellation
///
/// Leaves nothing behind.
pub async fn client_from_env(options: ClientOptions) -> Result<Client, ClientError> {
    let profiles = profiles(options.profile.as_deref()).await?;
    let http_client = https::client(profiles.get("ca_bundle"))?;
    let known = without_request(&options).await;
    let provider = ProviderConfig::without_region()
        .with_http_client(http_client.clone())
        .with_use_fips(known.use_fips())
        .with_use_dual_stack(known.use_dual_stack());
    let from = credential_source(&options, &profiles);
    let endpoint = endpoint(&options, &known);
    if let Some(url) = endpoint.as_ref().filter(|url| !is_url_of_service(url)) {
        let (service, url) = ("S3", url.clone());
        return Err(ClientError::Endpoint { service, url });
    }
    if from.asks_aws() {
        check_endpoints_of_credentials(&known)?;
    }
    let region = region(&options, &provider, endpoint.is_some()).await;
    let mut loader = loader(&options)
        .http_client(http_client)
        .region(region.clone());
    if let Some(profile) = options.profile.filter(|_| options.prefer_profile) {
        // The default chain looks into the environment first.
        let keys = ProfileFileCredentialsProvider::builder()
            .profile_name(profile)
            .configure(&provider.with_region(region))
            .build();
        loader = loader.credentials_provider(keys);
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(endpoint.is_some());
    config.set_endpoint_url(endpoint);
    if let Some(inner) = shared.credentials_provider() {
        let from = from.to_string();
        config = config.credentials_provider(InTime { inner, from });
    }
    Ok(Client::from_conf(config.build()))
}

/// Builds a client that reaches a store through this HTTP client, with these keys, and ignores the
/// environment: for a store inside the process, whose connector comes from
/// `EmbeddedStore::http_client`.
///
/// # Cost
///
/// No request.
pub fn client_over(
    http_client: SharedHttpClient,
    endpoint_url: impl Into<String>,
    access_key: impl Into<String>,
    secret_key: impl Into<String>,
) -> Client {
    let credentials = Credentials::new(access_key, secret_key, None, None, "s3layers");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(DEFAULT_REGION))
        .endpoint_url(endpoint_url)
        .force_path_style(true)
        .credentials_provider(credentials)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .http_client(http_client)
        .build();
    Client::from_conf(config)
}

/// The region. A store with an endpoint is not on AWS: IMDS, which may take seconds to fail, is not
/// asked then.
async fn region(
    options: &ClientOptions,
    provider: &ProviderConfig,
    endpoint_named: bool,
) -> Option<Region> {
    let mut profile = ProfileFileRegionProvider::builder().configure(provider);
    if let Some(name) = &options.profile {
        profile = profile.profile_name(name);
    }
    // The SDK takes an empty one for a region.
    let of_environment = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let named = options.region.clone().or_else(of_environment);
    let named = match named {
        Some(region) => Some(Region::new(region)),
        None => profile.build().region().await,
    };
    let named = named.filter(|region| !region.as_ref().is_empty());
    let mut chain = RegionProviderChain::first_try(named);
    if !endpoint_named {
        chain = chain.or_else(ImdsRegionProvider::builder().configure(provider).build());
    }
    chain.or_else(DEFAULT_REGION).region().await
}

/// Credentials that no request can carry. The SDK panics on some, and repeats requests with others.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {0} has a line break, or another character that no key and no token has; the shell's echo appends a line \
     break, printf does not"
)]
struct Unsendable(&'static str);

impl Unsendable {
    fn check(credentials: Credentials) -> Result<Credentials, CredentialsError> {
        let token = credentials.session_token().unwrap_or_default();
        for (name, text) in [
            ("access key ID", credentials.access_key_id()),
            ("secret access key", credentials.secret_access_key()),
            ("session token", token),
        ] {
            if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(CredentialsError::invalid_configuration(Unsendable(name)));
            }
        }
        Ok(credentials)
    }
}

/// A failure of the source of credentials. The SDK does not say which one it was.
#[derive(Debug, thiserror::Error)]
#[error("no credentials came from {from}")]
struct SourceFailure {
    from: String,
    source: CredentialsError,
}

/// Credentials within [`CREDENTIALS_TIMEOUT`], which a request can carry.
#[derive(Debug)]
struct InTime {
    inner: SharedCredentialsProvider,
    /// The source, by name.
    from: String,
}

impl ProvideCredentials for InTime {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(async {
            let provided = self.inner.provide_credentials();
            let provided = tokio::time::timeout(CREDENTIALS_TIMEOUT, provided).await;
            let provided = provided.unwrap_or_else(|_| {
                self.fallback_on_interrupt()
                    .ok_or_else(|| CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT))
            });
            match provided {
                Ok(credentials) => Unsendable::check(credentials),
                Err(error @ CredentialsError::CredentialsNotLoaded(_)) => Err(error),
                Err(source) => Err(CredentialsError::provider_error(SourceFailure {
                    from: self.from.clone(),
                    source,
                })),
            }
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.inner.fallback_on_interrupt()
    }
}
