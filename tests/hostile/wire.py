"""Kafka's wire, as far as hostile peers need it: frames by hand, right and wrong ones."""

import os
import socket
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(os.path.dirname(HERE)), "net/tests/golden/requests.bin")
MIB = 1 << 20

# What a client's listener serves, by the name of the request's message.
KEYS = {
    "Produce": 0, "Fetch": 1, "ListOffsets": 2, "Metadata": 3, "OffsetCommit": 8, "OffsetFetch": 9,
    "FindCoordinator": 10, "JoinGroup": 11, "Heartbeat": 12, "LeaveGroup": 13, "SyncGroup": 14,
    "DescribeGroups": 15, "ListGroups": 16, "ApiVersions": 18, "CreateTopics": 19, "DeleteTopics": 20,
    "DeleteRecords": 21, "InitProducerId": 22, "OffsetForLeaderEpoch": 23, "DescribeAcls": 29,
    "CreateAcls": 30, "DeleteAcls": 31, "DescribeConfigs": 32, "AlterConfigs": 33,
    "DescribeLogDirs": 35, "CreatePartitions": 37, "DeleteGroups": 42, "ElectLeaders": 43,
    "IncrementalAlterConfigs": 44, "AlterPartitionReassignments": 45,
    "ListPartitionReassignments": 46, "OffsetDelete": 47, "DescribeQuorum": 55, "DescribeCluster": 60,
    "ListConfigResources": 74, "DescribeTopicPartitions": 75,
}

# What only other brokers and controllers may ask, and never on a client's listener.
BETWEEN_BROKERS = [4, 5, 6, 7, 27, 52, 53, 54, 56, 57, 58, 59, 62, 63, 64, 67, 70, 73, 82, 84]


def frame(key, version, body=b"", correlation=7, flexible=False):
    head = struct.pack(">hhih", key, version, correlation, -1) + (b"\0" if flexible else b"")
    return struct.pack(">i", len(head + body)) + head + body


METADATA = frame(3, 1, struct.pack(">i", 0))
API_VERSIONS = frame(18, 0)


def string(text):
    return struct.pack(">h", len(text)) + text


def metadata(names, version=4, create=False):
    body = struct.pack(">i", len(names)) + b"".join(string(it) for it in names)
    return frame(3, version, body + (bytes([create]) if 4 <= version else b""))


def create_topic(name, partitions):
    topic = string(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    return frame(19, 2, struct.pack(">i", 1) + topic + struct.pack(">ib", 30_000, 0))


def alter_broker(node, settings):
    """IncrementalAlterConfigs of one broker, as strings to set."""
    rows = b"".join(string(key) + b"\0" + string(value) for key, value in settings)
    resource = b"\4" + string(node) + struct.pack(">i", len(settings)) + rows
    return frame(44, 0, struct.pack(">i", 1) + resource + b"\0")


def fetch(topic, partitions, bytes_max, bytes_min=1, wait_ms=100, padding=0):
    """`padding`: bytes behind the request, which a broker ignores and has to hold all the same."""
    rows = b"".join(struct.pack(">iqi", it, 0, bytes_max) for it in partitions)
    body = struct.pack(">iiiib", -1, wait_ms, bytes_min, bytes_max, 0)
    body += struct.pack(">i", 1) + string(topic) + struct.pack(">i", len(partitions)) + rows
    return frame(1, 4, body + bytes(padding))


def produce(topic, size, producer=-1):
    value = bytes(size)
    record = b"\0\0\0\1" + varint(len(value)) + value + b"\0"
    return produce_batch(topic, 0, varint(len(record)) + record, 1, producer)


def produced(answer):
    """The error of the only batch of an answer to `produce`."""
    topic = struct.unpack_from(">h", answer, 8)[0]
    return struct.unpack_from(">h", answer, 8 + 2 + topic + 8)[0]


def join_group(group, metadata, session_ms=10_000):
    body = string(group) + struct.pack(">ii", session_ms, session_ms) + string(b"") + string(b"consumer")
    return frame(11, 1, body + struct.pack(">i", 1) + string(b"range") + struct.pack(">i", len(metadata)) + metadata)


def commit_offset(group, topic):
    """Of somebody who is no member, for one partition."""
    body = string(group) + struct.pack(">i", -1) + string(b"") + struct.pack(">qi", -1, 1) + string(topic)
    return frame(8, 2, body + struct.pack(">iiq", 1, 0, 5) + string(b""))


def produce_batch(topic, attributes, records, count, producer=-1):
    epoch, sequence = (-1, -1) if producer == -1 else (0, 0)
    rest = struct.pack(">hiqqqhii", attributes, count - 1, 0, 0, producer, epoch, sequence, count) + records
    batch = struct.pack(">qiib", 0, len(rest) + 9, -1, 2) + struct.pack(">I", crc32c(rest)) + rest
    body = struct.pack(">hhi", -1, -1, 30_000) + struct.pack(">i", 1) + string(topic)
    # The first version in which every codec may come.
    return frame(0, 7, body + struct.pack(">iii", 1, 0, len(batch)) + batch)


def varint(n):
    n, out = n << 1, b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


CRC = crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def golden_requests():
    """Key, version and body of every request as Kafka's own classes write it, with all fields set."""
    with open(GOLDEN, "rb") as file:
        data = file.read()
    at = 0
    while at < len(data):
        length = data[at]
        name = data[at + 1:at + 1 + length].decode().removesuffix("Request")
        version, variant, size = struct.unpack_from(">hbI", data, at + 1 + length)
        at += length + 8
        if name in KEYS and variant == 0:
            yield KEYS[name], version, data[at:at + size]
        at += size


def connect(port, source=None, timeout=10):
    s = socket.socket()
    s.settimeout(timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if source:
            # The port is chosen when it is known whom we connect to: every address has them all.
            s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            s.bind((source, 0))
        s.connect(("127.0.0.1", port))
    except OSError:
        s.close()
        raise
    return s


def read_exactly(s, count):
    got = b""
    while len(got) < count:
        more = s.recv(count - len(got))
        if not more:
            raise EOFError(f"closed after {len(got)} of {count} bytes")
        got += more
    return got


def read_frame(s):
    return read_exactly(s, struct.unpack(">i", read_exactly(s, 4))[0])


def ask(port, request, source=None):
    s = connect(port, source, timeout=60)
    s.sendall(request)
    answer = read_frame(s)
    s.close()
    return answer


def is_closed(s, seconds=30):
    """Reads until the other end closes."""
    try:
        s.settimeout(seconds)
        while s.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except socket.timeout:
        return False


def is_closed_now(s):
    s.setblocking(False)
    try:
        while True:
            if s.recv(65536) == b"":
                return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
