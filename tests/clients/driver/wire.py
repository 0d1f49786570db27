"""A second pair of eyes on the broker: a few Kafka requests over a plain socket.

The cases use it where a client must not check itself: to make topics for clients that cannot, to see
how batches are really stored (codec, producer id, sequence), to read what a committed offset is.
Every version used here is old and without tagged fields, so the whole encoding fits this page. It does not
decompress, does not follow leaders (one node is enough) and is no client library.
"""

import socket
import struct
import time
import zlib

RETRY_SECONDS_MAX = 180.0
RETRY_PAUSE_SECONDS = 0.05
# An answer that is only slow must not be asked for again: an append would be there twice.
ANSWER_SECONDS_MAX = 120.0

PRODUCE, FETCH, LIST_OFFSETS, METADATA, OFFSET_FETCH, CREATE_TOPICS = 0, 1, 2, 3, 9, 19

NONE, UNKNOWN_TOPIC, NOT_LEADER, TOPIC_EXISTS = 0, 3, 6, 36
# What a single node may answer while it starts, elects itself or loads its groups.
PASSING = {UNKNOWN_TOPIC, 5, NOT_LEADER, 7, 9, 14, 15, 16, 56, 74, 75, 76, 100}

CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
# What can be unfolded without a library.
READABLE = {"none", "gzip"}


class Refused(Exception):
    """The broker answered with a Kafka error code."""

    def __init__(self, what, code):
        super().__init__(f"{what}: error code {code}")
        self.code = code


def text(it):
    if it is None:
        return struct.pack(">h", -1)
    it = it.encode()
    return struct.pack(">h", len(it)) + it


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """Takes an answer apart, front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if len(self.data) < self.at + count:
            raise EOFError(f"answer ends at {len(self.data)}, wanted {self.at + count}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def text(self):
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()

    def bytes(self):
        length = self.number("i")
        return None if length < 0 else self.take(length)

    def each(self):
        return range(max(0, self.number("i")))

    def varint(self):
        shift = number = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)

    def varbytes(self):
        length = self.varint()
        return None if length < 0 else self.take(length)


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class Batch:
    """One stored batch: its header, checked, and its records where they are readable here."""

    def __init__(self, data):
        it = Reader(data)
        self.base = it.number("q")
        it.number("i")
        it.number("i")
        magic = it.number("b")
        assert magic == 2, f"batch at {self.base} has magic {magic}"
        stored = it.number("I")
        found = crc32c(data[21:])
        assert stored == found, f"batch at {self.base}: checksum {stored:#x} stored, {found:#x} found"
        attributes = it.number("h")
        self.codec = CODECS[attributes & 7]
        it.number("i")
        self.first_timestamp = it.number("q")
        it.number("q")
        self.producer_id = it.number("q")
        self.producer_epoch = it.number("h")
        self.base_sequence = it.number("i")
        self.count = it.number("i")
        self.packed = data[it.at :]

    def records(self):
        """(offset, key, value) of each record; only none and gzip can be read without a library."""
        packed = {"none": bytes, "gzip": lambda it: zlib.decompress(it, 31)}[self.codec](self.packed)
        it = Reader(packed)
        for _ in range(self.count):
            it.varint()
            it.take(1)
            it.varint()
            offset = self.base + it.varint()
            key, value = it.varbytes(), it.varbytes()
            for _ in range(it.varint()):
                it.varbytes()
                it.varbytes()
            yield offset, key, value


def batch_of(records):
    """Packs (key, value, timestamp) triples, uncompressed."""
    first = records[0][2]
    packed = b""
    for delta, (key, value, timestamp) in enumerate(records):
        body = b"\0" + varint(timestamp - first) + varint(delta)
        for it in (key, value):
            body += varint(-1) if it is None else varint(len(it)) + it
        body += varint(0)
        packed += varint(len(body)) + body
    last = max(it[2] for it in records)
    after_crc = struct.pack(">hiqqqhii", 0, len(records) - 1, first, last, -1, -1, -1, len(records)) + packed
    head = struct.pack(">ibI", -1, 2, crc32c(after_crc)) + after_crc
    return struct.pack(">qi", 0, len(head)) + head


class Wire:
    """One connection, made again when it breaks; passing errors are retried within a bound."""

    def __init__(self, broker):
        host, port = broker.rsplit(":", 1)
        self.address = (host, int(port))
        self.socket = None

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def ask(self, key, version, body):
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=ANSWER_SECONDS_MAX)
        head = struct.pack(">hhi", key, version, 7) + text("eyes")
        try:
            self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
            it = Reader(self._exactly(struct.unpack(">i", self._exactly(4))[0]))
        except OSError:
            self.close()
            raise
        assert it.number("i") == 7, "the answer belongs to another request"
        return it

    def _exactly(self, count):
        parts = []
        while count:
            part = self.socket.recv(min(count, 1 << 20))
            if not part:
                raise ConnectionResetError("the broker closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def retry(self, step):
        """Runs `step` until it meets no passing error and no broken connection."""
        until = time.monotonic() + RETRY_SECONDS_MAX
        while True:
            try:
                return step()
            except (OSError, Refused) as failure:
                passing = not isinstance(failure, Refused) or failure.code in PASSING
                if not passing or until < time.monotonic():
                    raise
            time.sleep(RETRY_PAUSE_SECONDS)

    def topics(self):
        """The names of all topics; asking for all of them makes none."""
        it = self.retry(lambda: self.ask(METADATA, 1, struct.pack(">i", -1)))
        for _ in it.each():
            it.number("i")
            it.text()
            it.number("i")
            it.text()
        it.number("i")
        found = set()
        for _ in it.each():
            it.number("h")
            found.add(it.text())
            it.number("b")
            for _ in it.each():
                it.take(10)
                for _ in range(2):
                    it.take(4 * it.number("i"))
        return found

    def create(self, topic, partitions=1, configs=None):
        """Makes the topic and returns when every partition of it takes requests."""
        pairs = [text(name) + text(value) for name, value in (configs or {}).items()]
        body = array([text(topic) + struct.pack(">ih", partitions, 1) + array([]) + array(pairs)])

        def step():
            it = self.ask(CREATE_TOPICS, 2, body + struct.pack(">ib", 30_000, 0))
            it.number("i")
            for _ in it.each():
                it.text()
                code = it.number("h")
                if code not in (NONE, TOPIC_EXISTS):
                    raise Refused(f"create {topic}: {it.text()}", code)

        self.retry(step)
        for partition in range(partitions):
            self.end(topic, partition)

    def offset_at(self, topic, partition, timestamp):
        body = struct.pack(">i", -1) + array([text(topic) + array([struct.pack(">iq", partition, timestamp)])])

        def step():
            it = self.ask(LIST_OFFSETS, 1, body)
            it.each()
            it.text()
            it.each()
            it.number("i")
            code = it.number("h")
            if code:
                raise Refused(f"offsets of {topic}-{partition}", code)
            it.number("q")
            return it.number("q")

        return self.retry(step)

    def start(self, topic, partition=0):
        return self.offset_at(topic, partition, -2)

    def end(self, topic, partition=0):
        return self.offset_at(topic, partition, -1)

    def produce(self, topic, records, partition=0):
        """Appends (key, value, timestamp) triples as one batch; returns the first one's offset."""
        packed = batch_of(records)
        part = struct.pack(">ii", partition, len(packed)) + packed
        body = text(None) + struct.pack(">hi", -1, 30_000) + array([text(topic) + array([part])])

        def step():
            it = self.ask(PRODUCE, 3, body)
            it.each()
            it.text()
            it.each()
            it.number("i")
            code = it.number("h")
            if code:
                raise Refused(f"produce to {topic}-{partition}", code)
            return it.number("q")

        return self.retry(step)

    def batches(self, topic, partition=0):
        """Everything stored in a partition, batch by batch."""
        found, at, end = [], self.start(topic, partition), self.end(topic, partition)
        while at < end:
            part = struct.pack(">iqi", partition, at, 8 << 20)
            ask = struct.pack(">iiiib", -1, 1000, 1, 8 << 20, 0) + array([text(topic) + array([part])])

            def step(ask=ask):
                it = self.ask(FETCH, 4, ask)
                it.number("i")
                it.each()
                it.text()
                it.each()
                it.number("i")
                code = it.number("h")
                if code:
                    raise Refused(f"fetch {topic}-{partition}", code)
                it.number("q")
                it.number("q")
                for _ in it.each():
                    it.number("q")
                    it.number("q")
                return it.bytes() or b""

            data = self.retry(step)
            place = 0
            while place + 12 <= len(data):
                size = 12 + struct.unpack(">i", data[place + 8 : place + 12])[0]
                if len(data) < place + size:
                    break  # the tail may be a part of the next batch
                batch = Batch(data[place : place + size])
                place += size
                if at <= batch.base:
                    found.append(batch)
                at = max(at, batch.base + struct.unpack(">i", data[place - size + 23 : place - size + 27])[0] + 1)
        return found

    def committed(self, group, topic, partitions):
        """The committed offset of each partition, -1 where there is none."""
        body = text(group) + array([text(topic) + array([struct.pack(">i", it) for it in range(partitions)])])

        def step():
            it = self.ask(OFFSET_FETCH, 1, body)
            offsets = {}
            for _ in it.each():
                it.text()
                for _ in it.each():
                    partition, offset = it.number("i"), it.number("q")
                    it.text()
                    code = it.number("h")
                    if code:
                        raise Refused(f"offsets of group {group}", code)
                    offsets[partition] = offset
            return [offsets[it] for it in range(partitions)]

        return self.retry(step)
