"""Every client at work while the broker is killed with -9 and started again on the same port and data.

Each client runs three workers at once: a producer, an idempotent producer, a group member that reads and commits.
The broker dies when every worker has made progress since the last time, so always under load. What must hold then:

- what was acknowledged is stored, at the offset the client was told;
- an idempotent producer leaves no value twice and none out of order;
- a committed offset, once seen, never goes back, and an answered commit is never lost;
- every worker goes on, without help, after each restart.

Producers compress: each client and case has a codec of its own, and all together have all.

The first three are promises: a case that finds one broken has failed for good and is not tried again.
"""

import collections
import threading
import time

from driver import install
from driver.agent import ANSWER_SECONDS_MAX, Agent, ClientError, record
from driver.cases import SHORT_SESSION_MS, Try, short, values
from driver.clients import CLIENTS
from driver.wire import CODECS, READABLE, Wire

KILLS = 3
ROUNDS_BETWEEN_KILLS = 5
RECORDS_PER_ROUND = 20
# Lets many clients share two cores; a worker is busy most of the time all the same.
ROUND_PAUSE_SECONDS = 0.05
PROGRESS_SECONDS_MAX = 240
POLL_SECONDS = 0.2

CASES = ("kill-produce", "kill-idempotent", "kill-group")


class Broken(AssertionError):
    """A promise about data was not kept."""


def promise(kept, otherwise):
    if not kept:
        raise Broken(otherwise)


class Worker:
    """One client doing one thing over and over; `rounds` counts what went well."""

    def __init__(self, name, case, address, mark):
        self.name, self.case, self.address = name, case, address
        self.topic = f"{name}-{case}-{mark}"
        self.title, self.rounds, self.failure, self.broken = name, 0, None, False
        self.began, self.took, self.refused = time.monotonic(), 0.0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            self.wire = Wire(self.address)
            self.wire.create(self.topic)
            spawn = lambda: Agent(CLIENTS[self.name].command(), self.address, install.LOGS / f"{self.name}.log")
            self.agent = spawn()
            self.title = f"{self.agent.name} {self.agent.version}"
            self.t = Try(self.agent, self.wire, self.topic, spawn)
            self.begin()
            while not self.stopping.wait(ROUND_PAUSE_SECONDS):
                self.round()
            self.verify()
            self.agent.close()
        except Exception as failure:  # whatever went wrong is this worker's failure, not the end of the run
            self.failure, self.broken = f"{type(failure).__name__}: {failure}", isinstance(failure, Broken)
        self.took = time.monotonic() - self.began

    def begin(self):
        pass

    def working(self):
        return self.failure is None and self.thread.is_alive()


class Producing(Worker):
    """Sends values that are never sent twice by us; what the client does inside is its own business."""

    idempotent = False
    codec = "none"

    def begin(self):
        self.sent, self.acknowledged = [], {}

    def round(self):
        batch = [f"{len(self.sent) + it:06}".encode() for it in range(RECORDS_PER_ROUND)]
        self.sent += batch
        ask = {"topic": self.topic, "codec": self.codec, "acks": -1, "idempotent": self.idempotent}
        try:
            results = self.agent.ask("produce", records=[record(it) for it in batch], **ask)["results"]
        except ClientError as said:
            results = [str(said)] * len(batch)  # nothing was answered, so nothing is promised
        for value, result in zip(batch, results, strict=True):
            if isinstance(result, str):
                self.refused.append(result)
            else:
                self.acknowledged[value] = result
        self.rounds += not any(isinstance(it, str) for it in results)

    def stored(self):
        batches = self.wire.batches(self.topic)
        codecs = {it.codec for it in batches}
        # A client may leave a batch as it is when compressing gains nothing.
        assert self.codec in codecs, f"sent as {self.codec}, stored as {codecs}"
        if codecs <= READABLE:
            return {offset: value for it in batches for offset, _, value in it.records()}
        self.t.open(0, offset=0)
        found = self.t.read(sum(it.count for it in batches))
        self.agent.ask("close")
        return dict(zip([it["offset"] for it in found], values(found), strict=True))

    def verify(self):
        stored = self.stored()
        times = collections.Counter(stored.values())
        lost = [it for it in self.acknowledged if not times[it]]
        promise(not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged records are lost: {short(lost)}")
        moved = [(it, at) for it, at in self.acknowledged.items() if at is not None and stored.get(at) != it]
        promise(not moved, f"{len(moved)} records are not at the offset that was answered: {short(moved)}")
        strange = set(stored.values()) - set(self.sent)
        promise(not strange, f"{len(strange)} stored values were never sent: {short(strange)}")
        self.account = f"{self.codec}: {len(self.acknowledged)} acknowledged, {len(self.refused)} refused, {sum(times.values())} stored"
        return stored


class ProducingOnce(Producing):
    idempotent = True

    def verify(self):
        stored = super().verify()
        found = [stored[it] for it in sorted(stored)]
        twice = [it for it, times in collections.Counter(found).items() if 1 < times]
        promise(not twice, f"{len(twice)} values are stored twice: {short(twice)}")
        promise(found == sorted(found), "values are stored out of the order they were sent in")


class Reading(Worker):
    """A lone member of a group, fed by us, that commits after every poll."""

    def begin(self):
        self.sent, self.read, self.answered, self.observed = [], set(), -1, -1
        join = {"group": self.topic, "topic": self.topic, "session_ms": SHORT_SESSION_MS}
        self.agent.ask("join", **join)

    def round(self):
        self._feed()
        try:
            found = self.agent.ask("poll", seconds=POLL_SECONDS)["records"]
            self.read |= set(values(found))
            if found:
                by_timer = self.agent.ask("commit").get("timer")
                self.answered = self.answered if by_timer else max(self.answered, found[-1]["offset"] + 1)
                self.rounds += 1
        except ClientError as said:
            self.refused.append(str(said))  # nothing was answered, so nothing is promised
        self._look()

    def _feed(self):
        value = f"{len(self.sent):06}".encode()
        self.wire.produce(self.topic, [(None, value, int(time.time() * 1000))])
        self.sent.append(value)

    def _look(self):
        [committed] = self.wire.committed(self.topic, self.topic, 1)
        promise(self.observed <= committed, f"the committed offset went back from {self.observed} to {committed}")
        promise(self.answered <= committed, f"a commit of {self.answered} was answered, {committed} is stored")
        self.observed = committed

    def verify(self):
        until = time.monotonic() + PROGRESS_SECONDS_MAX
        while not set(self.sent) <= self.read:
            missing = len(set(self.sent) - self.read)
            assert time.monotonic() < until, f"{missing} of {len(self.sent)} values never reached the member"
            self.read |= set(values(self.agent.ask("poll", seconds=POLL_SECONDS)["records"]))
        self._look()
        self.account = f"{len(self.read)} read, {self.observed} committed, {len(self.refused)} refused"


WORKERS = dict(zip(CASES, (Producing, ProducingOnce, Reading)))


def progress(workers, rounds):
    """Waits until every worker that still works has made `rounds` more; names those that did not."""
    goal = {it: it.rounds + rounds for it in workers}
    until = time.monotonic() + PROGRESS_SECONDS_MAX
    while any(it.working() and it.rounds < goal[it] for it in workers):
        if until < time.monotonic():
            for it in workers:
                if it.working() and it.rounds < goal[it]:
                    said = f", the client said: {it.refused[-1]}" if it.refused else ""
                    it.failure = f"made no progress within {PROGRESS_SECONDS_MAX} s of a start{said}"
            return
        time.sleep(0.05)


def codec_of(name, case, lacks):
    """Each client and case has its codec, so that all of them together have all."""
    can = [it for it in CODECS.values() if f"codec-{it}" not in lacks.get(name, {})]
    return can[(list(CLIENTS).index(name) + 2 * CASES.index(case)) % len(can)]


def run(broker, names, cases, lacks, mark, tally):
    workers = []
    for name in names:
        for case in cases:
            kind = WORKERS[case]
            if case in lacks.get(name, {}):
                tally.line(name, case, "lacks", why=lacks[name][case])
            else:
                workers.append(kind(name, case, broker.address, mark))
                workers[-1].codec = codec_of(name, case, lacks)
    for it in workers:
        it.thread.start()
    for number in range(KILLS):
        progress(workers, ROUNDS_BETWEEN_KILLS)
        broker.kill()
        began = time.monotonic()
        broker.start()
        print(f"# kill {number + 1} of {KILLS}, listening again after {time.monotonic() - began:.1f} s", flush=True)
    progress(workers, ROUNDS_BETWEEN_KILLS)
    for it in workers:
        it.stopping.set()
    for it in workers:
        it.thread.join(PROGRESS_SECONDS_MAX + ANSWER_SECONDS_MAX)
        if it.thread.is_alive() and it.failure is None:
            it.failure = "did not finish"
        outcome = "FAIL" if it.failure else "ok"
        tally.line(it.title, it.case, outcome, it.took, it.failure or it.account, it.name, it.broken)
