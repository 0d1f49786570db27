//! Faults in Kafka's order, what is patched and replaced, and the same in steps.

use super::*;
use crate::{batch::UNSUMMED_BYTES, build::BatchBuilder, checksum, record::put_nullable};

const NOW_MS: i64 = 1_700_000_000_000;

fn scratch() -> Scratch {
    Scratch::new(64 << 20)
}

fn three() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.record(NOW_MS - 5, Some(b"a"), Some(&[b'x'; 300]));
    builder.record(NOW_MS + 7, Some(b"b"), None);
    builder.record(NOW_MS + 1, Some(b"c"), Some(b"z"));
    builder
}

fn reseal(bytes: &mut [u8]) {
    let crc = checksum::of(&bytes[UNSUMMED_BYTES..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn a_good_batch_is_taken_as_it_lies() {
    for codec in Codec::ALL {
        let sent = three().build_compressed(codec, Level::Default, &mut Compressor::new());
        let mut bytes = sent.clone();
        let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch()).unwrap();
        assert_eq!(bytes, sent);
        assert_eq!((it.replaced, it.records, it.codec), (false, 3, codec));
        assert_eq!((it.base_timestamp, it.max_timestamp), (NOW_MS - 5, NOW_MS + 7));
        assert_eq!((it.max_timestamp_delta, it.producer), (1, None));
        assert_eq!(it.crc, Batch::split(&bytes).unwrap().0.computed_crc());
    }
}

/// One batch with every fault at once; each step mends the one that was told.
#[test]
fn faults_are_told_in_kafkas_order() {
    let mut rules = AppendRules { message_bytes_max: 100, ..AppendRules::default() };
    let mut builder = three();
    builder.producer(ProducerId(5), ProducerEpoch(0), -1).attributes(Attributes::CONTROL | 7);
    let mut bytes = builder.build();
    let one_len = bytes.len();
    bytes[7] = 9;
    bytes[26] = 7;
    bytes[one_len - 1] ^= 1;
    let mut sent = bytes.repeat(2);
    sent[16] = 1;
    let mut told = Vec::new();
    for _ in 0..20 {
        let Err(refusal) = validate(&rules, NOW_MS, &mut sent, &mut scratch()) else { break };
        let name = match refusal {
            AppendRefusal::Malformed(BatchError::Magic { .. }) => {
                sent[16] = 2;
                "magic"
            }
            AppendRefusal::ManyBatches { first, .. } => {
                sent.truncate(first);
                "batches"
            }
            AppendRefusal::BaseOffset { .. } => {
                sent[7] = 0;
                "base"
            }
            AppendRefusal::TooLarge { .. } => {
                rules.message_bytes_max = 10_000;
                rules.segment_bytes_max = 100;
                "size"
            }
            AppendRefusal::Checksum { .. } => {
                reseal(&mut sent);
                "checksum"
            }
            AppendRefusal::Count { records: 3, last_offset_delta: 7 } => {
                sent[26] = 2;
                reseal(&mut sent);
                "count"
            }
            AppendRefusal::Control => {
                sent[22] &= !(Attributes::CONTROL as u8);
                reseal(&mut sent);
                "control"
            }
            AppendRefusal::Producer { .. } => {
                sent[53] = 0;
                sent[54..57].fill(0);
                reseal(&mut sent);
                "sequence"
            }
            AppendRefusal::Codec { number: 7 } => {
                sent[22] &= !7;
                sent[one_len - 1] = 2;
                reseal(&mut sent);
                "codec"
            }
            AppendRefusal::Record { index: 2, .. } => {
                sent[one_len - 1] = 0;
                rules.compacted = true;
                reseal(&mut sent);
                "record"
            }
            AppendRefusal::SegmentTooSmall { .. } => {
                rules.segment_bytes_max = 10_000;
                "segment"
            }
            other => panic!("{other:?}"),
        };
        told.push(name);
    }
    assert_eq!(
        told.join(" "),
        "magic batches base size checksum count control sequence codec record segment"
    );
}

#[test]
fn all_records_with_a_fault_are_told_and_a_timestamp_comes_first() {
    let rules = AppendRules {
        compacted: true,
        timestamp_before_ms_max: 100,
        timestamp_after_ms_max: 10,
        ..AppendRules::default()
    };
    let mut builder = BatchBuilder::new();
    builder.record(NOW_MS, None, Some(b"v"));
    builder.record(NOW_MS - 100, Some(b"k"), None);
    builder.record(NOW_MS - 101, Some(b"k"), None);
    builder.record(NOW_MS + 11, None, None);
    builder.record(NOW_MS + 11, Some(b"k"), None);
    builder.record(NO_TIMESTAMP, Some(b"k"), None);
    let refusal = validate(&rules, NOW_MS, &mut builder.build(), &mut scratch()).unwrap_err();
    let late = |found| Fault::Timestamp { found, now_ms: NOW_MS };
    let faults = vec![
        RecordFault { index: 0, why: Fault::MissingKey },
        RecordFault { index: 2, why: late(NOW_MS - 101) },
        RecordFault { index: 3, why: Fault::MissingKey },
        RecordFault { index: 4, why: late(NOW_MS + 11) },
    ];
    assert_eq!(refusal, AppendRefusal::Records { faults, total: 4, timestamp: true });
}

#[test]
fn log_append_time_is_the_brokers_to_set() {
    let rules = AppendRules {
        log_append_time: true,
        timestamp_before_ms_max: 0,
        timestamp_after_ms_max: 0,
        ..AppendRules::default()
    };
    let mut bytes = three().build();
    let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap();
    assert_eq!((it.max_timestamp, it.max_timestamp_delta), (NOW_MS, 0));
    let batch = Batch::split(&bytes).unwrap().0;
    assert_eq!((batch.max_timestamp(), batch.crc()), (NOW_MS, batch.computed_crc()));
    assert!(batch.attributes().has(Attributes::LOG_APPEND_TIME));
    // The same bytes from a client claim what only the broker may say.
    for rules in [rules, AppendRules::default()] {
        let refusal = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap_err();
        let AppendRefusal::Records { faults, timestamp, .. } = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!((faults[0].why, timestamp), (Fault::LogAppendTime, true));
    }
}

#[test]
fn a_wrong_latest_timestamp_is_corrected_with_its_checksum() {
    let mut bytes = three().build();
    bytes[35..43].copy_from_slice(&1_i64.to_be_bytes());
    reseal(&mut bytes);
    let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch()).unwrap();
    assert_eq!(bytes, three().build());
    assert!(!it.replaced);
}

#[test]
fn the_topics_codec_replaces_the_producers() {
    let mut scratch = scratch();
    for from in Codec::ALL {
        for to in Codec::ALL {
            let mut bytes = three().build_compressed(from, Level::Default, &mut Compressor::new());
            let compression = Compression::Fixed(to, Level::Default);
            let rules = AppendRules { compression, ..AppendRules::default() };
            let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch).unwrap();
            assert_eq!((it.replaced, it.codec), (from != to, to));
            if !it.replaced {
                continue;
            }
            let rules = AppendRules::default();
            let mut stored = scratch.replaced().to_vec();
            let again = validate(&rules, NOW_MS, &mut stored, &mut scratch).unwrap();
            assert_eq!(again, Accepted { replaced: false, ..it });
        }
    }
}

#[test]
fn records_that_do_not_count_from_zero_are_rewritten() {
    let mut builder = BatchBuilder::new();
    builder.record(NOW_MS, Some(b"k"), None);
    builder.record_with_headers(NOW_MS, Some(b"k"), Some(b"v"), &[("h", None)]);
    let want = builder.build();
    // An old client numbered both records zero.
    let mut bytes = want.clone();
    let second = HEADER_BYTES + 8;
    let delta_at = second + 3;
    assert_eq!(bytes[delta_at], 2);
    bytes[delta_at] = 0;
    reseal(&mut bytes);
    let mut scratch = scratch();
    let it = validate(&AppendRules::default(), NOW_MS, &mut bytes, &mut scratch).unwrap();
    assert!(it.replaced);
    assert_eq!(scratch.replaced()[12..16], [0xff; 4]);
    assert_eq!(scratch.replaced(), want);
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(last_sequence(0, 1), 0);
    assert_eq!(last_sequence(i32::MAX, 1), i32::MAX);
    assert_eq!(last_sequence(i32::MAX, 2), 0);
    assert_eq!(last_sequence(i32::MAX - 1, 5), 2);
}

/// What a topic takes is about compressed bytes.
#[test]
fn a_batch_that_unfolds_to_much_is_taken() {
    let mut builder = BatchBuilder::new();
    let text = b"a line of a log that is much like the one before it ".repeat(200);
    for it in 0..1_000 {
        builder.record(NOW_MS + it % 7, Some(b"key"), Some(&text));
    }
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Lz4, Codec::Snappy] {
        let sent = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
        let mut bytes = sent.clone();
        let rules = AppendRules { compacted: true, ..AppendRules::default() };
        let it = validate(&rules, NOW_MS, &mut bytes, &mut scratch()).unwrap();
        assert_eq!((it.replaced, it.records, it.max_timestamp_delta), (false, 1_000, 6));
        assert_eq!(bytes, sent, "{codec:?}");

        let budget = 9 << 20;
        let refusal = validate(&rules, NOW_MS, &mut bytes, &mut Scratch::new(budget));
        let too_large = |limit| AppendRefusal::Unfold(DecompressError::TooLarge { limit });
        assert_eq!(refusal, Err(too_large(budget)), "{codec:?}");
        // What must be folded anew must be held.
        let compression = Compression::Fixed(Codec::None, Level::Default);
        let rules = AppendRules { compression, ..rules };
        let refusal = validate(&rules, NOW_MS, &mut bytes, &mut scratch());
        assert_eq!(refusal, Err(too_large(8 * rules.message_bytes_max)), "{codec:?}");
    }
}

/// Damage under a right checksum: refused or taken, never a panic, and what is taken is whole.
#[test]
fn no_bytes_make_it_panic() {
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let mut scratch = scratch();
    let mut raw = Vec::new();
    put_nullable(&mut raw, Some(b"header"));
    let (mut taken, mut refused) = (0, 0);
    for round in 0..4_000 {
        let codec = Codec::ALL[round % Codec::ALL.len()];
        let mut builder = three();
        builder.record_with_headers(NOW_MS, Some(b"k"), None, &[("h", Some(&raw))]);
        let mut bytes = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
        for _ in 0..random(3) {
            let at = UNSUMMED_BYTES + random(bytes.len() - UNSUMMED_BYTES);
            bytes[at] = random(256) as u8;
        }
        reseal(&mut bytes);
        let compression = match random(2) {
            0 => Compression::Producer,
            _ => Compression::Fixed(Codec::ALL[random(5)], Level::Default),
        };
        let rules = AppendRules { compression, ..AppendRules::default() };
        match validate(&rules, NOW_MS, &mut bytes, &mut scratch) {
            Ok(it) => {
                let stored = if it.replaced { scratch.replaced() } else { &bytes[..] };
                let batch = Batch::split(stored).unwrap().0;
                assert_eq!(batch.crc(), batch.computed_crc());
                taken += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(500 < taken && 500 < refused, "the walk went empty: {taken} {refused}");
}

/// In steps of so many units. Tells how many there were.
fn in_steps(
    rules: &AppendRules,
    bytes: &mut [u8],
    scratch: &mut Scratch,
    units: usize,
) -> (Result<Accepted, AppendRefusal>, usize) {
    let mut steps = 0;
    let mut look = || {
        let mut examination = Examination::begin(rules, NOW_MS, bytes, scratch)?;
        loop {
            steps += 1;
            if examination.step(rules, bytes, scratch, units)? {
                return examination.finish(rules, bytes, scratch);
            }
        }
    };
    let done = look();
    (done, steps)
}

#[test]
fn in_steps_the_same_is_said_and_stored_as_in_one_go() {
    let mut seed = 3_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    let (mut one, mut other) = (scratch(), scratch());
    let (mut taken, mut refused, mut replaced) = (0, 0, 0);
    for round in 0..300 {
        let codec = Codec::ALL[round % Codec::ALL.len()];
        let mut builder = BatchBuilder::new();
        for at in 0..1 + random(40) {
            let value: Vec<u8> = (0..random(3_000)).map(|it| (it / 7) as u8).collect();
            let header = &value[..value.len().min(5)];
            let headers = vec![("h", Some(header)); random(9)];
            builder.record_with_headers(NOW_MS + at as i64, Some(b"k"), Some(&value), &headers);
        }
        let mut bytes = builder.build_compressed(codec, Level::Default, &mut Compressor::new());
        if random(3) == 0 {
            let at = UNSUMMED_BYTES + random(bytes.len() - UNSUMMED_BYTES);
            bytes[at] = random(256) as u8;
            reseal(&mut bytes);
        }
        let compression = match random(3) {
            0 => Compression::Fixed(Codec::ALL[random(5)], Level::Default),
            _ => Compression::Producer,
        };
        let log_append_time = random(4) == 0;
        let rules = AppendRules { compression, log_append_time, ..AppendRules::default() };
        let mut apart = bytes.clone();
        let whole = validate(&rules, NOW_MS, &mut bytes, &mut one);
        let (found, _) = in_steps(&rules, &mut apart, &mut other, 1 + random(2_000));
        match &whole {
            Ok(it) if it.replaced => {
                // How zstd cuts what it is given is its own business.
                let stored = |bytes: &mut [u8]| {
                    let batch = Batch::split(bytes).expect("whole").0;
                    assert_eq!(batch.crc(), batch.computed_crc());
                    let mut unfold = Decompressor::new();
                    let payload = unfold.decompress(it.codec, batch.payload(), 1 << 20);
                    (batch.max_timestamp(), batch.attributes(), payload.expect("good").to_vec())
                };
                assert_eq!(stored(one.replaced()), stored(other.replaced()));
                let found = found.as_ref().expect("it is good in one go");
                let same = Accepted { bytes: it.bytes, crc: it.crc, ..*found };
                assert_eq!(same, *it);
                replaced += 1;
            }
            _ => assert_eq!(found, whole),
        }
        assert_eq!(apart, bytes);
        match whole {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        100 < taken && 20 < refused && 40 < replaced,
        "the walk went empty: {taken} {refused} {replaced}"
    );
}

/// What is long takes steps, whichever part of it is long.
#[test]
fn no_part_of_a_look_is_done_in_one_step() {
    const UNITS: usize = 4 << 10;
    let mut large = BatchBuilder::new();
    let value: Vec<u8> = (0..300_000).map(|it: usize| (it / 1000) as u8).collect();
    large.record(NOW_MS, Some(b"k"), Some(&value));
    let mut headers = BatchBuilder::new();
    headers.record_with_headers(NOW_MS, None, None, &vec![("", None); 20_000]);
    let mut many = BatchBuilder::new();
    for _ in 0..20_000 {
        many.record(NOW_MS, None, None);
    }
    let fixed = |codec| AppendRules {
        compression: Compression::Fixed(codec, Level::Default),
        ..AppendRules::default()
    };
    let as_it_is = AppendRules::default();
    let mut cases = vec![
        ("headers", headers.build(), as_it_is.clone(), 20_000 * UNITS_PER_THING),
        ("records", many.build(), as_it_is.clone(), 20_000 * UNITS_PER_THING),
    ];
    for codec in Codec::ALL {
        if codec != Codec::None {
            let folded = large.build_compressed(codec, Level::Default, &mut Compressor::new());
            cases.push(("unfolding", folded, as_it_is.clone(), 300_000));
        }
        if codec != Codec::Gzip {
            let folded = large.build_compressed(codec, Level::Default, &mut Compressor::new());
            let work = 300_000 * UNITS_PER_BYTE_FOLDED;
            cases.push(("folding", folded, fixed(Codec::Gzip), work));
        }
    }
    let mut scratch = scratch();
    for (name, mut bytes, rules, work) in cases {
        let (done, steps) = in_steps(&rules, &mut bytes, &mut scratch, UNITS);
        assert!(done.is_ok(), "{name}: {done:?}");
        // What a library does with a small block is one step.
        let most = if name == "unfolding" { 64 << 10 } else { 0 } + 2 * UNITS;
        assert!(work / most <= steps, "{name}: {steps} steps for {work} units");
    }
}
