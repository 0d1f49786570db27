//! Bytes from strangers: cut, mutated, random, and with counts that nobody has the bytes for.
//! Whatever they are, decoding neither panics nor allocates, and writing what was understood
//! asks for no more memory than the input gives reason to.

use crate::{
    allocations::requested_by,
    golden::{Golden, Variant, goldens},
};
use corelane_net::messages::catalogue::{Entry, MESSAGES, RecodeError};
use corelane_net::messages::produce::{
    NodeEndpoint, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use corelane_net::wire::{DecodeError, Message};

const ROUNDS: u64 = 60;
const RANDOM_BYTES_MAX: u64 = 300;
/// What writing a message may ask for beyond a multiple of its input.
const SLACK_BYTES: u64 = 64 * 1024;

/// A small seeded generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).expect("limits are small")
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}

/// Puts the message through everything that a stranger's bytes go through.
#[track_caller]
fn survive(message: &Entry, version: i16, bytes: &[u8], out: &mut Vec<u8>) {
    let (decoded, requested) = requested_by(|| (message.decode)(bytes, version));
    let told = || format!("{} version {version} of {bytes:?}", message.name);
    assert_eq!(requested.times, 0, "decoding allocated: {}", told());

    *out = Vec::new();
    let (recoded, requested) = requested_by(|| (message.recode)(bytes, version, out));
    assert!(requested.bytes <= 4 * bytes.len() as u64 + SLACK_BYTES, "{requested:?}: {}", told());
    match (decoded, recoded) {
        (Err(decoded), recoded) => assert_eq!(recoded, Err(RecodeError::Decode(decoded))),
        (Ok(length), Ok(again)) => {
            assert_eq!(length, again);
            // What we wrote is what we understood: reading it gives the same bytes once more.
            let mut twice = Vec::new();
            assert_eq!((message.recode)(out, version, &mut twice), Ok(out.len()), "{}", told());
            assert_eq!(*out, twice, "{}", told());
        }
        (Ok(_), Err(error)) => panic!("understood but not writable, {error:?}: {}", told()),
    }
}

#[test]
fn random_bytes_are_survived_by_every_message_in_every_version() {
    let mut out = Vec::new();
    for (seed, message) in (0..).zip(MESSAGES) {
        let mut dice = Dice(seed);
        for version in message.versions.iter() {
            for _ in 0..ROUNDS {
                let length = dice.below(RANDOM_BYTES_MAX);
                // Small bytes make plausible lengths; large ones end the message at once.
                let mask = [0xff, 0x0f, 0x03][dice.below(3)];
                let bytes: Vec<u8> = (0..length).map(|_| dice.byte() & mask).collect();
                survive(message, version, &bytes, &mut out);
            }
        }
    }
}

#[test]
fn mutated_messages_are_survived() {
    let mut out = Vec::new();
    for (seed, Golden { message, version, bytes, .. }) in (1000..).zip(goldens()) {
        let mut dice = Dice(seed);
        for _ in 0..ROUNDS.min(bytes.len() as u64 * 4) {
            let mut mutated = bytes.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(mutated.len() as u64);
                match dice.below(4) {
                    0 => mutated[at] = dice.byte(),
                    1 => mutated[at] ^= 1 << dice.below(8),
                    2 => mutated.insert(at, dice.byte()),
                    _ if mutated.len() > 1 => drop(mutated.remove(at)),
                    _ => {}
                }
            }
            survive(message, version, &mutated, &mut out);
        }
    }
}

/// At every place of every full message: the largest count, a negative one, and a number that
/// does not end.
#[test]
fn counts_beyond_reason_are_survived_everywhere() {
    const PLANTS: [&[u8]; 4] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff; 11],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
    ];
    let mut out = Vec::new();
    for Golden { message, version, bytes, variant } in goldens() {
        if variant != Variant::Full || bytes.len() > 1500 {
            continue;
        }
        for at in 0..bytes.len() {
            for plant in PLANTS {
                let mut planted = bytes.clone();
                let end = planted.len().min(at + plant.len());
                planted.splice(at..end, plant.iter().copied());
                let (result, requested) = requested_by(|| (message.decode)(&planted, version));
                assert_eq!(requested.times, 0, "{} version {version}: {result:?}", message.name);
                if at % 7 == 0 {
                    survive(message, version, &planted, &mut out);
                }
            }
        }
    }
}

#[test]
fn a_message_cut_short_is_refused_and_one_with_more_after_it_is_not() {
    for Golden { message, version, mut bytes, .. } in goldens() {
        for end in 0..bytes.len() {
            let cut = (message.decode)(&bytes[..end], version);
            assert!(cut.is_err(), "{} version {version} of {end} bytes: {cut:?}", message.name);
        }
        let length = bytes.len();
        bytes.extend([0xff; 9]);
        assert_eq!((message.decode)(&bytes, version), Ok(length), "{}", message.name);
    }
}

#[test]
fn a_version_nobody_knows_is_refused() {
    for message in MESSAGES {
        for version in [message.versions.min - 1, message.versions.max + 1, i16::MAX, i16::MIN] {
            assert!((message.decode)(&[0; 64], version).is_err());
            assert!((message.encode_default)(version, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn elements_of_all_arrays_are_counted_together_in_tagged_fields_too() {
    let partition = |index| PartitionProduceResponse { index, ..Default::default() };
    let topic = |name| TopicProduceResponse {
        name,
        partition_responses: (0..3).map(partition).collect(),
        ..Default::default()
    };
    let endpoint = |node_id| NodeEndpoint { node_id, host: "h", port: 1, rack: None };
    let answer = ProduceResponse {
        responses: [topic("one"), topic("two")].into(),
        node_endpoints: (0..2).map(endpoint).collect(),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    answer.encode(10, &mut bytes).unwrap();
    let within = |elements_max| ProduceResponse::decode_within(&bytes, 10, elements_max);
    let (read, _) = within(10).unwrap();
    assert_eq!(read, answer, "what was counted once can be walked");
    for elements_max in 0..10 {
        let error = within(elements_max).unwrap_err();
        assert!(matches!(error, DecodeError::Elements { .. }), "{elements_max}: {error}");
    }
    let told = within(9).unwrap_err().to_string();
    assert_eq!(told, "an array of 2 elements where 1 more are allowed");
}
