//! Who runs at once.

use super::actor::Actor::{self, *};
use super::explore::{Beginning, Mix};
use super::push::Push;
use super::state::{LinkState, RecordState, Upload};

const IMAGE: Beginning = Beginning {
    link: Some(LinkState::Live),
    manifest: true,
    layer: Some(RecordState::Live),
    alias: false,
    lies: None,
};
const LAYER: Beginning = Beginning {
    manifest: false,
    ..IMAGE
};
const UNLINKED: Beginning = Beginning {
    link: None,
    ..LAYER
};
const EMPTY: Beginning = Beginning {
    layer: None,
    ..UNLINKED
};
/// A condemned record that is linked again stays condemned.
const CONDEMNED: Beginning = Beginning {
    layer: Some(RecordState::Condemned),
    ..IMAGE
};
const WITH_ALIAS: Beginning = Beginning {
    alias: true,
    ..UNLINKED
};

fn push(repository: usize, upload: Upload) -> Push {
    Push::new(repository, upload)
}

/// Uploads without a look, and may die at any request.
fn dying(repository: usize, upload: Upload) -> Push {
    push(repository, upload)
        .without_asking()
        .without_manifest()
        .may_crash()
}

fn driver(repository: usize, upload: Upload) -> Actor {
    Driver(push(repository, upload).without_manifest())
}

pub fn mixes() -> Vec<Mix> {
    let (a, b, small_a, small_b) = (Upload::A, Upload::B, Upload::SMALL_A, Upload::SMALL_B);
    let mount = push(1, a).mounting_from(0);
    let stray_mount = mount.without_asking().without_manifest().may_crash();
    let cancel = Cancel(a.content(0), 0);
    let tag = Push(push(0, a).with_tag());
    let mix = |name, beginning, actors: &[Actor]| Mix {
        name,
        beginning,
        actors: actors.to_vec(),
        must_collect: false,
    };
    vec![
        mix(
            "HEAD, link collector",
            LAYER,
            &[LinkCollector(0), Push(push(0, a))],
        ),
        mix(
            "HEAD, two link collectors",
            LAYER,
            &[LinkCollector(0), LinkCollector(0), Push(push(0, a))],
        ),
        mix(
            "HEAD, link and record collector",
            LAYER,
            &[LinkCollector(0), RecordCollector, Push(push(0, a))],
        ),
        mix(
            "HEAD, two collectors of each",
            LAYER,
            &[
                LinkCollector(0),
                LinkCollector(0),
                RecordCollector,
                RecordCollector,
                Push(push(0, a)),
            ],
        ),
        mix(
            "manifest deleted and pushed",
            IMAGE,
            &[
                LinkCollector(0),
                RecordCollector,
                DeleteManifest(0),
                Push(push(0, a)),
            ],
        ),
        mix(
            "manifest deleted and pushed, three collectors",
            IMAGE,
            &[
                LinkCollector(0),
                LinkCollector(0),
                RecordCollector,
                DeleteManifest(0),
                Push(push(0, a)),
            ],
        ),
        mix(
            "mount, manifest deleted",
            IMAGE,
            &[
                LinkCollector(0),
                RecordCollector,
                DeleteManifest(0),
                Push(mount.without_asking()),
            ],
        ),
        mix(
            "mount of condemned, two record collectors",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                RecordCollector,
                Push(mount.without_asking()),
            ],
        ),
        mix(
            "mount, link collector of the target",
            LAYER,
            &[
                LinkCollector(0),
                LinkCollector(1),
                RecordCollector,
                Push(mount),
            ],
        ),
        mix(
            "mount, unlink",
            LAYER,
            &[
                RecordCollector,
                Push(mount.without_asking()),
                Unlink(0),
                Push(push(1, b)),
            ],
        ),
        mix(
            "two pushes to one repository",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(push(0, a)),
                Push(push(0, b).without_asking()),
            ],
        ),
        mix(
            "two pushes, unlink",
            IMAGE,
            &[
                RecordCollector,
                Push(push(1, a).without_asking()),
                Push(push(1, b)),
                Unlink(0),
            ],
        ),
        mix(
            "crash, driver, observer",
            UNLINKED,
            &[
                RecordCollector,
                Push(dying(0, a)),
                driver(0, a),
                Push(push(0, b)),
            ],
        ),
        mix(
            "crash, driver, unlink",
            UNLINKED,
            &[RecordCollector, Push(dying(0, a)), driver(0, a), Unlink(0)],
        ),
        mix(
            "crash, driver, collectors",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(dying(1, a)),
                driver(1, a),
            ],
        ),
        mix(
            "crash, forced cancel, observer",
            UNLINKED,
            &[Push(dying(0, a)), cancel, Push(push(0, b))],
        ),
        mix(
            "small: crash, observer",
            UNLINKED,
            &[
                RecordCollector,
                Push(dying(0, small_a)),
                Push(push(0, small_b)),
            ],
        ),
        mix(
            "small: collectors, push",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(push(0, small_a)),
                DeleteManifest(0),
            ],
        ),
        mix(
            "small: crash, driver, collectors",
            LAYER,
            &[
                LinkCollector(1),
                RecordCollector,
                Push(dying(1, small_a)),
                driver(1, small_a),
            ],
        ),
        mix(
            "small: crash, driver, observer",
            UNLINKED,
            &[
                RecordCollector,
                Push(dying(0, small_a)),
                driver(0, small_a),
                Push(push(0, small_b)),
            ],
        ),
        mix(
            "restore",
            UNLINKED,
            &[
                RecordCollector,
                RecordCollector,
                Restore,
                Push(push(0, b).without_asking()),
            ],
        ),
        Mix {
            must_collect: true,
            ..mix(
                "tombstone of a link",
                Beginning {
                    link: Some(LinkState::Gone),
                    ..LAYER
                },
                &[RecordCollector],
            )
        },
        mix(
            "empty: crash, cancel, observer",
            EMPTY,
            &[Push(dying(0, a)), cancel, Push(push(0, b))],
        ),
        mix(
            "empty: crash, cancel, driver",
            EMPTY,
            &[Push(dying(0, a)), driver(0, a), cancel, Push(push(0, b))],
        ),
        mix(
            "empty: crash, collector, driver",
            EMPTY,
            &[RecordCollector, Push(dying(0, a)), driver(0, a)],
        ),
        mix(
            "empty, small: crash, observer",
            EMPTY,
            &[Push(dying(0, small_a)), Push(push(0, small_b))],
        ),
        mix(
            "stray mount",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(stray_mount),
                Push(push(1, b)),
            ],
        ),
        mix(
            "condemned long ago: push, manifest deleted",
            CONDEMNED,
            &[
                LinkCollector(0),
                RecordCollector,
                DeleteManifest(0),
                Push(push(0, a)),
            ],
        ),
        mix(
            "condemned long ago: mount, manifest deleted",
            CONDEMNED,
            &[
                LinkCollector(0),
                RecordCollector,
                RecordCollector,
                DeleteManifest(0),
                Push(mount.without_asking()),
            ],
        ),
        mix(
            "condemned long ago: mount, unlink",
            CONDEMNED,
            &[
                RecordCollector,
                Push(mount.without_asking()),
                Unlink(0),
                Push(push(1, b)),
            ],
        ),
        mix(
            "condemned long ago: push, collector of the other repository",
            CONDEMNED,
            &[
                LinkCollector(1),
                RecordCollector,
                Push(push(1, a).without_asking()),
                Unlink(0),
            ],
        ),
        mix(
            "alias: collectors, push",
            WITH_ALIAS,
            &[
                RecordCollector,
                RecordCollector,
                Push(push(0, a.with_alias())),
            ],
        ),
        mix(
            "alias: collectors, crash, observer",
            WITH_ALIAS,
            &[
                RecordCollector,
                Push(dying(0, a.with_alias())),
                driver(0, a.with_alias()),
                Push(push(0, b.with_alias())),
            ],
        ),
        mix(
            "alias: collectors, pushes with and without it",
            WITH_ALIAS,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(push(0, a)),
                Push(push(1, b.with_alias())),
            ],
        ),
        mix(
            "alias: restore",
            WITH_ALIAS,
            &[
                RecordCollector,
                RecordCollector,
                Restore,
                Push(push(0, b.with_alias()).without_asking()),
            ],
        ),
        mix(
            "listing that loses a line",
            Beginning {
                lies: Some(1),
                ..IMAGE
            },
            &[RecordCollector, RecordCollector, Push(push(0, a))],
        ),
        mix(
            "listing that loses a line, mount",
            Beginning {
                lies: Some(1),
                ..CONDEMNED
            },
            &[
                RecordCollector,
                LinkCollector(0),
                DeleteManifest(0),
                Push(mount),
            ],
        ),
        mix("retention, tag", IMAGE, &[Retention(0), Retention(0), tag]),
        mix(
            "retention, index",
            IMAGE,
            &[Retention(0), Retention(0), Index(0)],
        ),
        mix(
            "retention, all collectors, tag",
            IMAGE,
            &[Retention(0), LinkCollector(0), RecordCollector, tag],
        ),
        mix(
            "late mount, observer",
            LAYER,
            &[
                LinkCollector(0),
                RecordCollector,
                Push(mount.without_asking().without_manifest()),
                Push(push(1, b)),
            ],
        ),
    ]
}
