//! Clients of the SDK: from the environment, with credentials, region and endpoint as every AWS tool
//! finds them, and over a given HTTP client.

use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as Providing;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    Credentials, ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, SharedHttpClient,
};
use aws_types::service_config::ServiceConfigKey;

use crate::s3::wire::client_error::ClientError;
use crate::s3::wire::https;

/// Where nothing names a region. Stores other than AWS take any.
const DEFAULT_REGION: &str = "us-east-1";
/// How long a credential provider may take, a process of the user's included. Less than an attempt of
/// a request has, so that the error says what took so long.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// What the environment does not say, or is to be overruled in. Everything is optional.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// The URL of the store. Without it: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile,
    /// and at last AWS itself.
    pub endpoint_url: Option<String>,
    /// The region. Without it: `AWS_REGION`, the profile, and, where no endpoint is named, IMDS;
    /// where none of them knows, `us-east-1`.
    pub region: Option<String>,
    /// The name of a profile in the shared configuration files. Without it: `AWS_PROFILE`.
    pub profile: Option<String>,
    /// Whether the keys of `profile` are used even where the environment has some, in
    /// `AWS_ACCESS_KEY_ID`. Default: `false`, as the SDK has it.
    pub prefer_profile: bool,
}

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
    let endpoint_named = endpoint(&options, &known).is_some();
    let region = region(&options, &provider, endpoint_named).await;
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
        .force_path_style(endpoint_named);
    if let Some(inner) = shared.credentials_provider() {
        config = config.credentials_provider(InTime(inner));
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

/// The shared configuration files, with the profile that is used selected. It exists, unless it is
/// the default one or the environment has keys.
pub(super) async fn profiles(name: Option<&str>) -> Result<ProfileSet, ClientError> {
    let (fs, env, places) = Default::default();
    let asked = name.map(|name| name.to_owned().into());
    let files = aws_config::profile::load(&fs, &env, &places, asked).await?;
    let selected = files.selected_profile();
    let has_keys = std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|key| !key.is_empty());
    if files.get_profile(selected).is_none()
        && selected != "default"
        && (name.is_some() || !has_keys)
    {
        let file = |variable: &str, usual: &str| {
            let named = std::env::var(variable).ok().filter(|path| !path.is_empty());
            named.unwrap_or_else(|| usual.to_owned())
        };
        return Err(ClientError::UnknownProfile {
            name: selected.to_owned(),
            config: file("AWS_CONFIG_FILE", "~/.aws/config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        });
    }
    Ok(files)
}

fn loader(options: &ClientOptions) -> ConfigLoader {
    // The SDK panics on settings of retries that it does not know. Ours are in `retry`.
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).retry_config(RetryConfig::standard());
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(endpoint) = &options.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    loader
}

/// What the SDK takes from the environment and the shared files.
pub(super) async fn without_request(options: &ClientOptions) -> SdkConfig {
    let loader = loader(options).region(Region::from_static(DEFAULT_REGION));
    loader.no_credentials().load().await
}

/// The endpoint of S3 that the options, the environment or the profile name. Only the SDK knows all
/// places that can.
pub(super) fn endpoint(options: &ClientOptions, settings: &SdkConfig) -> Option<String> {
    let of_s3 = ServiceConfigKey::builder()
        .service_id("s3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let of_s3 = settings.service_config().zip(of_s3.ok());
    let of_s3 = of_s3.and_then(|(config, key)| config.load_config(key));
    let of_any = || settings.endpoint_url().map(str::to_owned);
    options.endpoint_url.clone().or(of_s3).or_else(of_any)
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
    let mut chain = RegionProviderChain::first_try(options.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build());
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

/// Credentials within [`CREDENTIALS_TIMEOUT`], which a request can carry.
#[derive(Debug)]
struct InTime(SharedCredentialsProvider);

impl ProvideCredentials for InTime {
    fn provide_credentials<'a>(&'a self) -> Providing<'a>
    where
        Self: 'a,
    {
        Providing::new(async {
            let provided = self.0.provide_credentials();
            match tokio::time::timeout(CREDENTIALS_TIMEOUT, provided).await {
                Ok(provided) => provided.and_then(Unsendable::check),
                Err(_) => self
                    .fallback_on_interrupt()
                    .ok_or_else(|| CredentialsError::provider_timed_out(CREDENTIALS_TIMEOUT)),
            }
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.0.fallback_on_interrupt()
    }
}
