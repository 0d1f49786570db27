//! What the process says to people, on its standard output and error.
//!
//! Whoever reads a log may go away, or its disk be full, and the broker goes on: a panic here would let the
//! reader of a pipe end everything.

use std::io::Write as _;

/// Says a line on standard error. When that is gone there is nobody left to be told.
pub fn say(text: &str) {
    drop(std::io::stderr().write_all(format!("corelane: {text}\n").as_bytes()));
}

/// Writes to standard output.
///
/// # Errors
/// What the kernel said. A reader that went away has read enough.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
