"""Kafka's own command line tools, one after the other in one JVM, each with assertions on what it prints.

The steps share one topic and one group and build on each other: an early failure may bring later ones.
What a tool prints is compared where users read it; words a broker chooses (error messages) only by their subject.
"""

import json
import queue
import re
import subprocess
import tempfile
import threading
import time

from driver import install
from driver.agent import Agent
from driver.cases import SESSION_MS
from driver.clients import CLIENTS
from driver.wire import Wire

TOOLS = "org.apache.kafka.tools."
PACKAGES = {"ConfigCommand": "kafka.admin.", "ConsoleConsumer": TOOLS + "consumer."}
PACKAGES |= {"ConsumerGroupCommand": TOOLS + "consumer.group.", "ReassignPartitionsCommand": TOOLS + "reassign."}
PROCESS_SECONDS_MAX = 180
SETTLE_SECONDS_MAX = 120
CONSUME = ("--timeout-ms", "120000")

STEPS = {}


def step(run):
    STEPS[run.__name__.replace("_", "-")] = run
    return run


class Bench:
    """What the steps work with: the JVM, the topic, the group, a folder for the files tools read."""

    def __init__(self, broker, mark, folder):
        address = broker.address
        self.address, self.folder, self.broker = address, folder, broker
        self.topic, self.group, self.doomed = f"tools-{mark}", f"tools-group-{mark}", f"tools-doomed-{mark}"
        self.agent, self.wire = Agent(CLIENTS["java"].command(), address, install.LOGS / "tools.log"), Wire(address)

    def run(self, tool, *arguments, text="", code=0, server="--bootstrap-server"):
        """Runs a tool, checks its exit code, returns what it printed."""
        named = [server, self.address] if server else []
        name = PACKAGES.get(tool, TOOLS) + tool
        done = self.agent.ask("tool", **{"class": name, "arguments": [*arguments, *named], "input": text})
        printed = done["out"] + done["err"]
        assert done["code"] == code, f"{tool} {' '.join(arguments)}: exit {done['code']}, wanted {code}: {printed[:400]}"
        return printed

    @staticmethod
    def process(tool):
        """The command line of a tool that cannot share the JVM."""
        return ["java", "-XX:TieredStopAtLevel=1", "-cp", install.classpath(), TOOLS + tool]

    def topics(self, *arguments, **more):
        return self.run("TopicCommand", *arguments, **more)

    def configs(self, kind, *arguments, **more):
        return self.run("ConfigCommand", "--entity-type", kind, *arguments, **more)

    def groups(self, *arguments, **more):
        return self.run("ConsumerGroupCommand", *arguments, **more)

    def file(self, name, content):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def ends(self):
        return [self.wire.end(self.topic, it) for it in range(2)]


def says(printed, *patterns):
    """Every pattern is found in what was printed."""
    for it in patterns:
        assert re.search(it, printed, re.IGNORECASE | re.MULTILINE), f"{it!r} is not in: {printed[:500]}"
    return printed


def soon(what, look, *patterns):
    """What one call changed, another may see a moment later."""
    until = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        try:
            return says(look(), *patterns)
        except AssertionError:
            if until < time.monotonic():
                raise AssertionError(f"{what} was not seen within {SETTLE_SECONDS_MAX} s") from None
        time.sleep(0.1)


def offsets(printed, group, topic):
    """{partition: offset} of a table of the group tool that ends in an offset per partition."""
    rows = re.findall(rf"^{group}\s+{topic}\s+(\d+)\s+(\d+)", printed, re.MULTILINE)
    return {int(partition): int(offset) for partition, offset in rows}


@step
def topics_create(b):
    made = b.topics("--create", "--topic", b.topic, "--partitions", "2", "--config", "retention.ms=7200000")
    says(made, f"Created topic {b.topic}")
    node = says(b.topics("--describe", "--topic", b.topic), r"Leader: \d+")
    b.node = re.search(r"Leader: (\d+)", node)[1]


@step
def topics_create_assigned(b):
    says(b.topics("--create", "--topic", b.doomed, "--replica-assignment", f"{b.node},{b.node},{b.node}"), "Created topic")
    says(b.topics("--describe", "--topic", b.doomed), "PartitionCount: 3")


@step
def topics_create_refused(b):
    def refused(*more):
        return b.topics("--create", *more, code=1)

    says(refused("--topic", b.topic), "exist")
    says(refused("--topic", "no/slash"), "invalid")
    says(refused("--topic", "t1", "--replica-assignment", "77"), "77")
    says(refused("--topic", "t2", "--replication-factor", "3"), "replic")
    says(refused("--topic", "t3", "--config", "no.such.key=1"), r"no\.such\.key")
    says(refused("--topic", "t4", "--config", "retention.ms=soon"), r"retention\.ms")
    says(refused("--topic", "t5", "--partitions", "0"), "partition")
    b.topics("--create", "--topic", b.topic, "--if-not-exists")


@step
def topics_list(b):
    says(b.topics("--list"), f"^{b.topic}$", f"^{b.doomed}$")


@step
def topics_describe(b):
    found = b.topics("--describe", "--topic", b.topic)
    says(found, r"TopicId: \S{22}", "PartitionCount: 2", "ReplicationFactor: 1", r"retention\.ms=7200000")
    says(found, rf"Partition: 1\s+Leader: {b.node}\s+Replicas: {b.node}\s+Isr: {b.node}\b")
    says(b.topics("--describe", "--topic", "no-such-topic", code=1), "does not exist")


@step
def topics_under_replicated(b):
    for it in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
        found = b.topics("--describe", it)
        assert "Partition:" not in found, f"{it}: {found[:300]}"
    # One replica of one that is wanted: exactly the minimum.
    says(b.topics("--describe", "--at-min-isr-partitions"), rf"Topic: {b.topic}\s.*Partition: 1\s")
    overridden = b.topics("--describe", "--topics-with-overrides")
    assert b.topic in overridden and b.doomed not in overridden, overridden[:300]


@step
def topics_alter(b):
    b.topics("--alter", "--topic", b.doomed, "--partitions", "5")
    soon("five partitions", lambda: b.topics("--describe", "--topic", b.doomed), "PartitionCount: 5")
    says(b.topics("--alter", "--topic", b.doomed, "--partitions", "2", code=1), "increase|partitions")
    says(b.topics("--alter", "--topic", "no-such-topic", "--partitions", "2", code=1), "does not exist")


@step
def topics_delete(b):
    b.topics("--delete", "--topic", b.doomed)
    soon("the topic gone", lambda: b.topics("--describe", "--topic", b.doomed, code=1), "does not exist")
    says(b.topics("--delete", "--topic", "no-such-topic", code=1), "does not exist")
    b.topics("--delete", "--topic", "no-such-topic", "--if-exists")


@step
def configs_topic(b):
    one = ("--entity-name", b.topic)
    found = b.configs("topics", *one, "--describe")
    says(found, r"retention\.ms=7200000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:retention\.ms=7200000")
    says(b.configs("topics", *one, "--alter", "--add-config", "retention.ms=3600000,segment.bytes=2097152"), "Completed")
    look = lambda: b.configs("topics", *one, "--describe")
    soon("both values", look, r"retention\.ms=3600000", r"segment\.bytes=2097152")
    everything = b.configs("topics", *one, "--describe", "--all")
    says(everything, r"cleanup\.policy=delete", r"max\.message\.bytes=1048588", r"DEFAULT_CONFIG:log\.cleanup\.policy")
    b.configs("topics", *one, "--alter", "--delete-config", "segment.bytes")
    soon("the deleted key gone", lambda: b.configs("topics", *one, "--describe") + "end", r"\A(?![\s\S]*segment\.bytes)")
    # What is not set can be deleted on the wire; the tool itself insists that it is set.
    says(b.configs("topics", *one, "--alter", "--add-config", "no.such.key=1", code=1), r"no\.such\.key")
    says(b.configs("topics", *one, "--alter", "--add-config", "retention.ms=soon", code=1), r"retention\.ms")


@step
def configs_broker(b):
    one = ("--entity-name", b.node)
    says(b.configs("brokers", *one, "--describe"), f"configs for broker {b.node} are")
    everything = b.configs("brokers", *one, "--describe", "--all")
    says(everything, r"advertised\.listeners=\S*" + re.escape(b.address), r"log\.retention\.hours=168", r"num\.partitions=1")
    says(b.configs("brokers", *one, "--alter", "--add-config", "log.retention.ms=8640000"), "Completed")
    look = lambda: b.configs("brokers", *one, "--describe")
    soon("the broker's own value", look, r"log\.retention\.ms=8640000 .*DYNAMIC_BROKER_CONFIG")
    b.configs("brokers", *one, "--alter", "--delete-config", "log.retention.ms")
    says(b.configs("brokers", *one, "--alter", "--add-config", "broker.rack=2", code=1), r"broker\.rack")


@step
def configs_broker_default(b):
    default = "--entity-default"
    says(b.configs("brokers", default, "--alter", "--add-config", "log.retention.ms=9640000"), "Completed")
    look = lambda: b.configs("brokers", default, "--describe")
    soon("the default of all brokers", look, r"log\.retention\.ms=9640000 .*DYNAMIC_DEFAULT_BROKER_CONFIG")
    b.configs("brokers", default, "--alter", "--delete-config", "log.retention.ms")
    soon("the default gone", lambda: look() + "end", r"\A(?![\s\S]*log\.retention\.ms)")


@step
def console(b):
    keyed = ("--reader-property", "parse.key=true", "--reader-property", "key.separator=:")
    b.run("ConsoleProducer", "--topic", b.topic, *keyed, text="a:one\nb:two\nc:three\n")
    shown = ("--formatter-property", "print.key=true", "--formatter-property", "key.separator=:")
    reading = ("--topic", b.topic, *shown, *CONSUME)
    found = b.run("ConsoleConsumer", "--from-beginning", "--max-messages", "3", *reading)
    says(found, "^a:one$", "^b:two$", "^c:three$", "total of 3 messages")


@step
def console_partition(b):
    b.wire.produce(b.topic, [(None, b"from-%d" % it, int(time.time() * 1000)) for it in range(10)], 1)
    place = str(b.wire.end(b.topic, 1) - 4)
    where = ("--topic", b.topic, "--partition", "1", "--offset", place, "--max-messages", "4", *CONSUME)
    says(b.run("ConsoleConsumer", *where), r"from-6\nfrom-7\nfrom-8\nfrom-9\n", "total of 4 messages")


@step
def producer_perf(b):
    before, server = sum(b.ends()), f"bootstrap.servers={b.address}"
    load = ("--topic", b.topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1")
    says(b.run("ProducerPerformance", *load, "--command-property", server, "acks=all", server=None), "^20000 records sent")
    assert sum(b.ends()) - before == 20_000, f"{sum(b.ends()) - before} records are stored"


@step
def consumer_perf(b):
    found = b.run("ConsumerPerformance", "--topic", b.topic, "--num-records", "20000", "--timeout", "120000")
    read = int(found.strip().splitlines()[-1].split(",")[4])
    assert 20_000 <= read <= sum(b.ends()), f"{read} records read"


@step
def end_to_end_latency(b):
    load = ("--topic", b.topic, "--num-records", "200", "--producer-acks", "all", "--record-size", "100")
    says(b.run("EndToEndLatency", *load), r"Avg latency: \d", r"Percentiles: 50th = \d+")


@step
def verifiable_producer(b):
    """Flushes only when its process ends, so it has one of its own."""
    load = ("--topic", b.topic, "--max-messages", "50", "--acks", "-1", "--bootstrap-server", b.address)
    quiet = {"stderr": subprocess.DEVNULL, "timeout": PROCESS_SECONDS_MAX, "text": True}
    found = subprocess.run([*b.process("VerifiableProducer"), *load], stdout=subprocess.PIPE, check=True, **quiet).stdout
    told = [json.loads(it) for it in found.splitlines() if it.startswith("{")]
    sent = [int(it["value"]) for it in told if it["name"] == "producer_send_success"]
    assert sorted(sent) == list(range(50)), f"acknowledged: {sent}"
    says(found, '"sent":50.*"acked":50|"acked":50.*"sent":50')


@step
def get_offsets(b):
    def at(time):
        found = b.run("GetOffsetShell", "--topic", b.topic, "--time", time)
        rows = re.findall(rf"^{b.topic}:(\d+):(-?\d*)$", found, re.MULTILINE)
        return [int(offset) for _, offset in sorted(rows)]

    ends = b.ends()
    assert at("-1") == ends, f"latest: {at('-1')}, stored {ends}"
    assert at("-2") == [0, 0], f"earliest: {at('-2')}"
    largest = at("-3")
    assert all(0 <= it < end for it, end in zip(largest, ends, strict=True)), f"largest timestamp: {largest} of {ends}"
    assert at("-4") == [0, 0], f"earliest local: {at('-4')}"
    assert at("latest") == ends and at("earliest") == [0, 0], f"by name: {at('latest')}, {at('earliest')}"
    one = b.run("GetOffsetShell", "--topic-partitions", f"{b.topic}:1", "--time", "latest")
    assert one.strip().endswith(f"{b.topic}:1:{ends[1]}") and f"{b.topic}:0" not in one, one
    assert at("-5") == [], f"latest tiered, without tiers: {at('-5')}"
    assert at("-6") == [], f"earliest pending upload, without tiers: {at('-6')}"


@step
def delete_records(b):
    wanted = {"version": 1, "partitions": [{"topic": b.topic, "partition": 0, "offset": 100}]}
    done = b.run("DeleteRecordsCommand", "--offset-json-file", b.file("delete.json", wanted))
    says(done, rf"partition: {b.topic}-0\s+low_watermark: 100")
    assert b.wire.start(b.topic, 0) == 100, b.wire.start(b.topic, 0)
    beyond = {"version": 1, "partitions": [{"topic": b.topic, "partition": 0, "offset": 10**9}]}
    refused = b.run("DeleteRecordsCommand", "--offset-json-file", b.file("beyond.json", beyond))
    says(refused, rf"{b.topic}-0\s+error: .*OffsetOutOfRange")


@step
def log_dirs(b):
    found = b.run("LogDirsCommand", "--describe", "--topic-list", b.topic)
    [node] = json.loads(found.strip().splitlines()[-1])["brokers"]
    assert all(place["logDir"].startswith("/") for place in node["logDirs"]), node
    parts = {it["partition"]: it["size"] for place in node["logDirs"] for it in place["partitions"]}
    assert set(parts) == {f"{b.topic}-0", f"{b.topic}-1"}, parts
    assert all(100_000 < it for it in parts.values()), f"20000 records of 100 bytes take {parts}"


@step
def leader_election(b):
    for kind in ("preferred", "unclean"):
        one = ("--election-type", kind, "--topic", b.topic, "--partition", "0")
        says(b.run("LeaderElectionCommand", *one), rf"Valid replica already elected for partitions {b.topic}-0")


@step
def reassign_generate(b):
    moving = b.file("move.json", {"version": 1, "topics": [{"topic": b.topic}]})
    found = b.run("ReassignPartitionsCommand", "--generate", "--topics-to-move-json-file", moving, "--broker-list", b.node)
    plans = [json.loads(it) for it in found.splitlines() if it.startswith("{")]
    assert len(plans) == 2, found[:300]
    for plan in plans:
        assert [it["replicas"] for it in plan["partitions"]] == [[int(b.node)]] * 2, plan


def assignment(b, replicas):
    one = {"topic": b.topic, "partition": 0, "replicas": replicas}
    return ("--reassignment-json-file", b.file("assign.json", {"version": 1, "partitions": [one]}))


@step
def reassign_execute(b):
    same = assignment(b, [int(b.node)])
    says(b.run("ReassignPartitionsCommand", "--execute", *same), rf"Successfully started partition reassignment for {b.topic}-0")
    says(b.run("ReassignPartitionsCommand", "--execute", *assignment(b, [77]), code=1), "Unknown broker id 77")


@step
def reassign_throttled(b):
    same = assignment(b, [int(b.node)])
    keys = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")

    def shown():
        described = b.run("ConfigCommand", "--describe", "--entity-type", "brokers", "--entity-name", b.node)
        return [it for it in keys if re.search(rf"^\s*{re.escape(it)}=1000000\b", described, re.MULTILINE)]

    found = b.run("ReassignPartitionsCommand", "--execute", "--throttle", "1000000", *same)
    says(found, r"throttle limit was set to 1000000 B/s", rf"Successfully started partition reassignment for {b.topic}-0")
    assert len(shown()) == 2, shown()
    says(b.run("ReassignPartitionsCommand", "--verify", *same), rf"Clearing broker-level throttles on broker {b.node}")
    assert not shown(), shown()


@step
def reassign_verify_list_cancel(b):
    same = assignment(b, [int(b.node)])
    says(b.run("ReassignPartitionsCommand", "--verify", *same), rf"Reassignment of partition {b.topic}-0 is completed")
    says(b.run("ReassignPartitionsCommand", "--list"), "No partition reassignments found")
    says(b.run("ReassignPartitionsCommand", "--cancel", *same), "None of the specified partition reassignments are active")


@step
def cluster(b):
    says(b.run("ClusterTool", "cluster-id"), r"Cluster ID: \S{22}")
    host, port = b.address.split(":")
    says(b.run("ClusterTool", "list-endpoints"), rf"{b.node}\s+{re.escape(host)}\s+{port}\s.*broker")


@step
def features(b):
    found = b.run("FeatureCommand", "--bootstrap-server", b.address, "describe", server=None)
    says(found, r"^Feature: metadata\.version\s.*FinalizedVersionLevel: 4\.3-IV0\s+Epoch: \d+")


@step
def metadata_quorum(b):
    def describe(what):
        return b.run("MetadataQuorumCommand", "--bootstrap-server", b.address, "describe", what, server=None)

    says(describe("--status"), rf"LeaderId:\s+{b.node}\b", r"LeaderEpoch:\s+\d+", r"HighWatermark:\s+\d+", r"MaxFollowerLag:\s+0\b")
    says(describe("--replication"), rf"^{b.node}\s+\S+\s+\d+\s+0\s+.*Leader")


@step
def broker_api_versions(b):
    found = b.run("BrokerApiVersionsCommand")
    says(found, rf"{re.escape(b.address)} \(id: {b.node} rack: ", r"Produce\(0\): 0 to \d+ \[usable: \d+\]")
    for name in ("Fetch", "JoinGroup", "OffsetCommit", "CreateTopics", "InitProducerId", "IncrementalAlterConfigs"):
        says(found, rf"\b{name}\(\d+\): \d+ to \d+ \[usable: \d+\]")


@step
def replica_verification(b):
    """Runs until it is killed, so it has a process of its own; it fetches as replica -2."""
    flags = ["--broker-list", b.address, "--topics-include", b.topic, "--report-interval-ms", "200"]
    tool = subprocess.Popen([*b.process("ReplicaVerificationTool"), *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(it) for it in tool.stdout], daemon=True).start()
    try:
        until, seen = time.monotonic() + PROCESS_SECONDS_MAX, ""
        while not re.search(r"max lag is 0 for partition \S+ at offset \d+ among 2 partitions", seen):
            seen += lines.get(timeout=max(0.1, until - time.monotonic()))
    except queue.Empty:
        raise AssertionError(f"no verdict within {PROCESS_SECONDS_MAX} s: {seen[-300:]!r}") from None
    finally:
        tool.kill()
        tool.wait()


@step
def groups_list(b):
    reading = ("--topic", b.topic, "--group", b.group, "--from-beginning", "--max-messages", "500", *CONSUME)
    says(b.run("ConsoleConsumer", *reading), "total of 500 messages")
    says(b.groups("--list"), f"^{b.group}$")
    says(b.groups("--list", "--state"), rf"^{b.group}\s+Empty\s*$")
    says(b.groups("--list", "--type"), rf"^{b.group}\s+Classic\s*$")
    says(b.groups("--list", "--state", "empty"), rf"^{b.group}\s+Empty\s*$")
    assert b.group not in b.groups("--list", "--state", "stable"), "an empty group is listed as stable"


@step
def groups_of_every_kind(b):
    row = rf"^{b.group}\s+Classic\s+consumer\s*$"
    for kind in ((), ("--consumer",), ("--group-type", "classic"), ("--protocol", "consumer")):
        says(b.run("GroupsCommand", "--list", *kind), row)
    for kind in (("--share",), ("--group-type", "share"), ("--protocol", "connect")):
        assert b.group not in b.run("GroupsCommand", "--list", *kind), f"{kind} lists a consumer group"


@step
def groups_describe_empty(b):
    found = b.groups("--describe", "--group", b.group)
    committed, ends = offsets(found, b.group, b.topic), b.ends()
    starts = [b.wire.start(b.topic, it) for it in range(2)]
    assert sum(committed.values()) - sum(starts) == 500, f"{committed} committed, the log starts at {starts}"
    for partition, end in enumerate(ends):
        says(found, rf"^{b.group}\s+{b.topic}\s+{partition}\s+\d+\s+{end}\s+{end - committed[partition]}\s+-")
    says(found, "no active members")
    says(b.groups("--describe", "--group", b.group, "--state"), rf"{re.escape(b.address)}\s+\({b.node}\)\s+-?\s+Empty\s+0")
    says(b.groups("--describe", "--all-groups"), rf"^{b.group}\s+{b.topic}\s+1\s")
    says(b.groups("--describe", "--all-groups", "--state"), rf"^{b.group}\s.*\sEmpty\s+0")
    says(b.groups("--describe", "--group", "no-such-group", code=0), "GroupIdNotFound|does not exist|not found")


@step
def groups_describe_active(b):
    with_member = Agent(CLIENTS["java"].command(), b.address, install.LOGS / "tools.log")
    try:
        with_member.ask("join", group=b.group, topic=b.topic, session_ms=SESSION_MS)
        until = time.monotonic() + SETTLE_SECONDS_MAX
        while sorted(with_member.ask("poll", seconds=0.2)["assigned"]) != [0, 1]:
            assert time.monotonic() < until, "the member was given nothing"
        says(b.groups("--describe", "--group", b.group), rf"^{b.group}\s+{b.topic}\s+1\s+\d+\s+\d+\s+\d+\s+consumer-\S+\s+/\S+\s+consumer-")
        says(b.groups("--describe", "--group", b.group, "--members", "--verbose"), rf"^{b.group}\s+consumer-.*\s2\s+.*{b.topic}")
        says(b.groups("--describe", "--group", b.group, "--state"), r"range\s+Stable\s+1")
        refused = b.groups("--reset-offsets", "--group", b.group, "--topic", b.topic, "--to-earliest", "--execute", code=0)
        says(refused, "inactive")
        says(b.groups("--delete", "--group", b.group, code=0), "not empty|NonEmpty")
        with_member.ask("leave")
    finally:
        with_member.close()


@step
def groups_reset(b):
    starts, ends = [b.wire.start(b.topic, it) for it in range(2)], b.ends()
    resets = {
        ("--to-earliest",): starts,
        ("--to-latest",): ends,
        ("--to-offset", "150"): [150, 150],
        ("--shift-by", "5"): [155, 155],
        ("--shift-by", "-10"): [145, 145],
        ("--to-current",): [145, 145],
        ("--by-duration", "PT1H"): starts,
        ("--to-datetime", "2020-01-01T00:00:00.000"): starts,
        ("--from-file", b.file("reset.csv", f"{b.topic},0,123\n{b.topic},1,7\n")): [123, 7],
    }
    for how, wanted in resets.items():
        which = () if how[0] == "--from-file" else ("--topic", b.topic)
        found = offsets(b.groups("--reset-offsets", "--group", b.group, *which, *how, "--execute"), b.group, b.topic)
        assert found == dict(enumerate(wanted)), f"{how}: the tool says {found}, wanted {wanted}"
        stored = b.wire.committed(b.group, b.topic, 2)
        assert stored == wanted, f"{how}: {stored} is committed, wanted {wanted}"
    everything = ("--reset-offsets", "--all-topics", "--to-offset", "140")
    exported = b.groups(*everything, "--group", b.group, "--dry-run", "--export")
    says(exported, rf'^"?{b.topic}"?,0,140$', rf'^"?{b.topic}"?,1,140$')
    assert b.wire.committed(b.group, b.topic, 2) == [123, 7], "an export changed the offsets"
    dry = b.groups("--reset-offsets", "--group", b.group, "--topic", b.topic, "--to-latest", "--dry-run")
    assert offsets(dry, b.group, b.topic) == dict(enumerate(ends)), dry
    assert b.wire.committed(b.group, b.topic, 2) == [123, 7], "a dry run changed the offsets"


@step
def groups_delete(b):
    says(b.groups("--delete-offsets", "--group", b.group, "--topic", b.topic), rf"{b.topic}\s+1\s+Successful")
    assert b.wire.committed(b.group, b.topic, 2) == [-1, -1], b.wire.committed(b.group, b.topic, 2)
    says(b.groups("--delete", "--group", b.group), "successful")
    assert b.group not in b.groups("--list"), "the deleted group is still listed"
    says(b.groups("--delete", "--group", b.group), "could not be deleted.*GroupIdNotFound|GroupIdNotFound")


@step
def dump_log_after_a_clean_stop(b):
    """The last one: the broker has ended. What lies in its directory must need no explanation."""
    if not hasattr(b.broker, "directory"):
        return
    topic, records = f"{b.topic}-kept", 30_000
    says(b.topics("--create", "--topic", topic, "--partitions", "2", "--config", "segment.bytes=1048576"), "Created topic")
    load = ("--topic", topic, "--num-records", str(records), "--record-size", "100", "--throughput", "-1")
    b.run("ProducerPerformance", *load, "--command-property", f"bootstrap.servers={b.address}", "acks=all", server=None)
    ends = [b.wire.end(topic, it) for it in range(2)]
    assert sum(ends) == records, f"{ends} are stored"
    b.broker.stop()
    data = b.broker.directory / "data"
    assert (data / ".kafka_cleanshutdown").exists(), sorted(it.name for it in data.iterdir())
    points = (data / "recovery-point-offset-checkpoint").read_text().splitlines()
    for partition, end in enumerate(ends):
        folder = data / f"{topic}-{partition}"
        assert f"{topic} {partition} {end}" in points, points[:20]
        logs, found = sorted(folder.glob("*.log")), 0
        assert 1 < len(logs), logs
        for log in logs:
            found += dumped(b, log, "--deep-iteration").count("| offset: ")
            for ending in ("index", "timeindex"):
                beside = log.with_suffix(f".{ending}")
                dumped(b, beside, "--index-sanity-check")
                entries = dumped(b, beside)
                assert re.search(r"offset: \d+", entries), f"{beside} has no entry: {entries}"
        assert found == end, f"{found} of {end} records are in the segments"
        snapshot = folder / f"{end:020}.snapshot"
        says(dumped(b, snapshot), r"producerId: \d+ producerEpoch: 0 ")
        epochs = (folder / "leader-epoch-checkpoint").read_text().splitlines()
        assert epochs == ["0", "1", "0 0"], epochs
        says((folder / "partition.metadata").read_text(), r"^version: 0$", r"^topic_id: [\w-]{22}$")


def dumped(b, path, *options):
    """What Kafka's dumper prints about a file, if it has no complaint."""
    printed = b.run("DumpLogSegments", *options, "--files", str(path), server=None)
    # Of any segment but a log's first, Kafka's own included, it says that nothing comes before it.
    printed = re.sub(r"Non-consecutive offsets in \S+\s+-1 is followed by \d+\s", "", printed)
    for it in ("mismatch", "non-consecutive", "out of order", "corrupt", "exception", "invalid", "isvalid: false", "failed"):
        where = printed.lower().find(it)
        assert where < 0, f"{path.name}: {printed[max(where - 100, 0):where + 300]}"
    return printed


def run(broker, mark, tally):
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(broker, mark, folder)
        title = f"kafka-tools {b.agent.version}"
        for name, run_step in STEPS.items():
            began = time.monotonic()
            try:
                run_step(b)
                tally.line(title, name, "ok", time.monotonic() - began)
            except Exception as failure:  # whatever went wrong is this step's failure, not the end of the run
                why = f"{type(failure).__name__}: {failure}"
                tally.line(title, name, "FAIL", time.monotonic() - began, why, "tools")
        b.agent.close()
        b.wire.close()
