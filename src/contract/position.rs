//! Where a seek leads. Every reader of a known size moves by this one function.

use std::io;

use tokio::io::SeekFrom;

/// The position that `to` means for a reader which stands at `current` in `size` bytes. Beyond the
/// end is a position; before the start is an error, after which the reader stays where it is.
pub(crate) fn seek_position(current: u64, size: u64, to: SeekFrom) -> io::Result<u64> {
    let (base, step) = match to {
        SeekFrom::Start(position) => return Ok(position),
        SeekFrom::Current(step) => (current, step),
        SeekFrom::End(step) => (size, step),
    };
    base.checked_add_signed(step).ok_or_else(|| {
        let from = if step < 0 { "before" } else { "beyond" };
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a seek of {step} from byte {base} leads {from} every position"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seek_cases() {
        use SeekFrom::{Current, End, Start};
        for (case, current, size, to, want) in [
            ("the start", 7, 10, Start(0), Some(0)),
            ("the end by its position", 7, 10, Start(10), Some(10)),
            ("past the end", 7, 10, Start(11), Some(11)),
            (
                "as far as there are numbers",
                7,
                10,
                Start(u64::MAX),
                Some(u64::MAX),
            ),
            ("nowhere", 7, 10, Current(0), Some(7)),
            ("back to the first byte", 7, 10, Current(-7), Some(0)),
            ("one too many back", 7, 10, Current(-8), None),
            ("past the end from here", 7, 10, Current(100), Some(107)),
            ("on from past the end", 107, 10, Current(-100), Some(7)),
            ("the end", 7, 10, End(0), Some(10)),
            ("the last byte", 7, 10, End(-1), Some(9)),
            ("the first byte from the end", 7, 10, End(-10), Some(0)),
            ("before the first byte from the end", 7, 10, End(-11), None),
            ("past the end from the end", 7, 10, End(3), Some(13)),
            ("the end of nothing", 0, 0, End(0), Some(0)),
            ("before nothing", 0, 0, End(-1), None),
            ("the longest step back", 7, 10, Current(i64::MIN), None),
            ("beyond the last number", u64::MAX, 10, Current(1), None),
        ] {
            let got = seek_position(current, size, to);
            if let Err(error) = &got {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{case}");
            }
            assert_eq!(got.ok(), want, "{case}");
        }
    }
}
