//! `seeds FOLDER`: the seeds of every target as files, the form in which cargo-fuzz wants them.

use std::path::PathBuf;
use std::{env, fs, io};

use corelane_fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: seeds FOLDER"));
    };
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (at, seed) in seeds(target).iter().enumerate() {
            fs::write(folder.join(format!("seed-{at:05}")), seed)?;
        }
    }
    Ok(())
}
