import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams doing the pair builder's work exactly once: a yardstick, run with a JDK and jars of its own.
 *
 * <p>{@code java -cp 'JARS/*' KafkaStreamsPairs.java SERVERS GROUP SOURCE STATE_FOLDER}: the candidates of a turn
 * in RocksDB behind its cache, one record with every pair of a turn out when it is complete, one thread, commits
 * every 100 ms; ends on SIGTERM.
 */
public final class KafkaStreamsPairs {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String STORE = "turns";

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");

        Topology topology = new Topology();
        topology.addSource(
                "candidates", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), arguments[2]);
        topology.addProcessor("pairs", Pairs::new, "candidates");
        topology.addStateStore(
                Stores.keyValueStoreBuilder(
                                Stores.persistentKeyValueStore(STORE), Serdes.String(), Serdes.ByteArray())
                        .withCachingEnabled(),
                "pairs");
        topology.addSink(
                "trajectories",
                arguments[1] + ".trajectories",
                Serdes.ByteArray().serializer(),
                Serdes.ByteArray().serializer(),
                "pairs");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static final class Pairs implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<String, byte[]> turns;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            turns = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                JsonNode candidate = JSON.readTree(record.value());
                String turn = candidate.get("turn_id").asText();
                int expected = candidate.get("expected_candidates").asInt();
                byte[] members = joined(turns.get(turn), record.value());
                if (members[0] < expected) {
                    turns.put(turn, members);
                    return;
                }
                turns.delete(turn);
                context.forward(record.withValue(JSON.writeValueAsBytes(pairs(parsed(members)))));
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    /** Returns the members of a turn with one more: how many in a byte, then each behind a comma. */
    private static byte[] joined(byte[] open, byte[] next) throws IOException {
        byte[] before = open == null ? new byte[] {0} : open;
        ByteArrayOutputStream all = new ByteArrayOutputStream(before.length + next.length + 1);
        all.write(before[0] + 1);
        all.write(before, 1, before.length - 1);
        all.write(',');
        all.write(next);
        return all.toByteArray();
    }

    private static List<JsonNode> parsed(byte[] members) throws IOException {
        byte[] array = Arrays.copyOfRange(members, 1, members.length + 1);
        array[0] = '[';
        array[array.length - 1] = ']';
        List<JsonNode> found = new ArrayList<>();
        JSON.readTree(array).forEach(found::add);
        return found;
    }

    private static ArrayNode pairs(List<JsonNode> turn) {
        turn.sort(Comparator.comparingDouble((JsonNode one) -> one.get("score").asDouble()).reversed());
        List<ObjectNode> pairs = new ArrayList<>();
        for (int better = 0; better < turn.size(); better++) {
            for (int worse = better + 1; worse < turn.size(); worse++) {
                pairs.add(pair(turn.get(better), turn.get(worse)));
            }
        }
        pairs.sort(Comparator.comparingDouble((ObjectNode one) -> one.get("score_diff").asDouble()).reversed());
        return JSON.createArrayNode().addAll(pairs);
    }

    private static ObjectNode pair(JsonNode better, JsonNode worse) {
        ObjectNode pair = JSON.createObjectNode();
        pair.set("prompt", better.get("prompt"));
        pair.set("chosen", better.get("response"));
        pair.set("rejected", worse.get("response"));
        pair.put("score_diff", better.get("score").asDouble() - worse.get("score").asDouble());
        pair.set("chosen_metadata", better.get("raw_metadata"));
        pair.set("rejected_metadata", worse.get("raw_metadata"));
        return pair;
    }
}
