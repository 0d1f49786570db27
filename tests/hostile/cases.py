"""The attacks that need no authentication, one after the other. Each is given a world whose neighbour has
been looked at, looks at it again while the attack goes on, and says what must hold."""

import gzip
import math
import re
import resource
import struct
import time

import attackers
from wire import (API_VERSIONS, BETWEEN_BROKERS, KEYS, METADATA, MIB, alter_broker, ask, commit_offset, connect,
                  create_topic, fetch, frame, is_closed, join_group, metadata, produce, produce_batch, produced,
                  read_frame, string)
from world import mib, until

CASES = {}


class Case:
    def __init__(self, function, settings, descriptors, keeps_mib):
        self.function, self.settings = function, settings
        self.descriptors, self.keeps_bytes = descriptors, keeps_mib * MIB


def case(*settings, descriptors=None, keeps_mib=48):
    """`descriptors`: the broker's limit on open files. `keeps_mib`: memory that may stay afterwards."""
    def add(function):
        CASES[function.__name__] = Case(function, list(settings), descriptors, keeps_mib)
        return function
    return add


def most_descriptors(wanted):
    """The limit on open files a broker can be given here, at most `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted <= hard:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
    except (ValueError, OSError):
        return hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted


def holders(world, count, each):
    """Processes that hold `count` connections together, `each` from one address."""
    own = min(4_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    sizes = [min(own, count - at) for at in range(0, count, own)]
    return [world.attack(attackers.hold, attackers.addresses(10 + at, size, each))
            for at, size in enumerate(sizes)]


# --- silence ------------------------------------------------------------------------------------------

@case(("corelane.frame.progress.ms", 4000))
def announce_ten_megabytes_and_fall_silent(world):
    it = world.attack(attackers.announce, attackers.addresses(3, 800, 200), 10_000_000)
    it.hear()
    grown = world.grown()
    world.look()
    print(f"    {mib(grown)} for 800 announcements of 10 MB")
    # A task for each is there; of what they announced, nothing.
    world.settles(6 * MIB)
    assert it.hear() == 800, "not closed at the progress deadline"


@case(("corelane.frame.progress.ms", 3000))
def one_byte_a_second(world):
    slow = [world.attack(attackers.drip, attackers.addresses(3 + at, 1000, 200)) for at in range(2)]
    for it in slow:
        it.hear()
    world.look()
    until(lambda: world.broker.descriptors() < 100, "a drip keeps a connection alive")
    for it in slow:
        it.going.clear()
    ends = [it.hear() for it in slow]
    print(f"    2,000 connections, {sum(it[0] for it in ends)} ended by the broker, the last after"
          f" {max(it[1] for it in ends)} bytes, {mib(world.grown())}")
    world.settles(12 * MIB)


@case(("connections.max.idle.ms", 3000))
def five_hundred_who_say_nothing(world):
    it = world.attack(attackers.be_silent, attackers.addresses(3, 500, 200))
    assert it.hear() == 500
    world.look()
    assert it.hear() == 500, "silence is not ended"


# --- crowds -------------------------------------------------------------------------------------------

@case(descriptors=65_536, keeps_mib=64)
def twenty_thousand_connections_at_once(world):
    """As many as four fifths of the open files that this machine allows; the rest is for the log. They are
    20,000 where the limit can be 25,125, and fewer where it cannot be raised."""
    limit = world.broker.descriptor_limit
    many = min(20_000, limit // 5 * 4 - 100)
    all_of_them = holders(world, many, 1000)
    inside = sum(it.hear() for it in all_of_them)
    grown = world.grown()
    seen = world.look()
    print(f"    {inside} held with {limit} open files, {grown / inside:.0f} bytes each,"
          f" {seen['busy']:.2f} of a core busy")
    assert inside == many, f"{inside} of {many} were let in"
    assert seen["descriptors"] >= many
    # All of them asked at once; what that took goes back bit by bit.
    world.settles(8 * 1024 * inside)
    # The neighbour asks some hundred times in a second; the rest is silent.
    assert seen["busy"] < 0.7, "idle connections keep the core busy"
    for it in all_of_them:
        it.going.clear()
    assert sum(it.hear() for it in all_of_them) == inside, "somebody inside was thrown out"


@case(descriptors=2_500)
def twenty_thousand_knock_and_two_thousand_fit(world):
    limit = world.broker.descriptor_limit // 5 * 4
    began = time.monotonic()
    all_of_them = holders(world, 20_000, 1000)
    inside = sum(it.hear() for it in all_of_them)
    knocking = [world.attack(attackers.knock, 40 + at) for at in range(2)]
    for it in knocking:
        it.hear()
    world.look()
    for it in knocking:
        it.going.clear()
    knocked = sum(it.hear() for it in knocking)
    turned = world.broker.counter("connections.turned_away")
    lines = world.broker.said().count("turned away")
    print(f"    {inside} let in, {20_000 - inside} and {knocked} more turned away, {turned} counted,"
          f" told in {lines} lines, {mib(world.grown())}")
    assert inside == limit - 1, f"{inside} let in beside the neighbour, {limit} may be"
    assert turned == 20_000 - inside + knocked
    assert lines <= 10 * (2 + time.monotonic() - began), f"{lines} lines"
    world.settles(8 * 1024 * inside + 16 * MIB)
    world.end_attacks()
    until(lambda: world.broker.descriptors() < 100, "descriptors stay open")
    ask(world.port, API_VERSIONS, "127.0.0.9")


@case(("max.connection.creation.rate", 200))
def more_connections_in_a_second_than_are_taken(world):
    """Whoever knocks is served in the end, only later; and a change of the limit holds at once."""
    began = time.monotonic()
    waiting = [connect(world.port, source, timeout=60) for source in attackers.addresses(3, 600, 4)]
    for s in waiting:
        s.sendall(API_VERSIONS)
    seen = world.look()
    for s in waiting:
        read_frame(s)
    took = time.monotonic() - began
    print(f"    600 served after {took:.1f} s, {seen['descriptors']} descriptors meanwhile")
    # At most a tenth of a second's at once, and the neighbour took one.
    assert 600 <= 200 * (took + 0.1) + 1, f"600 in {took:.2f} s"
    assert "turned away" not in world.broker.said()
    for s in waiting:
        s.close()
    answer = ask(world.port, alter_broker(b"1", [(b"max.connection.creation.rate", b"2147483647")]))
    assert struct.unpack(">iiih", answer[:14])[2:] == (1, 0), answer
    held = let_in(world.port, [f"127.3.1.{at + 1}" for at in range(250)])
    assert len(held) == 250
    # And down again: those inside stay.
    held[0].sendall(alter_broker(b"1", [(b"max.connection.creation.rate", b"100")]))
    read_frame(held[0])
    began = time.monotonic()
    more = let_in(world.port, [f"127.3.2.{at + 1}" for at in range(150)])
    took = time.monotonic() - began
    # One more comes in before the door knows; a tenth of a second's come at once.
    assert len(more) == 150 and 150 <= 100 * (took + 0.1) + 3, f"150 in {took:.2f} s"
    for s in held + more:
        s.close()


@case()
def connections_that_come_and_go(world):
    both = [world.attack(attackers.come_and_go, 3 + at) for at in range(2)]
    for it in both:
        it.hear()
    world.look()
    for it in both:
        it.going.clear()
    print(f"    {sum(it.hear() for it in both)} connections, {mib(world.grown())}")
    world.settles(12 * MIB)


def let_in(port, sources):
    """Connects from each source, and gives those that are served."""
    inside = []
    for source in sources:
        s = connect(port, source, timeout=60)
        try:
            s.sendall(API_VERSIONS)
            read_frame(s)
            inside.append(s)
        except (EOFError, ConnectionError):
            s.close()
    return inside


@case(("max.connections.per.ip", 20), ("max.connections", 50))
def more_connections_than_allowed_before_and_after_a_change(world):
    port = world.port
    one = let_in(port, ["127.0.1.1"] * 40)
    assert len(one) == 20, f"{len(one)} from one address"
    others = let_in(port, [f"127.0.2.{at + 1}" for at in range(60)])
    assert len(others) == 50 - 20 - 1, f"{len(others)} others"
    world.look()
    admin = others.pop()

    def alter(*settings):
        admin.sendall(alter_broker(b"1", settings))
        answer = read_frame(admin)
        # Correlation, throttle, one result, its error.
        assert struct.unpack(">iiih", answer[:14])[2:] == (1, 0), answer

    # More: new ones come in, as many as fit now.
    alter((b"max.connections.per.ip", b"30"), (b"max.connections", b"80"))
    one += let_in(port, ["127.0.1.1"] * 20)
    assert len(one) == 30, f"{len(one)} from one address after the change"
    others += let_in(port, [f"127.0.3.{at + 1}" for at in range(60)])
    assert len(others) == 80 - 30 - 2, f"{len(others)} others after the change"
    # Fewer: whoever is inside stays, nobody comes in until there is room.
    alter((b"max.connections.per.ip", b"5"), (b"max.connections", b"40"))
    for s in one + others:
        s.sendall(API_VERSIONS)
        read_frame(s)
    assert not let_in(port, ["127.0.4.1"]), "let in beyond the limit"
    for s in others:
        s.close()
    # The neighbour, the administrator and thirty from one address stay.
    until(lambda: world.broker.descriptors() <= world.looks[0]["descriptors"] + 31, "not closed")
    assert not let_in(port, ["127.0.1.1"]), "a sixth from one address"
    last = let_in(port, [f"127.0.5.{at // 4 + 1}" for at in range(20)])
    assert len(last) == 40 - 30 - 2, f"{len(last)} where 8 have room"
    assert "turned away" in world.broker.said()
    for s in one + last + [admin]:
        s.close()


@case(descriptors=40)
def no_descriptors_are_left(world):
    """The limit is so low that the files of the log and four fifths of it do not fit together."""
    broker = world.broker
    held = []
    for at in range(36):
        s = connect(world.port, f"127.0.1.{at + 1}", timeout=60)
        s.sendall(API_VERSIONS)
        held.append(s)
    until(lambda: "cannot accept" in broker.said(), "nothing is told")
    cpu, began = broker.cpu_seconds(), time.monotonic()
    seen = world.look()
    while time.monotonic() < began + 1.5:
        time.sleep(0.05)
    burnt = (broker.cpu_seconds() - cpu) / (time.monotonic() - began)
    said = broker.said()
    lines = re.findall(r"cannot accept.*", said)
    print(f"    {seen['descriptors']} descriptors of 40, {burnt:.2f} of a core busy, told in {len(lines)} line:"
          f" {lines[0]}")
    # Once, and once more only if it was over in between.
    assert len(lines) <= 1 + said.count("accepting again"), lines
    assert burnt < 0.5, "the lane spins"
    # Those who wait come in as others leave, and nobody was lost.
    for s in held:
        read_frame(s)
        s.close()
    until(lambda: "accepting again" in broker.said(), "its end is not told")
    ask(world.port, API_VERSIONS, "127.0.0.9")


# --- answers that nobody reads ------------------------------------------------------------------------

def create(world, name, partitions=1):
    ask(world.port, create_topic(name, partitions))
    until(lambda: struct.pack(">h", 0) + string(name) in ask(world.port, metadata([name])), "no topic")


@case(("corelane.send.stall.ms", 4000))
def a_thousand_fetches_and_nobody_reads(world):
    create(world, b"unread")
    s = connect(world.port, timeout=60)
    for _ in range(8):
        s.sendall(produce(b"unread", 900_000))
        read_frame(s)
    s.close()
    before = world.broker.resident()
    many = fetch(b"unread", [0], 50_000_000)
    world.attack(attackers.send_and_never_read, ["127.3.0.1", "127.3.0.2"], many, 1000).hear()
    world.look()
    grown = world.broker.resident() - before
    print(f"    {mib(grown)} for 2 times 1,000 fetches of {mib(8 * 900_000)} each")
    # What they ask for is in memory once, however often it waits to be sent.
    assert grown < 32 * MIB, mib(grown)
    until(lambda: "not read in time" in world.broker.said(), "an unread connection is not let go")


@case(("corelane.send.stall.ms", 4000), ("corelane.receive.bytes", 16 * MIB),
      ("socket.request.max.bytes", 8 * MIB))
def small_questions_and_nobody_reads(world):
    before = world.broker.resident()
    for at, request in enumerate([API_VERSIONS, METADATA]):
        sources = [f"127.3.{at}.{it + 1}" for it in range(16)]
        world.attack(attackers.send_and_never_read, sources, request, 100_000).hear()
    world.look()
    grown = world.broker.resident() - before
    print(f"    {mib(grown)} for 32 times 100,000 questions")
    # Of each: a block that came, the frames of the requests that are open, and their answers.
    assert grown < 32 * MIB, mib(grown)
    until(lambda: "not read in time" in world.broker.said(), "an unread connection is not let go")


# --- floods -------------------------------------------------------------------------------------------

@case()
def a_flood_of_api_versions(world):
    both = [world.attack(attackers.flood, [f"127.3.{at}.{it + 1}" for it in range(8)], API_VERSIONS, 64)
            for at in range(2)]
    for it in both:
        it.hear()
    world.look()
    for it in both:
        it.going.clear()
    print(f"    {sum(it.hear() for it in both)} answers, {mib(world.grown())}")
    assert world.grown() < 32 * MIB


HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(194)
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
NO_REQUESTS = [HELLO, HTTP, b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\0\0\0\1\0",
               b"\x80\0\0\0", struct.pack(">i", (100 << 20) + 1)]


@case()
def other_protocols_and_sizes_that_lie(world):
    it = world.attack(attackers.firsts, 3, NO_REQUESTS)
    it.hear()
    world.look()
    it.going.clear()
    done, survived = it.hear()
    closed = world.broker.counter("connections.closed_on_peer")
    print(f"    {done} connections, {closed} closed for what came, {mib(world.grown())}")
    assert survived == 0 and closed == done, f"{survived} survived, {closed} of {done} closed"
    assert " closed: " in world.broker.said()


@case()
def every_key_and_version_with_nonsense(world):
    both = [world.attack(attackers.nonsense, 3 + at, at, 2) for at in range(2)]
    for it in both:
        it.hear()
    world.look()
    for it in both:
        it.going.clear()
    print(f"    {sum(it.hear() for it in both)} frames, {mib(world.grown())}")
    world.settles(32 * MIB)


@case()
def good_requests_with_counts_beyond_reason(world):
    both = [world.attack(attackers.mutants, 3 + at, at, 2) for at in range(2)]
    for it in both:
        it.hear()
    world.look()
    print(f"    {sum(it.hear() for it in both)} frames, {mib(world.grown())}")
    world.settles(32 * MIB)


# --- much for little ----------------------------------------------------------------------------------

def large_questions(world, requests, grown_mib):
    it = world.attack(attackers.repeat, requests)
    it.hear()
    world.look()
    it.going.clear()
    asked, largest = it.hear()
    print(f"    {asked} questions of {mib(max(map(len, requests)))}, the largest answer {mib(largest)},"
          f" {mib(world.grown())}")
    world.settles(grown_mib * MIB)


@case(keeps_mib=64)
def a_large_topic_named_fifty_thousand_times(world):
    create(world, b"wide", 5_000)
    large_questions(world, [metadata([b"wide"] * 50_000)], 48)


@case(keeps_mib=128)
def fetches_of_a_hundred_thousand_partitions(world):
    """Some just within what one request may name, and some beyond, which are refused."""
    create(world, b"wide", 5_000)
    sizes = [(b"wide", 95_000), (b"none", 95_000), (b"wide", 300_000)]
    large_questions(world, [fetch(name, range(count), 1000) for name, count in sizes], 128)


@case()
def the_settings_of_one_broker_ten_thousand_times(world):
    resource_of = b"\4" + string(b"1") + struct.pack(">i", -1)
    large_questions(world, [frame(32, 1, struct.pack(">i", 10_000) + resource_of * 10_000 + b"\1")], 24)


@case(keeps_mib=160)
def what_no_broker_could_make(world):
    """A million partitions, a member of ten megabytes, names that lead elsewhere."""
    names = [b"..", b".", b"../../etc", b"a/b", b"a\0b", b"x" * 250, b"", b"\xff\xfe", b"a b"]
    member = struct.pack(">ii", 10_000, 10_000) + string(b"") + string(b"consumer") + struct.pack(">i", 1)
    member += string(b"range") + struct.pack(">i", 10_000_000) + bytes(10_000_000)
    requests = [create_topic(b"million", 1_000_000), frame(11, 1, string(b"heavy") + member)]
    requests += [create_topic(name, 1) for name in names]
    requests += [metadata([name], create=True) for name in names]
    large_questions(world, requests, 160)
    answer = ask(world.port, frame(3, 1, struct.pack(">i", -1)))
    assert b"million" not in answer, "a million partitions were made"
    for name in names:
        assert not name or string(name) not in answer, f"{name!r} was made"


def zstd_bomb(bytes_max):
    """As many blocks of 128 KiB of one repeated byte as fit: 4 bytes each."""
    block = struct.pack("<I", 131_072 << 3 | 1 << 1)[:3] + b"\0"
    last = struct.pack("<I", 131_072 << 3 | 1 << 1 | 1)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\0\x38" + block * (bytes_max // 4 - 3) + last


def lz4_bomb(bytes_max):
    """Blocks of one repeated byte, 4 MiB each, as many as fit: about 16 KiB each."""
    long = (4 << 20) - 1 - 19 - 5 - 255
    block = b"\x1f\0\1\0" + b"\xff" * (long // 255) + bytes([long % 255]) + b"\x50" + bytes(5)
    one = struct.pack("<I", len(block)) + block
    return b"\x04\x22\x4d\x18\x60\x70\x73" + one * max(1, bytes_max // len(one)) + bytes(4)


def snappy_varint(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def snappy_bomb(bytes_max, claims=None):
    """Blocks in the frame that Java's library writes, each a byte and copies of 64: three bytes each. Or one
    block that claims to be so long."""
    head = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    copies = 10_000
    length = snappy_varint(claims or 1 + 64 * copies)
    block = length + b"\0\0" + b"\xfe\1\0" * copies
    one = struct.pack(">i", len(block)) + block
    return head + one * (1 if claims else bytes_max // len(one))


@case(keeps_mib=64)
def batches_that_unfold_without_end(world):
    """Small ones and ones as large as a batch may be, of every codec. Each is refused, and what it takes is
    bounded by what one batch may unfold to."""
    create(world, b"bombs")
    zeros = gzip.compress(bytes(10_000_000))
    bombs = {
        "gzip": (1, zeros), "gzip, large": (1, gzip.compress(bytes(900_000_000), 9)),
        "snappy": (2, snappy_bomb(950_000)), "snappy that lies": (2, snappy_bomb(0, 0x7FFFFFFF)),
        "lz4": (3, lz4_bomb(10_000)), "lz4, large": (3, lz4_bomb(950_000)),
        "zstd": (4, zstd_bomb(10_000)), "zstd, large": (4, zstd_bomb(950_000)),
    }
    requests = {name: produce_batch(b"bombs", kind, bomb, 1) for name, (kind, bomb) in bombs.items()}
    for name, request in requests.items():
        before, cpu = world.broker.resident(), world.broker.cpu_seconds()
        world.broker.forget_peak()
        errors = {produced(ask(world.port, request)) for _ in range(3)}
        each = (world.broker.cpu_seconds() - cpu) / 3
        grown = world.broker.peak() - before
        print(f"    {name}: {len(request)} bytes, {each * 1000:.0f} ms of CPU, {mib(grown)}, error {errors}")
        assert 0 not in errors, f"{name} was taken"
        # What unfolds is looked at a piece at a time. The request itself is here, too.
        assert grown < 32 * MIB, f"{name}: {mib(grown)}"
    large_questions(world, list(requests.values()), 48)


# --- many of a kind -----------------------------------------------------------------------------------

@case(keeps_mib=96)
def producers_without_end(world):
    """More ids than a partition remembers: the oldest go."""
    create(world, b"producers")
    many = [produce(b"producers", 10, producer=it + 1) for it in range(25_000)]
    asked = [frame(22, 0, struct.pack(">hi", -1, 60_000)) for _ in range(5_000)]
    it = world.attack(attackers.numbered, "127.3.0.1", many + asked, 64)
    it.hear()
    world.look()
    answers = it.hear()
    errors = {produced(answer) for answer in answers[:len(many)]}
    ids = {struct.unpack(">q", answer[10:18])[0] for answer in answers[len(many):]}
    print(f"    {len(many)} producers of one partition, errors {errors}, {mib(world.grown())}; {len(ids)} ids given")
    assert errors == {0} and len(ids) == len(asked)
    # Ten thousand are remembered, with some hundred bytes each; their records lie in the tail, too.
    world.settles(64 * MIB)


@case(("offsets.topic.num.partitions", 4), keeps_mib=96)
def groups_without_end(world):
    """Each with an offset of its own, as anybody may make them."""
    create(world, b"of")
    find = frame(10, 0, string(b"g"))
    until(lambda: ask(world.port, find)[4:6] == b"\0\0", "no coordinator")
    until(lambda: ask(world.port, commit_offset(b"first", b"of"))[-2:] == b"\0\0", "no group")
    before = world.broker.resident()
    many = [commit_offset(b"group-%d" % it, b"of") for it in range(5_000)]
    it = world.attack(attackers.numbered, "127.3.0.1", many, 64)
    it.hear()
    world.look()
    errors = {answer[-2:] for answer in it.hear()}
    grown = world.broker.resident() - before
    print(f"    {len(many)} groups, errors {errors}, {grown / len(many):.0f} bytes each")
    assert errors == {b"\0\0"}
    world.settles(6 * 1024 * len(many), before)


@case(keeps_mib=96)
def members_of_many_megabytes(world):
    """What a member tells of itself is bounded, and so is what all members of a group tell."""
    until(lambda: ask(world.port, frame(10, 0, string(b"g")))[4:6] == b"\0\0", "no coordinator")
    before = world.broker.resident()
    for at in range(10):
        answer = ask(world.port, join_group(b"heavy-%d" % at, bytes(10_000_000)))
        assert struct.unpack_from(">h", answer, 4)[0] == 42, f"error {answer[4:6]} for a member of 10 MB"
    grown = world.broker.resident() - before
    print(f"    {mib(grown)} for members of 10 MB")
    # One request at a time is here, and what it grew from; what was freed goes back bit by bit.
    world.settles(64 * MIB, before)
    # Many members of one group, each within its bound. Four have room.
    each = join_group(b"crowd", bytes(900_000), 60_000)
    crowd = world.attack(attackers.join_and_wait, attackers.addresses(3, 60, 60), each, 56)
    errors = crowd.hear()
    world.look()
    grown = world.broker.resident() - before
    print(f"    {mib(grown)} for 60 members of 900 kB, refused: {errors}")
    assert errors == {81: 56}, "more or less is kept for a group than it may have"
    world.settles(128 * MIB, before)


# --- fetches that wait --------------------------------------------------------------------------------

@case(("corelane.receive.bytes", 16 * MIB), ("socket.request.max.bytes", 8 * MIB), ("corelane.send.stall.ms", 3000))
def fetches_that_wait_and_peers_that_are_gone(world):
    """Those that wait keep their frames, within a bound that all of them share; beyond it some are answered
    at once, and a newcomer still finds a place. When their peers are gone, so are they."""
    create(world, b"quiet")
    heavy = fetch(b"quiet", [0], 1000, bytes_min=1000, wait_ms=600_000, padding=60_000)

    def waits():
        """Whether a fetch finds a place now."""
        began = time.monotonic()
        ask(world.port, fetch(b"quiet", [0], 1000, bytes_min=1000, wait_ms=300, padding=60_000), "127.0.0.9")
        return 0.3 <= time.monotonic() - began
    assert waits(), "nobody else is there"
    it = world.attack(attackers.park, attackers.addresses(3, 500, 200), heavy, 1, 4 * MIB // len(heavy))
    it.hear()
    waiting = it.hear()
    world.look()
    print(f"    {waiting} of 500 fetches of {len(heavy)} bytes wait, {mib(world.grown())}")
    # A quarter of what requests may take, and each at most half of what is left of it.
    assert 30 <= waiting, waiting
    # All came at once, and what a burst took goes back bit by bit.
    world.settles(80 * MIB)
    assert waits(), "a newcomer finds no place"
    world.end_attacks()
    until(lambda: world.broker.descriptors() < 50, "peers that are gone keep their connections")


@case(("corelane.send.stall.ms", 3000))
def thousands_of_fetches_that_wait(world):
    """On two thousand connections one each, and a thousand on one."""
    create(world, b"quiet")
    light = fetch(b"quiet", [0], 1000, bytes_min=1000, wait_ms=600_000)
    many = world.attack(attackers.park, attackers.addresses(3, 2_000, 200), light, 1, 2_000)
    one = world.attack(attackers.park, ["127.4.0.1"], light, 1000, 1)
    for it in (many, one):
        it.hear()
    waiting = many.hear(), one.hear()
    seen = world.look()
    print(f"    {waiting[0]} of 2,000 wait, and those of one connection; {mib(world.grown())},"
          f" {seen['busy']:.2f} of a core busy")
    assert waiting == (2_000, 1), waiting
    world.settles(2_100 * 40 * 1024)
    assert seen["busy"] < 0.7, "fetches that wait keep the core busy"


# --- corners ------------------------------------------------------------------------------------------

@case()
def corners_of_the_wire(world):
    """What foreign brokers get wrong, byte by byte."""
    s = connect(world.port, timeout=60)
    s.sendall(frame(18, 99, correlation=5))
    assert read_frame(s) == struct.pack(">ihihhh", 5, 35, 1, 18, 0, 4), "ApiVersions from the future"
    s.sendall(frame(18, 3, b"\2a\2b\0", flexible=True, correlation=6))
    answer = read_frame(s)
    assert answer[:6] == struct.pack(">ih", 6, 0) and answer[6] > 1, "header v0 before a compact array"
    s.sendall(API_VERSIONS)
    answer = read_frame(s)
    count = struct.unpack(">i", answer[6:10])[0]
    rows = dict((k, (a, b)) for k, a, b in struct.iter_unpack(">hhh", answer[10:10 + 6 * count]))
    assert rows[0][0] == 0, f"Produce is advertised from {rows[0]}"
    assert 68 not in rows and 71 not in rows, "no group protocol or telemetry is pretended"
    assert set(rows) <= set(KEYS.values()), f"an API no hostile case knows: {set(rows) - set(KEYS.values())}"
    s.sendall(frame(3, 0, struct.pack(">i", 0) + b"left over") + API_VERSIONS)
    read_frame(s)
    assert read_frame(s)[:4] == struct.pack(">i", 7), "bytes behind a request are ignored"
    for at in range(50):
        s.sendall(frame((3, 18)[at % 2], 0, struct.pack(">i", 0) if at % 2 == 0 else b"", correlation=at))
    order = [struct.unpack(">i", read_frame(s)[:4])[0] for _ in range(50)]
    assert order == list(range(50)), order
    refused = [(3, 14), (1, 3), (0, 0), (0, 2), (200, 0)] + [(key, 0) for key in BETWEEN_BROKERS]
    for key, version in refused:
        t = connect(world.port, timeout=60)
        t.sendall(frame(key, version))
        assert is_closed(t), f"key {key} version {version} is not refused"
        t.close()
    world.look()
    # acks=0: the next answer is the next request's.
    create(world, b"quiet")
    silent = bytearray(produce(b"quiet", 10))
    silent[16:18] = struct.pack(">h", 0)
    s.sendall(bytes(silent) + frame(18, 0, correlation=99))
    assert read_frame(s)[:4] == struct.pack(">i", 99), "acks=0 was answered"

    def topics(version, names):
        s.sendall(frame(3, version, struct.pack(">i", names)))
        return b"quiet" in read_frame(s)
    assert topics(0, 0), "version 0: none named means all"
    assert not topics(1, 0), "version 1: none named means none"
    assert topics(1, -1), "version 1: null means all"
    s.close()
