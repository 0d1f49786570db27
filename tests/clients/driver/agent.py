"""Speaks to one foreign client in its own process: one JSON object per line asks, one answers.

An agent program only does what it is asked (`do`) and has no opinion; the cases hold every assertion. It says
`{"client", "version"}` first, then answers each request with `{"ok": ...}` or `{"error": text}`, in order.
Bytes travel as base64, null as null. A request that is not answered in time kills the agent.
"""

import base64
import json
import queue
import subprocess
import threading

# Longer than anything a client itself waits for, so that it is the client that says what went wrong.
ANSWER_SECONDS_MAX = 300


class ClientError(Exception):
    """The client refused or failed; the text is what it said."""


class Silent(Exception):
    """The client did not answer, or its process ended."""


def pack(it):
    return None if it is None else base64.b64encode(it).decode()


def unpack(it):
    return None if it is None else base64.b64decode(it)


def record(value, key=None, headers=(), timestamp=None, partition=0):
    """A record as an agent takes it. Headers are (name, value) pairs in order."""
    pairs = [[name, pack(it)] for name, it in headers]
    return {"key": pack(key), "value": pack(value), "headers": pairs, "timestamp": timestamp, "partition": partition}


class Agent:
    """One process of a client program."""

    def __init__(self, command, broker, log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([*command, broker], stdin=pipe, stdout=pipe, stderr=errors)
        self.log, self.answers = log, queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        hello = self._answer(ANSWER_SECONDS_MAX, "hello")
        self.name, self.version = hello["client"], hello["version"]

    def _read(self):
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def _answer(self, seconds, what):
        try:
            line = self.answers.get(timeout=seconds)
        except queue.Empty:
            self.kill()
            raise Silent(f"no answer to {what} within {seconds} s; see {self.log}") from None
        if line is None:
            raise Silent(f"the client ended during {what}; see {self.log}")
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            raise Silent(f"the client printed {line[:200]!r} during {what}") from None

    def ask(self, do, **more):
        """Asks and waits; raises ClientError when the client says no."""
        self.send(do, **more)
        return self.wait(do, more.get("seconds", 0))

    def send(self, do, **more):
        """Asks without waiting, for what must overlap; `wait` collects the answer."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Silent(f"the client ended before {do}; see {self.log}") from None

    def wait(self, do, seconds=0):
        answer = self._answer(ANSWER_SECONDS_MAX + seconds, do)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["ok"]

    def alive(self):
        return self.process.poll() is None

    def kill(self):
        """kill -9: the client cannot say goodbye to its group."""
        self.process.kill()
        self.process.wait()

    def close(self):
        if not self.alive():
            return
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
