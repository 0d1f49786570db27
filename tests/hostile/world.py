"""One broker, one well-behaved neighbour, and attackers, each a process of its own."""

import multiprocessing
import os
import re
import resource
import signal
import statistics
import subprocess
import tempfile
import time

from wire import METADATA, MIB, connect, read_frame

FORK = multiprocessing.get_context("fork")


def stand(core, fixed):
    """Where this process runs, and whether before everything that is not fixed as well."""
    if core is not None:
        os.sched_setaffinity(0, {core})
        if fixed:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


class Broker:
    def __init__(self, binary, settings=(), descriptors=None, priority=0, core=None):
        self.data = tempfile.TemporaryDirectory(prefix="corelane-hostile-")
        self.log = open(os.path.join(self.data.name, "log"), "w+")
        config = os.path.join(self.data.name, "config.properties")
        with open(config, "w") as file:
            file.writelines(f"{key}={value}\n" for key, value in settings)
        arguments = [binary, "start", "--data", os.path.join(self.data.name, "d"), "--listen", "127.0.0.1:0",
                     "--lanes", "1", "--config", config]

        def prepare():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
            if priority:
                os.setpriority(os.PRIO_PROCESS, 0, priority)
            stand(core, True)
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=self.log, text=True,
                                        preexec_fn=prepare)
        line = self.process.stdout.readline()
        ready = re.search(r"kafka=\S*?:(\d+)", line)
        if not ready:
            raise RuntimeError(f"not ready: {line!r}\n{self.said()}")
        self.port = int(ready.group(1))

    def said(self):
        with open(self.log.name) as file:
            return file.read()

    def resident(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) * 1024

    def peak(self):
        """The most that was resident since `forget_peak`."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+)", file.read()).group(1)) * 1024

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def report(self):
        """What the lane says about itself when it is asked now."""
        before = len(self.said())
        self.process.send_signal(signal.SIGUSR1)
        # A report is several lines and ends with the metrics: the one of the neighbour is among them.
        until(lambda: re.search(r"request\.Metadata\.answered .*\n", self.said()[before:]), "no report")
        return self.said()[before:]

    def counter(self, name):
        told = re.search(rf": {re.escape(name)} (\d+)\n", self.report())
        return int(told.group(1)) if told else 0

    def stop(self):
        self.process.terminate()
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = "killed after 60 s"
        self.process.stdout.close()
        self.log.close()
        self.data.cleanup()
        return code


class Other:
    """A process that runs `work(going, tell, ...)` until it is told to end. `tell` sends us a value."""

    def __init__(self, work, *arguments, priority=0, core=None, fixed=False):
        self.going = FORK.Event()
        self.going.set()
        self.ours, theirs = FORK.Pipe()

        def body():
            if priority:
                os.setpriority(os.PRIO_PROCESS, 0, priority)
            stand(core, fixed)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                work(self.going, theirs, *arguments)
            except EOFError as error:
                theirs.send(error)
            except Exception as error:  # whatever it was, the parent has to know
                theirs.send(error)
        self.process = FORK.Process(target=body, daemon=True)
        self.process.start()
        theirs.close()

    def hear(self, seconds=120):
        assert self.ours.poll(seconds), "an attacker says nothing"
        told = self.ours.recv()
        if isinstance(told, Exception):
            raise told
        return told

    def end(self):
        self.going.clear()
        self.process.join(20)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.ours.close()


def neighbour(going, link, port):
    """Asks for metadata, a little at a time. Asked, it tells how long the answers took since it was last
    asked, sorted, in milliseconds."""
    s = connect(port, "127.0.0.2", timeout=60)
    took = []
    while going.is_set():
        began = time.perf_counter()
        s.sendall(METADATA)
        read_frame(s)
        took.append((time.perf_counter() - began) * 1000)
        if link.poll():
            link.recv()
            link.send(sorted(took))
            took = []
        time.sleep(0.001)


class World:
    def __init__(self, binary, settings, descriptors, slices, slice_seconds, priority, apart=False):
        self.slices, self.slice_seconds = slices, slice_seconds
        first, second = sorted(os.sched_getaffinity(0))[:2] if apart else (None, None)
        self.attackers_core = second
        self.broker = Broker(binary, settings, descriptors, priority, first)
        self.port = self.broker.port
        self.others = []
        self.neighbour = Other(neighbour, self.port, priority=priority, core=second, fixed=True)
        self.looks = []

    def attack(self, work, *arguments):
        it = Other(work, self.port, *arguments, core=self.attackers_core)
        self.others.append(it)
        return it

    def end_attacks(self):
        for it in self.others:
            it.going.clear()
        for it in self.others:
            it.end()
        self.others.clear()

    def p99(self, slices):
        """The neighbour's 99th percentile and its median, slice by slice."""
        def slice_of():
            self.neighbour.ours.send("so far")
            return self.neighbour.hear()
        slice_of()
        all99, all50 = [], []
        for _ in range(slices):
            time.sleep(self.slice_seconds)
            took = slice_of()
            all99.append(took[len(took) * 99 // 100])
            all50.append(took[len(took) // 2])
        return all99, all50

    def look(self):
        """What the neighbour, the memory and the descriptors are like now."""
        cpu, began = self.broker.cpu_seconds(), time.monotonic()
        p99, p50 = self.p99(self.slices)
        busy = (self.broker.cpu_seconds() - cpu) / (time.monotonic() - began)
        seen = {
            "p99": statistics.median(p99), "p50": statistics.median(p50), "best": min(p50), "busy": busy,
            "resident": self.broker.resident(), "descriptors": self.broker.descriptors(),
        }
        self.looks.append(seen)
        return seen

    def grown(self):
        return self.broker.resident() - self.looks[0]["resident"]

    def settles(self, most, since=None):
        """What a burst took goes back bit by bit: it comes below `most` while the attackers are still there."""
        since = self.looks[0]["resident"] if since is None else since
        grown = lambda: self.broker.resident() - since  # noqa: E731
        until(lambda: grown() < most, lambda: f"{mib(grown())} stay, {mib(most)} are allowed")

    def close(self):
        self.end_attacks()
        self.neighbour.end()
        return self.broker.stop()


def until(what, told, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, told() if callable(told) else told
        time.sleep(0.05)


def mib(number):
    return f"{number / MIB:.1f} MiB"
