//! Messages of the protocol: every request, response and record, in every version.

use std::fs;

use corelane_net::frame::{self, Incoming};
use corelane_net::messages::catalogue::{Entry, MESSAGES, RecodeError, Role};
use corelane_netgen::net_dir;

use crate::values::{self, Schema};
use crate::{Dice, Target};

/// Any bytes as any message: the first two say which message, the third says which version.
pub const MESSAGE: Target = Target { name: "wire_message", body: message, seeds: message_seeds };

/// Any bytes as the frame of a request, header first.
pub const FRAME: Target = Target { name: "wire_frame", body: request, seeds: frame_seeds };

/// Good messages with values that the bytes decide: read, they give the same bytes when written.
pub const VALUES: Target = Target { name: "wire_values", body: made_up, seeds: value_seeds };

const CHOICE_BYTES: usize = 3;

fn choose(bytes: &[u8]) -> Option<(&'static Entry, i16, &[u8])> {
    let ([high, low, version], body) = bytes.split_first_chunk::<CHOICE_BYTES>()?;
    let entry = &MESSAGES[usize::from(u16::from_be_bytes([*high, *low])) % MESSAGES.len()];
    let versions = entry.versions;
    let count = versions.max - versions.min + 1;
    Some((entry, versions.min + i16::from(*version) % count, body))
}

/// The opposite of [`choose`].
fn chosen(entry: &Entry, version: i16, body: &[u8]) -> Vec<u8> {
    let at = MESSAGES.iter().position(|it| it.name == entry.name).expect("it is of the catalogue");
    let at = u16::try_from(at).expect("there are some hundreds");
    let version = u8::try_from(version - entry.versions.min).expect("there are some dozens");
    let [high, low] = at.to_be_bytes();
    [&[high, low, version], body].concat()
}

fn message(bytes: &[u8]) {
    let Some((entry, version, body)) = choose(bytes) else { return };
    survive(entry, version, body);
}

/// Reads, and writes what was understood. Reading that again gives the same bytes once more.
fn survive(entry: &Entry, version: i16, body: &[u8]) {
    let told = || format!("{} version {version}", entry.name);
    let decoded = (entry.decode)(body, version);
    let mut out = Vec::new();
    let recoded = (entry.recode)(body, version, &mut out);
    match (decoded, recoded) {
        (Err(decoded), recoded) => {
            assert_eq!(recoded, Err(RecodeError::Decode(decoded)), "{}", told());
        }
        (Ok(length), Ok(again)) => {
            assert_eq!(length, again, "{}", told());
            assert!(length <= body.len(), "{}", told());
            let mut twice = Vec::new();
            assert_eq!((entry.recode)(&out, version, &mut twice), Ok(out.len()), "{}", told());
            assert_eq!(out, twice, "{}", told());
        }
        (Ok(_), Err(error)) => panic!("understood but not writable, {error:?}: {}", told()),
    }
}

fn request(bytes: &[u8]) {
    match frame::open(bytes) {
        Ok(Incoming::Request { head, body }) => {
            let mut entries = MESSAGES.iter();
            let entry = entries
                .find(|it| it.role == Role::Request && it.key == Some(head.key))
                .expect("every key has a request");
            survive(entry, head.version, body);
        }
        Ok(Incoming::UnknownApiVersions { correlation_id, .. }) => {
            let mut out = Vec::new();
            frame::encode_refusal(correlation_id, &mut out);
            assert!(!out.is_empty());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn made_up(bytes: &[u8]) {
    let schema = Schema::get();
    let Some((entry, version, rest)) = choose(bytes) else { return };
    let body = schema.message(entry.name, version, &mut Dice::of(rest));
    values::check(entry, version, &body);
}

/// Every message in every version as Kafka's own classes write it: the data of net's golden tests.
fn goldens() -> Vec<(&'static Entry, i16, Vec<u8>)> {
    let mut all = Vec::new();
    for file in ["requests.bin", "responses.bin", "records.bin"] {
        let path = net_dir().join("tests/golden").join(file);
        let bytes = fs::read(&path).expect("the golden messages are beside net's tests");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let mut take = |count: usize| {
                let (taken, after) = rest.split_at(count);
                rest = after;
                taken
            };
            let length = usize::from(take(1)[0]);
            let name = take(length);
            let entry = MESSAGES.iter().find(|it| it.name.as_bytes() == name);
            let entry = entry.expect("golden messages are of the catalogue");
            let version = i16::from_be_bytes(take(2).try_into().expect("two bytes"));
            let _variant = take(1);
            let length = u32::from_be_bytes(take(4).try_into().expect("four bytes"));
            all.push((entry, version, take(length as usize).to_vec()));
        }
    }
    all
}

fn message_seeds() -> Vec<Vec<u8>> {
    goldens().iter().map(|(entry, version, body)| chosen(entry, *version, body)).collect()
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let goldens = goldens();
    let requests = goldens.iter().filter(|it| it.0.role == Role::Request);
    requests
        .map(|(entry, version, body)| {
            let key = entry.key.expect("a request has a key");
            let tags: &[u8] =
                if frame::request_header_version(key, *version) == 2 { &[0] } else { &[] };
            let parts: [&[u8]; 6] = [
                &key.code().to_be_bytes(),
                &version.to_be_bytes(),
                &7i32.to_be_bytes(),
                &[0, 2, b'm', b'e'],
                tags,
                body,
            ];
            parts.concat()
        })
        .collect()
}

fn value_seeds() -> Vec<Vec<u8>> {
    let versions =
        MESSAGES.iter().flat_map(|entry| entry.versions.iter().map(move |it| (entry, it)));
    versions.map(|(entry, version)| chosen(entry, version, &[0])).collect()
}
