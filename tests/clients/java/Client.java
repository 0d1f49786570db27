import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import java.util.function.BiConsumer;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Drives Kafka's own Java client, and Kafka's tools in the same process ({@link Tools}). */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String broker;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private final List<Object> events = new ArrayList<>();
    private Admin admin;
    private KafkaConsumer<byte[], byte[]> consumer;

    private Client(String broker) {
        this.broker = broker;
    }

    public static void main(String[] arguments) throws Exception {
        // The tools print; only answers may reach the driver.
        PrintStream answers = System.out;
        System.setOut(System.err);
        Client client = new Client(arguments[0]);
        answers.println(JSON.writeValueAsString(Map.of("client", "kafka-clients", "version", AppInfoParser.getVersion())));
        BufferedReader asked = new BufferedReader(new InputStreamReader(System.in));
        for (String line = asked.readLine(); line != null; line = asked.readLine()) {
            Map<String, Object> answer;
            try {
                answer = Map.of("ok", client.answer(JSON.readTree(line)));
            } catch (Exception failure) {
                Throwable cause = failure.getCause() == null ? failure : failure.getCause();
                answer = Map.of("error", cause.toString());
            }
            answers.println(JSON.writeValueAsString(answer));
        }
        Runtime.getRuntime().halt(0);
    }

    private Map<String, ?> answer(JsonNode ask) throws Exception {
        String topic = ask.path("topic").asText();
        switch (ask.get("do").asText()) {
            case "create" -> {
                NewTopic wanted = new NewTopic(topic, ask.get("partitions").asInt(), (short) 1);
                admin().createTopics(List.of(wanted.configs(strings(ask.get("configs"))))).all().get();
            }
            case "delete" -> admin().deleteTopics(List.of(topic)).all().get();
            case "describe" -> {
                return describe(topic);
            }
            case "configs" -> {
                Map<String, String> found = new TreeMap<>();
                ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
                Config config = admin().describeConfigs(List.of(resource)).all().get().get(resource);
                config.entries().forEach(it -> found.put(it.name(), it.value()));
                return Map.of("configs", found);
            }
            case "alter-incremental" -> alter(topic, strings(ask.get("set")));
            case "produce" -> {
                return produce(topic, ask);
            }
            case "open" -> open(new TopicPartition(topic, ask.get("partition").asInt()), ask);
            case "read" -> {
                return Map.of("records", read(ask.get("count").asInt(), ask.get("seconds").asInt()));
            }
            case "close", "leave" -> consumer.close();
            case "join" -> join(topic, ask);
            case "poll" -> {
                return poll(ask.get("seconds").asDouble());
            }
            case "commit" -> consumer.commitSync();
            case "tool" -> {
                return Tools.run(ask.get("class").asText(), JSON.convertValue(ask.get("arguments"), String[].class), ask.path("input").asText());
            }
            default -> throw new IllegalArgumentException("no such request: " + ask.get("do"));
        }
        return Map.of();
    }

    private Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", broker));
        }
        return admin;
    }

    private static Map<String, String> strings(JsonNode node) {
        Map<String, String> found = new TreeMap<>();
        node.fields().forEachRemaining(it -> found.put(it.getKey(), it.getValue().asText()));
        return found;
    }

    private Map<String, ?> describe(String topic) throws Exception {
        List<Object> partitions = new ArrayList<>();
        for (TopicPartitionInfo it : admin().describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
            List<Integer> replicas = it.replicas().stream().map(Node::id).toList();
            partitions.add(Map.of("partition", it.partition(), "leader", it.leader().id(), "replicas", replicas));
        }
        return Map.of("partitions", partitions);
    }

    private void alter(String topic, Map<String, String> set) throws Exception {
        List<AlterConfigOp> steps = new ArrayList<>();
        set.forEach((name, value) -> steps.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        Map<ConfigResource, Collection<AlterConfigOp>> all = Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), steps);
        admin().incrementalAlterConfigs(all).all().get();
    }

    private Map<String, ?> produce(String topic, JsonNode ask) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(ask);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode it : ask.get("records")) {
            List<Header> headers = new ArrayList<>();
            for (JsonNode pair : it.get("headers")) {
                headers.add(new RecordHeader(pair.get(0).asText(), bytes(pair.get(1))));
            }
            Long timestamp = it.get("timestamp").isNull() ? null : it.get("timestamp").asLong();
            sent.add(producer.send(new ProducerRecord<>(topic, it.get("partition").asInt(), timestamp, bytes(it.get("key")), bytes(it.get("value")), headers)));
        }
        producer.flush();
        List<Object> results = new ArrayList<>();
        for (Future<RecordMetadata> it : sent) {
            try {
                RecordMetadata done = it.get();
                results.add(done.hasOffset() ? done.offset() : null);
            } catch (Exception failure) {
                results.add(failure.getCause() == null ? failure.toString() : failure.getCause().toString());
            }
        }
        return Map.of("results", results);
    }

    private KafkaProducer<byte[], byte[]> producer(JsonNode ask) {
        String codec = ask.get("codec").asText(), acks = ask.get("acks").asText();
        boolean idempotent = ask.get("idempotent").asBoolean();
        return producers.computeIfAbsent(codec + acks + idempotent, key -> {
            Map<String, Object> want = new HashMap<>(Map.of("bootstrap.servers", broker, "compression.type", codec, "acks", acks));
            want.putAll(Map.of("enable.idempotence", idempotent, "linger.ms", 5, "max.request.size", 8 << 20));
            return new KafkaProducer<>(want, new ByteArraySerializer(), new ByteArraySerializer());
        });
    }

    private static byte[] bytes(JsonNode node) {
        return node.isNull() ? null : Base64.getDecoder().decode(node.asText());
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> want = new HashMap<>(Map.of("bootstrap.servers", broker, "enable.auto.commit", false));
        want.putAll(more);
        return new KafkaConsumer<>(want, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void open(TopicPartition where, JsonNode ask) {
        consumer = consumer(Map.of());
        consumer.assign(List.of(where));
        if (ask.hasNonNull("timestamp")) {
            consumer.seek(where, consumer.offsetsForTimes(Map.of(where, ask.get("timestamp").asLong())).get(where).offset());
        } else if (ask.path("end").asBoolean()) {
            consumer.seekToEnd(List.of(where));
            consumer.position(where);
        } else {
            consumer.seek(where, ask.get("offset").asLong());
        }
    }

    private List<Object> read(int count, int seconds) {
        List<Object> found = new ArrayList<>();
        long until = System.nanoTime() + Duration.ofSeconds(seconds).toNanos();
        while (found.size() < count && System.nanoTime() < until) {
            found.addAll(take(200));
        }
        return found;
    }

    private List<Object> take(long millis) {
        List<Object> found = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> it : consumer.poll(Duration.ofMillis(millis))) {
            List<Object> headers = new ArrayList<>();
            it.headers().forEach(header -> headers.add(Arrays.asList(header.key(), text(header.value()))));
            Map<String, Object> record = new HashMap<>(Map.of("partition", it.partition(), "offset", it.offset()));
            record.putAll(Map.of("timestamp", it.timestamp(), "headers", headers));
            record.put("key", text(it.key()));
            record.put("value", text(it.value()));
            found.add(record);
        }
        return found;
    }

    private void join(String topic, JsonNode ask) {
        Map<String, Object> want = new HashMap<>(Map.of("group.id", ask.get("group").asText(), "auto.offset.reset", "earliest"));
        want.put("session.timeout.ms", ask.get("session_ms").asInt());
        want.put("heartbeat.interval.ms", 500);
        Class<?> assignor = ask.path("cooperative").asBoolean() ? CooperativeStickyAssignor.class : RangeAssignor.class;
        want.put("partition.assignment.strategy", assignor.getName());
        if (ask.hasNonNull("instance")) {
            want.put("group.instance.id", ask.get("instance").asText());
        }
        consumer = consumer(want);
        BiConsumer<String, Collection<TopicPartition>> keep = (kind, partitions) ->
            events.add(List.of(kind, partitions.stream().map(TopicPartition::partition).toList()));
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                keep.accept("assigned", partitions);
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                keep.accept("revoked", partitions);
            }
        });
    }

    private Map<String, ?> poll(double seconds) {
        List<Object> records = take((long) (seconds * 1000));
        List<Object> told = List.copyOf(events);
        events.clear();
        List<Integer> assigned = consumer.assignment().stream().map(TopicPartition::partition).toList();
        return Map.of("assigned", assigned, "events", told, "records", records);
    }
}
