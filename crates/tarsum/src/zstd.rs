//! Zstandard as it arrives: frames one behind the other (RFC 8878), skippable ones among them.

use std::io::Error;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::output::{BUFFER, Output};

/// What a frame begins with.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a skippable frame begins with, but for the lower half of its first byte.
pub(super) const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// The largest window, as a power of two: 128 MiB. It is what the `zstd` program reads unless configured
/// otherwise, and the one memory that a compressed archive can make us take.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) struct Zstd {
    decoder: Decoder<'static>,
    is_complete: bool,
    buffer: Box<[u8; BUFFER]>,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, Error> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Zstd {
            decoder,
            is_complete: true,
            buffer: Box::new([0; BUFFER]),
        })
    }

    /// Whether the input may end here: between two frames.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes some of these bytes, of which there is at least one; how many. All that they yield has
    /// gone to `output` then.
    pub(super) fn take(&mut self, bytes: &[u8], output: Output<'_>) -> Result<usize, Error> {
        if self.is_complete {
            self.decoder.reinit()?;
            self.is_complete = false;
        }
        let mut input = InBuffer::around(bytes);
        loop {
            let mut out = OutBuffer::around(self.buffer.as_mut_slice());
            let hint = self.decoder.run(&mut input, &mut out)?;
            output(out.as_slice());
            let is_full = out.pos() == out.capacity();
            self.is_complete = hint == 0;
            // A full buffer may leave more inside, unless the frame is over.
            if self.is_complete || (!is_full && input.pos() == bytes.len()) {
                return Ok(input.pos());
            }
        }
    }
}
