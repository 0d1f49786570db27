//! What the machine lends: commands of others, a file system in a loop device, and why it does not.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const UNMOUNT_ATTEMPTS_MAX: u32 = 100;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(20);

/// Something that must work did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble(pub(crate) String);

impl Trouble {
    pub(crate) fn of(what: &str, error: &io::Error) -> Self {
        Self(format!("{what}: {error}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// Runs a command to its end; gives what it printed.
pub(crate) fn done(command: &mut Command) -> Result<String, Trouble> {
    let name = format!("{command:?}").replace('"', "");
    let output = command.output().map_err(|error| Trouble::of(&name, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble(format!("{name}: {}: {}", output.status, said.trim().replace('\n', "; "))))
}

/// Why this machine lends no loop device, if it does not.
pub(crate) fn no_loop_devices() -> Option<String> {
    let id = done(Command::new("id").arg("-u"));
    if id.as_deref() != Ok("0") {
        return Some("only root may mount a file system".to_owned());
    }
    for tool in ["losetup", "mkfs.ext4", "mount", "umount"] {
        let mut asked = Command::new(tool);
        if asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Some(format!("there is no {tool}"));
        }
    }
    done(Command::new("losetup").arg("-f")).err().map(|it| format!("no loop device: {it}"))
}

/// ext4 with a journal in a loop device over a file, mounted for as long as this lives.
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
    _device: Loop,
    mounted: bool,
}

/// A loop device, until dropped.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        say_if_failed(done(Command::new("losetup").args(["-d", &self.0])));
    }
}

impl Mounted {
    /// Makes a file system in `file` and mounts it at `at`, which is made.
    pub(crate) fn make(file: &Path, at: &Path) -> Result<Self, Trouble> {
        let device = attach(file)?;
        done(Command::new("mkfs.ext4").args(["-q", "-F", "-O", "has_journal", &device.0]))?;
        Self::mount(device, at)
    }

    /// Mounts what is in `file` already.
    pub(crate) fn again(file: &Path, at: &Path) -> Result<Self, Trouble> {
        Self::mount(attach(file)?, at)
    }

    fn mount(device: Loop, at: &Path) -> Result<Self, Trouble> {
        std::fs::create_dir_all(at).map_err(|error| Trouble::of("making a folder", &error))?;
        done(Command::new("mount").args(["-t", "ext4", &device.0]).arg(at))?;
        Ok(Self { at: at.to_owned(), _device: device, mounted: true })
    }

    /// Unmounts and detaches.
    pub(crate) fn end(mut self) -> Result<(), Trouble> {
        self.mounted = false;
        unmount(&self.at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.mounted {
            say_if_failed(unmount(&self.at));
        }
    }
}

/// The kernel may still be closing files of a process that was killed: so it is asked more than once.
pub(crate) fn unmount(at: &Path) -> Result<(), Trouble> {
    let mut attempts = 0;
    loop {
        match done(Command::new("umount").arg(at)) {
            Err(_) if attempts < UNMOUNT_ATTEMPTS_MAX => {
                attempts += 1;
                thread::sleep(UNMOUNT_PAUSE);
            }
            other => return other.map(drop),
        }
    }
}

/// Direct, so that a write above is a write below and no cache lies between.
fn attach(file: &Path) -> Result<Loop, Trouble> {
    let mut losetup = Command::new("losetup");
    losetup.args(["--direct-io=on", "--show", "-f"]).arg(file);
    let device = done(&mut losetup)?;
    Ok(Loop(device))
}

fn say_if_failed<T>(done: Result<T, Trouble>) {
    if let Err(trouble) = done {
        println!("# {trouble}");
    }
}
