//! Archives, made field by field.

/// A header: `ustar`, mode 0755, the rest zero, as the vectors of the original have it.
pub fn header(name: &str, typeflag: u8, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    put(&mut block, 0, name.as_bytes());
    for (at, octal) in [
        (100, "0000755"),
        (108, "0000000"),
        (116, "0000000"),
        (136, "00000000000"),
    ] {
        put(&mut block, at, octal.as_bytes());
    }
    put(&mut block, 124, format!("{size:011o}").as_bytes());
    block[156] = typeflag;
    put(&mut block, 257, b"ustar\0");
    sealed(block)
}

pub fn put(block: &mut [u8; 512], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// With the checksum that it has to have.
pub fn sealed(mut block: [u8; 512]) -> [u8; 512] {
    put(&mut block, 148, b"        ");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A header and its body, padded.
pub fn member(name: &str, typeflag: u8, body: &[u8]) -> Vec<u8> {
    with_body(header(name, typeflag, body.len()), body)
}

pub fn with_body(header: [u8; 512], body: &[u8]) -> Vec<u8> {
    let mut bytes = [&header, body].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// PAX records for the next member.
pub fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let body: String = records
        .iter()
        .map(|(key, value)| record(key, value))
        .collect();
    member("PaxHeaders.0/x", b'x', body.as_bytes())
}

fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut len = rest.len();
    while len != rest.len() + len.to_string().len() {
        len = rest.len() + len.to_string().len();
    }
    format!("{len}{rest}")
}

/// An old GNU sparse file of this size; each region is stored as so many times `x`.
pub fn old_sparse(name: &str, size: usize, regions: &[(usize, usize)]) -> Vec<u8> {
    let pairs = |regions: &[(usize, usize)]| -> String {
        let pair = |(offset, len): &(usize, usize)| format!("{offset:011o}\0{len:011o}\0");
        regions.iter().map(pair).collect()
    };
    let (first, more) = regions.split_at(regions.len().min(4));
    let stored: usize = regions.iter().map(|(_, len)| len).sum();
    let mut block = header(name, b'S', stored);
    put(&mut block, 257, b"ustar  \0");
    put(&mut block, 386, pairs(first).as_bytes());
    block[482] = u8::from(!more.is_empty());
    put(&mut block, 483, format!("{size:011o}\0").as_bytes());
    let mut bytes = sealed(block).to_vec();
    let mut more = more.chunks(21).peekable();
    while let Some(some) = more.next() {
        let mut block = [0; 512];
        put(&mut block, 0, pairs(some).as_bytes());
        block[504] = u8::from(more.peek().is_some());
        bytes.extend(block);
    }
    bytes.extend(vec![b'x'; stored.next_multiple_of(512)]);
    bytes
}

/// A sparse file in PAX format 1.0; each region is stored as so many times `x`.
pub fn new_sparse(name: &str, size: usize, regions: &[(usize, usize)]) -> Vec<u8> {
    let lines: String = regions
        .iter()
        .map(|(offset, len)| format!("{offset}\n{len}\n"))
        .collect();
    let mut body = format!("{}\n{lines}", regions.len()).into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend(vec![b'x'; regions.iter().map(|(_, len)| len).sum()]);
    let size = size.to_string();
    let records = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", name),
        ("GNU.sparse.realsize", &size),
    ]);
    [records, member("GNUSparseFile.0/x", b'0', &body)].concat()
}

/// What ends an archive.
pub const END: [u8; 1024] = [0; 1024];
