//! Every short history of events, and many long ones: the image is the sum of them, whatever way
//! they are stored.

use super::event::{DecodeError, EVENT_BYTES_MAX, Event, Resource};
use super::image::{ApplyError, Image};
use crate::config::layers::Configs;
use crate::config::row::VALUE_BYTES_MAX;
use crate::config::topic::TOPIC_KEYS;
use corelane_core::ids::{BrokerId, TopicId};
use corelane_storage::checksum;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn decode_all(mut bytes: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (event, length) = Event::decode(bytes)?;
        events.push(event);
        bytes = &bytes[length..];
    }
    Ok(events)
}

fn encode_all<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u8> {
    let mut bytes = Vec::new();
    events.into_iter().for_each(|it| it.encode(&mut bytes));
    bytes
}

/// Applies what fits, and compares the image with what storing it would give back.
fn live_through(history: &[Event]) -> Image {
    let mut image = Image::default();
    let mut stored = Vec::new();
    for event in history {
        let before = image.clone();
        match image.apply(event) {
            Ok(()) => event.encode(&mut stored),
            Err(_) => assert_eq!(image, before, "a refused event changed the image"),
        }
        image.check();
    }
    let replayed = Image::replay(&decode_all(&stored).unwrap()).unwrap();
    assert_eq!(replayed, image, "the log gives back the image");
    let checkpoint: Vec<Event> = image.events().collect();
    let checkpoint = decode_all(&encode_all(&checkpoint)).unwrap();
    assert_eq!(Image::replay(&checkpoint).unwrap(), image, "the checkpoint gives back the image");
    image
}

fn created(id: u8, name: &str, partitions: u32) -> Event {
    let name = name.to_owned();
    Event::TopicCreated { id: TopicId([id; 16]), name, partitions, configs: Configs::new() }
}

fn changed(resource: Resource, value: Option<&str>) -> Event {
    let changes = [("segment.ms".to_owned(), value.map(str::to_owned))].into();
    Event::ConfigsChanged { resource, changes }
}

#[test]
fn every_short_history_is_the_sum_of_its_events() {
    let (one, two) = (TopicId([1; 16]), TopicId([2; 16]));
    let alphabet = [
        created(1, "a.b", 1),
        created(2, "a_b", 2),
        created(2, "c", 3),
        Event::TopicDeleted { id: one },
        Event::TopicDeleted { id: two },
        Event::PartitionsAdded { id: one, partitions: 3 },
        changed(Resource::Topic(one), Some("5")),
        changed(Resource::Topic(one), None),
        changed(Resource::Broker(BrokerId(1)), Some("6")),
        changed(Resource::Broker(BrokerId(1)), None),
        changed(Resource::Cluster, Some("7")),
    ];
    fn go(alphabet: &[Event], history: &mut Vec<Event>, depth: u32) -> u64 {
        live_through(history);
        if depth == 0 {
            return 1;
        }
        let mut histories = 1;
        for event in alphabet {
            history.push(event.clone());
            histories += go(alphabet, history, depth - 1);
            history.pop();
        }
        histories
    }
    let histories = go(&alphabet, &mut Vec::new(), 4);
    assert_eq!(histories, 1 + 11 + 121 + 1331 + 14_641, "the walk went empty");
}

#[test]
fn events_that_contradict_the_image_are_refused() {
    let mut image = Image::replay(&[created(1, "a.b", 2)]).unwrap();
    let id = TopicId([1; 16]);
    let missing = TopicId([9; 16]);
    for (event, said) in [
        (created(1, "x", 1), format!("topic {id} is created and exists")),
        (created(0, "x", 1), format!("topic {} is created and exists", TopicId::ZERO)),
        (created(9, "a_b", 1), "topic a_b is created beside a.b".to_owned()),
        (created(9, "../x", 1), "a topic is created with the name \"../x\"".to_owned()),
        (created(9, "x", 0), format!("topic {missing} is created without a partition")),
        (created(9, "x", u32::MAX), format!("topic {missing} is created without a partition")),
        (
            Event::TopicDeleted { id: missing },
            format!("topic {missing} changes and does not exist"),
        ),
        (
            Event::PartitionsAdded { id, partitions: 2 },
            format!("topic {id} has 2 partitions and is told to grow to 2"),
        ),
        (
            changed(Resource::Topic(missing), None),
            format!("topic {missing} changes and does not exist"),
        ),
    ] {
        let refused: ApplyError = image.apply(&event).unwrap_err();
        assert_eq!(refused.to_string(), said);
    }
}

#[test]
fn every_damaged_byte_is_noticed_and_every_cut_too() {
    let event = Event::TopicCreated {
        id: TopicId([7; 16]),
        name: "orders".to_owned(),
        partitions: 3,
        configs: [("segment.ms".to_owned(), "5".to_owned())].into(),
    };
    let bytes = encode_all([&event]);
    assert_eq!(Event::decode(&bytes), Ok((event, bytes.len())));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(Event::decode(&damaged).is_err(), "bit {bit} of byte {at}");
        }
        let needed = if at < 16 { 16 } else { bytes.len() };
        assert_eq!(
            Event::decode(&bytes[..at]),
            Err(DecodeError::Short { needed, found: at }),
            "cut at {at}"
        );
    }
}

#[test]
fn a_stored_event_keeps_its_form() {
    let event = Event::PartitionsAdded { id: TopicId([7; 16]), partitions: 258 };
    let bytes = encode_all([&event]);
    let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(hex, FORM);
}

const FORM: &str = "434c6d6401030000140000001e35350d0707070707070707070707070707070702010000";

/// The largest event a client can cause must fit, or storing it would stop the process.
#[test]
fn a_topic_with_every_key_at_its_longest_fits_an_event() {
    assert!(TOPIC_KEYS.len() * (VALUE_BYTES_MAX + 256) < EVENT_BYTES_MAX);
}

fn any_event() -> impl Strategy<Value = Event> {
    let id = (1..5_u8).prop_map(|it| TopicId([it; 16]));
    let name = "[a-c][._]?[a-c]?";
    let text = "[ -~äß]{0,8}";
    let resource = prop_oneof![
        id.clone().prop_map(Resource::Topic),
        (0..3).prop_map(|it| Resource::Broker(BrokerId(it))),
        Just(Resource::Cluster),
    ];
    let configs = proptest::collection::btree_map("[a-c]", text, 0..4);
    let changes = proptest::collection::btree_map("[a-c]", proptest::option::of(text), 0..4);
    prop_oneof![
        (id.clone(), name, 1..5_u32, configs).prop_map(|(id, name, partitions, configs)| {
            Event::TopicCreated { id, name, partitions, configs }
        }),
        id.clone().prop_map(|id| Event::TopicDeleted { id }),
        (id, 1..9_u32).prop_map(|(id, partitions)| Event::PartitionsAdded { id, partitions }),
        (resource, changes).prop_map(|(resource, changes): (_, BTreeMap<_, _>)| {
            Event::ConfigsChanged { resource, changes }
        }),
    ]
}

proptest! {
    #[test]
    fn long_histories_are_the_sum_of_their_events(
        history in proptest::collection::vec(any_event(), 0..80)
    ) {
        live_through(&history);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&bytes);
    }

    /// A valid frame around any body, so that the reader of bodies is reached.
    #[test]
    fn no_body_makes_the_decoder_panic(
        kind in 0..6_u8,
        body in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..80)
    ) {
        let mut frame = encode_all([&Event::TopicDeleted { id: TopicId::ZERO }]);
        frame.truncate(16);
        frame.extend(&body);
        frame[5] = kind;
        frame[8..12].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        let checksum = checksum::append(checksum::of(&frame[4..12]), &frame[16..]);
        frame[12..16].copy_from_slice(&checksum.to_le_bytes());
        match Event::decode(&frame) {
            Ok((event, length)) => {
                prop_assert_eq!(length, frame.len());
                prop_assert_eq!(encode_all([&event]), frame, "one event has one form");
            }
            Err(DecodeError::Body { .. } | DecodeError::Kind { .. }) => {}
            Err(other) => prop_assert!(false, "the frame is right, and {other}"),
        }
    }
}
