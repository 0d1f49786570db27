package corelane;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Writes what Kafka's own classes write: every message in every version, with everything set,
 * with nothing in it, and as it is when made.
 *
 * Values are filled in by Kafka's published schema of the version, then read and written again by
 * the class that brokers and clients use; the bytes of that class are what is kept.
 *
 * Bytes do not show a name: where two fields of one type changed places, they stay the same. So
 * names are kept, too: one line for each message and version with a hash of its layout, which is
 * every field's name and type in order. Nor do bytes show the defaults of structs in arrays, since
 * a fresh message has none; so one line for each message has a hash of all defaults in it.
 *
 * A file of bytes is a row of entries: length of the name (1 byte), name, version (2), variant (1),
 * length (4), bytes. Numbers are big-endian.
 */
public final class Golden {
    private static final int FULL = 0;
    private static final int EMPTY = 1;
    private static final int FRESH = 2;

    private final StringBuilder layouts = new StringBuilder();
    private final StringBuilder defaults = new StringBuilder();
    private int counter;
    private int skipped;

    public static void main(String[] arguments) throws Exception {
        new Golden().writeAll(Path.of(arguments[0]));
    }

    private void writeAll(Path folder) throws Exception {
        Files.createDirectories(folder);
        List<Message> requests = new ArrayList<>();
        List<Message> responses = new ArrayList<>();
        for (ApiMessageType type : ApiMessageType.values()) {
            if (type.requestSchemas().length == 0 || type.listeners().isEmpty()) {
                continue;
            }
            requests.add(type.newRequest());
            responses.add(type.newResponse());
        }
        write(folder.resolve("requests.bin"), requests);
        write(folder.resolve("responses.bin"), responses);

        List<Message> records = new ArrayList<>();
        String common = "org.apache.kafka.common.message.";
        for (String name : List.of("RequestHeaderData", "ResponseHeaderData", "ConsumerProtocolSubscription",
                "ConsumerProtocolAssignment", "EndTxnMarker", "LeaderChangeMessage")) {
            records.add(fresh(common + name));
        }
        for (String name : List.of("TransactionLog")) {
            addPair(records, "org.apache.kafka.coordinator.transaction.generated." + name);
        }
        for (String name : List.of("ShareSnapshot", "ShareUpdate")) {
            addPair(records, "org.apache.kafka.coordinator.share.generated." + name);
        }
        for (String name : List.of("LegacyOffsetCommit", "OffsetCommit", "GroupMetadata",
                "ConsumerGroupMetadata", "ConsumerGroupPartitionMetadata",
                "ConsumerGroupMemberMetadata", "ConsumerGroupTargetAssignmentMetadata",
                "ConsumerGroupTargetAssignmentMember", "ConsumerGroupCurrentMemberAssignment",
                "ConsumerGroupRegularExpression", "ShareGroupMemberMetadata", "ShareGroupMetadata",
                "ShareGroupTargetAssignmentMetadata", "ShareGroupTargetAssignmentMember",
                "ShareGroupCurrentMemberAssignment", "ShareGroupStatePartitionMetadata",
                "StreamsGroupMetadata", "StreamsGroupMemberMetadata",
                "StreamsGroupTargetAssignmentMetadata", "StreamsGroupTargetAssignmentMember",
                "StreamsGroupCurrentMemberAssignment", "StreamsGroupTopology")) {
            addPair(records, "org.apache.kafka.coordinator.group.generated." + name);
        }
        write(folder.resolve("records.bin"), records);
        Files.writeString(folder.resolve("layouts.txt"), layouts);
        Files.writeString(folder.resolve("defaults.txt"), defaults);
        System.out.println(skipped + " fresh messages cannot be written by Kafka itself");
    }

    private static void addPair(List<Message> into, String name) throws Exception {
        into.add(fresh(name + "Key"));
        into.add(fresh(name + "Value"));
    }

    private static Message fresh(String name) throws Exception {
        return (Message) Class.forName(name).getConstructor().newInstance();
    }

    private void write(Path file, List<Message> messages) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        int entries = 0;
        for (Message prototype : messages) {
            Class<?> type = prototype.getClass();
            Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
            defaults.append(name(type)).append(' ')
                    .append(String.format("%016x%n", hash(defaults(type))));
            for (short version = prototype.lowestSupportedVersion();
                    version <= prototype.highestSupportedVersion(); version++) {
                counter = version;
                layouts.append(name(type)).append(' ').append(version).append(' ')
                        .append(String.format("%016x%n", hash(layout(schemas[version]))));
                entry(out, type, version, FULL, rewritten(type, version, full(schemas[version])));
                Message none = read(type, version, empty(schemas[version]));
                entry(out, type, version, EMPTY, bytesOf(nulled(none, schemas[version]), version));
                entries += 2;
                try {
                    Message made = (Message) type.getConstructor().newInstance();
                    entry(out, type, version, FRESH, bytesOf(made, version));
                    entries++;
                } catch (RuntimeException error) {
                    skipped++;
                    System.out.println(type.getSimpleName() + " v" + version + ": " + error);
                }
            }
        }
        Files.write(file, bytes.toByteArray());
        System.out.println(file.getFileName() + ": " + entries + " entries, " + bytes.size() + " bytes");
    }

    private static void entry(DataOutputStream out, Class<?> type, short version, int variant, byte[] bytes)
            throws IOException {
        byte[] name = name(type).getBytes(StandardCharsets.UTF_8);
        out.writeByte(name.length);
        out.write(name);
        out.writeShort(version);
        out.writeByte(variant);
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    private static String name(Class<?> type) {
        String simple = type.getSimpleName();
        return simple.endsWith("Data") ? simple.substring(0, simple.length() - 4) : simple;
    }

    /** Names and types in order; tagged fields last, in angle brackets, where there can be any. */
    private static String layout(Schema schema) {
        StringBuilder text = new StringBuilder("{");
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                text.append('<');
                for (Map.Entry<Integer, Field> it : new TreeMap<>(tagged.fields()).entrySet()) {
                    text.append(it.getKey()).append(' ').append(it.getValue().name).append(':')
                            .append(layout(it.getValue().type)).append(' ');
                }
                text.append('>');
            } else {
                text.append(field.def.name).append(':').append(layout(field.def.type)).append(' ');
            }
        }
        return text.append('}').toString();
    }

    private static String layout(Type type) {
        String text;
        if (type.isArray()) {
            text = "[" + layout(type.arrayElementType().orElseThrow()) + "]";
        } else if (type instanceof Schema schema) {
            text = layout(schema);
        } else {
            text = type.toString().replace("COMPACT_", "").replace("NULLABLE_", "").toLowerCase();
        }
        return type.isNullable() ? text + "?" : text;
    }

    /** Names and defaults of a class's fields, by name, and of the classes inside it. */
    private static String defaults(Class<?> type) throws ReflectiveOperationException {
        Object made = type.getConstructor().newInstance();
        Set<String> alive = names((Schema[]) type.getField("SCHEMAS").get(null));
        Map<String, String> values = new TreeMap<>();
        for (java.lang.reflect.Field field : type.getDeclaredFields()) {
            String camel = field.getName().replace("kRaft", "kraft");
            String name = camel.replaceAll("([A-Z])", "_$1").toLowerCase();
            // Fields of versions that are gone are still in the class, but in no schema.
            if (alive.contains(name) && !Modifier.isStatic(field.getModifiers())) {
                field.setAccessible(true);
                values.put(name, value(field.get(made)) + inner(field));
            }
        }
        return values.toString();
    }

    private static Set<String> names(Schema[] schemas) {
        Set<String> names = new HashSet<>();
        for (Schema schema : schemas) {
            for (BoundField field : schema == null ? new BoundField[0] : schema.fields()) {
                names.add(field.def.name);
                if (field.def.type instanceof TaggedFields tagged) {
                    tagged.fields().values().forEach(it -> names.add(it.name));
                }
            }
        }
        return names;
    }

    private static String value(Object value) {
        if (value instanceof String) {
            return "'" + value + "'";
        }
        if (value instanceof Message) {
            return "";
        }
        if (value instanceof Collection<?>) {
            return "[]";
        }
        if (value instanceof byte[] || value instanceof ByteBuffer) {
            return "bytes";
        }
        return value instanceof Uuid ? "zero" : String.valueOf(value);
    }

    private static String inner(java.lang.reflect.Field field) throws ReflectiveOperationException {
        Class<?> type = field.getType();
        if (Message.class.isAssignableFrom(type)) {
            return defaults(type);
        }
        if (!Collection.class.isAssignableFrom(type)) {
            return "";
        }
        boolean list = type == List.class;
        ParameterizedType of = (ParameterizedType) (list ? field.getGenericType() : type.getGenericSuperclass());
        Class<?> element = (Class<?>) of.getActualTypeArguments()[0];
        return Message.class.isAssignableFrom(element) ? defaults(element) : "";
    }

    /** FNV-1a of 64 bits. */
    private static long hash(String text) {
        long hash = 0xcbf29ce484222325L;
        for (byte it : text.getBytes(StandardCharsets.UTF_8)) {
            hash = (hash ^ (it & 0xff)) * 0x100000001b3L;
        }
        return hash;
    }

    /** What the message class makes of bytes that were written by schema. */
    private static byte[] rewritten(Class<?> type, short version, Struct struct) throws Exception {
        return bytesOf(read(type, version, struct), version);
    }

    /** Tagged structs are null in another way than the schema knows; only the class can say it. */
    private static Message nulled(Message message, Schema schema) throws ReflectiveOperationException {
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                for (Field it : tagged.fields().values()) {
                    if (it.type instanceof Schema && it.type.isNullable()) {
                        Matcher words = Pattern.compile("_(.)").matcher(it.name);
                        String camel = words.replaceAll(word -> word.group(1).toUpperCase());
                        java.lang.reflect.Field place = message.getClass().getDeclaredField(camel);
                        place.setAccessible(true);
                        place.set(message, null);
                    }
                }
            }
        }
        return message;
    }

    private static Message read(Class<?> type, short version, Struct struct) throws Exception {
        ByteBuffer buffer = ByteBuffer.allocate(struct.sizeOf());
        struct.writeTo(buffer);
        buffer.flip();
        Message message = (Message) type.getConstructor().newInstance();
        message.read(new ByteBufferAccessor(buffer.duplicate()), version);
        return message;
    }

    private static byte[] bytesOf(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        if (buffer.hasRemaining()) {
            throw new IllegalStateException(message + " is shorter than it says");
        }
        return buffer.array();
    }

    private Struct full(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                Map<Integer, Object> values = new TreeMap<>();
                for (Map.Entry<Integer, Field> it : tagged.fields().entrySet()) {
                    values.put(it.getKey(), fullValue(it.getValue().type));
                }
                struct.set(field, values);
            } else {
                struct.set(field, fullValue(field.def.type));
            }
        }
        return struct;
    }

    private Object fullValue(Type type) {
        counter++;
        if (type.isArray()) {
            Type element = type.arrayElementType().orElseThrow();
            return new Object[] {fullValue(element), fullValue(element)};
        }
        if (type instanceof Schema schema) {
            return full(schema);
        }
        String name = type.toString();
        byte[] some = ("bytes " + counter).getBytes(StandardCharsets.UTF_8);
        return switch (name.replace("COMPACT_", "").replace("NULLABLE_", "")) {
            case "BOOLEAN" -> true;
            case "INT8" -> (byte) (1 + counter % 100);
            case "INT16" -> (short) (1 + counter * 7 % 30_000);
            case "UINT16" -> 60_000 + counter % 5_000;
            case "INT32" -> 1 + counter * 65_537 % 2_000_000_000;
            case "UINT32" -> 4_000_000_000L + counter;
            case "INT64" -> 1 + counter * 4_294_967_311L;
            case "FLOAT64" -> counter + 0.5;
            case "UUID" -> new Uuid(counter * 4_294_967_311L, ~counter);
            case "STRING" -> counter % 5 == 0 ? "śtring-" + counter + "-" + "x".repeat(130) : "string-" + counter;
            case "BYTES" -> ByteBuffer.wrap(some);
            case "RECORDS" -> MemoryRecords.readableRecords(ByteBuffer.wrap(some));
            default -> throw new IllegalStateException("a type nobody thought of: " + name);
        };
    }

    private Struct empty(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                Map<Integer, Object> nulls = new TreeMap<>();
                tagged.fields().forEach((tag, it) -> {
                    if (it.type.isNullable() && !(it.type instanceof Schema)) {
                        nulls.put(tag, null);
                    }
                });
                struct.set(field, nulls);
            } else {
                struct.set(field, emptyValue(field.def.type));
            }
        }
        return struct;
    }

    private Object emptyValue(Type type) {
        if (type.isNullable()) {
            return null;
        }
        if (type.isArray()) {
            return new Object[0];
        }
        if (type instanceof Schema schema) {
            return empty(schema);
        }
        ByteBuffer none = ByteBuffer.allocate(0);
        return switch (type.toString().replace("COMPACT_", "")) {
            case "BOOLEAN" -> false;
            case "INT8" -> (byte) 0;
            case "INT16" -> (short) 0;
            case "UINT16", "INT32" -> 0;
            case "UINT32", "INT64" -> 0L;
            case "FLOAT64" -> 0.0;
            case "UUID" -> Uuid.ZERO_UUID;
            case "STRING" -> "";
            case "BYTES" -> none;
            case "RECORDS" -> MemoryRecords.readableRecords(none);
            default -> throw new IllegalStateException("a type nobody thought of: " + type);
        };
    }
}
