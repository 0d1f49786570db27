"""Every case, once, for every client: what is asked of the client and what must be true of the data afterwards.

A case gets a `Try`: an agent (agent.py), a second pair of eyes (wire.py), and a topic name of its own. It returns
when all is well and raises otherwise. Order, count and bytes are compared with what was sent, never only counted.
Cases wait for states with generous deadlines; none asserts how long something took.
"""

import re
import time

from driver.agent import ClientError, record, unpack
from driver.wire import Refused

SETTLE_SECONDS_MAX = 120
READ_SECONDS_MAX = 90
# No member is thrown out because the machine is busy; where members are killed, the group must notice soon.
SESSION_MS = 60_000
SHORT_SESSION_MS = 6000
POLL_SECONDS = 0.3
# How long a long poll must already wait before its record is produced; too short weakens the case, never fails it.
LONG_POLL_PAUSE_SECONDS = 0.5
MEBIBYTE = 1 << 20
# What the default `max.message.bytes` (1 MiB and 12 bytes) leaves a value, with room for the batch around it.
LARGE_BYTES = MEBIBYTE - 128
TOO_LARGE_BYTES = MEBIBYTE + MEBIBYTE // 2

CASES = {}


def case(name, *arguments):
    def keep(run):
        CASES[name] = lambda t: run(t, *arguments)
        return run

    return keep


class Try:
    """What one case works with."""

    def __init__(self, agent, wire, topic, spawn):
        self.agent, self.wire, self.topic, self._spawn, self.members = agent, wire, topic, spawn, []

    def spawn(self):
        """One more process of the same client; ended when the case ends."""
        self.members.append(self._spawn())
        return self.members[-1]

    def close(self):
        for it in self.members:
            it.close()

    def produce(self, records, codec="none", acks=-1, idempotent=False, topic=None):
        ask = {"topic": topic or self.topic, "codec": codec, "acks": acks, "idempotent": idempotent}
        results = self.agent.ask("produce", records=records, **ask)["results"]
        failed = [it for it in results if isinstance(it, str)]
        assert not failed, f"{len(failed)} of {len(records)} records were refused: {failed[0]}"
        assert len(results) == len(records), f"{len(results)} results for {len(records)} records"
        return results

    def open(self, partition=0, **where):
        self.agent.ask("open", topic=self.topic, partition=partition, **where)

    def read(self, count, seconds=READ_SECONDS_MAX):
        return self.agent.ask("read", count=count, seconds=seconds)["records"]

    def read_all(self, expected, partition=0):
        """Reads a partition from its start and compares offset, key, value, headers and timestamp."""
        self.open(partition, offset=0)
        found = self.read(len(expected))
        self.agent.ask("close")
        same(expected, found)


def same(expected, found):
    count = f"{len(found)} records read, {len(expected)} sent"
    for place, (sent, got) in enumerate(zip(expected, found)):
        for field in ("key", "value", "headers"):
            wanted = sent[field]
            assert got[field] == wanted, f"record {place}: {field} is {short(got[field])}, sent {short(wanted)} ({count})"
        if sent["timestamp"] is not None:
            assert got["timestamp"] == sent["timestamp"], f"record {place}: timestamp {got['timestamp']}"
    assert len(found) == len(expected), count
    offsets = [it["offset"] for it in found]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets))), f"offsets are not dense: {offsets[:20]}"


def short(it):
    it = str(it)
    return it if len(it) < 60 else f"{it[:40]}… ({len(it)} long)"


def some(count, mark="value", **more):
    return [record(f"{mark}-{it:05}".encode() * 8, key=f"key-{it}".encode(), **more) for it in range(count)]


def plain(count, mark="plain", start=None, step=1000):
    """Records as the wire takes them: (key, value, timestamp)."""
    start = start or int(time.time() * 1000) - 3_600_000
    return [(f"key-{it}".encode(), f"{mark}-{it:05}".encode(), start + it * step) for it in range(count)]


def values(found):
    return [unpack(it["value"]) for it in found]


def eventually(what, step):
    until = time.monotonic() + SETTLE_SECONDS_MAX
    while not step():
        assert time.monotonic() < until, f"not within {SETTLE_SECONDS_MAX} s: {what() if callable(what) else what}"
        time.sleep(0.05)


# Topics


@case("create")
def create(t):
    t.agent.ask("create", topic=t.topic, partitions=3, configs={"retention.ms": "7200000"})
    eventually("the topic has three partitions", lambda: ends(t) == [0, 0, 0])
    t.produce(some(5))
    t.read_all(some(5))


def ends(t):
    try:
        return [t.wire.end(t.topic, it) for it in range(3)]
    except Refused:
        return None


@case("auto-create")
def auto_create(t):
    t.produce(some(5))
    t.read_all(some(5))


@case("create-again")
def create_again(t):
    t.wire.create(t.topic)
    refused(t, r"exist", "create", topic=t.topic, partitions=1, configs={})


def refused(t, pattern, do, **ask):
    try:
        t.agent.ask(do, **ask)
    except ClientError as said:
        assert re.search(pattern, str(said), re.IGNORECASE), f"refused with another error: {said}"
        return
    raise AssertionError(f"{do} was not refused")


@case("describe")
def describe(t):
    t.wire.create(t.topic, partitions=3)
    # A client may answer from what it knew a moment ago.
    eventually("the client knows the topic", lambda: not gone(t))
    found = t.agent.ask("describe", topic=t.topic)["partitions"]
    assert sorted(it["partition"] for it in found) == [0, 1, 2], found
    for it in found:
        assert it["replicas"] == [it["leader"]], f"a single node leads what it stores: {it}"


@case("delete")
def delete(t):
    t.wire.create(t.topic)
    # Not by the client: its producer goes on asking for the topic in its own time, and who asks may make it again.
    t.wire.produce(t.topic, plain(3))
    t.agent.ask("delete", topic=t.topic)
    eventually("the topic is gone", lambda: t.topic not in t.wire.topics())
    eventually("the client knows that it is gone", lambda: gone(t))
    assert t.topic not in t.wire.topics(), "the topic came back"


def gone(t):
    try:
        t.agent.ask("describe", topic=t.topic)
    except ClientError as said:
        assert re.search(r"unknown|not.?exist|not.?host|not found|no such", str(said), re.IGNORECASE), f"refused with another error: {said}"
        return True
    return False


# Configs


@case("configs-describe")
def configs_describe(t):
    t.wire.create(t.topic, configs={"retention.ms": "7200000"})
    found = t.agent.ask("configs", topic=t.topic)["configs"]
    assert found["retention.ms"] == "7200000", found["retention.ms"]
    assert found["cleanup.policy"] == "delete", found["cleanup.policy"]
    assert found["max.message.bytes"] == "1048588", found["max.message.bytes"]


@case("configs-alter", "alter")
@case("configs-incremental", "alter-incremental")
def configs_alter(t, do):
    t.wire.create(t.topic, configs={"retention.ms": "7200000", "max.message.bytes": "2000000"})
    answer = t.agent.ask(do, topic=t.topic, set={"retention.ms": "3600000"})
    # The old call replaces everything, unless the client repeats what is set; the incremental one never does.
    limit = "1048588" if do == "alter" and not answer.get("repeats") else "2000000"

    def step():
        found = t.agent.ask("configs", topic=t.topic)["configs"]
        return (found["retention.ms"], found["max.message.bytes"]) == ("3600000", limit)

    eventually("both values are what the call asked for", step)


# Produce


@case("codec-none", "none")
@case("codec-gzip", "gzip")
@case("codec-snappy", "snappy")
@case("codec-lz4", "lz4")
@case("codec-zstd", "zstd")
def codec(t, name):
    t.wire.create(t.topic)
    records = some(200)
    t.produce(records, codec=name)
    stored = t.wire.batches(t.topic)
    assert sum(it.count for it in stored) == 200, f"{[it.count for it in stored]} records are stored"
    assert {it.codec for it in stored} == {name}, f"stored as {[it.codec for it in stored]}"
    t.read_all(records)


@case("acks-0", 0)
@case("acks-1", 1)
@case("acks-all", -1)
def acks(t, level):
    t.wire.create(t.topic, partitions=3)
    parts = [some(20, f"part-{it}", partition=it) for it in range(3)]
    mixed = [it for group in zip(*parts) for it in group]
    results = t.produce(mixed, acks=level)
    for partition, expected in enumerate(parts):
        offsets = [it for it, sent in zip(results, mixed) if sent["partition"] == partition]
        known = level != 0 and None not in offsets
        assert not known or offsets == list(range(20)), f"partition {partition} was answered {offsets}"
        t.read_all(expected, partition)


@case("idempotent")
def idempotent(t):
    t.wire.create(t.topic)
    records = some(100)
    t.produce(records[:50], idempotent=True)
    t.produce(records[50:], idempotent=True)
    sequence = {}
    for it in t.wire.batches(t.topic):
        assert 0 <= it.producer_id, "the batch carries no producer id"
        wanted = sequence.get(it.producer_id, 0)
        assert it.base_sequence == wanted, f"sequence {it.base_sequence} stored where {wanted} follows"
        sequence[it.producer_id] = wanted + it.count
    assert sum(sequence.values()) == 100, sequence
    t.read_all(records)


@case("headers")
def headers(t):
    t.wire.create(t.topic)
    pairs = [("name", b"value"), ("name", b"again"), ("bytes", bytes(range(1, 256)))]
    records = [record(b"one", key=b"k", headers=pairs), record(b"two"), record(b"three", headers=pairs[:1])]
    t.produce(records)
    t.read_all(records)


@case("nulls")
def nulls(t):
    t.wire.create(t.topic)
    records = [record(b"value"), record(None, key=b"tombstone")]
    t.produce(records)
    t.read_all(records)


@case("empties")
def empties(t):
    """Empty is not null: neither a key, nor a value, nor a header."""
    t.wire.create(t.topic)
    records = [record(b"", key=b"", headers=[("empty", b"")]), record(b"", key=b"key")]
    t.produce(records)
    t.read_all(records)


@case("null-both")
def null_both(t):
    t.wire.create(t.topic)
    t.produce([record(None), record(None)])
    t.read_all([record(None), record(None)])


@case("timestamps")
def timestamps(t):
    t.wire.create(t.topic)
    now = int(time.time() * 1000)
    records = [record(f"at-{it}".encode(), timestamp=now - 5000 + it * 7) for it in range(20)]
    t.produce(records)
    t.read_all(records)


@case("one-mebibyte")
def one_mebibyte(t):
    t.wire.create(t.topic)
    value = bytes(it * 7 % 251 for it in range(4096)) * (LARGE_BYTES // 4096 + 1)
    records = [record(value[:LARGE_BYTES]), record(b"after")]
    t.produce(records[:1])
    t.produce(records[1:])
    t.read_all(records)


@case("too-large")
def too_large(t):
    t.wire.create(t.topic)
    ask = {"topic": t.topic, "codec": "none", "acks": -1, "idempotent": False}
    results = t.agent.ask("produce", records=[record(b"x" * TOO_LARGE_BYTES)], **ask)["results"]
    assert isinstance(results[0], str), f"{TOO_LARGE_BYTES} bytes were taken at {results}"
    said = re.search(r"too.?large|larger than|MSG_SIZE|MESSAGE_?TOO|RECORD_?TOO", results[0], re.IGNORECASE)
    assert said, f"refused with another error: {results[0]}"
    t.produce(some(3))
    t.read_all(some(3))


# Consume


@case("from-offset")
def from_offset(t):
    t.wire.create(t.topic)
    sent = plain(50)
    t.wire.produce(t.topic, sent)
    t.open(offset=17)
    found = t.read(33)
    t.agent.ask("close")
    assert values(found) == [it[1] for it in sent[17:]], values(found)[:3]
    assert [it["offset"] for it in found] == list(range(17, 50))


@case("from-timestamp")
def from_timestamp(t):
    t.wire.create(t.topic)
    sent = plain(50)
    t.wire.produce(t.topic, sent[:25])
    t.wire.produce(t.topic, sent[25:])
    # Between two records, so that the later one is the answer.
    t.open(timestamp=sent[29][2] + 1)
    found = t.read(20)
    t.agent.ask("close")
    assert values(found) == [it[1] for it in sent[30:]], values(found)[:3]


@case("from-end")
def from_end(t):
    t.wire.create(t.topic)
    t.wire.produce(t.topic, plain(10, "before"))
    t.open(end=True)
    t.wire.produce(t.topic, plain(5, "after"))
    found = t.read(5)
    t.agent.ask("close")
    assert values(found) == [it[1] for it in plain(5, "after")], values(found)


@case("long-poll")
def long_poll(t):
    t.wire.create(t.topic)
    t.open(end=True)
    for mark in ("first", "second"):
        t.agent.send("read", count=1, seconds=READ_SECONDS_MAX)
        time.sleep(LONG_POLL_PAUSE_SECONDS)
        t.wire.produce(t.topic, plain(1, mark))
        found = t.agent.wait("read", READ_SECONDS_MAX)["records"]
        assert values(found) == [plain(1, mark)[0][1]], values(found)
    t.agent.ask("close")


# Groups


class Member:
    """One consumer of a group in a process of its own, driven by polls."""

    def __init__(self, t, group, **more):
        self.agent, self.assigned, self.events, self.records = t.spawn(), [], [], []
        self.agent.ask("join", **{"group": group, "topic": t.topic, "session_ms": SESSION_MS, **more})

    def send(self):
        self.agent.send("poll", seconds=POLL_SECONDS)

    def take(self):
        answer = self.agent.wait("poll", POLL_SECONDS)
        self.assigned = sorted(answer["assigned"])
        self.events += answer["events"]
        self.records += answer["records"]

    def revoked(self):
        return {partition for kind, partitions in self.events if kind == "revoked" for partition in partitions}

    def positions(self, partitions):
        """The next offset to read, per partition, as far as this member read it."""
        reached = [-1] * partitions
        for it in self.records:
            reached[it["partition"]] = it["offset"] + 1
        return reached


def settle(members, done, what):
    """Polls all members at once until `done`."""
    until = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        for it in members:
            it.send()
        for it in members:
            it.take()
        if done():
            return
        state = [(it.assigned, len(it.records)) for it in members]
        assert time.monotonic() < until, f"not within {SETTLE_SECONDS_MAX} s: {what}; (assigned, read) is {state}"


def shared(members, partitions):
    """Every partition has exactly one owner and nobody is idle."""
    owned = sorted(partition for it in members for partition in it.assigned)
    return owned == list(range(partitions)) and all(it.assigned for it in members)


def settle_shared(members, partitions):
    settle(members, lambda: shared(members, partitions), f"{len(members)} members share {partitions} partitions")


def fill(t, partitions, count, mark):
    for it in range(partitions):
        t.wire.produce(t.topic, plain(count, f"{mark}-{it}"), it)
    return {it[1] for partition in range(partitions) for it in plain(count, f"{mark}-{partition}")}


def seen(members):
    return {value for it in members for value in values(it.records)}


def in_order(member):
    reached = {}
    for it in member.records:
        before = reached.get(it["partition"], -1)
        assert before < it["offset"], f"partition {it['partition']} went from {before} to {it['offset']}"
        reached[it["partition"]] = it["offset"]


@case("group-three")
def group_three(t):
    t.wire.create(t.topic, partitions=6)
    members = [Member(t, t.topic)]
    settle_shared(members, 6)
    members += [Member(t, t.topic), Member(t, t.topic)]
    settle_shared(members, 6)
    sent = fill(t, 6, 10, "three")
    settle(members, lambda: sent <= seen(members), "three members read everything")
    for it in members:
        in_order(it)
        assert {got["partition"] for got in it.records} <= set(it.assigned), "a member read what it does not own"
    members.pop(0).agent.ask("leave")
    settle_shared(members, 6)
    sent = fill(t, 6, 10, "two")
    settle(members, lambda: sent <= seen(members), "two members read everything")
    for it in members:
        it.agent.ask("leave")


@case("group-killed")
def group_killed(t):
    t.wire.create(t.topic, partitions=6)
    members = [Member(t, t.topic, session_ms=SHORT_SESSION_MS) for _ in range(3)]
    settle_shared(members, 6)
    members.pop(1).agent.kill()
    settle_shared(members, 6)
    members.pop(0).agent.kill()
    settle_shared(members, 6)
    sent = fill(t, 6, 5, "left")
    settle(members, lambda: sent <= seen(members), "the last member reads everything")
    members[0].agent.ask("leave")


@case("group-static")
def group_static(t):
    t.wire.create(t.topic, partitions=4)
    # The restart must finish inside the session, even on a busy machine.
    alpha, beta = (Member(t, t.topic, instance=it) for it in ("alpha", "beta"))
    settle_shared([alpha, beta], 4)
    before, told = (alpha.assigned, beta.assigned), len(beta.events)
    alpha.agent.kill()
    alpha = Member(t, t.topic, instance="alpha")
    settle([alpha, beta], lambda: alpha.assigned, "the restarted member has its partitions back")
    sent = fill(t, 4, 5, "static")
    settle([alpha, beta], lambda: sent <= seen([alpha, beta]), "both read everything")
    assert (alpha.assigned, beta.assigned) == before, f"{(alpha.assigned, beta.assigned)}, before {before}"
    assert len(beta.events) == told, f"the other member saw a rebalance: {beta.events[told:]}"
    for it in (alpha, beta):
        it.agent.ask("leave")


@case("group-cooperative")
def group_cooperative(t):
    t.wire.create(t.topic, partitions=4)
    members = [Member(t, t.topic, cooperative=True)]
    settle_shared(members, 4)
    members.append(Member(t, t.topic, cooperative=True))
    settle_shared(members, 4)
    stayed, came = members
    kept = set(stayed.assigned)
    assert len(kept) == 2, f"two of four partitions stay, not {kept}"
    assert not kept & stayed.revoked(), f"{kept & stayed.revoked()} was taken from the first member and given back"
    sent = fill(t, 4, 10, "cooperative")
    settle(members, lambda: sent <= seen(members), "both read everything")
    came.agent.ask("leave")
    settle_shared([stayed], 4)
    assert not kept & stayed.revoked(), f"{kept & stayed.revoked()} was taken when the other left"
    stayed.agent.ask("leave")


@case("group-resume")
def group_resume(t):
    t.wire.create(t.topic, partitions=2)
    first = Member(t, t.topic)
    settle_shared([first], 2)
    sent = fill(t, 2, 20, "before")
    settle([first], lambda: sent <= seen([first]), "the first member reads everything")
    commit(t, first, [20, 20])
    first.agent.ask("leave")
    more = fill(t, 2, 10, "after")
    second = Member(t, t.topic)
    settle([second], lambda: more <= seen([second]), "the second member reads what follows")
    assert seen([second]) == more, f"{len(seen([second]) - more)} records came again after their commit"
    commit(t, second, [30, 30])
    second.agent.ask("leave")


def commit(t, member, expected):
    """Commits what was read. An answered commit is readable at once; one by a timer, soon."""
    by_timer = member.agent.ask("commit").get("timer")
    found = lambda: t.wire.committed(t.topic, t.topic, len(expected))
    if by_timer:
        eventually(f"the timer committed {expected}", lambda: found() == expected)
    assert found() == expected, f"{found()} is committed, not {expected}"
