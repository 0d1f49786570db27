"""Drives aiokafka: asyncio, and the oldest request versions still in wide use."""

import asyncio
import sys
import threading

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from serve import headers_in, record_out, serve, unpack

SECONDS_MAX = 120


class Watch(ConsumerRebalanceListener):
    """Remembers what a group gave and took, and what that leaves: aiokafka changes its own list a while before."""

    def __init__(self):
        self.events, self.assigned = [], set()

    async def on_partitions_assigned(self, assigned):
        self.assigned = {it.partition for it in assigned}
        self.events.append(["assigned", sorted(self.assigned)])

    async def on_partitions_revoked(self, revoked):
        self.assigned -= {it.partition for it in revoked}
        self.events.append(["revoked", [it.partition for it in revoked]])


def checked(code):
    if code:
        raise for_code(code)


class Agent:
    def __init__(self, broker):
        self.broker, self.producers, self.admin = broker, {}, None

    async def _admin(self):
        if self.admin is None:
            self.admin = AIOKafkaAdminClient(bootstrap_servers=self.broker, request_timeout_ms=SECONDS_MAX * 1000)
            await self.admin.start()
        return self.admin

    async def create(self, topic, partitions, configs):
        admin = await self._admin()
        done = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        checked(done.topic_errors[0][1])

    async def delete(self, topic):
        done = await (await self._admin()).delete_topics([topic])
        checked(done.topic_error_codes[0][1])

    async def describe(self, topic):
        admin = await self._admin()
        # Who names a topic that is not there makes it; a list of all makes none.
        if topic not in await admin.list_topics():
            raise UnknownTopicOrPartitionError
        [found] = await admin.describe_topics([topic])
        checked(found["error_code"])
        return {"partitions": [{name: it[name] for name in ("partition", "leader", "replicas")} for it in found["partitions"]]}

    async def configs(self, topic):
        [done] = await (await self._admin()).describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        [(code, _, _, _, entries)] = done.resources
        checked(code)
        return {"configs": {it[0]: it[1] for it in entries}}

    async def alter(self, topic, set):
        [done] = await (await self._admin()).alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, set)])
        checked(done.resources[0][0])

    async def produce(self, topic, codec, acks, idempotent, records):
        producer, sent = await self._producer(codec, acks, idempotent), []
        for it in records:
            more = {"partition": it["partition"], "timestamp_ms": it["timestamp"], "headers": headers_in(it)}
            try:
                sent.append(await producer.send(topic, unpack(it["value"]), unpack(it["key"]), **more))
            except Exception as failure:  # the record's failure is its result
                sent.append(failure)
        return {"results": [await self._result(it) for it in sent]}

    @staticmethod
    async def _result(sent):
        try:
            if isinstance(sent, Exception):
                raise sent
            done = await asyncio.wait_for(sent, SECONDS_MAX)
        except Exception as failure:  # the record's failure is its result
            return f"{type(failure).__name__}: {failure}"
        return None if done is None or done.offset < 0 else done.offset

    async def _producer(self, codec, acks, idempotent):
        key = (codec, acks, idempotent)
        if key not in self.producers:
            want = {"compression_type": None if codec == "none" else codec, "acks": "all" if acks == -1 else acks}
            want |= {"enable_idempotence": idempotent, "linger_ms": 5, "max_request_size": 8 << 20}
            self.producers[key] = AIOKafkaProducer(bootstrap_servers=self.broker, **want)
            await self.producers[key].start()
        return self.producers[key]

    async def open(self, topic, partition, offset=None, timestamp=None, end=False):
        self.consumer = AIOKafkaConsumer(bootstrap_servers=self.broker)
        await self.consumer.start()
        where = TopicPartition(topic, partition)
        if timestamp is not None:
            offset = (await self.consumer.offsets_for_times({where: timestamp}))[where].offset
        if end:
            offset = (await self.consumer.end_offsets([where]))[where]
        self.consumer.assign([where])
        self.consumer.seek(where, offset)

    async def read(self, count, seconds):
        found, until = [], asyncio.get_running_loop().time() + seconds
        while len(found) < count and asyncio.get_running_loop().time() < until:
            found += await self._take(0.2, count - len(found))
        return {"records": found}

    async def _take(self, seconds, count):
        taken = (await self.consumer.getmany(timeout_ms=int(seconds * 1000), max_records=count)).values()
        return [
            record_out(it.partition, it.offset, it.timestamp, it.key, it.value, it.headers)
            for part in taken
            for it in part
        ]

    async def close(self):
        await self.consumer.stop()

    async def join(self, group, topic, session_ms, instance=None):
        want = {"group_id": group, "partition_assignment_strategy": [RangePartitionAssignor], "auto_offset_reset": "earliest"}
        want |= {"session_timeout_ms": session_ms, "heartbeat_interval_ms": 500}
        want |= {"enable_auto_commit": False, "group_instance_id": instance, "bootstrap_servers": self.broker}
        self.consumer, self.watch = AIOKafkaConsumer(**want), Watch()
        self.consumer.subscribe([topic], listener=self.watch)
        # `start` returns only with a finished rebalance, which may need members that join after us.
        self.joining = asyncio.ensure_future(self.consumer.start())

    async def poll(self, seconds):
        if not self.joining.done():
            await asyncio.wait([self.joining], timeout=seconds)
            return {"assigned": [], "events": [], "records": []}
        self.joining.result()
        records = await self._take(seconds, 500)
        events, self.watch.events = self.watch.events, []
        return {"assigned": sorted(self.watch.assigned), "events": events, "records": records}

    async def commit(self):
        await self.consumer.commit()

    async def leave(self):
        await self.consumer.stop()


class Looped:
    """Runs the agent's coroutines on one loop that keeps running while we wait for the next request."""

    def __init__(self, agent):
        self.agent, self.loop = agent, asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, name):
        method = getattr(self.agent, name)
        return lambda **ask: asyncio.run_coroutine_threadsafe(method(**ask), self.loop).result()


serve("aiokafka", aiokafka.__version__, Looped(Agent(sys.argv[1])))
