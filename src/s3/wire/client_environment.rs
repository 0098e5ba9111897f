//! Reports, without a request, which settings and credentials [`client_from_env`](super::client_from_env)
//! uses. The order is that of the SDK's default chain.

use std::fmt;

use aws_config::profile::{Profile, ProfileSet};

use super::client_settings::{self, variable};
use super::{ClientError, ClientOptions};

/// How a profile comes by its keys.
const SSO: &str = "SSO";
const COMMAND: &str = "runs a command";
const FILE: &str = "keys in the file";

/// What the environment and the shared configuration files of AWS say.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClientEnvironment {
    /// The profile that is used, where the files have it.
    pub profile: Option<String>,
    /// Of that profile.
    pub region: Option<String>,
    /// Of S3: of the options, the environment or the profile.
    pub endpoint_url: Option<String>,
    /// What the credentials come from.
    pub credentials: CredentialSource,
}

/// Where the keys come from.
#[derive(Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// Variables of the environment.
    Environment {
        /// The access key ID.
        access_key_id: String,
    },
    /// A profile of the shared files.
    Profile {
        /// The name of the profile.
        name: String,
        /// Where they are in the profile itself.
        access_key_id: Option<String>,
        /// How the profile comes by them.
        by: &'static str,
    },
    /// A token in a file, for which STS gives keys.
    WebIdentity,
    /// An address that the container was given.
    Container,
    /// The role of the machine, if it is one of AWS's.
    Machine,
    /// There are none.
    None,
}

impl CredentialSource {
    /// Whether STS or SSO gives the keys.
    pub(super) fn asks_aws(&self) -> bool {
        match self {
            CredentialSource::WebIdentity => true,
            CredentialSource::Profile { by, .. } => ![COMMAND, FILE].contains(by),
            _ => false,
        }
    }
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            // Only the user can log in, in a browser.
            CredentialSource::Profile { name, by: SSO, .. } => {
                return write!(
                    f,
                    "profile {name} ({SSO}); `aws sso login --profile {name}` renews the login"
                );
            }
            CredentialSource::Profile { name, by, .. } => {
                return write!(f, "profile {name} ({by})");
            }
            CredentialSource::Environment { .. } => "AWS_ACCESS_KEY_ID",
            CredentialSource::WebIdentity => "STS, by AWS_WEB_IDENTITY_TOKEN_FILE",
            CredentialSource::Container => {
                "the service that AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI names"
            }
            CredentialSource::Machine => "the metadata service of this machine (IMDS)",
            CredentialSource::None => "any source",
        };
        f.write_str(text)
    }
}

/// Reads the environment and the shared files, without a request.
///
/// # Errors
///
/// `ClientError` where a file cannot be read or parsed.
pub async fn client_environment(options: &ClientOptions) -> Result<ClientEnvironment, ClientError> {
    let files = client_settings::files(options.profile.as_deref()).await?;
    let profile = files.get_profile(files.selected_profile());
    let of_profile = |key| Some(profile?.get(key)?.to_owned());
    Ok(ClientEnvironment {
        profile: profile.map(|profile| profile.name().to_owned()),
        region: of_profile("region"),
        endpoint_url: client_settings::endpoint(
            options,
            &client_settings::without_request(options).await,
        ),
        credentials: credential_source(options, &files),
    })
}

/// Where the credentials come from, by the environment and these files.
pub(super) fn credential_source(options: &ClientOptions, files: &ProfileSet) -> CredentialSource {
    let profile = files.get_profile(files.selected_profile());
    let keys_of_profile = profile.and_then(keys_of).or_else(|| {
        // It was asked for by name, and nothing else will be tried.
        let name = options.profile.clone().filter(|_| options.prefer_profile)?;
        let by = match profile {
            Some(_) => "has no keys",
            None => "is not there",
        };
        Some(CredentialSource::Profile {
            name,
            access_key_id: None,
            by,
        })
    });
    match keys_of_profile {
        Some(keys) if options.profile.is_some() && options.prefer_profile => keys,
        keys => keys_of_environment()
            .or(keys)
            .unwrap_or_else(keys_of_machine),
    }
}

fn keys_of_environment() -> Option<CredentialSource> {
    let access_key_id = variable("AWS_ACCESS_KEY_ID")?;
    variable("AWS_SECRET_ACCESS_KEY").or_else(|| variable("SECRET_ACCESS_KEY"))?;
    Some(CredentialSource::Environment { access_key_id })
}

fn keys_of(profile: &Profile) -> Option<CredentialSource> {
    let by = [
        ("role_arn", "assumes a role"),
        ("web_identity_token_file", "web identity"),
        ("sso_session", SSO),
        ("sso_start_url", SSO),
        ("login_session", "a login session"),
        ("credential_process", COMMAND),
        ("aws_access_key_id", FILE),
    ];
    let (key, by) = by.iter().find(|(key, _)| profile.get(key).is_some())?;
    Some(CredentialSource::Profile {
        name: profile.name().to_owned(),
        access_key_id: profile
            .get("aws_access_key_id")
            .filter(|_| *key == "aws_access_key_id")
            .map(str::to_owned),
        by,
    })
}

fn keys_of_machine() -> CredentialSource {
    let is_set = |name: &str| variable(name).is_some();
    if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        return CredentialSource::WebIdentity;
    }
    let container = ["RELATIVE_URI", "FULL_URI"].map(|n| format!("AWS_CONTAINER_CREDENTIALS_{n}"));
    if container.iter().any(|name| is_set(name)) {
        return CredentialSource::Container;
    }
    match variable("AWS_EC2_METADATA_DISABLED") {
        Some(text) if text.eq_ignore_ascii_case("true") => CredentialSource::None,
        _ => CredentialSource::Machine,
    }
}
