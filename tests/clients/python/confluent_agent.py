"""Drives confluent-kafka: a current librdkafka."""

import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from serve import headers_in, record_out, serve, unpack

SECONDS_MAX = 120


class Agent:
    def __init__(self, broker):
        self.base = {"bootstrap.servers": broker}
        self.admin = AdminClient(self.base)
        self.producers, self.consumer = {}, None

    def create(self, topic, partitions, configs):
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=configs)])[topic].result()

    def delete(self, topic):
        self.admin.delete_topics([topic])[topic].result()

    def describe(self, topic):
        # Not `list_topics(topic)`: that makes a topic which is not there.
        asked = self.admin.describe_topics(TopicCollection([topic]), request_timeout=SECONDS_MAX)
        parts = asked[topic].result().partitions
        return {
            "partitions": [
                {"partition": it.id, "leader": it.leader.id, "replicas": [node.id for node in it.replicas]} for it in parts
            ]
        }

    def configs(self, topic):
        [future] = self.admin.describe_configs([ConfigResource("topic", topic)]).values()
        return {"configs": {name: it.value for name, it in future.result().items()}}

    def alter(self, topic, set):
        [future] = self.admin.alter_configs([ConfigResource("topic", topic, set_config=set)]).values()
        future.result()

    def alter_incremental(self, topic, set):
        entries = [ConfigEntry(name, it, incremental_operation=AlterConfigOpType.SET) for name, it in set.items()]
        resource = ConfigResource("topic", topic, incremental_configs=entries)
        [future] = self.admin.incremental_alter_configs([resource]).values()
        future.result()

    def produce(self, topic, codec, acks, idempotent, records):
        producer = self._producer(codec, acks, idempotent)
        results = [None] * len(records)

        def done(place):
            def keep(error, message):
                results[place] = str(error) if error else message.offset()

            return keep

        for place, it in enumerate(records):
            more = {"timestamp": it["timestamp"]} if it["timestamp"] is not None else {}
            more |= {"headers": headers_in(it), "partition": it["partition"], "on_delivery": done(place)}
            try:
                producer.produce(topic, unpack(it["value"]), unpack(it["key"]), **more)
            except KafkaException as failure:
                results[place] = str(failure)
        left = producer.flush(SECONDS_MAX)
        if left:
            raise TimeoutError(f"{left} records are still on their way after {SECONDS_MAX} s")
        return {"results": results}

    def _producer(self, codec, acks, idempotent):
        want = {"compression.type": codec, "acks": acks, "enable.idempotence": idempotent}
        key = (codec, acks, idempotent)
        if key not in self.producers:
            self.producers[key] = Producer({**self.base, **want, "linger.ms": 5, "message.max.bytes": 8 << 20})
        return self.producers[key]

    def open(self, topic, partition, offset=None, timestamp=None, end=False):
        self.consumer = Consumer({**self.base, "group.id": "unused", "enable.auto.commit": False})
        where = TopicPartition(topic, partition, offset or 0)
        if timestamp is not None:
            where.offset = timestamp
            [where] = self.consumer.offsets_for_times([where], timeout=SECONDS_MAX)
        if end:
            where.offset = self.consumer.get_watermark_offsets(where, timeout=SECONDS_MAX)[1]
        self.consumer.assign([where])

    def read(self, count, seconds):
        found, until = [], time.monotonic() + seconds
        while len(found) < count and time.monotonic() < until:
            found += self._take(0.2, count - len(found))
        return {"records": found}

    def _take(self, seconds, count):
        found = []
        for it in self.consumer.consume(count, seconds):
            if it.error():
                raise KafkaException(it.error())
            place = (it.partition(), it.offset(), it.timestamp()[1])
            found.append(record_out(*place, it.key(), it.value(), it.headers()))
        return found

    def close(self):
        self.consumer.close()

    def join(self, group, topic, session_ms, instance=None, cooperative=False):
        strategy = "cooperative-sticky" if cooperative else "range"
        want = {"group.id": group, "partition.assignment.strategy": strategy, "auto.offset.reset": "earliest"}
        want |= {"session.timeout.ms": session_ms, "heartbeat.interval.ms": 500}
        want |= {"enable.auto.commit": False, **({"group.instance.id": instance} if instance else {})}
        self.consumer, self.events = Consumer({**self.base, **want}), []

        def keep(kind):
            return lambda _, parts: self.events.append([kind, [it.partition for it in parts]])

        self.consumer.subscribe([topic], on_assign=keep("assigned"), on_revoke=keep("revoked"), on_lost=keep("revoked"))

    def poll(self, seconds):
        records = self._take(seconds, 500)
        events, self.events = self.events, []
        assigned = [it.partition for it in self.consumer.assignment()]
        return {"assigned": assigned, "events": events, "records": records}

    def commit(self):
        self.consumer.commit(asynchronous=False)

    leave = close


version = f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"
serve("confluent-kafka", version, Agent(sys.argv[1]))
