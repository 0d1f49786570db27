//! Where the broker listens, and what it tells clients to connect to.
//!
//! Clients reconnect to the *advertised* address, so a wrong one fails after the first request,
//! in a way that is hard to read. Invariants: every advertised host is one that another machine
//! could connect to (never a wildcard), every listener has a name of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A named place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// Empty hosts have become `0.0.0.0`.
    pub host: String,
    /// What the host stands for on this machine.
    pub address: IpAddr,
    /// 0: any free port.
    pub port: u16,
    pub advertised_host: String,
    /// `None`: the port that was bound.
    advertised_port: Option<u16>,
}

impl Listener {
    /// What to tell clients, once `bound` is known.
    #[must_use]
    pub fn advertised(&self, bound: u16) -> (&str, u16) {
        (&self.advertised_host, self.advertised_port.unwrap_or(bound))
    }
}

/// A set of listeners that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerError {
    Malformed { text: String, why: &'static str },
    NameTwice { name: String },
    PlaceTwice { host: String, port: u16 },
    NoProtocol { name: String },
    MalformedProtocol { text: String },
    Protocol { name: String, protocol: String },
    AdvertisedUnknown { name: String },
    AdvertisedWildcard { name: String, host: String },
    AdvertisedPortZero { name: String },
    NoHostName { name: String },
    NoSuchHost { name: String, host: String },
}

impl fmt::Display for ListenerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { text, why } => {
                write!(f, "{text} is not an address of the form NAME://HOST:PORT: {why}")
            }
            Self::NameTwice { name } => write!(f, "two listeners are called {name}"),
            Self::PlaceTwice { host, port } => write!(f, "two listeners use {host}:{port}"),
            Self::NoProtocol { name } => write!(
                f,
                "listener {name} has no protocol: add {name}:PLAINTEXT to \
                 listener.security.protocol.map"
            ),
            Self::MalformedProtocol { text } => {
                write!(f, "{text} in listener.security.protocol.map is not NAME:PROTOCOL")
            }
            Self::Protocol { name, protocol } => write!(
                f,
                "listener {name} asks for {protocol}, and PLAINTEXT is the only protocol so far"
            ),
            Self::AdvertisedUnknown { name } => {
                write!(f, "advertised.listeners names {name}, and no listener is called that")
            }
            Self::AdvertisedWildcard { name, host } => write!(
                f,
                "advertised.listeners of {name} is {host}, which nobody can connect to; name the \
                 host as clients see it"
            ),
            Self::AdvertisedPortZero { name } => {
                write!(f, "advertised.listeners of {name} needs a port clients can connect to")
            }
            Self::NoHostName { name } => write!(
                f,
                "listener {name} listens on every address, this machine has no host name to \
                 advertise, and advertised.listeners does not say one"
            ),
            Self::NoSuchHost { name, host } => write!(
                f,
                "listener {name} names the host {host}, and this machine knows no address of it; \
                 write one, such as 127.0.0.1, or 0.0.0.0 for all"
            ),
        }
    }
}

/// One address of a list.
struct Address {
    name: String,
    host: String,
    port: u16,
}

/// The default name of a listener that is given as a bare address.
const BARE_NAME: &str = "PLAINTEXT";
const WILDCARD: &str = "0.0.0.0";

/// What the machine says of names.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// Its own.
    pub name: Option<&'a str>,
    pub address_of: fn(&str) -> Option<IpAddr>,
}

/// Puts the three lists together. Returns the listeners and warnings with their remedy.
///
/// # Errors
/// The first thing that cannot work.
pub fn resolve(
    listeners: &[String],
    advertised: &[String],
    protocols: &[String],
    machine: Machine<'_>,
) -> Result<(Vec<Listener>, Vec<String>), ListenerError> {
    let protocols = read_protocols(protocols)?;
    let places = read_addresses(listeners)?;
    for (at, place) in places.iter().enumerate() {
        let taken = |it: &Address| it.port != 0 && it.port == place.port && it.host == place.host;
        if places[..at].iter().any(taken) {
            let (host, port) = (place.host.clone(), place.port);
            return Err(ListenerError::PlaceTwice { host, port });
        }
        match protocols.get(&place.name).map(String::as_str) {
            Some("PLAINTEXT") => {}
            Some(protocol) => {
                let (name, protocol) = (place.name.clone(), protocol.to_owned());
                return Err(ListenerError::Protocol { name, protocol });
            }
            None => return Err(ListenerError::NoProtocol { name: place.name.clone() }),
        }
    }
    let mut advertised = read_advertised(advertised, &places)?;
    let mut warnings = Vec::new();
    let mut resolved = Vec::new();
    for place in places {
        let (advertised_host, advertised_port) = match advertised.remove(&place.name) {
            Some((host, port)) => (host, Some(port)),
            None if is_wildcard(&place.host) => {
                let host = machine
                    .name
                    .filter(|it| !it.is_empty() && !is_wildcard(it))
                    .ok_or_else(|| ListenerError::NoHostName { name: place.name.clone() })?;
                warnings.push(format!(
                    "listener {} listens on every address; clients are told to connect to {host}. \
                     If they cannot reach that name, set advertised.listeners",
                    place.name
                ));
                (host.to_owned(), None)
            }
            None => (place.host.clone(), None),
        };
        let Address { name, host, port } = place;
        let Some(address) = address_of(&host, machine) else {
            return Err(ListenerError::NoSuchHost { name, host });
        };
        resolved.push(Listener { name, host, address, port, advertised_host, advertised_port });
    }
    Ok((resolved, warnings))
}

/// The address a host stands for: an address as it is written, the machine's word for a name. A name that
/// stands for every address, as `0` does to some, is none: it would be told to clients.
fn address_of(host: &str, machine: Machine<'_>) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    if host == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    (machine.address_of)(host).filter(|it| !it.is_unspecified())
}

fn read_advertised(
    advertised: &[String],
    places: &[Address],
) -> Result<BTreeMap<String, (String, u16)>, ListenerError> {
    let mut by_name = BTreeMap::new();
    for it in read_addresses(advertised)? {
        if !places.iter().any(|place| place.name == it.name) {
            return Err(ListenerError::AdvertisedUnknown { name: it.name });
        }
        if is_wildcard(&it.host) {
            return Err(ListenerError::AdvertisedWildcard { name: it.name, host: it.host });
        }
        if it.port == 0 {
            return Err(ListenerError::AdvertisedPortZero { name: it.name });
        }
        by_name.insert(it.name, (it.host, it.port));
    }
    Ok(by_name)
}

fn read_protocols(list: &[String]) -> Result<BTreeMap<String, String>, ListenerError> {
    let mut protocols = BTreeMap::new();
    for text in list {
        match text.split_once(':') {
            Some((name, protocol)) if !name.is_empty() && !protocol.is_empty() => {
                protocols.insert(name.to_uppercase(), protocol.to_uppercase());
            }
            _ => return Err(ListenerError::MalformedProtocol { text: text.clone() }),
        }
    }
    Ok(protocols)
}

fn read_addresses(list: &[String]) -> Result<Vec<Address>, ListenerError> {
    let mut addresses: Vec<Address> = Vec::new();
    for text in list {
        let address = read_address(text)
            .map_err(|why| ListenerError::Malformed { text: text.clone(), why })?;
        if addresses.iter().any(|it| it.name == address.name) {
            return Err(ListenerError::NameTwice { name: address.name });
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn read_address(text: &str) -> Result<Address, &'static str> {
    let (name, place) = text.split_once("://").unwrap_or((BARE_NAME, text));
    let legal = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(legal) {
        return Err("the name is letters, digits, '_', '-' and '.'");
    }
    let (host, port) = place.rsplit_once(':').ok_or("there is no port")?;
    let port = port.parse().map_err(|_| "the port is a number up to 65535")?;
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let inner = inner.strip_suffix(']').ok_or("the bracket does not close")?;
            inner.parse::<core::net::Ipv6Addr>().map_err(|_| "no IPv6 address in the brackets")?;
            inner
        }
        None if host.contains(':') => return Err("an IPv6 address stands in brackets"),
        None => host,
    };
    if host.chars().any(|it| it.is_whitespace() || it == '/') {
        return Err("the host has a character no host has");
    }
    let host = if host.is_empty() { WILDCARD } else { host };
    Ok(Address { name: name.to_uppercase(), host: host.to_owned(), port })
}

/// An address that stands for every address, however it is written.
fn is_wildcard(host: &str) -> bool {
    host.is_empty() || host.parse::<core::net::IpAddr>().is_ok_and(|it| it.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::split_list;

    /// It knows itself, and has the name that stands for every address.
    fn machine(name: Option<&str>) -> Machine<'_> {
        let address_of = |name: &str| match name {
            "box" => Some(Ipv4Addr::new(10, 0, 0, 1).into()),
            "0" => Some(Ipv4Addr::UNSPECIFIED.into()),
            _ => None,
        };
        Machine { name, address_of }
    }

    /// What a client would be told, or why there is nothing to tell.
    fn told(listeners: &str, advertised: &str, protocols: &str) -> String {
        let lists = [listeners, advertised, protocols].map(split_list);
        match resolve(&lists[0], &lists[1], &lists[2], machine(Some("box"))) {
            Ok((listeners, warnings)) => {
                let line = |it: &Listener| {
                    let (host, port) = it.advertised(999);
                    format!("{}@{}:{} as {host}:{port}", it.name, it.host, it.port)
                };
                let lines: Vec<_> = listeners.iter().map(line).collect();
                format!("{}{}", lines.join(" "), " warned".repeat(warnings.len()))
            }
            Err(error) => format!("refused, {error}"),
        }
    }

    const PLAIN: &str = "PLAINTEXT:PLAINTEXT";

    #[test]
    fn a_plain_address_is_advertised_as_it_is() {
        assert_eq!(told("127.0.0.1:0", "", PLAIN), "PLAINTEXT@127.0.0.1:0 as 127.0.0.1:999");
        assert_eq!(told("PLAINTEXT://[::1]:1", "", PLAIN), "PLAINTEXT@::1:1 as ::1:999");
    }

    #[test]
    fn a_wildcard_is_never_advertised() {
        for wildcard in ["0.0.0.0:9", ":9", "PLAINTEXT://[::]:9", "plaintext://:9"] {
            let told = told(wildcard, "", PLAIN);
            assert!(told.ends_with("as box:999 warned"), "{wildcard}: {told}");
        }
        assert_eq!(
            told(":9", "PLAINTEXT://0.0.0.0:9", PLAIN),
            "refused, advertised.listeners of PLAINTEXT is 0.0.0.0, which nobody can connect to; \
             name the host as clients see it"
        );
        let (listen, plain) = ([":9".to_owned()], [PLAIN.to_owned()]);
        for no_name in [None, Some(""), Some("0.0.0.0")] {
            let refused = resolve(&listen, &[], &plain, machine(no_name)).unwrap_err();
            assert!(matches!(refused, ListenerError::NoHostName { .. }));
        }
    }

    #[test]
    fn a_name_is_listened_on_where_the_machine_says() {
        let plain = [PLAIN.to_owned()];
        let listen = |at: &str| resolve(&[at.to_owned()], &[], &plain, machine(Some("box")));
        let (listeners, _) = listen("PLAINTEXT://box:9").unwrap();
        assert_eq!(listeners[0].address.to_string(), "10.0.0.1");
        assert_eq!(listeners[0].advertised(9), ("box", 9));
        assert_eq!(listen("localhost:9").unwrap().0[0].address.to_string(), "127.0.0.1");
        assert_eq!(listen("[::1]:9").unwrap().0[0].address.to_string(), "::1");
        // Never told to clients: it would send each to itself.
        for nobody in ["far:9", "0:9", "00.0.0.0:9"] {
            let refused = listen(nobody).unwrap_err();
            assert!(matches!(refused, ListenerError::NoSuchHost { .. }), "{nobody}: {refused}");
        }
    }

    #[test]
    fn several_listeners_each_advertise_their_own() {
        assert_eq!(
            told("IN://:1,OUT://:2", "OUT://far:7,IN://near:8", "IN:PLAINTEXT,OUT:plaintext"),
            "IN@0.0.0.0:1 as near:8 OUT@0.0.0.0:2 as far:7"
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_both_sides() {
        for (listeners, advertised, protocols, said) in [
            (
                "A://:1",
                "",
                PLAIN,
                "listener A has no protocol: add A:PLAINTEXT to \
              listener.security.protocol.map",
            ),
            (
                "A://:1",
                "",
                "A:SSL",
                "listener A asks for SSL, and PLAINTEXT is the only protocol \
              so far",
            ),
            (":1,:2", "", PLAIN, "two listeners are called PLAINTEXT"),
            ("A://h:1,B://h:1", "", "A:PLAINTEXT,B:PLAINTEXT", "two listeners use h:1"),
            (
                ":1",
                "B://h:1",
                PLAIN,
                "advertised.listeners names B, and no listener is called \
              that",
            ),
            (
                ":1",
                "h:0",
                PLAIN,
                "advertised.listeners of PLAINTEXT needs a port clients can \
              connect to",
            ),
            (
                ":1",
                "",
                "PLAINTEXT",
                "PLAINTEXT in listener.security.protocol.map is not \
              NAME:PROTOCOL",
            ),
            ("h", "", PLAIN, "h is not an address of the form NAME://HOST:PORT: there is no port"),
            (
                "h:70000",
                "",
                PLAIN,
                "h:70000 is not an address of the form NAME://HOST:PORT: the \
              port is a number up to 65535",
            ),
            (
                "::1:5",
                "",
                PLAIN,
                "::1:5 is not an address of the form NAME://HOST:PORT: an IPv6 \
              address stands in brackets",
            ),
            (
                "[::1:5",
                "",
                PLAIN,
                "[::1:5 is not an address of the form NAME://HOST:PORT: the \
              bracket does not close",
            ),
            (
                "[x]:5",
                "",
                PLAIN,
                "[x]:5 is not an address of the form NAME://HOST:PORT: no IPv6 \
              address in the brackets",
            ),
            (
                "a b://h:5",
                "",
                PLAIN,
                "a b://h:5 is not an address of the form NAME://HOST:PORT: \
              the name is letters, digits, '_', '-' and '.'",
            ),
            (
                "A://h/x:5",
                "",
                PLAIN,
                "A://h/x:5 is not an address of the form NAME://HOST:PORT: \
              the host has a character no host has",
            ),
        ] {
            assert_eq!(told(listeners, advertised, protocols), format!("refused, {said}"));
        }
    }
}
