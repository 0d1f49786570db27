"""What attackers do. Each runs in a process of its own, as `work(going, tell, port, ...)`."""

import random
import select
import socket
import struct
import time

from wire import (API_VERSIONS, KEYS, ask, connect, frame, golden_requests, is_closed, is_closed_now,
                  read_frame)


def addresses(group, count, each):
    """Source addresses for `count` connections, `each` from one."""
    return [f"127.{group}.{at // each // 200}.{at // each % 200 + 1}" for at in range(count)]


def rest(going):
    while going.is_set():
        time.sleep(0.05)


def open_many(port, sources):
    held = []
    for source in sources:
        s = connect(port, source, timeout=60)
        held.append(s)
    return held


def hold(going, link, port, sources):
    """Connects and stays. Tells how many were let in, and at the end how many of these still are."""
    held = open_many(port, sources)
    inside = []
    for s in held:
        try:
            s.sendall(API_VERSIONS)
        except ConnectionError:
            pass
    for s in held:
        try:
            read_frame(s)
            inside.append(s)
        except (EOFError, ConnectionError):
            s.close()
    link.send(len(inside))
    rest(going)
    link.send(len([s for s in inside if not is_closed_now(s)]))


def knock(going, link, port, group):
    """Connects, is turned away, connects again."""
    at = 0
    link.send("knocking")
    while going.is_set():
        s = connect(port, f"127.{group}.1.{at % 200 + 1}", timeout=60)
        is_closed(s)
        s.close()
        at += 1
    link.send(at)


def come_and_go(going, link, port, group):
    """Connects and leaves again at once, politely and rudely in turns."""
    at = 0
    link.send("coming")
    while going.is_set():
        s = connect(port, f"127.{group}.1.{at % 200 + 1}", timeout=60)
        if at % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        at += 1
    link.send(at)


def announce(going, link, port, sources, size):
    """Announces a large frame on each connection, and sends nothing more."""
    held = open_many(port, sources)
    for s in held:
        s.sendall(struct.pack(">i", size))
    link.send(len(held))
    link.send(sum(is_closed(s) for s in held))
    rest(going)


def drip(going, link, port, sources):
    """One byte a second on each connection, of a frame that is never whole. Tells at the end how many
    connections the broker ended, and how many bytes the most patient took."""
    stream = struct.pack(">i", 1000) + bytes(1000)
    alive = [[s, 0] for s in open_many(port, sources)]
    link.send(len(alive))
    ended = longest = 0
    while going.is_set():
        began = time.monotonic()
        still = []
        for it in alive:
            if is_closed_now(it[0]):
                ended, longest = ended + 1, max(longest, it[1])
                continue
            try:
                it[0].send(stream[it[1]:it[1] + 1])
                it[1] += 1
                still.append(it)
            except OSError:
                ended, longest = ended + 1, max(longest, it[1])
        alive = still
        while going.is_set() and time.monotonic() < began + 1:
            time.sleep(0.02)
    link.send((ended, longest))


def be_silent(going, link, port, sources):
    held = open_many(port, sources)
    link.send(len(held))
    link.send(sum(is_closed(s) for s in held))
    rest(going)


def send_and_never_read(going, link, port, sources, request, count):
    """Sends as many requests as the broker will take, and reads nothing."""
    streams = []
    for source in sources:
        s = connect(port, source)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.setblocking(False)
        streams.append([s, memoryview(request * count)])
    link.send(len(streams))
    while going.is_set():
        _, ready, _ = select.select([], [s for s, left in streams if left], [], 0.05)
        for it in streams:
            if it[0] in ready:
                try:
                    it[1] = it[1][it[0].send(it[1]):]
                except BlockingIOError:
                    pass
                except OSError:
                    it[1] = b""
        if not any(left for _, left in streams):
            time.sleep(0.05)


def flood(going, link, port, sources, request, at_once):
    """Sends requests in packs as fast as the broker answers them."""
    open_now = open_many(port, sources)
    pack = request * at_once
    link.send(len(open_now))
    answered = 0
    while going.is_set():
        for s in open_now:
            s.sendall(pack)
        for s in open_now:
            for _ in range(at_once):
                read_frame(s)
                answered += 1
    link.send(answered)


def firsts(going, link, port, group, all_first):
    """Begins every connection with something that is no request, for as long as it may."""
    done = survived = 0
    link.send("at it")
    while going.is_set() or done < len(all_first):
        s = connect(port, f"127.{group}.1.{done % 200 + 1}", timeout=60)
        s.sendall(all_first[done % len(all_first)])
        survived += not is_closed(s)
        s.close()
        done += 1
    link.send((done, survived))


def nonsense(going, link, port, group, part, parts):
    """Every key and version with random bodies and with counts beyond reason, then again until the end.

    Every frame has a connection of its own, for the first bad one closes it. Half of them wait for the
    answer or the end, so that the broker is not only greeted and left."""
    chance = random.Random(4711 + part)
    link.send("at it")
    sent = 0
    whole = False
    while going.is_set() or not whole:
        for key in range(-1, 96):
            if key % parts != part:
                continue
            for version in range(-1, 20):
                known = key in KEYS.values()
                bodies = [b"", b"\x7f\xff\xff\xff" * 4, b"\xff\xff\xff\xfe" * 4, b"\xff" * 64, b"\x80" * 64,
                          b"\xff\xff\xff\xff\x07" * 8, bytes(64)]
                bodies += [chance.randbytes(chance.randrange(200)) for _ in range(2)]
                for body in bodies if known else bodies[-2:]:
                    one(port, group, sent, frame(key, version, body, flexible=chance.random() < 0.5))
                    sent += 1
            if whole and not going.is_set():
                break
        whole = True
    link.send(sent)


# What a count can be that should not be: 2^31-1, -2, and varints that do not end.
COUNTS = [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe", b"\xff" * 11, b"\xff\xff\xff\xff\x07", b"\x7f\xff", b"\x80" * 11]


def mutants(going, link, port, group, part, parts):
    """Every request as Kafka's own classes write it, with a count beyond reason at some places."""
    chance = random.Random(1147 + part)
    link.send("at it")
    sent = 0
    for number, (key, version, body) in enumerate(golden_requests()):
        if number % parts != part:
            continue
        for flexible in (False, True):
            for count in COUNTS * 3:
                at = chance.randrange(len(body) + 1)
                bad = body[:at] + count + body[at + chance.choice([0, 1, len(count)]):]
                one(port, group, sent, frame(key, version, bad, flexible=flexible))
                sent += 1
    link.send(sent)
    rest(going)


def one(port, group, number, request):
    s = connect(port, f"127.{group}.1.{number % 200 + 1}", timeout=60)
    try:
        s.sendall(request)
        if number % 2:
            # Some requests may rightly wait: for members, for records.
            s.settimeout(0.02)
            s.recv(65536)
    except OSError:
        pass
    s.close()


def repeat(going, link, port, requests):
    """Asks the same large questions, one after the other, and reads the answers. A question may also be
    refused by closing. Tells how many were asked and how large the largest answer was."""
    asked = largest = 0
    link.send("asking")
    while going.is_set() or asked < len(requests):
        try:
            largest = max(largest, len(ask(port, requests[asked % len(requests)], "127.9.0.1")))
        except (EOFError, ConnectionError):
            pass
        asked += 1
    link.send((asked, largest))


def numbered(going, link, port, source, requests, at_once):
    """Sends different requests, so many before it reads their answers. Tells the answers."""
    s = connect(port, source, timeout=60)
    link.send("at it")
    answers = []
    for at in range(0, len(requests), at_once):
        pack = requests[at:at + at_once]
        s.sendall(b"".join(pack))
        answers += [read_frame(s) for _ in pack]
    link.send(answers)
    rest(going)
    s.close()


def park(going, link, port, sources, request, each, most):
    """Sends fetches that wait, so many on each connection. Tells how many connections have no answer once
    these are at most so many, and at the end leaves without a word, every second one rudely."""
    held = []
    for source in sources:
        s = connect(port, source, timeout=60)
        s.sendall(request * each)
        held.append(s)
    link.send(len(held))
    while going.is_set():
        waiting = len(held) - len(with_answers(held))
        if waiting <= most:
            link.send(waiting)
            rest(going)
        time.sleep(0.05)
    for at, s in enumerate(held):
        if at % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()


def with_answers(sockets):
    """Those of many sockets that have something to read."""
    poll = select.poll()
    for s in sockets:
        poll.register(s, select.POLLIN)
    ready = {number for number, _ in poll.poll(0)}
    return [s for s in sockets if s.fileno() in ready]


def join_and_wait(going, link, port, sources, request, refused):
    """Joins one group on many connections. Tells how many were refused, by error, once so many were; who is
    let in waits."""
    held = open_many(port, sources)
    for s in held:
        s.sendall(request)
    errors = {}
    while going.is_set() and sum(errors.values()) < refused:
        for s in with_answers(held):
            error = struct.unpack_from(">h", read_frame(s), 4)[0]
            # Who is let in is told so when the rebalance ends.
            if error:
                errors[error] = errors.get(error, 0) + 1
        time.sleep(0.02)
    link.send(errors)
    rest(going)
