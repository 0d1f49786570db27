//! Members of groups: they join, read what is theirs, say how far they are, and leave, or vanish.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use corelane_client::{
    At, Client, ClientError, FetchWant, GroupOptions, Member, Offsets, Owned, Share,
};
use corelane_core::lane::{Lane, Race, join_all, race};
use corelane_core::time::Nanos;
use corelane_net::ErrorCode;

use super::history::Place;
use super::load::{BORN, MADE, Shared, places, read_once};

pub const GROUPS: [&str; 2] = ["readers", "others"];

/// A member.
#[derive(Clone)]
pub struct Who {
    pub group: &'static str,
    /// The name under which it comes back, if it is a static one.
    pub instance: Option<String>,
    pub number: u32,
    /// Whether it keeps what it has while its group gathers anew.
    pub cooperative: bool,
}

/// What a member reads, and where it is.
type Reads = BTreeMap<Place, i64>;

/// Why a member stops reading its share.
enum End {
    /// The group gathers anew, or knows this member no more.
    Again,
    Leave,
    /// Without a word.
    Vanish,
}

/// Takes part in a group until the storm is over.
pub async fn take_part(lane: Lane, shared: Shared, who: Who) {
    while !shared.over.get() {
        let client = shared.client(&lane);
        let member = Member::new(&client, options(&lane, &who));
        live(&lane, &shared, &client, &member, &who).await;
        // Nothing may be left of it in the same generation: what it sent and was not answered would
        // come behind what it sends later.
        client.disconnect();
        lane.sleep(Nanos::millis(lane.random() % 1_000)).await;
    }
}

fn options(lane: &Lane, who: &Who) -> GroupOptions {
    GroupOptions {
        instance: who.instance.clone(),
        cooperative: who.cooperative,
        session_timeout: Nanos::millis(1_000 + lane.random() % 1_000),
        rebalance_timeout: Nanos::millis(1_000 + lane.random() % 1_000),
        ..GroupOptions::new(who.group, &[BORN, MADE])
    }
}

async fn live(lane: &Lane, shared: &Shared, client: &Client, member: &Member, who: &Who) {
    let mut reads = Reads::new();
    while !shared.over.get() {
        // Whoever is nobody any more has nothing.
        let owned = if who.cooperative { places_of(&member.owned()) } else { Vec::new() };
        reads.retain(|place, _| owned.contains(place));
        let floor = shared.history.borrow_mut().groups.generation(who.group);
        let joining = race(member.join(), read_on(lane, shared, client, who, &mut reads));
        let Race::First(Ok(share)) = joining.await else {
            lane.sleep(Nanos::millis(50)).await;
            continue;
        };
        note_share(shared, who, floor, &share);
        note_kept(shared, who, &share, &mut reads);
        if !share.given_up.is_empty() {
            shared.history.borrow_mut().tally.add("partitions given up", 1);
            continue;
        }
        match read_share(lane, shared, client, member, who, &share, &mut reads).await {
            End::Again => {}
            End::Leave => {
                // Whether it was heard makes no difference to somebody who is gone.
                let left = member.leave().await.is_ok();
                shared.history.borrow_mut().tally.add("members left", u64::from(left));
                return;
            }
            End::Vanish => {
                shared.history.borrow_mut().tally.add("members vanished", 1);
                return;
            }
        }
    }
}

fn note_share(shared: &Shared, who: &Who, floor: i32, share: &Share) {
    let places = places_of(&share.partitions);
    // One static member may have several ids in a generation, one after the other.
    let owner = who.instance.as_deref().unwrap_or(&share.member);
    let mut history = shared.history.borrow_mut();
    history.tally.add("shares", 1);
    history.groups.shared(who.group, floor, share.generation, owner, &places);
}

/// What of the share this member had before; the rest it reads no more.
fn note_kept(shared: &Shared, who: &Who, share: &Share, reads: &mut Reads) {
    let places = places_of(&share.partitions);
    reads.retain(|place, _| places.contains(place));
    let owner = who.instance.as_deref().unwrap_or(&share.member);
    let mut history = shared.history.borrow_mut();
    history.tally.add("partitions kept", reads.len() as u64);
    let span = (share.before, share.generation);
    history.groups.kept(who.group, owner, span, reads.keys().cloned());
}

/// Reads what a member keeps for as long as its group gathers.
async fn read_on(lane: &Lane, shared: &Shared, client: &Client, who: &Who, reads: &mut Reads) {
    loop {
        for (place, at) in &mut *reads {
            read_some(lane, shared, client, who, place, at).await;
        }
        lane.sleep(Nanos::millis(10 + lane.random() % 50)).await;
    }
}

fn places_of(owned: &Owned) -> Vec<Place> {
    let of = |(topic, partitions): (&String, &Vec<i32>)| {
        let topic = topic.clone();
        partitions.clone().into_iter().map(move |it| Place { topic: topic.clone(), partition: it })
    };
    owned.iter().flat_map(of).collect()
}

/// Adds to what a member reads what is new in its share, from where its group goes on.
async fn resume(
    shared: &Shared,
    member: &Member,
    who: &Who,
    share: &Share,
    reads: &mut Reads,
) -> Result<(), ClientError> {
    let answered: Vec<(Place, i64)> = {
        let mut history = shared.history.borrow_mut();
        let groups = &mut history.groups;
        let new = places_of(&share.partitions).into_iter().filter(|it| !reads.contains_key(it));
        let known = |place: Place| (groups.answered(who.group, &place), place);
        new.map(known).map(|(it, place)| (place, it)).collect()
    };
    let told = member.committed(&share.partitions).await?;
    let mut history = shared.history.borrow_mut();
    for (place, answered) in answered {
        let told = told.get(&place.topic).and_then(|it| it.get(&place.partition)).copied();
        history.groups.resumed(who.group, &place, answered, told);
        reads.insert(place, told.unwrap_or(0));
    }
    history.tally.add("shares resumed", 1);
    Ok(())
}

async fn read_share(
    lane: &Lane,
    shared: &Shared,
    client: &Client,
    member: &Member,
    who: &Who,
    share: &Share,
    reads: &mut Reads,
) -> End {
    if resume(shared, member, who, share, reads).await.is_err() {
        lane.sleep(Nanos::millis(20)).await;
        return End::Again;
    }
    loop {
        if shared.over.get() {
            return if lane.random().is_multiple_of(2) { End::Leave } else { End::Vanish };
        }
        for (place, at) in &mut *reads {
            read_some(lane, shared, client, who, place, at).await;
        }
        match lane.random() % 24 {
            0 => return End::Leave,
            1 => return End::Vanish,
            _ => {}
        }
        let commits = !reads.is_empty() && !lane.random().is_multiple_of(3);
        match speak(shared, member, who, reads, commits).await {
            Ok(()) => {}
            // What was committed is unknown, and may take effect yet: nothing may follow it.
            Err(error) if commits && error.is_indefinite() => return End::Vanish,
            Err(error) if is_lasting(&error) => return End::Again,
            Err(_) => {}
        }
        lane.sleep(Nanos::millis(lane.random() % 200)).await;
    }
}

/// Whether this member has to join again.
fn is_lasting(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::RebalanceInProgress
                | ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedInstanceId
                | ErrorCode::GroupIdNotFound
        )
    )
}

/// Reads on in one partition; what goes wrong goes on next time.
async fn read_some(
    lane: &Lane,
    shared: &Shared,
    client: &Client,
    who: &Who,
    place: &Place,
    at: &mut i64,
) {
    let mut want = FetchWant::new(place.partition, *at);
    want.wait = Nanos::millis(lane.random() % 50);
    match read_once(client, shared, place, who.number, &want).await {
        Ok((next, found)) => {
            let offsets = found.iter().map(|it| it.0);
            shared.history.borrow_mut().groups.read(who.group, place, offsets);
            *at = next;
        }
        Err(error) if error.code() == Some(ErrorCode::OffsetOutOfRange) => {
            let start = client.list_offset(&place.topic, place.partition, At::Earliest).await;
            *at = start.ok().flatten().unwrap_or(*at).max(*at);
        }
        Err(_) => {}
    }
}

/// A sign of life, and perhaps how far this member is, at the same time.
async fn speak(
    shared: &Shared,
    member: &Member,
    who: &Who,
    positions: &Reads,
    commits: bool,
) -> Result<(), ClientError> {
    let mut offsets = Offsets::new();
    if commits {
        let mut history = shared.history.borrow_mut();
        for (place, at) in positions {
            history.groups.committing(who.group, place, *at);
            offsets.entry(place.topic.clone()).or_default().insert(place.partition, *at);
        }
    }
    type Said<'a> = Pin<Box<dyn Future<Output = Result<(), ClientError>> + 'a>>;
    let commit: Said<'_> = Box::pin(async {
        if commits {
            member.commit(&offsets).await?;
            let mut history = shared.history.borrow_mut();
            history.tally.add("commits answered", 1);
            for (place, at) in positions {
                history.groups.committed(who.group, place, *at);
            }
        }
        Ok(())
    });
    let alive: Said<'_> = Box::pin(member.heartbeat());
    let said = join_all([commit, alive]).await;
    // The commit first: what became of it matters more.
    said.into_iter().collect()
}

/// After the storm: one member reads everything that its group has not read.
pub async fn drain(lane: Lane, shared: Shared, who: Who) {
    let client = shared.client(&lane);
    let member = Member::new(&client, options(&lane, &who));
    let _work = shared.work();
    loop {
        if try_drain(&lane, &shared, &client, &member, &who).await.is_ok() {
            return;
        }
        lane.sleep(Nanos::millis(50)).await;
    }
}

async fn try_drain(
    lane: &Lane,
    shared: &Shared,
    client: &Client,
    member: &Member,
    who: &Who,
) -> Result<(), ClientError> {
    let floor = shared.history.borrow_mut().groups.generation(who.group);
    let share = member.join().await?;
    note_share(shared, who, floor, &share);
    let mut reads = Reads::new();
    resume(shared, member, who, &share, &mut reads).await?;
    for (place, mut at) in reads {
        let end = client.list_offset(&place.topic, place.partition, At::Latest).await?;
        while at < end.unwrap_or(0) {
            read_some(lane, shared, client, who, &place, &mut at).await;
            member.heartbeat().await?;
        }
    }
    let own: usize = share.partitions.values().map(Vec::len).sum();
    if own == places().len() {
        return member.leave().await;
    }
    // Others that vanished are members still, with shares of their own, until their silence is long
    // enough. Whoever joins in the meantime makes them wait for it anew.
    loop {
        lane.sleep(Nanos::millis(100)).await;
        member.heartbeat().await?;
    }
}
