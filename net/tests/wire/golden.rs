//! Every message in every version, as Kafka's own classes write it. Ours reads that and must
//! write the same bytes. `net/oracle` makes the files.

use corelane_net::api::ApiKey;
use corelane_net::frame;
use corelane_net::messages::catalogue::{Entry, MESSAGES};
use corelane_net::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use corelane_net::wire::{EncodeError, Records, Writer, Written};
use std::{collections::BTreeSet, fs, path::Path};

/// What is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// Everything is set.
    Full,
    /// All is null, empty or zero.
    Empty,
    /// Every field has its default.
    Fresh,
}

pub(crate) struct Golden {
    pub(crate) message: &'static Entry,
    pub(crate) version: i16,
    pub(crate) variant: Variant,
    pub(crate) bytes: Vec<u8>,
}

/// All golden messages of all files.
pub(crate) fn goldens() -> Vec<Golden> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut all = Vec::new();
    for file in ["requests.bin", "responses.bin", "records.bin"] {
        let bytes = fs::read(folder.join(file)).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let mut take = |count: usize| {
                let (taken, after) = rest.split_at(count);
                rest = after;
                taken
            };
            let length = usize::from(take(1)[0]);
            let name = std::str::from_utf8(take(length)).unwrap();
            let version = i16::from_be_bytes(take(2).try_into().unwrap());
            let variant = match take(1) {
                [0] => Variant::Full,
                [1] => Variant::Empty,
                [2] => Variant::Fresh,
                other => panic!("no variant: {other:?}"),
            };
            let length = u32::from_be_bytes(take(4).try_into().unwrap());
            let bytes = take(length as usize).to_vec();
            let message = MESSAGES.iter().find(|it| it.name == name);
            let message = message.unwrap_or_else(|| panic!("we have no {name}"));
            all.push(Golden { message, version, variant, bytes });
        }
    }
    all
}

#[test]
fn every_message_in_every_version_has_its_golden_bytes() {
    let seen: BTreeSet<_> =
        goldens().iter().map(|it| (it.message.name, it.version, it.variant)).collect();
    let mut versions = 0;
    for message in MESSAGES {
        for version in message.versions.iter() {
            versions += 1;
            for variant in [Variant::Full, Variant::Empty, Variant::Fresh] {
                assert!(
                    seen.contains(&(message.name, version, variant)),
                    "{} version {version}: no {variant:?}",
                    message.name
                );
            }
        }
    }
    assert_eq!(seen.len(), 3 * versions, "Kafka knows versions that we do not");
}

#[test]
fn what_kafka_writes_is_read_and_written_the_same() {
    let mut wrong = Vec::new();
    for Golden { message, version, variant, bytes } in goldens() {
        let mut ours = Vec::new();
        let read = (message.recode)(&bytes, version, &mut ours);
        if read != Ok(bytes.len()) || ours != bytes {
            wrong.push(format!(
                "{} version {version}, {variant:?}: {read:?} of {}\n  kafka {bytes:?}\n  ours  {ours:?}",
                message.name,
                bytes.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn our_defaults_are_kafkas() {
    let mut wrong = Vec::new();
    for Golden { message, version, variant, bytes } in goldens() {
        if variant != Variant::Fresh {
            continue;
        }
        let mut ours = Vec::new();
        let written = (message.encode_default)(version, &mut ours);
        if written != Ok(()) || ours != bytes {
            wrong.push(format!(
                "{} version {version}: {written:?}\n  kafka {bytes:?}\n  ours  {ours:?}",
                message.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn in_pieces_of_any_size_a_message_is_read_and_written_the_same() {
    for Golden { message, version, variant, bytes } in goldens() {
        for elements in [1, 2, 3, 1000] {
            let mut ours = Vec::new();
            let read = (message.recode_in_pieces)(&bytes, version, elements, &mut ours);
            let told = || format!("{} version {version}, {variant:?}, by {elements}", message.name);
            assert_eq!(read, Ok(bytes.len()), "{}", told());
            assert!(ours == bytes, "{}", told());
        }
    }
}

#[test]
fn in_pieces_of_any_size_records_that_stay_outside_are_counted_the_same() {
    let part = |partition_index| PartitionData {
        partition_index,
        records: Some(Records::Outside { bytes: 100 }),
        ..Default::default()
    };
    let partitions: Vec<_> = (0..20).map(part).collect();
    let topics = [FetchableTopicResponse {
        topic: "t",
        partitions: partitions.as_slice().into(),
        ..Default::default()
    }];
    let response = FetchResponse { responses: (&topics).into(), ..Default::default() };
    let (mut whole, mut places) = (Vec::new(), Vec::new());
    let writer = &mut Writer::splicing(&mut whole, &mut places);
    frame::encode_response(ApiKey::Fetch, 12, 7, &response, writer).unwrap();
    assert_eq!(frame::size(whole[..4].try_into().unwrap(), 10_000), Ok(whole.len() - 4 + 20 * 100));
    for elements in [1, 2, 3, 1000] {
        let (mut out, mut splices) = (Vec::new(), Vec::new());
        let mut written = Written::by(elements);
        loop {
            let writer = &mut Writer::splicing(&mut out, &mut splices).in_pieces(&mut written);
            match frame::encode_response(ApiKey::Fetch, 12, 7, &response, writer) {
                Err(EncodeError::Unfinished) => {}
                done => break done.unwrap(),
            }
        }
        assert!(out == whole && splices == places, "by {elements}");
    }
}
