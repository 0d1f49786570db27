//! The threads of a run: an executor for each core, producers and consumers dealt out to them, and
//! what they tell the coordinator.

use super::cluster::Cluster;
use super::consumer::{Consumer, Owned};
use super::control::Control;
use super::group;
use super::keys::Chance;
use super::link::{Link, LinkError};
use super::producer::{Common, Producer};
use super::stats::{Slot, Stats};
use super::verify::{Sent, Verify};
use super::workload::{Assignment, Payload, Workload};
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::fs;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);
/// The values of random payloads take no more memory than this.
const POOL_BYTES_MAX: usize = 64 << 20;

/// What a thread tells.
pub(crate) enum Said {
    /// All its connections are open.
    Ready,
    /// What it saw in the last second.
    Second(Box<Slot>),
    /// Its producers have ended.
    Sent(Vec<Sent>),
    /// A consumer of a group knows what is its own, so long after it asked.
    Joined(Duration),
    /// It has ended.
    Whole(Box<Stats>),
    Failed(String),
}

/// What every thread is given.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) workload: Arc<Workload>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) control: Arc<Control>,
    pub(crate) verify: Option<Arc<Verify>>,
    /// Names the groups of this run.
    pub(crate) prefix: Arc<str>,
    pub(crate) threads: usize,
}

/// Starts all threads. They end when the run does, or when one fails.
pub(crate) fn start(
    shared: &Shared,
    tell: &Sender<Said>,
) -> io::Result<Vec<thread::JoinHandle<()>>> {
    (0..shared.threads)
        .map(|at| {
            let (shared, tell) = (shared.clone(), tell.clone());
            thread::Builder::new().name(format!("load-{at}")).spawn(move || {
                let executor = LocalExecutorBuilder::new(Placement::Unbound).make();
                let ended = match executor {
                    Ok(executor) => {
                        let told = tell.clone();
                        executor.run(async move { one(at, shared, &told).await })
                    }
                    Err(why) => Err(format!("glommio: {why}")),
                };
                if let Err(why) = ended {
                    // Nobody listens any more when the run has failed already.
                    drop(tell.send(Said::Failed(why)));
                }
            })
        })
        .collect()
}

async fn one(at: usize, shared: Shared, tell: &Sender<Said>) -> Result<(), String> {
    let values = values(&shared.workload).map_err(|it| format!("payload: {it}"))?;
    let common = Common {
        workload: Arc::clone(&shared.workload),
        cluster: Arc::clone(&shared.cluster),
        control: Arc::clone(&shared.control),
        stats: Rc::new(RefCell::new(Stats::new())),
        values: Rc::new(values),
    };
    let mine = |it: &u32| *it as usize % shared.threads == at;
    let idle = (0..shared.workload.own.idle_connections).filter(mine);
    let mut idlers = Vec::new();
    for _ in idle {
        let link = Link::open(shared.cluster.nodes[0]).await;
        let mut link = link.map_err(|it| format!("idle connection: {it}"))?;
        link.rest();
        idlers.push(link);
    }
    let mut producers = Vec::new();
    for id in (0..shared.workload.all_producers()).filter(mine) {
        let producer = Producer::open(common.clone(), id).await;
        producers.push(producer.map_err(|it| format!("producer {id}: {it}"))?);
    }
    let failed: Rc<RefCell<Option<String>>> = Rc::default();
    for id in (0..shared.workload.topics * shared.workload.readers()).filter(mine) {
        let ended = consume(&shared, &common, id, &failed, tell).await;
        ended.map_err(|it| format!("consumer {id}: {it}"))?;
    }
    tell.send(Said::Ready).map_err(|it| it.to_string())?;
    let running: Vec<_> = producers.into_iter().map(|it| glommio::spawn_local(it.run())).collect();
    let (ticking, stats) = (tell.clone(), Rc::clone(&common.stats));
    let ticker = glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(TICK).await;
            let slot = stats.borrow_mut().take_second();
            if ticking.send(Said::Second(Box::new(slot))).is_err() {
                return;
            }
        }
    });
    let mut sent = Vec::new();
    for producer in running {
        sent.extend(producer.await.map_err(|it| format!("a producer: {it}"))?);
    }
    tell.send(Said::Sent(sent)).map_err(|it| it.to_string())?;
    while !shared.control.stopping() {
        glommio::timer::sleep(LOOK).await;
        if let Some(why) = failed.take() {
            return Err(why);
        }
    }
    drop(idlers);
    ticker.cancel().await;
    let last = common.stats.borrow_mut().take_second();
    let whole = std::mem::replace(&mut *common.stats.borrow_mut(), Stats::new());
    // The coordinator that has gone has failed, and said so.
    drop(tell.send(Said::Second(Box::new(last))));
    drop(tell.send(Said::Whole(Box::new(whole))));
    Ok(())
}

/// Starts the consumer number `id` of all.
async fn consume(
    shared: &Shared,
    common: &Common,
    id: u32,
    failed: &Rc<RefCell<Option<String>>>,
    tell: &Sender<Said>,
) -> Result<(), LinkError> {
    let workload = &shared.workload;
    let place = id / workload.topics;
    let consumer = Consumer {
        common: common.clone(),
        verify: shared.verify.clone(),
        topic: id % workload.topics,
        subscription: place % workload.subscriptions,
        owned: Rc::new(Owned::default()),
    };
    let which = place / workload.subscriptions;
    match workload.own.assignment {
        Assignment::Plain => {
            let all = 0..workload.partitions;
            let mine = all.filter(|it| it % workload.consumers == which);
            drop(consumer.owned.replace(mine.map(|it| ((consumer.topic, it), 0)).collect()));
        }
        Assignment::Group => {
            let group = format!("{}-{}-{}", shared.prefix, consumer.topic, consumer.subscription);
            let member = group::Member::open(consumer.clone(), group).await?;
            let (failed, tell) = (Rc::clone(failed), tell.clone());
            glommio::spawn_local(async move {
                if let Err(why) = member.run(&tell).await {
                    failed.replace(Some(format!("a member of a group: {why}")));
                }
            })
            .detach();
        }
    }
    for fetching in consumer.open().await? {
        let failed = Rc::clone(failed);
        glommio::spawn_local(async move {
            if let Err(why) = fetching.run().await {
                failed.replace(Some(format!("a consumer: {why}")));
            }
        })
        .detach();
    }
    Ok(())
}

/// The values records have, before their stamps.
fn values(workload: &Workload) -> io::Result<Vec<Vec<u8>>> {
    let bytes = workload.message_bytes;
    match &workload.payload {
        Payload::Zeros => Ok(vec![vec![0; bytes]]),
        Payload::File(path) => {
            let mut value = fs::read(path)?;
            value.truncate(bytes);
            Ok(vec![value])
        }
        Payload::Random { ratio, pool } => {
            let mut chance = Chance::new(0x70_61_79);
            let random = (bytes as f64 * ratio) as usize;
            let pool = (*pool).min(POOL_BYTES_MAX / bytes).max(1);
            let one = |chance: &mut Chance| {
                let mut value = vec![0; bytes];
                for it in &mut value[..random] {
                    *it = chance.below(256) as u8;
                }
                // What is random is spread out, as in text, rather than at one end.
                for at in (1..bytes).rev() {
                    value.swap(at, chance.below(at as u64 + 1) as usize);
                }
                value
            };
            Ok((0..pool).map(|_| one(&mut chance)).collect())
        }
    }
}
