//! Decides Complete. The whole request is checked before anything changes, so a refusal leaves the upload as
//! it was.

use md5::Digest as _;

use crate::checksum::{self, Kind, Sum};
use crate::model::{Part, Upload};
use crate::quirks::Quirks;
use crate::refusal::Refusal;

/// The smallest part that may be followed by another.
pub(crate) const MIN_PART: u64 = 5 << 20;
/// The largest part number, and so the largest number of parts.
pub(crate) const MAX_PARTS: u16 = 10_000;
/// The largest body of one request.
pub(crate) const MAX_BODY: u64 = 5 << 30;

/// A part as Complete names it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedPart {
    pub(crate) number: i32,
    pub(crate) etag: Option<String>,
    pub(crate) sums: Vec<Sum>,
}

/// What Complete asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completion {
    pub(crate) parts: Vec<NamedPart>,
    /// Checksums of the whole object.
    pub(crate) sums: Vec<Sum>,
    pub(crate) kind: Option<Kind>,
    pub(crate) size: Option<u64>,
}

/// The object that an upload becomes.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) parts: Vec<Part>,
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) sum: Option<Sum>,
}

/// A part number that S3 takes.
pub(crate) fn part_number(number: i32) -> Result<u16, Refusal> {
    match u16::try_from(number) {
        Ok(number @ 1..=MAX_PARTS) => Ok(number),
        _ => Err(Refusal::InvalidArgument(format!(
            "Part number must be an integer between 1 and {MAX_PARTS}, inclusive."
        ))),
    }
}

/// The object that the upload with these parts becomes.
pub(crate) fn assemble(
    upload: &Upload,
    uploaded: Vec<Part>,
    asked: &Completion,
    quirks: Quirks,
) -> Result<Assembly, Refusal> {
    if asked.parts.is_empty() {
        return Err(Refusal::MalformedXml);
    }
    if asked
        .parts
        .windows(2)
        .any(|pair| pair[0].number >= pair[1].number)
    {
        return Err(Refusal::InvalidPartOrder);
    }
    if quirks.complete_needs_all_parts && asked.parts.len() < uploaded.len() {
        return Err(Refusal::InvalidPart(asked.parts.len() as u16));
    }
    let mut uploaded = uploaded.into_iter();
    let parts = asked
        .parts
        .iter()
        .map(|named| chosen(upload, &mut uploaded, named, quirks))
        .collect::<Result<Vec<Part>, Refusal>>()?;
    if let Some((_, before)) = parts.split_last()
        && let Some(small) = before.iter().find(|part| part.size < MIN_PART)
    {
        return Err(Refusal::EntityTooSmall(small.number));
    }
    let size = parts.iter().map(|part| part.size).sum();
    if asked.size.is_some_and(|asked| asked != size) {
        return Err(Refusal::InvalidRequest(
            "The object would not have the size that is named.".into(),
        ));
    }
    let sum = if quirks.ignore_checksums {
        None
    } else {
        whole_sum(upload, asked, &parts)?
    };
    Ok(Assembly {
        etag: quirks.etag(etag_of(&parts)),
        size,
        sum,
        parts,
    })
}

/// The next uploaded part with this number, if it is as Complete names it.
fn chosen(
    upload: &Upload,
    uploaded: &mut impl Iterator<Item = Part>,
    named: &NamedPart,
    quirks: Quirks,
) -> Result<Part, Refusal> {
    let number = part_number(named.number)?;
    let part = uploaded
        .find(|part| part.number == number)
        .ok_or(Refusal::InvalidPart(number))?;
    let same = named.etag.as_ref().is_some_and(|etag| *etag == part.etag);
    if !same && !quirks.ignore_part_etags {
        return Err(Refusal::InvalidPart(number));
    }
    if quirks.ignore_checksums {
        return Ok(part);
    }
    let sum = named
        .sums
        .iter()
        .find(|sum| sum.algorithm == upload.algorithm);
    if sum.is_some_and(|sum| Some(&sum.value) != part.sum.as_ref()) {
        return Err(Refusal::InvalidPart(number));
    }
    if sum.is_none() && upload.declared && upload.kind == Kind::Composite {
        return Err(Refusal::InvalidRequest(format!(
            "The upload was created with {}: Complete must name that of each part, and lacks it for part {number}.",
            upload.algorithm.name()
        )));
    }
    Ok(part)
}

/// The checksum of the object, if it is the one that is named.
fn whole_sum(upload: &Upload, asked: &Completion, parts: &[Part]) -> Result<Option<Sum>, Refusal> {
    if asked.kind.is_some_and(|kind| kind != upload.kind) {
        return Err(Refusal::InvalidRequest(format!(
            "The upload was created with checksum type {}.",
            upload.kind.name()
        )));
    }
    let consecutive = parts
        .iter()
        .zip(1..)
        .all(|(part, number)| part.number == number);
    if upload.declared && !consecutive {
        return Err(Refusal::InvalidRequest(
            "With checksums, part numbers must be consecutive and begin with 1.".into(),
        ));
    }
    let of_parts = parts
        .iter()
        .map(|part| (part.sum.as_deref().unwrap_or_default(), part.size));
    let sum = checksum::of_parts(upload.algorithm, upload.kind, of_parts);
    for named in &asked.sums {
        // A client may leave out the number of parts behind a composite.
        let same = sum.as_ref().is_some_and(|sum| {
            let bare = sum.value.split('-').next();
            sum.algorithm == named.algorithm
                && (sum.value == named.value || bare == Some(&named.value))
        });
        if !same {
            return Err(Refusal::BadDigest(named.algorithm.name().to_owned()));
        }
    }
    Ok(sum)
}

/// The ETag of a multipart object: the MD5 of the MD5s of its parts, and their number. A part's ETag
/// that is not hex is hashed as text.
fn etag_of(parts: &[Part]) -> String {
    let mut md5 = md5::Md5::new();
    for part in parts {
        md5.update(unhex(&part.etag).unwrap_or_else(|| part.etag.clone().into_bytes()));
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a hex text.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            pair.iter()
                .try_fold(0, |sum, byte| Some(sum << 4 | digit(byte)? as u8))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{Algorithm, Hasher};

    const MIB: u64 = 1 << 20;

    fn sum_of(algorithm: Algorithm, number: u16) -> Sum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&[number as u8]);
        hasher.finish()
    }

    fn part(number: u16, size: u64) -> Part {
        Part {
            number,
            size,
            etag: format!("{number:032x}"),
            modified: jiff::Timestamp::UNIX_EPOCH,
            sum: Some(sum_of(Algorithm::Crc64Nvme, number).value),
            blob: None,
        }
    }

    fn upload() -> Upload {
        Upload {
            initiated: jiff::Timestamp::UNIX_EPOCH,
            attributes: Default::default(),
            algorithm: Algorithm::Crc64Nvme,
            kind: Kind::FullObject,
            declared: false,
        }
    }

    fn named(numbers: &[u16]) -> Completion {
        let parts = numbers.iter().map(|&number| NamedPart {
            number: number.into(),
            etag: Some(format!("{number:032x}")),
            sums: Vec::new(),
        });
        Completion {
            parts: parts.collect(),
            ..Completion::default()
        }
    }

    fn verdict(result: Result<Assembly, Refusal>) -> String {
        match result {
            Ok(object) => format!("{} bytes in {}", object.size, object.parts.len()),
            Err(refusal) => format!("{refusal:?}")
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    #[test]
    fn complete_cases() {
        let plain = upload();
        let full = (&plain, 5 * MIB);
        let small = (&plain, 5 * MIB - 1);
        let stale = |mut asked: Completion| {
            asked.parts[1].etag = Some("0".repeat(32));
            asked
        };
        let sums = |mut asked: Completion, number: u16| {
            asked.parts[0].sums = vec![sum_of(Algorithm::Crc64Nvme, number)];
            asked
        };
        let none = Quirks::none();
        let careless = Quirks {
            ignore_part_etags: true,
            ..none
        };
        let declared = Upload {
            declared: true,
            ..plain.clone()
        };
        let composite = Upload {
            kind: Kind::Composite,
            ..declared.clone()
        };
        let whole = |algorithm, number| Completion {
            sums: vec![sum_of(algorithm, number)],
            ..named(&[3])
        };
        let kind = Some(Kind::Composite);
        #[rustfmt::skip]
        let cases = [
            ("all", full, named(&[1, 2, 3]), none, "10485761 bytes in 3"),
            ("a subset", full, named(&[1, 3]), none, "5242881 bytes in 2"),
            ("only a small one", full, named(&[3]), none, "1 bytes in 1"),
            ("no parts", full, named(&[]), none, "MalformedXml"),
            ("out of order", full, named(&[2, 1]), none, "InvalidPartOrder"),
            ("twice the same", full, named(&[1, 1]), none, "InvalidPartOrder"),
            ("an absent part", full, named(&[1, 4]), none, "InvalidPart"),
            ("another ETag", full, stale(named(&[1, 2])), none, "InvalidPart"),
            ("another ETag, ignored", full, stale(named(&[1, 2])), careless, "10485760 bytes in 2"),
            ("small in the middle", small, named(&[1, 2, 3]), none, "EntityTooSmall"),
            ("small at the end", small, named(&[1, 2]), none, "10485759 bytes in 2"),
            ("its checksum", full, sums(named(&[1]), 1), none, "5242880 bytes in 1"),
            ("another checksum", full, sums(named(&[1]), 2), none, "InvalidPart"),
            ("gaps with a checksum", (&declared, 5 * MIB), named(&[1, 3]), none, "InvalidRequest"),
            ("full object needs none", (&declared, 5 * MIB), named(&[1, 2]), none, "10485760 bytes in 2"),
            ("composite needs all", (&composite, 5 * MIB), named(&[1, 2]), none, "InvalidRequest"),
            ("the size", full, Completion { size: Some(1), ..named(&[3]) }, none, "1 bytes in 1"),
            ("another size", full, Completion { size: Some(2), ..named(&[3]) }, none, "InvalidRequest"),
            ("the whole", full, whole(Algorithm::Crc64Nvme, 3), none, "1 bytes in 1"),
            ("another whole", full, whole(Algorithm::Crc64Nvme, 4), none, "BadDigest"),
            ("another algorithm", full, whole(Algorithm::Crc32, 3), none, "BadDigest"),
            ("another kind", full, Completion { kind, ..named(&[3]) }, none, "InvalidRequest"),
        ];
        for (case, (upload, second), asked, quirks, want) in cases {
            let parts = vec![part(1, 5 * MIB), part(2, second), part(3, 1)];
            assert_eq!(
                verdict(assemble(upload, parts, &asked, quirks)),
                want,
                "{case}"
            );
        }
    }

    #[test]
    fn the_etag_is_the_md5_of_the_md5s() {
        let mut one = part(1, 0);
        one.etag = "d41d8cd98f00b204e9800998ecf8427e".into();
        assert_eq!(
            etag_of(&[one.clone()]),
            "59adb24ef3cdbe0297f05b395827453f-1"
        );
        // An ETag that is no hex counts too.
        let mut other = one.clone();
        (one.etag, other.etag) = ("0-1".into(), "0-2".into());
        assert_ne!(etag_of(&[one]), etag_of(&[other]));
    }
}
