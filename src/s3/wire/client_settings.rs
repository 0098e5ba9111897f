//! What the options, the environment and the shared files of AWS say about a client.

use aws_config::profile::{ProfileSet, load};
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_types::service_config::ServiceConfigKey;

use crate::s3::wire::client_error::ClientError;

/// Where nothing names a region. Stores other than AWS take any.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

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

/// A variable of the environment. An empty one is none.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The shared configuration files, with the profile that is used selected. It exists, unless it is
/// the default one or the environment has keys.
pub(super) async fn profiles(name: Option<&str>) -> Result<ProfileSet, ClientError> {
    let files = files(name).await?;
    let selected = files.selected_profile();
    let has_keys = variable("AWS_ACCESS_KEY_ID").is_some();
    if files.get_profile(selected).is_none()
        && selected != "default"
        && (name.is_some() || !has_keys)
    {
        let file = |name, usual: &str| variable(name).unwrap_or_else(|| usual.to_owned());
        return Err(ClientError::UnknownProfile {
            name: selected.to_owned(),
            config: file("AWS_CONFIG_FILE", "~/.aws/config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        });
    }
    Ok(files)
}

/// The shared configuration files, with this profile selected, or the usual one.
pub(super) async fn files(profile: Option<&str>) -> Result<ProfileSet, ClientError> {
    let (fs, env, places) = Default::default();
    let profile = profile.map(|name| name.to_owned().into());
    Ok(load(&fs, &env, &places, profile).await?)
}

/// The SDK's own way to the settings, with these options.
pub(super) fn loader(options: &ClientOptions) -> ConfigLoader {
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
    let of_s3 = |variable| configured(settings, "S3", variable).filter(|url| !url.is_empty());
    let of_any = || settings.endpoint_url().map(str::to_owned);
    let is_empty = |name| std::env::var_os(name).is_some_and(|url| url.is_empty());
    // An empty variable is none, and hides the profile from the SDK. No variable has this other name.
    let of_profile = || {
        let hides = is_empty("AWS_ENDPOINT_URL_S3") || is_empty("AWS_ENDPOINT_URL");
        hides.then(|| of_s3("AWS_ENDPOINT_URL_OF_PROFILE"))?
    };
    let named = options.endpoint_url.clone();
    named
        .or_else(|| of_s3("AWS_ENDPOINT_URL"))
        .or_else(of_any)
        .or_else(of_profile)
}

/// The services that give credentials are at URLs, if they are named. The SDK panics on an empty one.
pub(super) fn check_endpoints_of_credentials(settings: &SdkConfig) -> Result<(), ClientError> {
    for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
        let url = configured(settings, service, "AWS_ENDPOINT_URL");
        if let Some(url) = url.filter(|url| !is_url_of_service(url)) {
            return Err(ClientError::Endpoint { service, url });
        }
    }
    Ok(())
}

/// The endpoint of a service by this variable, with its name at the end or without, or by the profile.
fn configured(settings: &SdkConfig, service: &str, variable: &str) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id(service)
        .env(variable)
        .profile("endpoint_url")
        .build();
    let (config, key) = settings.service_config().zip(key.ok())?;
    config.load_config(key)
}

/// Whether the SDK can make requests of this URL.
pub(super) fn is_url_of_service(url: &str) -> bool {
    let Ok(url) = url.parse::<http::Uri>() else {
        return false;
    };
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    // A port that is no number up to 65535 is not parsed.
    let is_whole = url.port().is_some() || url.host() == url.authority().map(|url| url.as_str());
    matches!(url.scheme_str(), Some("http" | "https"))
        && has_host
        && is_whole
        && url.query().is_none()
}
