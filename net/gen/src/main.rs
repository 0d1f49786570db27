//! Writes `net/src/generated` anew from `net/schema`.

use std::{fs, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(files) => {
            println!("wrote {files} files");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("netgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize, Box<dyn std::error::Error>> {
    let net = corelane_netgen::net_dir();
    let files = corelane_netgen::generate(&net.join("schema"))?;
    let target = net.join("src/generated");
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(&target)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        if !files.contains_key(name) {
            fs::remove_file(&path)?;
        }
    }
    for (name, text) in &files {
        fs::write(target.join(name), text)?;
    }
    Ok(files.len())
}
