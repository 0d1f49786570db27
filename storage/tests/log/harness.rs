//! A process with a log in a simulated world: how it starts, what it appends, what it must keep.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane_core::ids::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
use corelane_core::lane::Lane;
use corelane_core::metrics::Metrics;
use corelane_core::ring::sim::{NodeId, World};
use corelane_core::time::Nanos;
use corelane_storage::batch::Batches;
use corelane_storage::build::BatchBuilder;
use corelane_storage::log::boot::{Found, OpenError, recover};
use corelane_storage::log::open::{LogConfig, adopt, share_out};
use corelane_storage::log::partition::LogRules;
use corelane_storage::log::store::{AppendError, ReadUpTo, ReadWant, Store};

/// A small journal, so that everything that can happen to one does.
pub(crate) fn config() -> LogConfig {
    LogConfig { slot_bytes: 256 * 1024, slots_max: 8, ..LogConfig::new("/data") }
}

pub(crate) fn rules(segment_bytes: u64) -> LogRules {
    LogRules { segment_bytes, ..LogRules::default() }
}

pub(crate) fn partition(topic: u8, index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex(index) }
}

/// Starts a log on a process of one lane.
pub(crate) async fn start(lane: &Lane, config: &LogConfig) -> Result<(Store, Found), OpenError> {
    start_counting(lane, config, &Metrics::default()).await
}

pub(crate) async fn start_counting(
    lane: &Lane,
    config: &LogConfig,
    metrics: &Metrics,
) -> Result<(Store, Found), OpenError> {
    let mut found = recover(lane, &config.data, 1, config.broken).await?;
    let mine = share_out(&mut found, 1, |_| 0).remove(0);
    let ready = Store::open(lane, config, found.generation, mine, metrics).await?;
    adopt(lane, config, found.generation, 1, &found.notices).await?;
    Ok((ready.start(), found))
}

/// Runs one program on one lane to its end, then kills its process.
pub(crate) fn run<F: Future<Output = ()> + 'static>(
    world: &mut World,
    node: NodeId,
    program: impl FnOnce(Lane) -> F + 'static,
) {
    begin(world, node, program, true);
    world.kill(node);
}

pub(crate) fn begin<F: Future<Output = ()> + 'static>(
    world: &mut World,
    node: NodeId,
    program: impl FnOnce(Lane) -> F + 'static,
    to_its_end: bool,
) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let program = Rc::new(RefCell::new(Some(program)));
    world.start(node, |lane| {
        let program = program.borrow_mut().take().expect("one lane");
        let (work, done) = (program(lane), Rc::clone(&done));
        async move {
            work.await;
            done.set(true);
        }
    });
    if to_its_end {
        assert!(world.run_to(Nanos::secs(1000), || done.get()), "the program ends");
    }
    done
}

/// A batch of `records` whose values tell where they belong, of about `bytes` each.
pub(crate) fn batch(tag: u64, records: usize, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for at in 0..records {
        let mut value = format!("{tag}/{at} ").into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        builder.record(1_700_000_000_000 + tag as i64, None, Some(&value));
    }
    builder.build()
}

pub(crate) fn batch_of(producer: i64, sequence: i32, tag: u64, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    let mut value = format!("{tag} ").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    builder.record(1_700_000_000_000 + tag as i64, None, Some(&value));
    builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
    builder.build()
}

/// Appends, waiting while the log is busy. The offset after it, once durable.
pub(crate) async fn append(store: &Store, of: &TopicPartition, mut batch: Vec<u8>) -> Offset {
    loop {
        match store.append(of, &mut batch, false) {
            Ok(it) => {
                store.durable(it.commit).await.expect("durable");
                return it.end;
            }
            Err(AppendError::Overloaded) => store.lane().sleep(Nanos::millis(1)).await,
            Err(error) => panic!("refused: {error:?}"),
        }
    }
}

/// Everything a partition holds from its start: the payloads of its batches by base offset.
pub(crate) async fn read_all(store: &Store, of: &TopicPartition) -> BTreeMap<i64, Vec<u8>> {
    let mut all = BTreeMap::new();
    let (mut at, end) = {
        let partition = store.partition(of).expect("it is here");
        let partition = partition.borrow();
        (partition.log_start(), partition.end())
    };
    while at < end {
        let want = ReadWant {
            from: at,
            up_to: ReadUpTo::End,
            bytes_max: 100_000,
            at_least_one: true,
            file_bytes_min: ReadWant::NO_FILES,
        };
        let done = store.read(of, &want).await.expect("readable");
        let mut bytes = Vec::new();
        for slice in &done.slices {
            bytes.extend_from_slice(slice);
        }
        assert!(!bytes.is_empty(), "nothing at {at} of {of}, which ends at {end}");
        for batch in Batches::new(&bytes) {
            let batch = batch.expect("whole batches");
            assert_eq!(batch.crc(), batch.computed_crc());
            assert!(at == batch.base_offset() || all.is_empty(), "offsets are dense");
            all.insert(batch.base_offset().0, batch.payload().to_vec());
            at = batch.next_offset();
        }
    }
    all
}
