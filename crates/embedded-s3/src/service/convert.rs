//! Conversions between the types of s3s and ours.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use s3s::dto;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{StdError, TrailingHeaders};

use crate::checksum::{Algorithm, Kind, Sum};
use crate::multipart::MAX_BODY;
use crate::receive::{EtagSource, ExpectedDigests};
use crate::refusal::Refusal;
use crate::send::OutgoingBody;

/// Our ETags are all strong.
pub(super) fn etag(etag: &str) -> Option<dto::ETag> {
    Some(dto::ETag::Strong(etag.to_owned()))
}

/// A time as S3 writes it.
pub(super) fn timestamp(time: Timestamp) -> dto::Timestamp {
    let time = SystemTime::try_from(time).unwrap_or(SystemTime::UNIX_EPOCH);
    dto::Timestamp::from(time)
}

/// A time of S3's, if it lies in the range of ours (the years -9999 to 9999).
pub(super) fn our_time(time: &dto::Timestamp) -> Option<Timestamp> {
    let mut text = Vec::new();
    time.format(dto::TimestampFormat::DateTime, &mut text)
        .ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

/// Whole seconds, as HTTP dates are.
pub(super) fn seconds(time: Option<dto::Timestamp>) -> Option<i64> {
    time.as_ref().and_then(our_time).map(Timestamp::as_second)
}

/// A size as S3 writes it.
pub(super) fn size(size: u64) -> Option<i64> {
    i64::try_from(size).ok()
}

/// The algorithm that a request names. One that we cannot compute is refused: the client relies on it.
pub(super) fn algorithm(
    name: Option<&dto::ChecksumAlgorithm>,
) -> Result<Option<Algorithm>, Refusal> {
    let unknown = || Refusal::InvalidRequest("The checksum algorithm is unknown here.".into());
    name.map(|name| Algorithm::named(name.as_str()).ok_or_else(unknown))
        .transpose()
}

/// The checksum type that a request names.
pub(super) fn kind(name: Option<&dto::ChecksumType>) -> Result<Option<Kind>, Refusal> {
    let unknown = || Refusal::InvalidRequest("The checksum type is unknown here.".into());
    name.map(|name| Kind::named(name.as_str()).ok_or_else(unknown))
        .transpose()
}

/// The name of an algorithm.
pub(super) fn algorithm_name(algorithm: Algorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm.name())
}

/// The name of a checksum type.
pub(super) fn checksum_type(kind: Kind) -> dto::ChecksumType {
    dto::ChecksumType::from_static(kind.name())
}

/// The length that a body will have. A body that is too large is refused before it is read.
pub(super) fn content_length(length: Option<i64>) -> Result<Option<u64>, Refusal> {
    let length = length.and_then(|length| u64::try_from(length).ok());
    match length {
        Some(length) if length > MAX_BODY => Err(Refusal::EntityTooLarge),
        length => Ok(length),
    }
}

/// Reads the five checksum fields of any input into a list of [`Sum`]s.
macro_rules! sums {
    ($input:expr) => {{
        use $crate::checksum::{Algorithm, Sum};
        [
            (Algorithm::Crc32, &$input.checksum_crc32),
            (Algorithm::Crc32c, &$input.checksum_crc32c),
            (Algorithm::Crc64Nvme, &$input.checksum_crc64nvme),
            (Algorithm::Sha1, &$input.checksum_sha1),
            (Algorithm::Sha256, &$input.checksum_sha256),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| value.clone().map(|value| Sum { algorithm, value }))
        .collect::<Vec<Sum>>()
    }};
}

/// Takes what a PUT or UploadPart says about its body.
macro_rules! expected_digests {
    ($input:expr) => {
        $crate::receive::ExpectedDigests {
            size: convert::content_length($input.content_length)?,
            md5: $input.content_md5.take(),
            sums: convert::sums!($input),
        }
    };
}

/// Fills the checksum field of any output that belongs to the [`Sum`], if there is one.
macro_rules! set_sum {
    ($output:expr, $sum:expr) => {{
        use $crate::checksum::Algorithm;
        if let Some(sum) = $sum {
            let value = Some(sum.value.clone());
            match sum.algorithm {
                Algorithm::Crc32 => $output.checksum_crc32 = value,
                Algorithm::Crc32c => $output.checksum_crc32c = value,
                Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
                Algorithm::Sha1 => $output.checksum_sha1 = value,
                Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    }};
}

/// The same of an object, with its type.
macro_rules! set_object_sum {
    ($output:expr, $object:expr) => {{
        let sum = &$object.sum;
        convert::set_sum!($output, sum);
        $output.checksum_type = sum.as_ref().map(|_| convert::checksum_type($object.kind));
    }};
}

/// Takes the attributes out of any input that has them.
macro_rules! attributes {
    ($input:expr) => {
        $crate::model::Attributes {
            content_type: $input.content_type.take(),
            cache_control: $input.cache_control.take(),
            content_disposition: $input.content_disposition.take(),
            content_encoding: $crate::service::convert::stored_encoding(
                $input.content_encoding.take(),
            ),
            content_language: $input.content_language.take(),
            expires: $input
                .expires
                .take()
                .as_ref()
                .and_then($crate::service::convert::our_time),
            metadata: $input
                .metadata
                .take()
                .unwrap_or_default()
                .into_iter()
                .collect(),
        }
    };
}

/// Refuses what we would have to ignore and a client may rely on.
macro_rules! refuse_unsupported {
    ($input:expr; $($field:ident),+) => {
        $(if $input.$field.is_some() {
            return Err($crate::refusal::Refusal::NotImplemented(
                concat!("This store does not support ", stringify!($field), ".").to_owned(),
            ));
        })+
    };
}

pub(super) use {attributes, expected_digests, refuse_unsupported, set_object_sum, set_sum, sums};

/// `aws-chunked` describes the request, not the object.
pub(super) fn stored_encoding(encoding: Option<String>) -> Option<String> {
    let kept: Vec<&str> = encoding
        .as_deref()?
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && *coding != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// The checksums that a client declares: in headers, known before the body, or in a trailer.
pub(super) struct DeclaredSums {
    expected: ExpectedDigests,
    /// The algorithm whose value comes behind the body.
    trailer: Option<Algorithm>,
}

impl DeclaredSums {
    /// `x-amz-trailer` names the trailer's algorithm. SDKs name that of any checksum in a header which s3s
    /// does not read.
    pub(super) fn new(
        expected: ExpectedDigests,
        headers: &http::HeaderMap,
    ) -> Result<Self, Refusal> {
        let of_sdk = headers.get("x-amz-sdk-checksum-algorithm");
        let of_sdk = of_sdk.map(|name| String::from_utf8_lossy(name.as_bytes()).to_uppercase());
        algorithm(of_sdk.map(dto::ChecksumAlgorithm::from).as_ref())?;
        let named = headers.get("x-amz-trailer").map(|value| value.as_bytes());
        let named = named
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty());
        let trailer = named.map(|name| {
            let is_it = |it: &Algorithm| name.eq_ignore_ascii_case(it.header().as_bytes());
            let unknown =
                || Refusal::InvalidRequest("The trailer in x-amz-trailer is unknown here.".into());
            Algorithm::ALL.into_iter().find(is_it).ok_or_else(unknown)
        });
        Ok(Self {
            expected,
            trailer: trailer.transpose()?,
        })
    }

    /// Every algorithm that the body has to be hashed with.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let headers = self.expected.sums.iter().map(|sum| sum.algorithm);
        headers.chain(self.trailer).collect()
    }

    /// A client that sends a CRC64NVME has its own check of the part, and needs no MD5 for it. Others may
    /// compare the ETag with theirs.
    pub(super) fn part_etag(&self) -> EtagSource {
        let has_crc = self.algorithms().contains(&Algorithm::Crc64Nvme);
        if has_crc && self.expected.md5.is_none() {
            EtagSource::Crc64Nvme
        } else {
            EtagSource::Md5
        }
    }

    /// All of them, now that the body and its trailers were read. A checksum that was not announced was not
    /// computed, so it cannot be verified.
    pub(super) fn with_trailers(
        mut self,
        trailers: Option<&TrailingHeaders>,
    ) -> Result<ExpectedDigests, Refusal> {
        let trailers = trailers.and_then(TrailingHeaders::take).unwrap_or_default();
        let announced = self.trailer.map(Algorithm::header);
        if announced.is_some_and(|name| !trailers.contains_key(&name)) {
            return Err(Refusal::MalformedTrailer);
        }
        for (name, value) in &trailers {
            if !name.as_str().starts_with("x-amz-checksum-") {
                continue;
            }
            let algorithm = self.trailer.filter(|it| it.header() == name.as_str());
            let (Some(algorithm), Ok(value)) = (algorithm, value.to_str()) else {
                return Err(Refusal::MalformedTrailer);
            };
            let value = value.trim().to_owned();
            self.expected.sums.push(Sum { algorithm, value });
        }
        Ok(self.expected)
    }
}

/// The stream of a body, or of none.
pub(super) fn body(
    blob: Option<dto::StreamingBlob>,
) -> impl Stream<Item = Result<Bytes, Refusal>> + Send {
    stream::iter(blob).flatten().map_err(unreadable_body)
}

/// The refusal of a body that s3s could not read to its end.
fn unreadable_body(error: StdError) -> Refusal {
    // s3s 0.14 keeps the types of these errors private: their text is all there is.
    let text = error.to_string();
    if text.ends_with("Sha256Mismatch") {
        Refusal::ContentSha256Mismatch
    } else if text.contains("SignatureMismatch") {
        Refusal::InvalidRequest("The signature of a chunk does not match.".into())
    } else {
        Refusal::IncompleteBody
    }
}

/// A body for an answer, with its length known.
pub(super) fn blob(outgoing: OutgoingBody) -> dto::StreamingBlob {
    dto::StreamingBlob::new(SizedBody(outgoing))
}

struct SizedBody(OutgoingBody);

impl Stream for SizedBody {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_err(StdError::from)
    }
}

impl ByteStream for SizedBody {
    fn remaining_length(&self) -> RemainingLength {
        match usize::try_from(self.0.remaining()) {
            Ok(length) => RemainingLength::new_exact(length),
            Err(_) => RemainingLength::unknown(),
        }
    }
}

/// A continuation token: the name of the last entry, so that a key may hold anything.
pub(super) fn token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// The name of the last entry of the page before, from our token.
pub(super) fn from_token(token: &str) -> Result<String, Refusal> {
    let last = URL_SAFE_NO_PAD.decode(token).ok();
    let last = last.and_then(|last| String::from_utf8(last).ok());
    last.filter(|last| !last.is_empty()).ok_or_else(|| {
        Refusal::InvalidArgument("The continuation token is not one of this store.".into())
    })
}

/// Headers of an answer that come from the object's attributes.
macro_rules! set_attributes {
    ($output:expr, $attributes:expr) => {{
        let attributes: $crate::model::Attributes = $attributes;
        $output.content_type = attributes
            .content_type
            .or_else(|| Some("binary/octet-stream".to_owned()));
        $output.cache_control = attributes.cache_control;
        $output.content_disposition = attributes.content_disposition;
        $output.content_encoding = attributes.content_encoding;
        $output.content_language = attributes.content_language;
        $output.expires = attributes.expires.map($crate::service::convert::timestamp);
        $output.metadata =
            (!attributes.metadata.is_empty()).then(|| attributes.metadata.into_iter().collect());
    }};
}

pub(super) use set_attributes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_any_key() {
        for last in ["a/ü\u{1}", "g/", " "] {
            assert_eq!(from_token(&token(last)).ok().as_deref(), Some(last));
        }
        for wrong in ["", "!", "_w"] {
            assert!(from_token(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_transfer_encoding_is_not_stored() {
        for (sent, stored) in [
            (None, None),
            (Some("aws-chunked"), None),
            (Some("gzip"), Some("gzip")),
            (Some("aws-chunked, gzip"), Some("gzip")),
        ] {
            assert_eq!(stored_encoding(sent.map(Into::into)).as_deref(), stored);
        }
    }
}
