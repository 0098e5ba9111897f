//! A client of the SDK, from the environment: credentials, region and endpoint as every AWS tool
//! finds them, and the settings that were measured to be fast.

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// Where nothing names a region. Stores other than AWS take any.
const DEFAULT_REGION: &str = "us-east-1";

/// What the environment does not say, or is to be overruled in. Everything is optional.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
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
/// ECS and IMDS credentials.
///
/// Buckets are addressed in the path where the endpoint is not AWS's own, since most other
/// stores have no name server that knows a bucket.
///
/// # Cost
///
/// No request to S3. Finding the region may ask IMDS, where no endpoint is named.
///
/// # Cancellation
///
/// Leaves nothing behind.
pub async fn client_from_env(options: ClientOptions) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(https_client());
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    let endpoint_named = options.endpoint_url.is_some()
        || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .iter()
            .any(|name| std::env::var_os(name).is_some());
    let region = RegionProviderChain::first_try(options.region.map(Region::new));
    let region = match endpoint_named {
        // Whoever names an endpoint is not on AWS: IMDS is not asked, which takes seconds to fail.
        true => region
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(profile_region(options.profile.as_deref()))
            .or_else(DEFAULT_REGION),
        false => region
            .or_else(default_region(options.profile.as_deref()))
            .or_else(DEFAULT_REGION),
    };
    let region = region.region().await;
    if let Some(profile) = options.profile.filter(|_| options.prefer_profile) {
        // The default chain looks into the environment first.
        let provider = ProviderConfig::without_region()
            .with_region(region.clone())
            .with_http_client(https_client());
        let keys = ProfileFileCredentialsProvider::builder()
            .profile_name(profile)
            .configure(&provider)
            .build();
        loader = loader.credentials_provider(keys);
    }
    loader = loader.region(region);
    if let Some(endpoint) = options.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .force_path_style(endpoint_named || shared.endpoint_url().is_some());
    Client::from_conf(config.build())
}

/// Builds a client that reaches a store through this HTTP client, with these keys, whatever the
/// environment says: for a store inside the process, whose connector comes from
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
        .http_client(http_client)
        .build();
    Client::from_conf(config)
}

fn profile_region(profile: Option<&str>) -> ProfileFileRegionProvider {
    let builder = ProfileFileRegionProvider::builder();
    match profile {
        Some(profile) => builder.profile_name(profile).build(),
        None => builder.build(),
    }
}

fn default_region(profile: Option<&str>) -> DefaultRegionChain {
    let builder = DefaultRegionChain::builder();
    match profile {
        Some(profile) => builder.profile_name(profile).build(),
        None => builder.build(),
    }
}

fn https_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
