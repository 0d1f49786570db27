// Drives kafkajs. It reads only as a member of a group, so `open` makes a group of its own and seeks.
import { createRequire } from 'node:module'
import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'
import snappy from 'kafkajs-snappy'
import { HEARTBEAT_MS, pack, serve, unpack, until } from './serve.mjs'

const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = kafkajs
const { version } = createRequire(import.meta.url)('kafkajs/package.json')
const GROUP_SECONDS_MAX = 120
// kafkajs gives a connection one second, which a busy machine may take.
const PATIENT = { connectionTimeout: 60_000, requestTimeout: 60_000, authenticationTimeout: 60_000 }

CompressionCodecs[CompressionTypes.Snappy] = snappy
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy' }

const kafka = new Kafka({ clientId: 'agent', brokers: [process.argv[2]], logLevel: logLevel.ERROR, ...PATIENT })
const producers = new Map()
let admin, consumer, topic, assigned, events, records, positions, committed, below

async function administer() {
  if (!admin) {
    admin = kafka.admin()
    await admin.connect()
  }
  return admin
}

async function producer(idempotent) {
  if (!producers.has(idempotent)) {
    const made = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined, allowAutoTopicCreation: true })
    await made.connect()
    producers.set(idempotent, made)
  }
  return producers.get(idempotent)
}

function message({ partition, key, value, headers, timestamp }) {
  const named = {}
  for (const [name, it] of headers) (named[name] ??= []).push(unpack(it))
  const when = timestamp === null ? {} : { timestamp: String(timestamp) }
  return { partition, key: unpack(key), value: unpack(value), headers: named, ...when }
}

function received(partition, { offset, timestamp, key, value, headers }) {
  const pairs = Object.entries(headers).flatMap(([name, it]) => [it].flat().map(one => [name, pack(one)]))
  return { partition, offset: Number(offset), timestamp: Number(timestamp), key: pack(key), value: pack(value), headers: pairs }
}

async function consume(options, keep) {
  consumer = kafka.consumer({ heartbeatInterval: HEARTBEAT_MS, allowAutoTopicCreation: false, maxWaitTimeInMs: 500, ...options })
  assigned = []
  events = []
  records = []
  positions = new Map()
  committed = 0
  consumer.on(consumer.events.COMMIT_OFFSETS, () => committed++)
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    assigned = payload.memberAssignment[topic] ?? []
    events.push(['assigned', assigned])
  })
  consumer.on(consumer.events.REBALANCING, () => {
    events.push(['revoked', assigned])
    assigned = []
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      const it = received(partition, message)
      if (keep(it)) records.push(it)
    }
  })
}

await serve('kafkajs', version, {
  async create({ topic, partitions, configs }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const made = await (await administer()).createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }] })
    // kafkajs answers false instead of an error when the topic is there already.
    if (!made) throw new Error('the topic exists')
  },

  async delete({ topic }) {
    await (await administer()).deleteTopics({ topics: [topic] })
  },

  async describe({ topic }) {
    const { topics } = await (await administer()).fetchTopicMetadata({ topics: [topic] })
    const partitions = topics[0].partitions.map(({ partitionId, leader, replicas }) => ({ partition: partitionId, leader, replicas }))
    return { partitions }
  },

  async configs({ topic }) {
    const found = await (await administer()).describeConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
    return { configs: Object.fromEntries(found.resources[0].configEntries.map(it => [it.configName, it.configValue])) }
  },

  async alter({ topic, set }) {
    const configEntries = Object.entries(set).map(([name, value]) => ({ name, value }))
    await (await administer()).alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }] })
  },

  async produce({ topic, codec, acks, idempotent, records }) {
    const compression = CompressionTypes[CODECS[codec]]
    const results = records.map(() => null)
    try {
      const done = await (await producer(idempotent)).send({ topic, acks, compression, messages: records.map(message) })
      const next = new Map((done ?? []).map(it => [it.partition, Number(it.baseOffset)]))
      records.forEach(({ partition }, place) => {
        if (!next.has(partition)) return
        results[place] = next.get(partition)
        next.set(partition, results[place] + 1)
      })
    } catch (failure) {
      results.fill(failure.message)
    }
    return { results }
  },

  async open({ topic: name, partition, offset, timestamp }) {
    topic = name
    let where = offset
    if (where === undefined) {
      const it = await administer()
      const found = await (timestamp === undefined ? it.fetchTopicOffsets(name) : it.fetchTopicOffsetsByTimestamp(name, timestamp))
      where = Number(found.find(it => it.partition === partition).offset)
    }
    // What arrives before the seek takes effect lies below it.
    below = where
    await consume({ groupId: randomUUID() }, it => it.partition === partition && it.offset >= below)
    await until(GROUP_SECONDS_MAX, () => assigned.length > 0)
    if (assigned.length === 0) throw new Error(`no assignment within ${GROUP_SECONDS_MAX} s`)
    consumer.seek({ topic, partition, offset: String(where) })
  },

  async read({ count, seconds }) {
    await until(seconds, () => records.length >= count)
    // A seek may repeat what was already delivered.
    const found = [...new Map(records.map(it => [it.offset, it])).values()].sort((a, b) => a.offset - b.offset).slice(0, count)
    below = found.length > 0 ? found.at(-1).offset + 1 : below
    records = records.filter(it => it.offset >= below)
    return { records: found }
  },

  async close() {
    await consumer.disconnect()
  },

  async join({ group, topic: name, session_ms }) {
    topic = name
    await consume({ groupId: group, sessionTimeout: session_ms }, () => true)
  },

  async poll({ seconds }) {
    await until(seconds, () => false)
    const answer = { assigned, events, records }
    for (const it of records) positions.set(it.partition, it.offset + 1)
    events = []
    records = []
    return answer
  },

  async commit() {
    const offsets = [...positions].map(([partition, offset]) => ({ topic, partition, offset: String(offset) }))
    const before = committed
    await consumer.commitOffsets(offsets)
    // While it reconnects, kafkajs drops a commit and says nothing.
    if (committed === before) throw new Error('nothing was committed')
  },

  async leave() {
    await consumer.disconnect()
  }
})
