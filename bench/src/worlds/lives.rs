//! A topic that is made, written, read, removed and made again; and logs whose beginnings are removed.

use corelane_client::records;
use corelane_client::{At, Client, ClientError, FetchWant, Producer};
use corelane_core::lane::Lane;
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;
use corelane_net::wire::Uuid;

use super::history::Place;
use super::load::{Shared, options};

/// Connections that a life takes when none is lost.
const CONNECTIONS: u64 = 3;

/// Between two tries of whatever failed.
const AGAIN: Nanos = Nanos::millis(50);

/// Leads one life after the other until the storm is over. Nobody else touches these topics.
///
/// Records are sent to a name, and those of a lost connection may arrive when it belongs to the next
/// life. So a name is used again only when no connection was lost.
pub async fn live_and_die(lane: Lane, shared: Shared, number: u32) {
    let fresh = || {
        shared.fresh.set(shared.fresh.get() + 1);
        format!("mortal-{}", shared.fresh.get())
    };
    let mut name = fresh();
    let mut dead: Vec<Uuid> = Vec::new();
    while !shared.over.get() {
        let _work = shared.work();
        let client = shared.client(&lane);
        let id = be_born(&lane, &client, &name).await;
        if dead.contains(&id) {
            let told = format!("risen: the topic {id} was removed and is there again");
            shared.history.borrow_mut().fault(told);
        }
        // A life is a place of its own: what is found in the next one was never sent to it.
        let place = Place { topic: format!("{name} {id}"), partition: 0 };
        shared.history.borrow_mut().alone(Some(place.clone()));
        write_and_read(&lane, &shared, &client, &name, &place, number).await;
        die(&lane, &client, &name, id).await;
        dead.push(id);
        if CONNECTIONS < client.opened() {
            name = fresh();
        } else {
            shared.history.borrow_mut().tally.add("names used again", 1);
        }
        shared.history.borrow_mut().tally.add("topics removed", 1);
        lane.sleep(Nanos::millis(lane.random() % 300)).await;
    }
}

async fn be_born(lane: &Lane, client: &Client, name: &str) -> Uuid {
    loop {
        // Answers get lost: it may be there already.
        let made = match client.create_topic(name, 1, &[]).await {
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                client.forget(name);
                client.topic(name).await.map(|it| it.id)
            }
            made => made,
        };
        match made {
            Ok(id) => return id,
            Err(_) => lane.sleep(AGAIN).await,
        }
    }
}

async fn die(lane: &Lane, client: &Client, name: &str, id: Uuid) {
    loop {
        match client.delete_topic_by_id(id).await {
            Ok(()) => break,
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicId) => break,
            Err(_) => lane.sleep(AGAIN).await,
        }
    }
    client.forget(name);
}

async fn write_and_read(
    lane: &Lane,
    shared: &Shared,
    client: &Client,
    name: &str,
    place: &Place,
    number: u32,
) {
    loop {
        match client.list_offset(name, 0, At::Latest).await {
            Ok(end) => {
                if end != Some(0) {
                    let told = format!("risen: {place} is new and ends at {end:?}");
                    shared.history.borrow_mut().fault(told);
                }
                break;
            }
            Err(_) => lane.sleep(AGAIN).await,
        }
    }
    let producer = Producer::new(client, name, 0, options());
    for _ in 0..1 + lane.random() % 4 {
        let count = u32::try_from(1 + lane.random() % 5).expect("a few");
        let (id, batch) = shared.history.borrow_mut().begin(place, number, count, lane.wall().0);
        let outcome = producer.send(batch).await.done().await;
        let mut history = shared.history.borrow_mut();
        match outcome {
            Ok(delivered) => history.acked(id, delivered.offset),
            Err(undelivered) => history.failed(id, undelivered.indefinite),
        }
    }
    drop(producer);
    loop {
        match try_read(client, shared, name, place).await {
            Ok(()) => return,
            Err(_) => lane.sleep(AGAIN).await,
        }
    }
}

async fn try_read(
    client: &Client,
    shared: &Shared,
    name: &str,
    place: &Place,
) -> Result<(), ClientError> {
    let end = client.list_offset(name, 0, At::Latest).await?.unwrap_or(0);
    let (mut at, mut all) = (0, Vec::new());
    while at < end {
        let fetched = client.fetch(name, &FetchWant::new(0, at)).await?;
        let read = match records::read(&fetched.records) {
            Ok(read) => read,
            Err(error) => {
                shared.history.borrow_mut().fault(format!("corrupt: {place} from {at}: {error}"));
                break;
            }
        };
        all.extend(read.records.into_iter().filter(|it| at <= it.0));
        at = read.next.unwrap_or(at).max(at);
    }
    shared.history.borrow_mut().last_read(place, 0, &all);
    Ok(())
}

/// Removes the beginning of a log, now and then.
pub async fn cut(lane: Lane, shared: Shared, place: Place) {
    let client = shared.client(&lane);
    while !shared.over.get() {
        lane.sleep(Nanos::millis(500 + lane.random() % 2_000)).await;
        let end = shared.history.borrow().acked_end(&place);
        let start = shared.history.borrow().known(&place).start;
        let Ok(room @ 1..) = u64::try_from(end - start) else { continue };
        let before = start + (lane.random() % room.min(20)) as i64;
        shared.history.borrow_mut().cutting(&place, before);
        if let Ok(now) = client.delete_records(&place.topic, place.partition, before).await {
            let mut history = shared.history.borrow_mut();
            if now < before {
                history.fault(format!("cut: {place} was to begin at {before}, begins at {now}"));
            }
            history.was_cut(&place, now);
        }
    }
}
