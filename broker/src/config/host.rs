//! What the machine says before the lanes run: the environment, the file, the host's name.
//!
//! The one place of the configuration that touches the machine. It decides nothing.

use super::args::StartArgs;
use super::load::{Inputs, VARIABLE_PREFIX};
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};

/// Something that was named and cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    File { name: String, error: std::io::Error },
    Variable { name: String },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, error } => write!(f, "--config {name}: {error}"),
            Self::Variable { name } => {
                write!(f, "environment variable {name}: its value is not valid UTF-8")
            }
        }
    }
}

/// Gathers everything the configuration is made of.
///
/// # Errors
/// The file that `--config` names cannot be read, or a variable of ours is not text.
pub fn gather(args: StartArgs) -> Result<Inputs, Unreadable> {
    let file = match args.config.clone() {
        None => None,
        Some(name) => match std::fs::read_to_string(&name) {
            Ok(text) => Some((name, text)),
            Err(error) => return Err(Unreadable::File { name, error }),
        },
    };
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is not text is none of ours: the names of keys are ASCII.
        let Some(name) = name.to_str().filter(|it| it.starts_with(VARIABLE_PREFIX)) else {
            continue;
        };
        let name = name.to_owned();
        match value.into_string() {
            Ok(value) => environment.push((name, value)),
            Err(_) => return Err(Unreadable::Variable { name }),
        }
    }
    environment.sort();
    // Without the kernel's word for it there is no name; whoever needs one then says so.
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host_name = host_name.map(|it| it.trim().to_owned()).filter(|it| it != "(none)");
    Ok(Inputs { args, environment, file, host_name, address_of: Some(address_of) })
}

/// The address of a name as this machine looks names up; of several, one of the older family.
fn address_of(name: &str) -> Option<IpAddr> {
    let mut found: Vec<_> = (name, 0).to_socket_addrs().ok()?.map(|it| it.ip()).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found.first().copied()
}
