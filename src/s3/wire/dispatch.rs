//! Why no answer came, and whether another attempt may bring one.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::result::{ConnectorError, DispatchFailure};
use rustls::AlertDescription;

use crate::s3::wire::https::NoAuthorities;
use crate::s3::wire::verdict::Verdict;

/// What a request that was not answered means.
pub(super) fn judge(failure: &DispatchFailure) -> Verdict {
    let Some(error) = failure.as_connector_error() else {
        return Verdict::Refused;
    };
    // The SDK also reports missing credentials as a failure to dispatch.
    if let Some(error) = cause::<CredentialsError>(error) {
        return judge_credentials(error);
    }
    if cause::<ResolveDnsError>(error).is_some() {
        Verdict::Unresolved
    } else if cause::<rustls::Error>(error).is_some_and(is_refusal)
        || cause::<NoAuthorities>(error).is_some()
    {
        Verdict::Unreachable
    } else if let Some(verdict) = judge_proxy(error) {
        verdict
    } else if failure.is_user() {
        Verdict::Refused
    } else if cause::<hyper::Error>(error).is_some_and(speaks_no_http) {
        Verdict::Unreadable
    } else {
        Verdict::Unavailable
    }
}

/// What it means that a proxy does not connect to the store. The types of these errors are private.
pub(super) fn judge_proxy(error: &ConnectorError) -> Option<Verdict> {
    causes(error).find_map(|error| match error.to_string().as_str() {
        "tunnel error: proxy authorization required" => Some(Verdict::WrongSettings),
        // A proxy that is none of HTTP, since an endpoint of another scheme was refused before.
        text if text.starts_with("unsupported scheme ") => Some(Verdict::WrongSettings),
        // It is no proxy, or the store is away for a moment: hyper drops the status.
        "tunnel error: unsuccessful" => Some(Verdict::Unresolved),
        _ => None,
    })
}

fn judge_credentials(error: &CredentialsError) -> Verdict {
    let timed_out = causes(error).any(|error| {
        let error = error.downcast_ref::<CredentialsError>();
        matches!(error, Some(CredentialsError::ProviderTimedOut(_)))
    });
    if timed_out || cause::<ConnectorError>(error).is_some() {
        Verdict::CredentialsUnavailable
    } else {
        Verdict::NoCredentials
    }
}

/// Whether the two sides will not agree the next time either. Other errors of TLS are those of a
/// connection that broke.
fn is_refusal(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::HandshakeFailure
                | Alert::ProtocolVersion
                | Alert::UnrecognisedName
                | Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateRequired
                | Alert::AccessDenied
        ),
        error => speaks_no_tls(error),
    }
}

/// Whether the other side answered something that is no TLS.
pub(super) fn speaks_no_tls(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidMessage(message) = error else {
        return false;
    };
    *message == rustls::InvalidMessage::InvalidContentType
}

/// Whether the other side sent something that is no answer of HTTP.
pub(super) fn speaks_no_http(error: &hyper::Error) -> bool {
    // Hyper has no predicate for bytes that come before the request, as those of an SSH server.
    error.is_parse() || error.to_string().contains("unexpected message")
}

/// The first of the causes that is a `T`; the error itself is one of them.
pub(super) fn cause<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// What an error comes down to.
pub(super) fn root<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}

/// An error and its causes. The source of an I/O error is that of what it wraps, so that is looked
/// at first.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| {
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::{CertificateError, InvalidMessage};

    use super::*;

    fn judged(error: ConnectorError) -> Verdict {
        judge(&DispatchFailure::builder().source(error).build())
    }

    #[test]
    fn requests_without_credentials() {
        let other = |error: CredentialsError| ConnectorError::other(error.into(), None);
        let refused =
            || ConnectorError::io(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        for (error, want) in [
            (
                CredentialsError::provider_timed_out(Duration::from_secs(20)),
                Verdict::CredentialsUnavailable,
            ),
            (
                CredentialsError::provider_error(refused()),
                Verdict::CredentialsUnavailable,
            ),
            (
                CredentialsError::not_loaded_no_source(),
                Verdict::NoCredentials,
            ),
            (
                CredentialsError::provider_error("403"),
                Verdict::NoCredentials,
            ),
        ] {
            let text = format!("{error:?}");
            assert_eq!(judged(other(error)), want, "{text}");
        }
        assert_eq!(judged(refused()), Verdict::Unavailable);
    }

    #[test]
    fn connections_that_cannot_be_made() {
        let tls = |error: rustls::Error| {
            // As hyper-rustls wraps it.
            let inner = io::Error::new(io::ErrorKind::InvalidData, error);
            ConnectorError::io(io::Error::other(inner).into())
        };
        for (error, want) in [
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                Verdict::Unreachable,
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                Verdict::Unreachable,
            ),
            (rustls::Error::DecryptError, Verdict::Unavailable),
        ] {
            let text = format!("{error:?}");
            assert_eq!(judged(tls(error)), want, "{text}");
        }
        let dns = ResolveDnsError::new("no such host");
        assert_eq!(judged(ConnectorError::io(dns.into())), Verdict::Unresolved);
    }
}
