//! The twin on glommio: `DmaFile::write_at`, then `fdatasync`, which is how its API says "durable".

use super::measure::{Measured, Work, measure};
use crate::on_glommio;
use glommio::io::OpenOptions;
use std::io;
use std::path::PathBuf;

pub(crate) fn run(core: usize, path: PathBuf, work: Work) -> io::Result<Measured> {
    on_glommio::run(core, move || async move {
        let file = OpenOptions::new().write(true).dma_open(path).await?;
        let commit = async |position| {
            // A write consumes its buffer; a program on glommio takes one from its pool each time, too.
            let buffer = file.alloc_dma_buffer(work.block_bytes);
            let written = file.write_at(buffer, position).await?;
            file.fdatasync().await?;
            Ok(written)
        };
        let measured = measure(work, commit).await?;
        file.close().await?;
        Ok(measured)
    })
}
