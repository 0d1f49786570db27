"""Drives kafka-python: the newest request versions outside Java."""

import sys
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import for_code
from serve import headers_in, record_out, serve, unpack

SECONDS_MAX = 120


class Watch(ConsumerRebalanceListener):
    """Remembers what a group gave and took."""

    def __init__(self):
        self.events = []

    def on_partitions_assigned(self, assigned):
        self.events.append(["assigned", [it.partition for it in assigned]])

    def on_partitions_revoked(self, revoked):
        self.events.append(["revoked", [it.partition for it in revoked]])


class Agent:
    def __init__(self, broker):
        self.base, self.producers = {"bootstrap_servers": broker, "bootstrap_timeout_ms": SECONDS_MAX * 1000}, {}
        self.admin = KafkaAdminClient(**self.base)

    def create(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])

    def delete(self, topic):
        self.admin.delete_topics([topic])

    def describe(self, topic):
        [found] = self.admin.describe_topics([topic])
        if found["error_code"]:
            raise for_code(found["error_code"])
        keys = {"partition": "partition_index", "leader": "leader_id", "replicas": "replica_nodes"}
        parts = found["partitions"]
        return {"partitions": [{name: it[key] for name, key in keys.items()} for it in parts]}

    def configs(self, topic):
        found = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        return {"configs": {name: it["value"] for name, it in found["topic"][topic].items()}}

    def alter(self, topic, set):
        self.admin.alter_configs([ConfigResource("TOPIC", topic, set)], incremental=False)
        return {"repeats": True}

    def alter_incremental(self, topic, set):
        self.admin.alter_configs([ConfigResource("TOPIC", topic, set)], incremental=True)

    def produce(self, topic, codec, acks, idempotent, records):
        producer, sent = self._producer(codec, acks, idempotent), []
        for it in records:
            more = {"partition": it["partition"], "timestamp_ms": it["timestamp"], "headers": headers_in(it)}
            sent.append(producer.send(topic, unpack(it["value"]), unpack(it["key"]), **more))
        producer.flush(SECONDS_MAX)
        return {"results": [self._result(it, acks) for it in sent]}

    @staticmethod
    def _result(future, acks):
        try:
            offset = future.get(SECONDS_MAX).offset
        except Exception as failure:  # the record's failure is its result
            return f"{type(failure).__name__}: {failure}"
        return offset if acks else None

    def _producer(self, codec, acks, idempotent):
        key = (codec, acks, idempotent)
        if key not in self.producers:
            want = {"compression_type": None if codec == "none" else codec, "acks": "all" if acks == -1 else acks}
            want |= {"enable_idempotence": idempotent, "linger_ms": 5, "max_request_size": 8 << 20}
            self.producers[key] = KafkaProducer(**self.base, **want)
        return self.producers[key]

    def open(self, topic, partition, offset=None, timestamp=None, end=False):
        self.consumer = KafkaConsumer(**self.base)
        where = TopicPartition(topic, partition)
        if timestamp is not None:
            offset = self.consumer.offsets_for_times({where: timestamp})[where].offset
        if end:
            offset = self.consumer.end_offsets([where])[where]
        self.consumer.assign([where])
        self.consumer.seek(where, offset)

    def read(self, count, seconds):
        found, until = [], time.monotonic() + seconds
        while len(found) < count and time.monotonic() < until:
            found += self._take(0.2, count - len(found))
        return {"records": found}

    def _take(self, seconds, count):
        taken = self.consumer.poll(timeout_ms=int(seconds * 1000), max_records=count).values()
        return [
            record_out(it.partition, it.offset, it.timestamp, it.key, it.value, it.headers)
            for part in taken
            for it in part
        ]

    def close(self):
        self.consumer.close()

    def join(self, group, topic, session_ms, instance=None, cooperative=False):
        strategy = CooperativeStickyAssignor if cooperative else RangePartitionAssignor
        want = {"group_id": group, "partition_assignment_strategy": [strategy], "auto_offset_reset": "earliest"}
        want |= {"session_timeout_ms": session_ms, "heartbeat_interval_ms": 500}
        want |= {"enable_auto_commit": False, "group_instance_id": instance, **self.base}
        self.consumer, self.watch = KafkaConsumer(**want), Watch()
        self.consumer.subscribe([topic], listener=self.watch)

    def poll(self, seconds):
        records = self._take(seconds, 500)
        self._keep_joining()
        events, self.watch.events = self.watch.events, []
        assigned = [it.partition for it in self.consumer.assignment()]
        return {"assigned": assigned, "events": events, "records": records}

    def _keep_joining(self):
        """Reminds kafka-python of a join that outlasted a poll.

        A leader that joins again because it has only now seen the topic's partitions has no reason left once it has
        assigned them. When its poll ends between that and the answer to SyncGroup, no later poll takes the answer,
        and it neither owns anything nor sends heartbeats. There is no public way to ask for it.
        """
        coordinator = self.consumer._coordinator
        if coordinator._join_task is not None and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    def commit(self):
        self.consumer.commit()

    leave = close


serve("kafka-python", kafka.__version__, Agent(sys.argv[1]))
