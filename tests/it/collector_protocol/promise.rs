//! The age of a link: how long after a client learned that a layer is present is its manifest still taken?
//!
//! Time is discrete. A client asks (HEAD) at 0, passes of collectors run at any set of moments, and one upload may be open in the
//! repository. L, W and the touch are those of the collector, in other units.

use std::collections::BTreeSet;
use std::ops::Range;

/// Hours stand for ten hours here: L = 72 h and W = 20 h, about.
const L: i32 = 8;
const W: i32 = 3;
/// No pass later than this is looked at.
const LAST: i32 = 40;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    Live { written: i32 },
    Condemned { written: i32 },
    Gone,
}

#[derive(Clone, Copy)]
struct Rules {
    /// HEAD writes a link again that was written more than L/2 ago.
    touches: bool,
    /// Age counts up to the beginning of the oldest open upload, and a condemned link is written back while an upload is open that
    /// began at most W after it was condemned.
    regards_uploads: bool,
}

const ALL: Rules = Rules {
    touches: true,
    regards_uploads: true,
};

/// What a pass at this moment makes of the link.
fn pass(link: Link, now: i32, upload: Option<&Range<i32>>, rules: Rules) -> Link {
    let began = upload
        .filter(|upload| rules.regards_uploads && upload.contains(&now))
        .map(|upload| upload.start);
    match link {
        Link::Live { written } if began.unwrap_or(now) - written > L => {
            Link::Condemned { written: now }
        }
        Link::Condemned { written } if now - written >= W => {
            if began.is_some_and(|began| began <= written + W) {
                Link::Live { written: now }
            } else {
                Link::Gone
            }
        }
        unchanged => unchanged,
    }
}

/// The link after HEAD at 0.
fn head(link: Link, rules: Rules) -> Link {
    match link {
        Link::Live { written } if rules.touches && -written > L / 2 => Link::Live { written: 0 },
        Link::Condemned { .. } => Link::Live { written: 0 },
        unchanged => unchanged,
    }
}

/// The first moment at which the manifest may be refused, for links of every age.
fn first_refusal(upload: Option<&Range<i32>>, rules: Rules) -> i32 {
    (0..30)
        .map(|age| first_refusal_at_age(age, upload, rules))
        .min()
        .unwrap_or(LAST)
}

fn first_refusal_at_age(age: i32, upload: Option<&Range<i32>>, rules: Rules) -> i32 {
    let before = Link::Live { written: -age };
    // A pass may run before and after the client asks.
    let asked = [before, pass(before, 0, upload, rules)].map(|link| head(link, rules));
    let mut links: BTreeSet<Link> = asked.into_iter().collect();
    for now in 0..LAST {
        let passed: Vec<Link> = links
            .iter()
            .map(|link| pass(*link, now, upload, rules))
            .collect();
        links.extend(passed);
        if links.contains(&Link::Gone) {
            return now;
        }
    }
    LAST
}

/// The least time between the end of an upload that begins at this moment, and the first refusal.
fn refusal_after_upload(began: i32, rules: Rules) -> i32 {
    (began + 1..34)
        .map(|end| first_refusal(Some(&(began..end)), rules) - end)
        .min()
        .unwrap_or(LAST)
}

#[test]
fn manifest_is_taken_for_half_of_l_and_w() {
    assert!(first_refusal(None, ALL) > L / 2 + W);
}

#[test]
fn manifest_is_taken_until_w_after_an_upload_that_began_in_time() {
    for began in 0..=L / 2 {
        let after = refusal_after_upload(began, ALL);
        assert!(
            after >= W,
            "an upload that began at {began}: refused {after} after its end"
        );
    }
}

#[test]
fn promise_needs_the_touch() {
    let rules = Rules {
        touches: false,
        ..ALL
    };
    assert_eq!(
        first_refusal(None, rules),
        W,
        "without the touch the promise is W alone"
    );
    assert!((0..=L / 2).any(|began| refusal_after_upload(began, rules) < W));
}

#[test]
fn promise_needs_the_open_uploads() {
    let rules = Rules {
        regards_uploads: false,
        ..ALL
    };
    assert!(
        (0..=L / 2).all(|began| refusal_after_upload(began, rules) < 0),
        "refused while the upload is open"
    );
}
