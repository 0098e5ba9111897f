//! Why no client can be built.

use std::error::Error as StdError;

use aws_config::profile::ProfileFileLoadError;

/// Why [`client_from_env`](super::client_from_env) builds no client: the environment or a configuration file is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The options or `AWS_PROFILE` name a profile that does not exist.
    #[error("profile {name} is not in {config} or {credentials}")]
    UnknownProfile {
        /// The name of the profile.
        name: String,
        /// The configuration file that was read: `AWS_CONFIG_FILE`, or the user's own.
        config: String,
        /// The file of credentials: `AWS_SHARED_CREDENTIALS_FILE`, or the user's own.
        credentials: String,
    },
    /// A shared configuration file of AWS cannot be read.
    #[error("cannot read the shared configuration of AWS")]
    Configuration(#[source] Box<dyn StdError + Send + Sync>),
    /// An endpoint is no URL.
    #[error(
        "the endpoint of {service} is {url:?}; expected http://HOST[:PORT] or https://HOST[:PORT] in \
         AWS_ENDPOINT_URL_{service}, AWS_ENDPOINT_URL or endpoint_url of the profile"
    )]
    Endpoint {
        /// S3, or a service that gives credentials.
        service: &'static str,
        /// What was named.
        url: String,
    },
    /// A file of certificates cannot be used.
    #[error("{setting} names {path}: {reason}; expected a file of PEM certificates")]
    Certificates {
        /// The variable, or the key of the profile.
        setting: &'static str,
        /// Its value.
        path: String,
        /// What is wrong with the file.
        reason: String,
    },
    /// The TLS library refuses these settings.
    #[error("cannot set up TLS")]
    Tls(#[source] Box<dyn StdError + Send + Sync>),
}

impl From<ProfileFileLoadError> for ClientError {
    fn from(error: ProfileFileLoadError) -> Self {
        ClientError::Configuration(error.into())
    }
}
