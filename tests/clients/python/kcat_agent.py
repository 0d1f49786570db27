"""Drives Debian's kcat: librdkafka 2.0.2, the oldest in the set. Every request is a process of its own.

kcat says no offsets when it produces, so every result is null; it exits with 1 when a record was not delivered.
Its JSON holds keys, values and headers as raw bytes between quotes, so it is read as Latin-1.
"""

import ctypes
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from serve import headers_in, record_out, serve, unpack

SECONDS_MAX = 120
FIELD, RECORD = b"\x1f", b"\x1e"
CHANGE = re.compile(rb"rebalanced.*?\b(assigned|revoked|assignment|revoke)\b.*?: (.*)")
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def follow():
    """A consumer must not outlive an agent that is killed."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def bytes_of(it):
    return None if it is None else it.encode("latin-1")


def record_of(line):
    it = json.loads(line.decode("latin-1"))
    names = it.get("headers", [])
    pairs = [(name, bytes_of(value)) for name, value in zip(names[::2], names[1::2])]
    return record_out(it["partition"], it["offset"], it["ts"], bytes_of(it["key"]), bytes_of(it["payload"]), pairs)


class Child:
    """A consuming kcat, its lines gathered as they come."""

    def __init__(self, *command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=follow)
        self.lines, self.said = [], []
        outputs = ((self.process.stdout, self.lines), (self.process.stderr, self.said))
        self.readers = [threading.Thread(target=self._gather, args=it, daemon=True) for it in outputs]
        for it in self.readers:
            it.start()

    @staticmethod
    def _gather(source, into):
        for line in source:
            into.append(line)

    def stop(self):
        """SIGTERM: a group member says goodbye."""
        self.process.terminate()
        self.process.wait(SECONDS_MAX)
        for it in self.readers:
            it.join()


class Agent:
    def __init__(self, broker):
        self.kcat = ["kcat", "-b", broker]

    def _run(self, *more, stdin=b""):
        done = subprocess.run([*self.kcat, *more], input=stdin, capture_output=True, timeout=SECONDS_MAX)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip())
        return done.stdout

    def describe(self, topic):
        [found] = json.loads(self._run("-L", "-J", "-t", topic))["topics"]
        parts = [(it["partition"], it["leader"], [node["id"] for node in it["replicas"]]) for it in found["partitions"]]
        return {"partitions": [dict(zip(("partition", "leader", "replicas"), it)) for it in parts]}

    def produce(self, topic, codec, acks, idempotent, records):
        """One process for each run of records that one command line can describe."""
        more = ["-P", "-t", topic, "-z", codec, "-X", f"acks={acks}", "-X", "message.max.bytes=8388608"]
        more += ["-X", "enable.idempotence=true"] if idempotent else []
        results = [None] * len(records)
        places = sorted(range(len(records)), key=lambda it: records[it]["partition"])
        for _, run in itertools.groupby(places, key=lambda it: self._alike(records[it])):
            run = list(run)
            try:
                self._produce_alike(more, [records[it] for it in run])
            except RuntimeError as failure:
                for it in run:
                    results[it] = str(failure)
        return {"results": results}

    @staticmethod
    def _alike(record):
        key, value = unpack(record["key"]), unpack(record["value"])
        whole = value is not None and (RECORD in value or FIELD in value)
        return record["partition"], record["headers"], key is None, value is None, (key, value) if whole else None

    def _produce_alike(self, more, records):
        first = records[0]
        key, value = unpack(first["key"]), unpack(first["value"])
        more = [*more, "-p", str(first["partition"])]
        for name, header in headers_in(first):
            more += ["-H", os.fsencode(name) + (b"" if header is None else b"=" + header)]
        if value is not None and (RECORD in value or FIELD in value):
            self._produce_whole(more, key, value, len(records))
            return
        # `-Z` turns what is empty into null.
        more += ["-Z"] if value is None else []
        more += [] if key is None and value is not None else ["-K", r"\x1f"]
        lines = []
        for it in records:
            key, value = unpack(it["key"]), unpack(it["value"])
            lines.append(value if key is None and value is not None else (key or b"") + FIELD + (value or b""))
        self._run(*more, "-D", r"\x1e", stdin=RECORD.join(lines) + RECORD)

    def _produce_whole(self, more, key, value, times):
        """A file is one record, whatever bytes it holds."""
        more = [*more, *([] if key is None else ["-k", key])]
        with tempfile.NamedTemporaryFile() as file:
            file.write(value)
            file.flush()
            for _ in range(times):
                self._run(*more, file.name)

    def open(self, topic, partition, offset=None, timestamp=None, end=False):
        if offset is None:
            answer = self._run("-Q", "-t", f"{topic}:{partition}:{-1 if end else timestamp}")
            offset = int(re.search(rb"offset (-?\d+)", answer)[1])
        self.place = [topic, partition, offset]

    def read(self, count, seconds):
        topic, partition, offset = self.place
        where = ["-t", topic, "-p", str(partition), "-o", str(offset), "-c", str(count)]
        child, until = Child(*self.kcat, "-C", "-q", "-J", "-u", *where), time.monotonic() + seconds
        while len(child.lines) < count and time.monotonic() < until and child.process.poll() is None:
            time.sleep(0.01)
        child.stop()
        found = [record_of(it) for it in child.lines[:count]]
        self.place[2] = found[-1]["offset"] + 1 if found else offset
        return {"records": found}

    def close(self):
        self.place = None

    def join(self, group, topic, session_ms, instance=None, cooperative=False):
        want = {"session.timeout.ms": session_ms, "heartbeat.interval.ms": 500}
        want |= {"auto.offset.reset": "earliest", "auto.commit.interval.ms": 100}
        want |= {"partition.assignment.strategy": "cooperative-sticky" if cooperative else "range"}
        want |= {"group.instance.id": instance} if instance else {}
        flags = [it for name, value in want.items() for it in ("-X", f"{name}={value}")]
        self.member, self.assigned, self.told = Child(*self.kcat, *flags, "-E", "-J", "-u", "-G", group, topic), set(), 0
        self.given = 0

    def poll(self, seconds):
        time.sleep(seconds)
        if self.member.process.poll() is not None:
            raise RuntimeError(f"kcat ended with {self.member.process.returncode}: {self.member.said[-3:]}")
        events = []
        # Counted from what was taken: the list grows while we look at it.
        said = self.member.said[self.told :]
        self.told += len(said)
        for line in said:
            change = re.search(CHANGE, line)
            if change:
                parts = [int(it) for it in re.findall(rb"\[(\d+)\]", change[2])]
                given = change[1].startswith(b"assign")
                events.append(["assigned" if given else "revoked", parts])
                self.assigned = self.assigned | set(parts) if given else self.assigned - set(parts)
        lines = self.member.lines[self.given :]
        self.given += len(lines)
        return {"assigned": sorted(self.assigned), "events": events, "records": [record_of(it) for it in lines]}

    def commit(self):
        """kcat commits by a timer, every 100 ms as asked above; the case waits for it."""
        return {"timer": True}

    def leave(self):
        self.member.stop()


said = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
version = re.search(r"Version (\S+) .*librdkafka (\S+)", said)
serve("kcat", f"{version[1]} (librdkafka {version[2]})", Agent(sys.argv[1]))
