"""The clients there are: how each is installed and started. lacks.toml beside `run` says what each cannot do."""

import collections

from driver import install

Client = collections.namedtuple("Client", "part command deep", defaults=[False])


def python(program):
    return lambda: [str(install.TARGET / "python/venv/bin/python"), str(install.HERE / "python" / program)]


def node(program, binary="node"):
    return lambda: [binary, str(install.TARGET / "node" / program)]


def go(program):
    return lambda: [str(install.TARGET / "go" / program)]


def java():
    flags = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return ["java", *flags, "-cp", install.classpath(), "Client"]


CLIENTS = {
    "kcat": Client(install.kcat, lambda: ["python3", str(install.HERE / "python/kcat_agent.py")]),
    "confluent-kafka": Client(install.python, python("confluent_agent.py")),
    "kafka-python": Client(install.python, python("kafka_python_agent.py")),
    "aiokafka": Client(install.python, python("aiokafka_agent.py")),
    "kafkajs": Client(install.node, node("kafkajs.mjs")),
    "java": Client(install.java, java),
    "franz-go": Client(install.go, go("franz")),
    "kafka-go": Client(install.go, go("segmentio")),
    "rskafka": Client(install.rust, lambda: [str(install.TARGET / "rust/release/rskafka-agent")]),
    "rdkafka": Client(install.rdkafka, lambda: [str(install.TARGET / "rdkafka/release/rdkafka-agent")], deep=True),
}
