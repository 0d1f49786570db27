"""The broker under test: ours, Apache Kafka from Maven's jars, or one that already runs.

A broker started here lives in a fresh directory under target/, listens on a free port of 127.0.0.1, and can be
killed without warning and started again on the same port and data. Only processes started here are ever killed.
"""

import os
import pathlib
import queue
import random
import re
import shutil
import socket
import subprocess
import threading
import time

from driver import install

READY_SECONDS_MAX = 180
STOP_SECONDS_MAX = 120
# How many ports are tried for a broker that must come back on the same one.
PORTS_MAX = 100

READY = re.compile(r"^corelane ready kafka=(?P<kafka>[^ ,]+)[^ ]* data=(?P<data>.+) lanes=(?P<lanes>\d+) version=(?P<version>\S+)$")

# Combined broker and controller. Groups start at once: a delay of three seconds would only slow the cases.
KAFKA_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
"""


def lasting_port():
    """A free port below those the kernel hands out by itself.

    While a broker is dead, its clients try to connect to its port. A port that the kernel also gives to connections
    may then be taken by one of them, which meets itself there, and the broker finds its address in use.
    """
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(PORTS_MAX):
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as it:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                it.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port below {lowest} in {PORTS_MAX} tries")


def accepts(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


class Running:
    """A broker somebody else runs: it can be used, not killed."""

    def __init__(self, address):
        self.address, self.name = address, f"broker at {address}"

    def start(self):
        if not accepts(self.address):
            raise RuntimeError(f"nothing listens on {self.address}")

    def stop(self):
        pass

    def discard(self):
        pass


class Started:
    """A broker process of our own; its output goes to `log`."""

    def __init__(self, directory):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.directory, self.log, self.process = directory, directory / "broker.log", None

    def spawn(self, command, stdout=None):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log)

    def explain(self, what):
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        return RuntimeError(f"{self.name} {what}; the end of {self.log}:\n{tail}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def discard(self):
        """After a run without failures nobody needs its log and data."""
        shutil.rmtree(self.directory)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.explain(f"did not stop within {STOP_SECONDS_MAX} s of SIGTERM") from None


class Corelane(Started):
    """Our binary. The first start asks for any port, or one that lasts; later ones for the same."""

    def __init__(self, directory, extra, lasting):
        super().__init__(directory)
        self.binary = os.environ.get("CORELANE_BIN", str(install.ROOT / "target/release/corelane"))
        self.address, self.name, self.extra = f"127.0.0.1:{lasting_port()}" if lasting else None, "corelane", extra

    def start(self):
        data = self.directory / "data"
        listen = self.address or "127.0.0.1:0"
        if not pathlib.Path(self.binary).exists():
            raise RuntimeError(f"{self.binary} is not there: `cargo build --release` makes it, CORELANE_BIN names another")
        command = [self.binary, "start", "--data", str(data), "--listen", listen, *self.extra]
        self.spawn(command, stdout=subprocess.PIPE)
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=READY_SECONDS_MAX)
        except queue.Empty:
            raise self.explain(f"was not ready within {READY_SECONDS_MAX} s") from None
        ready = READY.match(line or "")
        if not ready:
            raise self.explain(f"said {line!r} instead of its ready line")
        self.address = ready["kafka"]
        self.name = f"corelane {ready['version']}, {ready['lanes']} lanes"

    @staticmethod
    def _read(stdout, lines):
        for line in stdout:
            lines.put(line.decode(errors="replace").rstrip("\n"))
        lines.put(None)


class Kafka(Started):
    """Apache Kafka as a single node, from the jars the Java client brings along."""

    def __init__(self, directory):
        super().__init__(directory)
        self.port, self.name = lasting_port(), f"Apache Kafka {install.kafka_version()}"
        self.address = f"127.0.0.1:{self.port}"
        self.properties = directory / "server.properties"
        values = {"port": self.port, "controller": lasting_port(), "data": directory / "data"}
        self.properties.write_text(KAFKA_PROPERTIES.format(**values))
        self.java = ["java", "-Xmx1g", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        self.java += ["-cp", install.classpath()]
        storage = ["kafka.tools.StorageTool", "format", "-t", "Y29yZWxhbmUtY2xpZW50cw", "-c", str(self.properties)]
        subprocess.run(self.java + storage, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def start(self):
        self.spawn([*self.java, "kafka.Kafka", str(self.properties)])
        until = time.monotonic() + READY_SECONDS_MAX
        while not accepts(self.address):
            if self.process.poll() is not None or until < time.monotonic():
                raise self.explain("did not start")
            time.sleep(0.05)


def fresh(kind, extra=(), lasting=False):
    """A broker that never ran. One that shall be killed and come back asks for a `lasting` port."""
    fresh.count += 1
    directory = pathlib.Path(install.TARGET) / "run" / f"{kind}-{os.getpid()}-{fresh.count}"
    return Kafka(directory) if kind == "kafka" else Corelane(directory, list(extra), lasting)


fresh.count = 0
