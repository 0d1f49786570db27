"""What every agent written in Python shares: one JSON object per line in, one out, in order."""

import base64
import json
import os
import sys


def pack(it):
    return None if it is None else base64.b64encode(bytes(it)).decode()


def unpack(it):
    return None if it is None else base64.b64decode(it)


def headers_in(record):
    return [(name, unpack(it)) for name, it in record["headers"]]


def record_out(partition, offset, timestamp, key, value, headers):
    pairs = [[name, pack(it)] for name, it in headers or ()]
    fields = {"partition": partition, "offset": offset, "timestamp": timestamp}
    return {**fields, "key": pack(key), "value": pack(value), "headers": pairs}


def serve(client, version, agent):
    """Answers requests with the method of that name until the driver closes our input."""
    # The library may print; only answers may reach the driver.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(it):
        answers.write(json.dumps(it) + "\n")
        answers.flush()

    say({"client": client, "version": version})
    for line in sys.stdin:
        ask = json.loads(line)
        do = ask.pop("do").replace("-", "_")
        try:
            say({"ok": getattr(agent, do)(**ask) or {}})
        except Exception as failure:  # every failure is an answer; the case decides what it means
            say({"error": f"{type(failure).__name__}: {failure}"})
    os._exit(0)  # what still runs in the library's threads has nothing left to do
