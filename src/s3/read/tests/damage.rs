//! Broken bodies, wrong bytes, and objects that are not what was recorded.

use std::ops::Range;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_broken_body_is_picked_up_at_the_exact_byte() {
    for (case, answer) in [
        ("cut", Answer::Cut(70_001)),
        ("ends early", Answer::End(70_001)),
        ("hangs", Answer::Stall(70_001)),
    ] {
        let scene = Scene::new(PLENTY);
        scene.fake.script(move |_, range| match range.start {
            BLOCK => answer,
            _ => Answer::Right,
        });
        let mut layer = scene.layer();
        let (bytes, error) = read_all(&mut layer).await;
        assert!(error.is_none() && bytes == scene.bytes, "{case}: {error:?}");
        let log = scene.fake.log.lock().unwrap();
        assert_eq!(log.len(), 9, "{case}");
        assert!(
            log.contains(&(BLOCK + 70_001..2 * BLOCK)),
            "{case}: {log:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn progress_renews_the_patience() {
    let scene = Scene::new(PLENTY);
    // Each request of the second block gives a little, so it takes 84 of them.
    scene.fake.script(|_, range| match range.start {
        BLOCK..TWO => Answer::Cut(100_000),
        _ => Answer::Right,
    });
    const TWO: u64 = 2 * BLOCK;
    let (bytes, error) = read_all(&mut scene.layer()).await;
    assert!(error.is_none() && bytes == scene.bytes, "{error:?}");

    scene.fake.script(|_, _| Answer::Cut(0));
    let mut layer = scene.layer();
    let begun = tokio::time::Instant::now();
    let (bytes, error) = read_all(&mut layer).await;
    assert!(bytes.is_empty());
    assert!(error.is_some_and(|error| error.is_retryable()));
    // Without a byte, until both are reached; no pause is longer than 10 s.
    let seconds = begun.elapsed().as_secs();
    assert!(
        scene.fake.requests() >= 8 && (30..=40).contains(&seconds),
        "{seconds} s"
    );
    scene.fake.script(|_, _| Answer::Right);
    assert!(
        read_all(&mut layer).await.0 == scene.bytes,
        "as if nothing had been"
    );
}

/// Answers so the first time that this position is asked for.
fn once(position: u64, answer: Answer) -> impl Fn(usize, &Range<u64>) -> Answer + Send + Sync {
    let is_done = std::sync::atomic::AtomicBool::new(false);
    move |_, range| match range.contains(&position) && !is_done.swap(true, SeqCst) {
        true => answer,
        false => Answer::Right,
    }
}

#[tokio::test(start_paused = true)]
async fn a_bit_flipped_on_the_way_is_never_handed_out() {
    // In the last range of the first block, in a block of one range, and in the short one.
    for flip in [BLOCK - 1, BLOCK + 5, SIZE - 1] {
        let scene = Scene::new(PLENTY);
        scene.fake.script(once(flip, Answer::Flip(flip)));
        let (bytes, error) = read_all(&mut scene.layer()).await;
        assert!(error.is_none(), "{flip}: {error:?}");
        assert!(bytes == scene.bytes, "{flip}");
        assert!(scene.fake.requests() > 8, "{flip}: read again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bit_flipped_in_the_store_is_damage_however_often_it_is_read() {
    for flip in [BLOCK - 1, BLOCK + 5, SIZE - 1] {
        let scene = Scene::new(PLENTY);
        scene.fake.script(move |_, _| Answer::Flip(flip));
        let mut layer = scene.layer();
        let mut bytes = Vec::new();
        for attempt in 0..3 {
            let (more, error) = read_all(&mut layer).await;
            assert!(
                matches!(error, Some(Error::Damaged { .. })),
                "{flip}, {attempt}: {error:?}"
            );
            bytes.extend(more);
            assert!(bytes == scene.bytes[..bytes.len()], "{flip}");
            assert!(bytes.len() as u64 <= flip);
        }
        // The layer can be read elsewhere, and after a repair here too.
        let elsewhere = (flip + BLOCK) % SIZE / BLOCK * BLOCK;
        let read = read_at(&mut layer, elsewhere, 1000).await.unwrap();
        assert!(read == scene.bytes[elsewhere as usize..][..1000]);
        assert!(
            read_at(&mut layer, flip - 10, 10).await.is_err(),
            "{flip}: known to be wrong"
        );
        scene.fake.script(|_, _| Answer::Right);
        let read = read_at(&mut layer, flip - 10, 11).await.unwrap();
        assert!(read == scene.bytes[flip as usize - 10..=flip as usize]);
    }
}

#[tokio::test(start_paused = true)]
async fn wrong_byte_that_was_returned_is_reported_at_the_end_of_its_block() {
    // The first range comes before its block can be checked.
    let scene = Scene::new(PLENTY);
    scene.fake.script(once(9, Answer::Flip(9)));
    let mut layer = scene.layer();
    for _ in 0..2 {
        let (bytes, error) = read_all(&mut layer).await;
        assert!(bytes.len() < BLOCK as usize);
        assert!(matches!(error, Some(Error::Damaged { .. })), "{error:?}");
    }
    layer.seek(SeekFrom::Start(0)).await.unwrap();
    let (bytes, error) = read_all(&mut layer).await;
    assert!(
        error.is_none() && bytes == scene.bytes,
        "from the start it is right: {error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_returned_and_the_reader_continues() {
    for (case, answer, want) in [
        ("missing", Answer::Status(404, "NoSuchKey"), "is missing"),
        (
            "changed",
            Answer::Status(412, "PreconditionFailed"),
            "was changed",
        ),
        ("short", Answer::Short(BLOCK + 1000), "is shorter than"),
        (
            "too short to answer",
            Answer::Short(BLOCK),
            "is shorter than",
        ),
        ("too much", Answer::Over, "more bytes"),
        (
            "forbidden",
            Answer::Status(403, "AccessDenied"),
            "permission",
        ),
        (
            "down",
            Answer::Status(503, "ServiceUnavailable"),
            "did not answer",
        ),
    ] {
        let scene = Scene::new(PLENTY);
        scene.fake.script(move |_, range| match range.start {
            0..BLOCK => Answer::Right,
            _ => answer,
        });
        let mut layer = scene.layer();
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let (more, error) = read_all(&mut layer).await;
            bytes.extend(more);
            let error = error.unwrap_or_else(|| panic!("{case}: no error"));
            assert!(error.to_string().contains(want), "{case}: {error}");
            assert_eq!(error.is_permission(), case == "forbidden", "{case}");
            assert_eq!(error.is_retryable(), case == "down", "{case}");
            assert!(
                bytes == scene.bytes[..BLOCK as usize],
                "{case}: {}",
                bytes.len()
            );
        }
        scene.fake.script(|_, _| Answer::Right);
        let (more, error) = read_all(&mut layer).await;
        assert!(error.is_none(), "{case}: {error:?}");
        bytes.extend(more);
        assert!(bytes == scene.bytes, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_without_checksums_is_read_unchecked() {
    let mut scene = Scene::new(PLENTY);
    scene.layer.blocks = Default::default();
    let (bytes, error) = read_all(&mut scene.layer()).await;
    assert!(error.is_none() && bytes == scene.bytes);
    scene.fake.script(|_, _| Answer::Flip(BLOCK + 1));
    let (bytes, error) = read_all(&mut scene.layer()).await;
    assert!(error.is_none() && bytes.len() as u64 == SIZE);
}

/// A look at the object shows that it is as recorded, so the store is asked once more.
#[tokio::test(start_paused = true)]
async fn one_odd_answer_is_no_damage() {
    for (case, answer) in [
        ("rangeless", Answer::Rangeless),
        ("another ETag", Answer::OtherEtag),
        ("gone", Answer::Status(404, "NoSuchKey")),
        ("changed", Answer::Status(412, "PreconditionFailed")),
        ("no such range", Answer::Status(416, "InvalidRange")),
    ] {
        let scene = Scene::new(PLENTY);
        scene.fake.script(once(BLOCK, answer));
        let (bytes, error) = read_all(&mut scene.layer()).await;
        assert!(error.is_none() && bytes == scene.bytes, "{case}: {error:?}");
        assert_eq!(scene.fake.requests(), 9, "{case}");

        scene.fake.script(move |_, range| match range.start {
            BLOCK.. => answer,
            _ => Answer::Right,
        });
        let (bytes, error) = read_all(&mut scene.layer()).await;
        assert!(
            matches!(error, Some(Error::Damaged { .. })),
            "{case}: {error:?}"
        );
        assert!(bytes == scene.bytes[..BLOCK as usize], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn answer_with_the_whole_object_is_a_range_that_is_all_of_it() {
    let bytes = noise(1000);
    let fake = Fake::new(bytes.clone(), 1000);
    fake.script(|_, _| Answer::Whole);
    let mut layer = S3Layer::new(store(&fake, PLENTY), Arc::new(layer_of(&fake)));
    let (read, error) = read_all(&mut layer).await;
    assert!(error.is_none() && read == bytes, "{error:?}");
}

/// Each request brings a little, so it takes some two hundred of them, and one brings nothing for a while.
#[tokio::test(start_paused = true)]
async fn object_that_comes_in_small_pieces_is_read_to_its_end() {
    let scene = Scene::new(PLENTY);
    scene.fake.script(|nth, _| match nth {
        7 => Answer::Stall(0),
        _ => Answer::Cut(100_000),
    });
    let key = fake::key();
    let mut object = ObjectBytes::of(&scene.store, &key, SIZE);
    let mut bytes = Vec::new();
    while let Some(piece) = object.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert!(bytes == scene.bytes);
}

/// The second refusal is believed, although a look found the object in between: it is not remembered as there.
#[tokio::test(start_paused = true)]
async fn object_that_is_refused_again_is_not_remembered() {
    let scene = Scene::new(PLENTY);
    scene.fake.script(|_, range| match range.start {
        BLOCK => Answer::Status(404, "NoSuchKey"),
        _ => Answer::Right,
    });
    let (_, error) = read_all(&mut scene.layer()).await;
    assert!(matches!(error, Some(Error::Damaged { .. })), "{error:?}");
    let look = presence::seen_at(&scene.store, &fake::key(), &etag("etag"));
    assert!(look.is_none());
}
