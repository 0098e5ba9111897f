//! Archives that have no sum, each with its error and position.

use s3layers::tarsum::{DEFAULT_HOLE_LIMIT, TarSummer};

use super::archive::{END, header, member, new_sparse, old_sparse, pax, put, sealed, with_body};
use super::{sum, summer};

/// The message for these pieces one behind the other; empty if there is a sum.
fn error_of(pieces: &[&[u8]]) -> String {
    match sum(&pieces.concat()) {
        Ok(_) => String::new(),
        Err(error) => {
            let message = error.to_string();
            let prefix = format!("the archive is broken at byte {}: ", error.position());
            let cause = message.strip_prefix(&prefix).unwrap();
            format!("{}: {cause}", error.position())
        }
    }
}

#[test]
fn where_an_archive_may_end() {
    let file = member("a", b'0', b"body");
    let long = member("././@LongLink", b'L', b"name\0");
    let records = pax(&[("path", "p")]);
    for (case, pieces, want) in [
        ("nothing", &[][..], ""),
        ("one block of zeros", &[&END[..512]], ""),
        ("two", &[&END], ""),
        ("a file", &[&file], ""),
        ("a file without its padding", &[&file[..516]], ""),
        ("a file, then zeros", &[&file, &END], ""),
        ("bytes after the end", &[&file, &END, b"garbage"], ""),
        (
            "another archive after the end",
            &[&file, &END, &file[..700]],
            "",
        ),
        (
            "a piece of a header",
            &[&file, &file[..100]],
            "1124: it ends within a header",
        ),
        (
            "a piece of a body",
            &[&file[..515]],
            "515: it ends within an entry",
        ),
        ("no body", &[&file[..512]], "512: it ends within an entry"),
        (
            "a piece of the second zeros",
            &[&END[..700]],
            "700: it ends within a header",
        ),
        (
            "data after zeros",
            &[&END[..512], &file],
            "512: a block of zeros stands alone",
        ),
        (
            "an extension alone",
            &[&long],
            "1024: it ends within an extension whose entry is missing",
        ),
        (
            "records alone",
            &[&records],
            "1024: it ends within an extension whose entry is missing",
        ),
        (
            "an extension, then zeros",
            &[&long, &END],
            "1024: an extension has no entry",
        ),
        (
            "a piece of an extension",
            &[&long[..514]],
            "514: it ends within an extension",
        ),
        (
            "an extension without its padding",
            &[&long[..517], b""],
            "517: it ends within an extension whose entry is missing",
        ),
    ] {
        assert_eq!(error_of(pieces), want, "{case}");
    }
}

#[test]
fn headers_that_cannot_be_read() {
    let good = member("a", b'0', b"");
    let changed = |at: usize, bytes: &[u8]| {
        let mut block = header("a", b'0', 0);
        put(&mut block, at, bytes);
        block
    };
    let wrong = "512: the header's checksum is wrong";
    for (case, block, want) in [
        ("as it should be", sealed(changed(0, b"b")), ""),
        ("another name than was summed", changed(0, b"b"), wrong),
        (
            "junk",
            [b'a'; 512],
            "512: the header's checksum is not a number",
        ),
        (
            "no octal mode",
            sealed(changed(100, b"9")),
            "512: the header's mode is not a number",
        ),
        (
            "no octal size",
            sealed(changed(124, b"x")),
            "512: the header's size is not a number",
        ),
        (
            "a negative size",
            sealed(changed(124, &[0xff; 12])),
            "512: the size is negative",
        ),
        (
            "a device without a number",
            sealed({
                let mut block = changed(156, b"3");
                put(&mut block, 329, b"z");
                block
            }),
            "512: the header's devmajor is not a number",
        ),
        (
            "a file with a device that is none",
            sealed(changed(329, b"z")),
            "",
        ),
        (
            "star with a time that is none",
            sealed({
                let mut block = changed(508, b"tar\0");
                put(&mut block, 476, b"z");
                block
            }),
            "512: the header's atime is not a number",
        ),
    ] {
        assert_eq!(error_of(&[&good, &block]), want, "{case}");
    }
}

#[test]
fn extensions_that_cannot_be_read() {
    let file = member("a", b'0', b"body");
    let records = |body: &str| [member("x", b'x', body.as_bytes()), file.clone()].concat();
    let no_record = r#"0: a PAX record is not "<length> <key>=<value>""#;
    for (case, archive, want) in [
        ("good", records("9 path=p\n"), ""),
        ("empty", records(""), ""),
        ("no record", records("path=p\n"), no_record),
        ("too long a record", records("99 path=p\n"), no_record),
        (
            "no number",
            records("10 uid=abc"),
            "1024: a PAX record's value is not a number",
        ),
        (
            "longer than the limit",
            with_body(header("x", b'x', (1 << 20) + 1), b""),
            "0: an extension is longer than 1 MiB",
        ),
    ] {
        assert_eq!(error_of(&[&archive]), want, "{case}");
    }
}

#[test]
fn sparse_files_that_cannot_be_read() {
    let file = member("a", b'0', b"body");
    let listed = |map: &str, stored: &[u8]| {
        let records = pax(&[
            ("GNU.sparse.size", "100"),
            ("GNU.sparse.numblocks", "1"),
            ("GNU.sparse.map", map),
        ]);
        [records, member("s", b'0', stored)].concat()
    };
    let many: Vec<_> = (0..60).map(|at| (at * 1000, 10)).collect();
    let old = old_sparse("s", 60_000, &many);
    let new = new_sparse("s", 60_000, &many);
    let overlap = "1024: regions of a sparse file overlap";
    for (case, archive, want) in [
        ("the old format", old.clone(), ""),
        ("format 1.0", new.clone(), ""),
        ("format 0.1", listed("10,5", b"12345"), ""),
        (
            "less stored",
            listed("10,5", b"1234"),
            "1024: a sparse file has less data than regions",
        ),
        (
            "behind its end",
            listed("101,5", b"12345"),
            "1024: a sparse file has data behind its end",
        ),
        (
            "a map of another length",
            listed("1,2,3,4", b""),
            "1024: the map of a sparse file has not the length it says",
        ),
        (
            "a negative region",
            listed("-1,5", b""),
            "1024: a region of a sparse file is negative",
        ),
        (
            "cut in the old map",
            old[..700].to_vec(),
            "700: it ends within the map of a sparse file",
        ),
        (
            "cut at the old map",
            old[..512].to_vec(),
            "512: it ends within the map of a sparse file",
        ),
        (
            "cut in the map",
            new[..1600].to_vec(),
            "1600: it ends within the map of a sparse file",
        ),
        (
            "a map without space",
            {
                let end = new.len() - 1024;
                let mut map = new[..end].to_vec();
                put(
                    (&mut map[1024..1536]).try_into().unwrap(),
                    0,
                    &header("s", b'0', 511),
                );
                map
            },
            "1024: the map of a sparse file is longer than its entry",
        ),
        (
            "two formats at once",
            [&new[..1024], &old].concat(),
            "1024: an entry is sparse in two ways",
        ),
        (
            "regions that overlap",
            old_sparse("s", 99, &[(0, 9), (2, 3)]),
            &overlap.replace("1024", "0"),
        ),
    ] {
        assert_eq!(error_of(&[&archive]), want, "{case}");
        if want.is_empty() {
            assert_ne!(sum(&archive).unwrap(), sum(&file).unwrap());
        }
    }
}

#[test]
fn the_three_formats_of_sparse_files_say_the_same() {
    let regions = [(3, 2), (700, 5), (1500, 1)];
    let mut plain = vec![0; 2000];
    regions
        .iter()
        .for_each(|&(offset, len)| plain[offset..offset + len].fill(b'x'));
    let list = pax(&[
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.size", "2000"),
        ("GNU.sparse.numblocks", "3"),
        ("GNU.sparse.map", "3,2,700,5,1500,1"),
    ]);
    let pairs = pax(&[
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.size", "2000"),
        ("GNU.sparse.numblocks", "3"),
        ("GNU.sparse.offset", "3"),
        ("GNU.sparse.numbytes", "2"),
        ("GNU.sparse.offset", "700"),
        ("GNU.sparse.numbytes", "5"),
        ("GNU.sparse.offset", "1500"),
        ("GNU.sparse.numbytes", "1"),
    ]);
    let want = sum(&member("s", b'0', &plain)).unwrap();
    let stored = member("other", b'0', b"xxxxxxxx");
    assert_eq!(sum(&new_sparse("s", 2000, &regions)).unwrap(), want);
    assert_eq!(sum(&[list, stored.clone()].concat()).unwrap(), want);
    assert_eq!(sum(&[pairs, stored].concat()).unwrap(), want);
    // The old one has a type of its own.
    let want = sum(&member("s", b'S', b"")).unwrap();
    assert_eq!(sum(&old_sparse("s", 0, &[])).unwrap(), want);
}

#[test]
fn limits_are_kept_to_the_last_one() {
    let files: Vec<u8> = (0..3)
        .flat_map(|at| member(&format!("{at}"), b'0', b""))
        .collect();
    let holes = [old_sparse("a", 60, &[(0, 10)]), old_sparse("b", 50, &[])].concat();
    let error_of = |summer: TarSummer, archive: &[u8]| {
        let mut summer = summer;
        summer.update(archive);
        summer.finish().err().map(|error| error.to_string())
    };
    let at = |byte: u32, cause| Some(format!("the archive is broken at byte {byte}: {cause}"));
    assert_eq!(error_of(summer().entry_limit(3), &files), None);
    assert_eq!(
        error_of(summer().entry_limit(2), &files),
        at(1024, "it has more than 2 entries")
    );
    assert_eq!(error_of(summer().hole_limit(100), &holes), None);
    assert_eq!(
        error_of(summer().hole_limit(99), &holes),
        at(1024, "its sparse files have more than 99 bytes of holes")
    );
    let bomb = old_sparse("s", 1 << 35, &[]);
    let limit = format!("its sparse files have more than {DEFAULT_HOLE_LIMIT} bytes of holes");
    assert_eq!(error_of(summer(), &bomb), at(0, &limit));
}

#[test]
fn error_is_returned_early_and_stays() {
    let mut summer = summer();
    summer.update(&member("a", b'0', b""));
    assert!(summer.error().is_none());
    summer.update(&[b'7'; 512]);
    let error = summer.error().unwrap().to_string();
    summer.update(&END);
    assert_eq!(summer.tar_sum().unwrap_err().to_string(), error);
    assert_eq!(summer.finish().unwrap_err().to_string(), error);
}
