//! Zstd: the library goes on where it stopped; it is given little to read and little to write in.

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::{CALL_BYTES_MAX, Room};
use crate::compress::{Codec, DecompressError, ZSTD_WINDOW_LOG_MAX};

const WRONG: DecompressError = DecompressError::Malformed { codec: Codec::Zstd };

/// What reading a byte is worth: some dozens can make the codec build its tables anew.
const UNITS_PER_BYTE_READ: usize = 8;

pub(super) struct Zstd {
    decoder: Decoder<'static>,
    at: usize,
    /// Something else was unfolded with it before.
    is_used: bool,
}

impl Zstd {
    pub(super) fn new() -> Result<Self, DecompressError> {
        let mut decoder = Decoder::new().map_err(|_| WRONG)?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(|_| WRONG)?;
        Ok(Self { decoder, at: 0, is_used: false })
    }

    pub(super) fn begin(&mut self) {
        (self.at, self.is_used) = (0, true);
    }

    pub(super) fn step(
        &mut self,
        source: &[u8],
        room: &mut Room<'_>,
    ) -> Result<bool, DecompressError> {
        if std::mem::take(&mut self.is_used) {
            self.decoder.reinit().map_err(|_| WRONG)?;
        }
        while !room.is_spent() {
            let most = (room.units / UNITS_PER_BYTE_READ).max(1);
            let end = source.len().min(self.at.saturating_add(most));
            let mut input = InBuffer { src: &source[..end], pos: self.at };
            let bytes = room.units.clamp(1, CALL_BYTES_MAX).min(room.left());
            let (decoder, mut hint) = (&mut self.decoder, 0);
            let written = room.write(bytes, |out| {
                let mut output = OutBuffer::around(out);
                hint = decoder.run(&mut input, &mut output).map_err(|_| WRONG)?;
                Ok(output.pos())
            })?;
            let read = input.pos() - self.at;
            self.at = input.pos();
            room.spend((read * UNITS_PER_BYTE_READ).saturating_add(written).max(1));
            room.check()?;
            if self.at == source.len() && written < bytes {
                return if hint == 0 { Ok(true) } else { Err(WRONG) };
            }
        }
        Ok(false)
    }
}
