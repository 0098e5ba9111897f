//! What a manifest names. Only the registry reads all of a manifest; restores and checks need no more than this.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Digest;

/// Layers whose media types begin with these may be kept elsewhere.
const KEPT_ELSEWHERE: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Whether content of this media type may be absent from the repository: its descriptor says where else to get it.
pub fn is_kept_elsewhere(media_type: &str) -> bool {
    KEPT_ELSEWHERE
        .iter()
        .any(|prefix| media_type.starts_with(prefix))
}

/// What a manifest cannot be pulled without: its config, its layers, the manifests of an index. Of bytes that are not a
/// manifest, nothing.
///
/// A registry has to see these in the repository before it stores the manifest: a restore and `check --repair` link them, and
/// what is linked can be read by all who may read the repository.
pub fn needed(bytes: &[u8]) -> BTreeSet<Digest> {
    let manifest = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let config = std::iter::once(&manifest["config"]);
    let lists = ["layers", "manifests"].map(|list| entries(&manifest, list));
    digests(config.chain(lists.into_iter().flatten()))
}

/// The manifests of an index.
pub(crate) fn children(bytes: &[u8]) -> BTreeSet<Digest> {
    let manifest = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    digests(entries(&manifest, "manifests"))
}

fn entries<'a>(manifest: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    manifest[list].as_array().into_iter().flatten()
}

fn digests<'a>(descriptors: impl Iterator<Item = &'a Value>) -> BTreeSet<Digest> {
    let here = descriptors.filter(|descriptor| {
        !is_kept_elsewhere(descriptor["mediaType"].as_str().unwrap_or_default())
    });
    here.filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_needs() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let [a, b, c] = ["a", "b", "c"].map(digest);
        for (case, manifest, want) in [
            (
                "an image",
                format!(
                    r#"{{"config":{{"digest":"{a}"}},"layers":[{{"digest":"{b}"}}],"subject":{{"digest":"{c}"}}}}"#
                ),
                vec![&a, &b],
            ),
            (
                "an index",
                format!(r#"{{"manifests":[{{"digest":"{a}"}},{{"digest":"{c}"}}]}}"#),
                vec![&a, &c],
            ),
            (
                "members that a push does not look at",
                format!(r#"{{"blobs":[{{"digest":"{b}"}}],"fsLayers":[{{"blobSum":"{c}"}}]}}"#),
                vec![],
            ),
            (
                "a config that is kept elsewhere",
                format!(
                    r#"{{"config":{{"digest":"{a}","mediaType":"{}"}}}}"#,
                    KEPT_ELSEWHERE[0]
                ),
                vec![],
            ),
            (
                "a layer that is kept elsewhere",
                format!(
                    r#"{{"layers":[{{"digest":"{b}"}},{{"digest":"{c}","mediaType":"{}+gzip"}}]}}"#,
                    KEPT_ELSEWHERE[0]
                ),
                vec![&b],
            ),
            ("no JSON", "x".to_owned(), vec![]),
        ] {
            let needed: Vec<String> = needed(manifest.as_bytes())
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(needed.iter().collect::<Vec<_>>(), want, "{case}");
        }
    }
}
