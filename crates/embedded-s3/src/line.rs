//! A line of the journal, and the header before the first: how they are written.
//!
//! What is stored is what the types of `index` serialise to. A field may be added if it has a
//! default; anything else needs a new [`VERSION`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::blob::Blob;
use crate::index::{BlobId, Change};

const FORMAT: &str = "s3layers-store";
/// The newest format that we read, and the one that we write.
pub(crate) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// The header of a new journal.
pub(crate) fn header() -> io::Result<Vec<u8>> {
    let header = Header {
        format: FORMAT.into(),
        version: VERSION,
    };
    let mut line = serde_json::to_vec(&header)?;
    line.push(b'\n');
    Ok(line)
}

/// The version that a header names; `None` if it is not one.
pub(crate) fn version(line: &[u8]) -> Option<u32> {
    let header: Header = serde_json::from_slice(line).ok()?;
    (header.format == FORMAT).then_some(header.version)
}

/// A commit.
#[derive(Serialize, Deserialize)]
pub(crate) struct Commit<'a> {
    pub(crate) changes: Cow<'a, [Change]>,
    /// In base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) small: BTreeMap<BlobId, String>,
}

/// The line of a commit. `blob` finds those that the changes name, if they are new.
pub(crate) fn line<'a>(
    changes: &[Change],
    blob: impl Fn(BlobId) -> Option<&'a Blob>,
) -> io::Result<Vec<u8>> {
    let small = |id| match blob(id)? {
        Blob::Ram(chunks) => Some((id, STANDARD.encode(chunks.concat()))),
        Blob::File(_) => None,
    };
    let small = changes
        .iter()
        .flat_map(Change::blobs)
        .filter_map(small)
        .collect();
    let json = serde_json::to_vec(&Commit {
        changes: changes.into(),
        small,
    })?;
    let mut line = format!("{:08x} ", crc(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn crc(bytes: &[u8]) -> u32 {
    // A CRC-32 in a u64: nothing is cut off.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes) as u32
}

/// The commit of a line without its end, or what is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Commit<'static>, String> {
    let (sum, json) = line.split_at_checked(9).ok_or("it is too short")?;
    let sum = std::str::from_utf8(sum).unwrap_or_default().trim_end();
    if u32::from_str_radix(sum, 16).ok() != Some(crc(json)) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}
